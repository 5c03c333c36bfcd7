"""Places of results in a job's destination: each belongs to one image of the job."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shared.database import now
from shared.destination import collision, destinations, digest_of, refuse_own_photo
from shared.errors import BadResultNameError, DestinationCollisionError
from shared.job_store.failed_images import note_failed
from shared.jobs import ItemStatus
from shared.models import Item, Job, ResultPlace, place_of
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.result_names import NamedPhoto

INSERT_ROWS = 1_000
"""Rows of one INSERT."""


def photo_of(row: Mapping[str, Any]) -> NamedPhoto:
    """What the row of an item fills into names."""
    return NamedPhoto(row["name"], row["custom_id"], row["position"], row["labels"] or {})


def places_of(
    template: str, photo: NamedPhoto, source: str, options: Options, *, clip: bool
) -> list[ObjectUrl]:
    """The objects that the results of a photo or a `clip` are written to. Raises
    BadResultNameError.
    """
    places = destinations(template, photo, options, clip=clip)
    for place in places:
        refuse_own_photo(place, place_of(source))
    return places


def take_places(
    session: Session, job: Job, wanted: Iterable[tuple[uuid.UUID, NamedPhoto, Sequence[ObjectUrl]]]
) -> None:
    """Take the places of images; the caller has locked the job. Places that an image has stay its
    own. Raises DestinationCollisionError.
    """
    taken: dict[str, tuple[uuid.UUID, NamedPhoto, ObjectUrl]] = {}
    for item_id, photo, places in wanted:
        for place in places:
            digest = digest_of(place)
            if (other := taken.get(digest)) is not None:
                raise collision(place, other[1], photo)
            taken[digest] = (item_id, photo, place)
    digests = list(taken)
    for start in range(0, len(digests), INSERT_ROWS):
        _insert(session, job.id, {one: taken[one] for one in digests[start : start + INSERT_ROWS]})


def take_places_of_photo(session: Session, job: Job, item_id: uuid.UUID) -> None:
    """Take the places of a photo that is called like a clip, whose results have other endings. The
    queued photo fails if another image has one of them, and a retry leaves it out, like any that
    failed before its first attempt. The caller has locked job and item.
    """
    if job.destination is None:
        return
    item = session.get_one(Item, item_id, populate_existing=True)
    options = Options.model_validate(item.options or job.options)
    photo = NamedPhoto(item.name, item.custom_id, item.position, item.labels or {})
    try:
        places = places_of(job.destination, photo, item.source, options, clip=False)
        take_places(session, job, [(item_id, photo, places)])
    except (BadResultNameError, DestinationCollisionError) as error:
        item.status, item.finished_at, item.not_before = ItemStatus.FAILED, now(session), None
        item.error_code, item.error_detail, item.attempts = error.code, error.message, 0
        job.queued -= 1
        job.failed += 1
        note_failed(session, item)
        session.flush()


def _insert(
    session: Session, job_id: uuid.UUID, taken: dict[str, tuple[uuid.UUID, NamedPhoto, ObjectUrl]]
) -> None:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    rows = [
        {"job_id": job_id, "digest": digest, "item_id": item_id}
        for digest, (item_id, _, _) in taken.items()
    ]
    session.execute(dialect.insert(ResultPlace).on_conflict_do_nothing(), rows)
    holders = sa.select(ResultPlace.digest, ResultPlace.item_id).where(
        ResultPlace.job_id == job_id, ResultPlace.digest.in_(list(taken))
    )
    for digest, holder in session.execute(holders):
        item_id, photo, place = taken[digest]
        if holder != item_id:
            raise collision(place, _holder(session, holder), photo)


def _holder(session: Session, item_id: uuid.UUID) -> NamedPhoto:
    item = session.get(Item, item_id)
    assert item is not None, "the places of a job are removed before its images"
    return NamedPhoto(item.name, number=item.position)


def remove_places(session: Session, job_id: uuid.UUID, *, limit: int) -> int:
    """Remove up to `limit` places of a deleted job; returns how many."""
    some = sa.select(ResultPlace.digest).where(ResultPlace.job_id == job_id)
    digests = list(session.scalars(some.order_by(ResultPlace.digest).limit(limit)))
    session.execute(
        sa.delete(ResultPlace)
        .where(ResultPlace.job_id == job_id, ResultPlace.digest.in_(digests))
        .execution_options(synchronize_session=False)
    )
    return len(digests)
