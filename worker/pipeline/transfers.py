"""Transfers over the network: photos are fetched, earlier results copied, finished files stored.

The storage and photo URLs have separate threads: foreign servers may be slow, and the storage does
not wait for them.
"""

import threading
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

from shared.earlier_result import EarlierResult
from shared.errors import MattingError, SourceNotFoundError
from shared.groups import GroupWork
from shared.kept_files import matte_key, thumbnails_key
from shared.settings import Settings
from shared.telemetry import get_logger
from worker.concurrency.thread_pool import SmallestBatchFirstPool
from worker.pipeline.earlier_results import EarlierResults, copy_again, result_of
from worker.pipeline.in_flight import WEB, InFlightImage, ObjectStore, Publisher
from worker.pipeline.twins import Twin
from worker.pipeline.work_items import StoredOutput, WorkItem

log = get_logger(__name__)

MAX_RESULT_BYTES = 512 * 1024**2
"""Of a file that this service wrote: beyond it something else is at its place."""


PART_BYTES = 128 * 1024**2
"""Of fetched files. A batch whose files are larger is fetched and processed in parts, because its
files wait in memory until they are decoded. Each thread may still end the file that it fetches."""


class Part:
    """The images of a batch that are fetched together. Thread-safe."""

    def __init__(self) -> None:
        self.postponed: list[InFlightImage] = []
        """The images that another part fetches."""
        self._bytes = 0
        self._lock = threading.Lock()

    def takes(self, in_flight: InFlightImage) -> bool:
        """Whether the image is fetched now; the first one always is."""
        with self._lock:
            if self._bytes < PART_BYTES:
                return True
            self.postponed.append(in_flight)
            return False

    def add(self, data: bytes | None) -> None:
        """Count a fetched file."""
        with self._lock:
            self._bytes += len(data or b"")


class Transfers:
    """The threads for network transfers. Thread-safe. Close it after its last caller."""

    def __init__(
        self,
        store: ObjectStore,
        settings: Settings,
        past: EarlierResults | None,
        publisher: Publisher | None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._past = past
        self._publisher = publisher
        self._io = SmallestBatchFirstPool(settings.io_threads, "io")
        self._web = SmallestBatchFirstPool(settings.url_threads, "web")

    def fetch(self, in_flight: InFlightImage, part: Part | None = None) -> "Future[bytes | None]":
        """Start fetching a photo; None: the image has an error, or the part postpones it."""
        pool = self._web if in_flight.item.bucket == WEB else self._io
        return pool.submit(in_flight.of, self._fetch, in_flight, part or Part())

    def _fetch(self, in_flight: InFlightImage, part: Part) -> bytes | None:
        if not part.takes(in_flight):
            return None
        data = in_flight.stage("fetch", lambda: self._get(in_flight))
        part.add(data)
        return data

    def _get(self, in_flight: InFlightImage) -> bytes:
        item = in_flight.item
        data = self._store.get(item.bucket, item.key, self._settings.max_image_bytes)
        in_flight.outcome.input_bytes = len(data)
        if isinstance(item.group, GroupWork):
            in_flight.photo_crc32 = zlib.crc32(data)
        if item.matte_key is not None:
            in_flight.given_matte = self._stored(item.matte_key)
        elif (matte := self._group_matte(in_flight)) is not None:
            in_flight.group_matte = matte
        elif item.forwarded_to is not None:
            in_flight.handover = self._handover(item)
        elif self._past is not None and item.group is None:
            in_flight.outcome.fingerprint = self._past.fingerprint(item.tenant, data, item.options)
        return data

    def _stored(self, key: str) -> bytes:
        """An object of the service's own bucket."""
        settings = self._settings
        return self._store.get(settings.s3_bucket, key, settings.max_image_bytes)

    def _handover(self, item: WorkItem) -> bytes | None:
        """The first model's matte; None: it is gone, and the second one's stands alone."""
        try:
            return self._stored(item.handover_key)
        except SourceNotFoundError:
            log.warning("handover-gone", item=item.item_id)
            return None

    def _group_matte(self, in_flight: InFlightImage) -> bytes | None:
        """The matte of the first pass; None: there was none, or it is of no use any more, and the
        photo is matted again.
        """
        item = in_flight.item
        if not isinstance(item.group, GroupWork) or item.group.measured is None:
            return None
        if item.group.measured.photo_crc32 != in_flight.photo_crc32:
            log.warning("photo-replaced", item=item.item_id)
            return None
        try:
            return self._stored(item.group_matte_key)
        except SourceNotFoundError:
            log.warning("group-matte-gone", item=item.item_id)
            return None

    def read(self, in_flight: InFlightImage, key: str) -> "Future[bytes]":
        """Start reading a result from the service's bucket."""
        return self._io.submit(in_flight.of, self._result, key)

    def _result(self, key: str) -> bytes:
        return self._store.get(self._settings.s3_bucket, key, MAX_RESULT_BYTES)

    def write(
        self, in_flight: InFlightImage, key: str, data: bytes, content_type: str
    ) -> "Future[None]":
        """Start writing a file to the service's bucket."""
        return self._io.submit(in_flight.of, self._store.put, key, data, content_type)

    def copy_earlier(self, in_flight_images: Sequence[InFlightImage]) -> "list[Future[None]]":
        """Look for earlier results, and start copying them."""
        asked = {
            (in_flight.item.tenant, in_flight.outcome.fingerprint): in_flight
            for in_flight in in_flight_images
            if in_flight.outcome.fingerprint is not None
        }
        if self._past is None or not asked:
            return []
        try:
            found = self._past.find_many([(t, mark) for t, mark in asked if mark is not None])
        except MattingError as error:  # every image can be computed instead
            log.warning("reuse-failed", code=error.code, detail=error.detail)
            return []
        return [
            self._io.submit(in_flight.of, self._copy, self._past, past, in_flight)
            for in_flight in in_flight_images
            if (past := found.get((in_flight.item.tenant, in_flight.outcome.fingerprint or "")))
        ]

    def copy_twins(self, twins: "Sequence[Twin]") -> "list[Future[None]]":
        """Start copying the results that other images of the batch got meanwhile."""
        past, copying = self._past, []
        if past is None:
            return []
        for twin in twins:
            leader, copy = twin.leader.outcome, twin.in_flight
            if (found := result_of(leader)) is not None:
                copy.outcome.fingerprint = leader.fingerprint  # None: later jobs don't reuse it
                copying.append(self._io.submit(copy.of, self._copy, past, found, copy))
        return copying

    def _copy(self, past: EarlierResults, found: EarlierResult, in_flight: InFlightImage) -> None:
        item, outcome = in_flight.item, in_flight.outcome
        copy_again(past, found, item, outcome, self._settings)
        if outcome.reused and any(one.destination is not None for one in item.outputs):
            in_flight.stage("store", lambda: self._publish_copies(in_flight))

    def _publish_copies(self, in_flight: InFlightImage) -> None:
        """Write files that lie in the service's bucket to the job's destination."""
        bucket, stored = self._settings.s3_bucket, in_flight.outcome.outputs
        self._publish(in_flight, (self._store.get(bucket, one.key, one.bytes) for one in stored))

    def _publish(self, in_flight: InFlightImage, files: Iterable[bytes]) -> None:
        for output, data in zip(in_flight.item.outputs, files, strict=True):
            if output.destination is not None and self._publisher is not None:
                content_type = output.rendition.format.content_type
                writer = in_flight.item.writer
                self._publisher.publish(output.destination, data, content_type, writer=writer)

    def put(self, in_flight: InFlightImage) -> "Future[None]":
        """Start storing the files of an image."""
        return self._io.submit(in_flight.of, self._put, in_flight)

    def close(self) -> None:
        """Wait for transfers in progress, then end the threads."""
        self._io.shutdown()
        self._web.shutdown()

    def _put(self, in_flight: InFlightImage) -> None:
        try:
            self._put_all(in_flight)
        finally:
            # Release the files at once: the other images of the batch may take long.
            in_flight.files, in_flight.kept = [], None
            in_flight.handover = in_flight.group_matte = in_flight.given_matte = None

    def _put_all(self, in_flight: InFlightImage) -> None:
        if in_flight.outcome.forward_to is not None:
            in_flight.stage("store", lambda: self._put_handover(in_flight))
        if in_flight.outcome.measured is not None:
            in_flight.stage("store", lambda: self._put_group_matte(in_flight))
        if in_flight.files:  # an image that failed earlier has no files
            in_flight.stage("store", lambda: self._put_files(in_flight))

    def _put_handover(self, in_flight: InFlightImage) -> None:
        assert in_flight.handover is not None
        self._store.put(in_flight.item.handover_key, in_flight.handover, "image/png")

    def _put_group_matte(self, in_flight: InFlightImage) -> None:
        assert in_flight.group_matte is not None
        self._store.put(in_flight.item.group_matte_key, in_flight.group_matte, "image/png")

    def _put_files(self, in_flight: InFlightImage) -> None:
        item, files = in_flight.item, in_flight.files
        for output, file in zip(item.outputs, files, strict=True):
            self._store.put(output.key, file.data, output.rendition.format.content_type)
        kept, main_key = in_flight.kept, item.outputs[0].key
        if kept is not None and kept.thumbnails is not None:
            self._store.put(thumbnails_key(main_key), kept.thumbnails, "image/webp")
        if kept is not None and kept.matte is not None:
            self._store.put(matte_key(main_key), kept.matte, "image/png")
        self._publish(in_flight, (file.data for file in files))
        in_flight.outcome.outputs = tuple(
            StoredOutput(
                name=file.name,
                key=output.key,
                destination=output.place,
                width=file.width,
                height=file.height,
                bytes=len(file.data),
                unmet=file.unmet,
                subject=file.subject,
                crc32=zlib.crc32(file.data),
            )
            for output, file in zip(item.outputs, files, strict=True)
        )
