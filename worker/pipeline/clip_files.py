"""The files of clips: fetched, kept for the next segment, and copied if they come from a URL."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from shared.clips import ClipWork
from shared.errors import MattingError, SourceNotFoundError
from shared.settings import Settings
from shared.telemetry import get_logger
from worker.concurrency.fifo_lock import LOOK_S, FifoLock, TurnGivenUpError
from worker.concurrency.shared_exclusive_lock import SharedExclusiveLock
from worker.pipeline.in_flight import WEB, InFlightImage
from worker.video.folders import BoundedFile, ClipFolder

log = get_logger(__name__)

FETCHED_ASIDE = 3
"""Clips by URL that a worker fetches at a time, beside what it does with others. Each takes room on
its disk until its turn has come.
"""

LONGEST_HOLD_UP_S = 60.0
"""An image that must run alone waits this long for a clip. Then the clip goes back to the queue: it
may not run beside that image, which would be blamed for what the clip does to the worker."""

_aside = threading.BoundedSemaphore(FETCHED_ASIDE)


class FileStore(Protocol):
    """A store of files that do not fit into memory."""

    def fetch(self, bucket: str, key: str, max_bytes: int, into: IO[bytes]) -> None:
        """Write a clip into a file. Raises ImageError or TransientError."""

    def upload(self, key: str, stream: IO[bytes], content_type: str) -> None:
        """Write an object to the service's bucket from a file. Raises StorageError."""

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write a small object to the service's bucket. Raises StorageError."""

    def delete(self, key: str) -> None:
        """Delete an object of the service's bucket, if there is one. Raises StorageError."""


@dataclass
class _Kept:
    """The clip that this worker has on its disk, for its next segment."""

    place: tuple[str, str, str] = ("", "", "")
    """The key of the clip's facts; bucket and key of the clip."""
    folder: ClipFolder | None = None
    by_url: bool = False
    """Whether it was fetched from its URL."""


class ClipFiles:
    """The clip that a worker works on, as a file. Its caller holds `turn`."""

    def __init__(
        self,
        store: FileStore,
        settings: Settings,
        turn: FifoLock,
        stopping: threading.Event,
        isolation: SharedExclusiveLock,
    ) -> None:
        """`turn`: lent to other clips while one is fetched from its URL. `stopping`, `isolation`:
        then it is not taken again.
        """
        self._store = store
        self._settings = settings
        self._turn = turn
        self._stopping = stopping
        self._isolation = isolation
        self._kept = _Kept()

    @property
    def folder(self) -> Path | None:
        """Where the kept clip lies; None: there is none."""
        return None if self._kept.folder is None else self._kept.folder.path

    def file_of(self, in_flight: InFlightImage) -> Path:
        """The clip as a file; that of the last segment, if this worker still has it. Raises what
        the store raises, and MattingError with the outcome `interrupted`.
        """
        item = in_flight.item
        place = (facts_key(in_flight), item.bucket, item.key)
        if self._kept.place == place and self._kept.folder is not None:
            return self._kept.folder.path / "clip"
        folder = ClipFolder()
        file = folder.path / "clip"
        try:
            by_url = item.bucket == WEB and not self._copied(in_flight, file)
            if by_url:
                with self._lent(in_flight):
                    self._fetch(in_flight, item.bucket, item.key, file)
            self.forget()
            if item.bucket != WEB:
                self._fetch(in_flight, item.bucket, item.key, file)
        except BaseException:
            folder.remove()
            raise
        self._kept = _Kept(place, folder, by_url)
        return file

    def forget(self) -> None:
        """Remove the kept clip from the disk."""
        if self._kept.folder is not None:
            self._kept.folder.remove()
        self._kept = _Kept()

    def keep_copy(self, in_flight: InFlightImage) -> None:
        """Copy a clip from a URL to the service's bucket: it is claimed many times, by several
        workers, and its server may be slow. Raises StorageError.
        """
        if self._kept.folder is not None and self._kept.by_url:
            with (self._kept.folder.path / "clip").open("rb") as stream:
                self._store.upload(_copy_key(in_flight), stream, "application/octet-stream")

    def drop_copy(self, in_flight: InFlightImage) -> None:
        """Delete the copy of a clip that is done; one that is left goes with its job."""
        if in_flight.item.bucket != WEB:
            return
        try:
            self._store.delete(_copy_key(in_flight))
        except MattingError as error:
            log.warning("clip-copy-left", item=in_flight.item.item_id, detail=error.detail)

    def _copied(self, in_flight: InFlightImage, file: Path) -> bool:
        """Fetch the copy of a clip from a URL; False: there is none."""
        work = in_flight.item.group
        if not isinstance(work, ClipWork) or (work.segment is None and work.state is None):
            return False
        self.forget()
        try:
            self._fetch(in_flight, self._settings.s3_bucket, _copy_key(in_flight), file)
        except SourceNotFoundError:
            return False
        return True

    def _fetch(self, in_flight: InFlightImage, bucket: str, key: str, file: Path) -> None:
        def go_on() -> None:
            waits_s = self._isolation.exclusive_waits_s
            if self._stopping.is_set() or waits_s > LONGEST_HOLD_UP_S:
                raise _given_up(in_flight)

        with BoundedFile(file, self._settings.clip_disk_bytes, on_write=go_on) as into:
            self._store.fetch(bucket, key, self._settings.max_clip_bytes, into)

    @contextmanager
    def _lent(self, in_flight: InFlightImage) -> Iterator[None]:
        """Let other clips go on meanwhile, unless this one must run alone: the others would wait
        for its end, and it for theirs. It waits for its place without the turn, too, and keeps that
        place until it has the turn again.
        """
        if self._isolation.is_held_alone:
            yield
            return
        has_place = False
        try:
            with self._turn.lent(self._must_give_up):
                while not (has_place := _aside.acquire(timeout=LOOK_S)):
                    if self._must_give_up():
                        raise TurnGivenUpError
                yield
        except TurnGivenUpError as given_up:
            raise _given_up(in_flight) from given_up
        finally:
            if has_place:
                _aside.release()

    def _must_give_up(self) -> bool:
        """An image that must run alone waits for this thread, which waits for one that may wait
        for that image.
        """
        return self._stopping.is_set() or self._isolation.exclusive_waits_s > 0


def _given_up(in_flight: InFlightImage) -> MattingError:
    """The error of a clip that goes back to the queue."""
    in_flight.outcome.interrupted = True
    return MattingError("The worker stops, or an image must run alone")


def facts_key(in_flight: InFlightImage) -> str:
    """The object that keeps the facts of a clip between its claims."""
    work = in_flight.item.group
    if isinstance(work, ClipWork) and work.segment is not None:
        return work.segment.facts_key
    return f"{in_flight.item.group_matte_key.removesuffix('.png')}-facts.json"


def _copy_key(in_flight: InFlightImage) -> str:
    """The object that keeps a clip from a URL between its claims."""
    return f"{facts_key(in_flight).removesuffix('-facts.json')}-clip"
