"""Lists the sources of jobs in the background, page by page, each page one transaction.

How far it came stands in the job's row, so it goes on after a restart where it was; a page that is
listed twice adds nothing, because the same object twice in a job is one item.
"""

import threading
import uuid

from shared import job_store
from shared.database import Database
from shared.errors import ImageError, MattingError
from shared.job_store import NewItem
from shared.jobs import ENDED
from shared.storage import ObjectUrl, Storage
from shared.telemetry import get_logger

log = get_logger(__name__)

IDLE_S = 2.0
"""How often it looks for jobs left over from before a restart; a new one wakes it at once."""


class Expander:
    """A thread; `start` it once, `stop` it before the database is closed."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="expander", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the page at hand."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout=30)

    def wake(self) -> None:
        """There is a new job to list."""
        self._wake.set()

    def expand_page(self, job_id: uuid.UUID) -> bool:
        """List one more page of a job's prefix; False when there is nothing left to list."""
        with self._database.transaction() as session:
            job = job_store.load_job(session, job_id)
            if job is None or job.status in ENDED or job.expanded_at is not None:
                return False
            source, after = ObjectUrl.parse(job.source["prefix"], ""), job.expansion_cursor
        try:
            keys = self._storage.list_page(source, after=after)
        except ImageError as error:  # the bucket is missing or forbidden: no use trying again
            with self._database.transaction() as session:
                job_store.finish_expansion(session, job_id, (error.code, error.message))
            return False
        with self._database.transaction() as session:
            if keys:
                items = [
                    NewItem(name=name_under(source.key, key), source=f"s3://{source.bucket}/{key}")
                    for key in keys
                    if not key.endswith("/")  # the folder markers that consoles make
                ]
                job_store.add_items(session, job_id, items)
                job_store.note_expansion(session, job_id, cursor=keys[-1])
            else:
                nothing = ("source-empty", f"There is nothing under {source}.")
                job_store.finish_expansion(session, job_id, None if after else nothing)
        return bool(keys)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                with self._database.transaction() as session:
                    jobs = job_store.unexpanded_jobs(session)
                for job_id in jobs:
                    while not self._stopping and self.expand_page(job_id):
                        pass
            except MattingError as error:
                log.warning("expansion-failed", code=error.code, detail=error.detail)
            except Exception:
                log.exception("expansion-failed")
            self._wake.wait(IDLE_S)


def name_under(prefix: str, key: str) -> str:
    """What a key is called within its job: its path below the prefix's last folder."""
    folder = prefix[: prefix.rfind("/") + 1]
    return key[len(folder) :]
