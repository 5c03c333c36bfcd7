"""Deletes objects below `jobs/` that belong to no job: the API ended between storing files and
writing their job, or a worker wrote a result of a deleted job.
"""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from api.sources.source_policy import OWN_PREFIX
from shared import job_store
from shared.database import Database
from shared.storage import Storage
from shared.telemetry import get_logger

log = get_logger(__name__)

ORPHAN_AGE = timedelta(days=1)
"""Minimum age of the newest object of a folder without a job. A submission stores its files first
and writes its job last, and no request takes this long.
"""


def remove_orphans(
    database: Database, storage: Storage, before: datetime, *, go_on: Callable[[], bool]
) -> None:
    """Delete the folders that have no job and in which nothing was written since `before`, while
    `go_on` returns true. Raises MattingError.
    """
    for folders in storage.list_folders(OWN_PREFIX):
        ids = {job_id: folder for folder in folders if (job_id := _job_id(folder))}
        with database.transaction() as session:
            known = job_store.existing_jobs(session, list(ids))
        for job_id in ids.keys() - known:
            if not go_on():
                return
            _remove(storage, job_id, ids[job_id], before)


def _remove(storage: Storage, job_id: uuid.UUID, folder: str, before: datetime) -> None:
    # Page by page: a folder may hold the results of millions of images.
    every = sum(1 for _ in storage.list_keys(folder))
    if every != sum(len(page) for page in storage.list_older(folder, before)):
        return
    removed = 0
    for page in storage.list_older(folder, before):
        storage.delete_many(page)
        removed += len(page)
    log.info("orphans-removed", job=str(job_id), objects=removed)


def _job_id(folder: str) -> uuid.UUID | None:
    """The job of a folder below `jobs/`; None: the service did not create it."""
    try:
        return uuid.UUID(folder.removeprefix(OWN_PREFIX).removesuffix("/"))
    except ValueError:
        return None
