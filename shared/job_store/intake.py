"""Creates jobs and adds their items."""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.clips import is_named_like_clip
from shared.database import now
from shared.destination import check_names, needs_row
from shared.errors import BadResultNameError, MattingError
from shared.job_store.conditions import each_text
from shared.job_store.groups import begin_grouping, note_members, with_groups
from shared.job_store.locks import finish_settled_jobs, lock_jobs
from shared.job_store.photos_by_url import HAS_URLS, note_urls
from shared.job_store.result_places import photo_of, places_of, take_places
from shared.job_store.usage import take_from_quota
from shared.jobs import ItemKind, ItemStatus, JobStatus
from shared.models import MARK_BEGINS, MAX_SEARCHED_CHARS, Item, Job, JobLabel, new_id, place_of
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.result_names import NamedPhoto

INSERT_ROWS = 1_000
"""Rows of one INSERT: below SQLite's limit of 32,766 parameters, and enough that round trips hardly
count.
"""


LISTING_ERROR = "listing_error"
"""Where a job's `source` keeps why it could not be listed: code and detail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An image to add to a job."""

    name: str
    """The caller's path or name of the photo."""
    source: str
    """`s3://bucket/key` or a URL."""
    custom_id: str | None = None
    options: dict[str, Any] | None = None
    """The complete options of this image; None: the job's."""
    labels: dict[str, Any] | None = None
    """The other columns of the manifest row."""
    group: str | None = None
    """The group that gets one common frame; the job's `group_by` may give one."""
    error: MattingError | None = None
    """Why the image cannot be processed; the item fails at once."""

    @property
    def mark(self) -> str:
        """What tells this row from others with the same photo."""
        return _mark(self.custom_id, self.options, self.labels)

    @property
    def is_clip(self) -> bool:
        """Whether it is called like a clip; its content decides later."""
        return is_named_like_clip(self.name) or is_named_like_clip(place_of(self.source))

    def named(self, number: int) -> NamedPhoto:
        """What it fills into names, if it is the job's image `number`."""
        return NamedPhoto(self.name, self.custom_id, number, self.labels or {})


def create_job(
    session: Session,
    *,
    api_key_id: uuid.UUID,
    options: dict[str, Any],
    priority: int,
    labels: dict[str, Any],
    source: dict[str, Any],
    failure_share: float | None = None,
    failure_after: int = 0,
    destination: str | None = None,
    job_id: uuid.UUID | None = None,
) -> Job:
    """Create a job without items. It is paused when more than `failure_share` of its images failed,
    once `failure_after` have ended. `destination`: the template of the keys that results are also
    written to.
    """
    job = Job(
        id=job_id or new_id(),
        api_key_id=api_key_id,
        options=options,
        priority=priority,
        labels=labels,
        source=source,
        failure_share=failure_share,
        failure_after=failure_after,
        destination=destination,
        created_at=now(session),
    )
    session.add(job)
    session.flush()
    rows = [
        {"api_key_id": api_key_id, "name": name, "value": value, "job_id": job.id}
        for name, value in labels.items()
        if isinstance(value, str) and len(value) <= MAX_SEARCHED_CHARS
    ]
    if rows:
        session.execute(sa.insert(JobLabel), rows)
    return job


def add_items(session: Session, job_id: uuid.UUID, items: Iterable[NewItem]) -> int:
    """Append items to a job whose source is being listed, count them, and return how many were new.
    Several rows may share a
    photo, with ids, options or columns of their own; a row that is there already adds nothing. An
    image whose result can't be named fails.

    Raises QuotaExceededError, DestinationCollisionError.
    """
    job = lock_jobs(session, [job_id])[job_id]
    position = (
        session.scalar(sa.select(sa.func.max(Item.position)).where(Item.job_id == job_id)) or 0
    )
    moment = now(session)
    naming = _Naming(job)
    rows = [
        _row(job, number, naming.checked(item, number), moment)
        for number, item in enumerate(with_groups(session, job, items), position + 1)
    ]
    new = _insert_all(session, job_id, rows)
    note_members(session, job_id, new)
    added = Counter(row["status"] for row in new)
    take_places(session, job, naming.of(new))
    take_from_quota(session, job.api_key_id, added[ItemStatus.QUEUED])
    waiting = [row for row in new if row["status"] is ItemStatus.QUEUED]
    note_urls(job, (row["source"] for row in waiting))
    if any(row["kind"] is ItemKind.CLIP for row in waiting):
        job.source = {**job.source, HAS_URLS: True}
    job.total += added.total()
    job.queued += added[ItemStatus.QUEUED]
    job.failed += added[ItemStatus.FAILED]
    # A pause would save no work on rows and files that fail before they begin: raw files beside
    # their JPEGs are half of a folder.
    job.forgiven_failed += added[ItemStatus.FAILED]
    job.forgiven_done += added[ItemStatus.FAILED]
    session.flush()
    return added.total()


class _Naming:
    """Names the results of a job's new images, and finds their places in its destination."""

    def __init__(self, job: Job) -> None:
        self._destination = job.destination
        self._of_job = job.options
        self._read: Options | None = None
        self._places: dict[int, list[ObjectUrl]] = {}

    def checked(self, item: NewItem, position: int) -> NewItem:
        """The image, with an error if its results can't be named."""
        given = item.options or self._of_job
        if item.error is not None or not (self._destination or needs_row(given)):
            return item
        options, photo = self._options(item), item.named(position)
        try:
            check_names(options, photo)
            if self._destination is not None:
                self._places[position] = places_of(
                    self._destination, photo, item.source, options, clip=item.is_clip
                )
        except BadResultNameError as error:
            return replace(item, error=error)
        return item

    def _options(self, item: NewItem) -> Options:
        if item.options is not None:
            return Options.model_validate(item.options)
        if self._read is None:
            self._read = Options.model_validate(self._of_job)
        return self._read

    def of(
        self, rows: Iterable[dict[str, Any]]
    ) -> Iterator[tuple[uuid.UUID, NamedPhoto, list[ObjectUrl]]]:
        """Id, names and places of those rows that have places."""
        for row in rows:
            if (places := self._places.get(row["position"])) is not None:
                yield row["id"], photo_of(row), places


def _row(job: Job, position: int, item: NewItem, moment: datetime) -> dict[str, Any]:
    error = item.error
    return {
        "id": new_id(),
        "job_id": job.id,
        "position": position,
        "name": item.name,
        "source": item.source,
        "custom_id": item.custom_id,
        "api_key_id": job.api_key_id if item.custom_id is not None else None,
        "options": item.options,
        "labels": item.labels,
        "kind": ItemKind.CLIP if item.is_clip else ItemKind.PHOTO,
        "group_name": item.group,
        "status": ItemStatus.FAILED if error else ItemStatus.QUEUED,
        "error_code": error.code if error else None,
        "error_detail": error.message if error else None,
        "attempts": 0,
        "needs_review": False,
        "reused": False,
        "created_at": moment,
        "finished_at": moment if error else None,
    }


def _mark(custom_id: str | None, options: Any, labels: Any) -> str:
    own = json.dumps([custom_id, options, labels], sort_keys=True)
    return hashlib.blake2b(own.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _mark_of(row: Mapping[str, Any]) -> str:
    return _mark(row["custom_id"], row["options"], row["labels"])


def _insert_all(
    session: Session, job_id: uuid.UUID, rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Insert rows; returns the new ones. The first row of a photo keeps the photo's place as its
    source. Others get a mark behind it, which follows from the row: a page that is listed twice
    adds nothing.
    """
    first: dict[str, dict[str, Any]] = {}
    later = [row for row in rows if first.setdefault(row["source"], row) is not row]
    new = set(_insert_new(session, list(first.values()))) if first else set()
    later = [row for source, row in first.items() if source not in new] + later
    if not later:
        return [first[source] for source in new]
    known = _known_marks(session, job_id, {row["source"] for row in later})
    others: dict[str, dict[str, Any]] = {}
    for row in later:
        if (mark := _mark_of(row)) != known.get(row["source"]):
            source = f"{row['source']}{MARK_BEGINS}{mark}"
            others.setdefault(source, {**row, "source": source})
    added = _insert_new(session, list(others.values())) if others else []
    return [*(first[source] for source in new), *(others[source] for source in added)]


def _known_marks(session: Session, job_id: uuid.UUID, sources: set[str]) -> dict[str, str]:
    """The marks of the items that have these sources."""
    given = each_text(session, sources)
    statement = (
        sa.select(Item.source, Item.custom_id, Item.options, Item.labels)
        .join(given, given.c.value == Item.source)
        .where(Item.job_id == job_id)
    )
    return {
        row.source: _mark(row.custom_id, row.options, row.labels)
        for row in session.execute(statement)
    }


def _insert_new(session: Session, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Insert rows whose source the job does not have yet; returns the sources of the new ones."""
    if session.get_bind().dialect.name != "postgresql":
        statement = (
            sqlite.insert(Item)
            .on_conflict_do_nothing(index_elements=[Item.job_id, Item.source])
            .returning(Item.source)
            .execution_options(insertmanyvalues_page_size=INSERT_ROWS)
        )
        return list(session.scalars(statement, rows))
    # One array parameter per column. With one parameter per value, the driver takes three times as
    # long to prepare the statement as the server to execute it.
    table: Any = Item.__table__
    names = list(rows[0])
    arrays = [
        sa.bindparam(
            name,
            [_as_text(row[name]) if name in _JSON else row[name] for row in rows],
            type_=postgresql.ARRAY(sa.Text() if name in _JSON else table.c[name].type),
        )
        for name in names
    ]
    given = sa.func.unnest(*arrays).table_valued(*names).render_derived()
    columns = [
        sa.cast(given.c[name], postgresql.JSONB) if name in _JSON else given.c[name]
        for name in names
    ]
    inserting = (
        postgresql.insert(Item)
        .from_select(names, sa.select(*columns))
        .on_conflict_do_nothing(index_elements=[Item.job_id, Item.source])
        .returning(Item.source)
    )
    return list(session.scalars(inserting))


_JSON = frozenset({"options", "labels"})


def _as_text(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def finish_expansion(
    session: Session, job_id: uuid.UUID, error: tuple[str, str] | None = None
) -> None:
    """Record that the source is listed completely, or why it cannot be (code, detail). Nothing
    happens if another process has listed it completely, or the job is gone.
    """
    job = lock_jobs(session, [job_id]).get(job_id)
    if job is None or (job.expanded_at is not None and job.status is not JobStatus.CANCELLED):
        return
    job.expanded_at = now(session)
    begin_grouping(session, job)
    if error:
        job.error_code, job.error_detail = error
        # A pause for failures replaces the error for its time.
        job.source = {**job.source, LISTING_ERROR: list(error)}
    finish_settled_jobs(session, [job])


def load_job(session: Session, job_id: uuid.UUID) -> Job | None:
    """A job of any caller, for the service's own threads."""
    return session.get(Job, job_id)


def add_page(
    session: Session,
    job_id: uuid.UUID,
    items: Iterable[NewItem],
    *,
    cursor: str,
    without_photo: int = 0,
) -> bool:
    """Add a page of a job's source and record the progress of the listing. Returns False if another
    process completed the listing in the meantime, or the job was cancelled. `without_photo`: rows
    of the page that name no photo; they are counted in the job's `source`.

    Raises QuotaExceededError, DestinationCollisionError.
    """
    job = lock_jobs(session, [job_id]).get(job_id)
    if job is None or job.expanded_at is not None:
        return False
    add_items(session, job_id, items)
    job.expansion_cursor = cursor
    if without_photo:
        before = job.source.get("rows_without_photo", 0)
        job.source = {**job.source, "rows_without_photo": before + without_photo}
    session.flush()
    return True
