"""`matting purge`: removes what the service has of a customer, checks that it is gone, reports."""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from deploy.commands.service import refuse_empty, service_database
from shared import job_store
from shared.database import Database
from shared.errors import KeyNotFoundError, StackError
from shared.settings import Settings
from shared.storage import Storage

POLL_S = 1.0

PAGE_JOBS = 1_000
"""Jobs that are looked at while the others wait for them."""

ELSEWHERE = (
    "Logs name jobs and files until they are rotated: search them for the ids above.",
    "Backups of the database and versions of the bucket keep them until they expire.",
    "Flower shows the names of the last 10,000 images until it restarts.",
    "Photos in the customer's own buckets, copies at destinations, and webhooks are theirs.",
)
"""What this command cannot remove."""


@dataclass
class PurgeReport:
    """What was found and what is left. Names of photos are not in it."""

    asked: dict[str, str]
    started_at: str
    jobs: list[str] = field(default_factory=list)
    jobs_with_destination: list[str] = field(default_factory=list)
    images: int = 0
    objects: int = 0
    jobs_left: list[str] = field(default_factory=list)
    objects_left: int = 0
    complete: bool = False
    finished_at: str = ""
    elsewhere: tuple[str, ...] = ELSEWHERE

    def as_json(self) -> str:
        """The report as indented JSON."""
        return json.dumps(asdict(self), indent=2)


def run_purge(
    settings: Settings, *, key_id: uuid.UUID | None, labels: Mapping[str, str], wait_s: float
) -> PurgeReport:
    """Delete the jobs of a key, or with these labels, with photos, results, thumbnails, mattes and
    versions; of a key also all its uploads, and the key is revoked. Wait until the API's sweeper
    has removed them. It may be repeated, and the key may be revoked before.

    Raises KeyNotFoundError, NoDatabaseError, DatabaseError, StorageError.
    """
    with service_database(settings, process="purge") as database:
        refuse_empty(database)
        return _purge(database, settings, key_id, labels, wait_s)


def _purge(
    database: Database,
    settings: Settings,
    key_id: uuid.UUID | None,
    labels: Mapping[str, str],
    wait_s: float,
) -> PurgeReport:
    storage = Storage(settings)
    try:
        asked = {"key": str(key_id)} if key_id else {}
        report = PurgeReport({**asked, **labels}, _now())
        with database.transaction() as session:
            if key_id is not None and not job_store.api_key_exists(session, key_id):
                raise KeyNotFoundError(f"There is no key {key_id}")
            ids = job_store.jobs_to_purge(session, api_key_id=key_id, labels=labels)
            report.images = job_store.images_of_jobs(session, ids)
            copied = job_store.jobs_with_destination(session, ids)
        report.jobs = [str(one) for one in ids]
        report.jobs_with_destination = [str(one) for one in copied]
        places = [f"jobs/{one}/" for one in ids]
        uploads = [f"uploads/{key_id}/"] if key_id else []
        report.objects = _count(storage, [*places, *uploads])
        if key_id is not None:
            with database.transaction() as session:
                job_store.revoke_api_key(session, key_id)
        for one in ids:
            with database.transaction() as session:
                job_store.delete_job(session, one)
        left = _wait(database, ids, wait_s)
        for place in uploads if not left else []:
            keys = list(storage.list_keys(place))
            storage.delete_many(keys)
        report.jobs_left = [str(one) for one in left]
        report.objects_left = _count(storage, [*places, *uploads])
        report.complete = not left and not report.objects_left
        report.finished_at = _now()
        return report
    finally:
        storage.close()


def parse_labels(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` pairs as a dictionary. Raises StackError."""
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise StackError(f"--label {wrong[0]}: write NAME=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def _wait(database: Database, ids: Sequence[uuid.UUID], wait_s: float) -> list[uuid.UUID]:
    """Wait until no job has a row any more, or the time is over; returns those that have one."""
    deadline = time.monotonic() + wait_s
    left = list(ids)
    while left:
        with database.transaction() as session:
            first = job_store.jobs_left(session, left[:PAGE_JOBS])
        left[:PAGE_JOBS] = first  # jobs are removed in about this order
        if not first:
            continue
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    with database.transaction() as session:
        return job_store.jobs_left(session, left)


def _count(storage: Storage, places: Sequence[str]) -> int:
    return sum(1 for place in places for _ in storage.list_keys(place))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
