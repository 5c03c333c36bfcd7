"""Looks at watched prefixes: each look lists a prefix in pages, and new objects become a job.

One process at a time does this. Watches take turns page by page, so a large prefix does not hold up
a small one. What a page found is recorded in one transaction (shared.job_store.watch_looks).
"""

from datetime import timedelta

from api.sources.destination_policy import check_destination
from api.sources.listing import listed_item
from api.sources.source_policy import SourcePolicy
from shared import job_store
from shared.clip_kinds import CLIP_ENDINGS
from shared.database import Database
from shared.database_text import without_unstorable_text
from shared.errors import ImageError, MattingError, RequestError, StorageError
from shared.job_store import SeenObject
from shared.leadership import Leadership
from shared.models import Watch
from shared.object_url import ObjectUrl
from shared.periodic_task import PeriodicTask
from shared.photo_kinds import PHOTO_ENDINGS
from shared.photo_names import is_hidden, is_never_a_photo
from shared.settings import Settings
from shared.storage import ListedObject, Storage
from shared.telemetry import get_logger

log = get_logger(__name__)

LOOK_EVERY_S = 1.0
LEADER_LEASE_S = 30.0
"""Another process looks after this time. A storage that hangs may hold up a page for longer: then
two of them list it, and one of them records it.
"""
WATCHES_AT_ONCE = 50
REMOVED_ROWS = 1_000

EXISTED_FOR = timedelta(seconds=60)
"""An object older than this when its watch was made was there before. The clocks of database and
storage may differ by less.
"""


class Watcher(PeriodicTask):
    """Lists one page of each watch that is due, in turn."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        super().__init__("watches")
        self._database = database
        self._storage = storage
        self._settings = settings
        self._leadership = Leadership(database, "watches", lease_s=LEADER_LEASE_S)

    def stop(self) -> None:
        """Stop after the current page, and let another process continue at once."""
        super().stop()
        self._leadership.release()

    def round(self) -> float:
        """List a page of each watch that is due; returns 0 if there may be more."""
        if not self._leadership.held():
            return LOOK_EVERY_S
        with self._database.transaction() as session:
            removed = job_store.remove_deleted_watches(session, limit=REMOVED_ROWS)
            due = job_store.due_watches(session, limit=WATCHES_AT_ONCE)
        for watch in due:
            if self._stopping.is_set() or not self._leadership.held():
                break
            self.look(watch)
        return 0.0 if due or removed else LOOK_EVERY_S

    def look(self, watch: Watch) -> None:
        """List and record the next page of a watch. Raises MattingError if the database fails."""
        try:
            self._record(watch, *self._list(watch))
        except (ImageError, RequestError, StorageError) as error:
            log.warning("watch-failed", watch=str(watch.id), code=error.code, detail=error.detail)
            self._fail(watch, error)
        except MattingError:  # the database: nothing is recorded, and the next round looks again
            raise
        except Exception:  # a bug: without a wait, it would come at once again
            log.exception("watch-crashed", watch=str(watch.id))
            self._fail(watch, MattingError())

    def _list(self, watch: Watch) -> tuple[list[ListedObject], bool]:
        """The next page, if the key may still read the prefix and write the results."""
        with self._database.transaction() as session:
            sources = job_store.allowed_sources(session, watch.api_key_id)
            folders = job_store.allowed_destinations(session, watch.api_key_id)
        policy = SourcePolicy(self._settings, watch.api_key_id, sources)
        if watch.destination is not None:
            check_destination(self._settings, folders, watch.destination)
        objects, more = self._storage.list_objects(
            policy.object(watch.prefix, prefix=True), after=watch.cursor
        )
        if more and not objects:  # where the next page begins is not known
            raise StorageError("The storage lists an empty page and says that more follow")
        return objects, more

    def _record(self, watch: Watch, objects: list[ListedObject], more: bool) -> None:
        prefix = ObjectUrl.parse(watch.prefix, "")
        seen = [
            _seen(watch, prefix, one)
            for one in objects
            if one.key == without_unstorable_text(one.key)
        ]
        with self._database.transaction() as session:
            job_store.add_watched_page(
                session,
                watch,
                seen,
                last_key=without_unstorable_text(objects[-1].key) if objects else None,
                is_last=not more,
                max_objects=self._settings.watch_max_objects,
                failure_share=self._settings.failure_share,
                failure_after=self._settings.failure_after,
                pause_s=self._settings.watch_min_every_s,
            )

    def _fail(self, watch: Watch, error: MattingError) -> None:
        with self._database.transaction() as session:
            job_store.fail_look(session, watch, error)


def _seen(watch: Watch, prefix: ObjectUrl, found: ListedObject) -> SeenObject:
    if not is_photo_name(found.key[len(prefix.key) :] or found.key) or not found.size_bytes:
        return SeenObject(key=found.key, etag=found.etag, item=None, left_out=True)
    first_look = watch.last_look_at is None
    if first_look and not watch.existing and found.modified_at < watch.created_at - EXISTED_FOR:
        return SeenObject(key=found.key, etag=found.etag, item=None)
    return SeenObject(key=found.key, etag=found.etag, item=listed_item(prefix, found.key))


def is_photo_name(path: str) -> bool:
    """Whether an object of this name may be a photo: one without an ending may, and one that ends
    like an accepted kind; no hidden or system file.
    """
    if is_never_a_photo(path) or is_hidden(path):
        return False
    _, dot, ending = path.rpartition("/")[2].rpartition(".")
    return not dot or f".{ending.lower()}" in PHOTO_ENDINGS | CLIP_ENDINGS
