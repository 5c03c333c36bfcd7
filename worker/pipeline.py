"""The life of one batch: fetch → decode → predict → finish → encode → store.

The device is never kept waiting: two or three batches are in flight, each driven by a thread of its
own, and while one holds the predictor the others' images are fetched, decoded, encoded and stored
by two shared pools, one for what waits (network) and one for what computes (codecs). The images of
small batches come first everywhere.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, as_completed
from typing import TypeVar

import cv2

from shared.errors import MattingError, WorkerMemoryError
from shared.options import ColourProfile
from shared.settings import Settings
from shared.telemetry import get_logger
from shared.tracing import Stretch
from worker.codec import Decoded, decode, pixels_to_decode
from worker.finishing import enough_px, finish, keep_metadata
from worker.passage import BatchPredictor, ObjectStore, Passage
from worker.pictures import Pictures
from worker.pools import SmallFirstPool
from worker.quarantine import Order, Quarantine
from worker.reuse import PastResults, copy_again
from worker.review import Seen, review_many
from worker.room import Room
from worker.transforms import Image
from worker.watchdog import Watchdog
from worker.work import Outcome, StoredOutput, WorkItem

__all__ = ["BatchPredictor", "ObjectStore", "Outcome", "Pipeline", "WorkItem"]

log = get_logger(__name__)

T = TypeVar("T")


class Pipeline:
    """Runs batches; `run_many` may be called by several threads at once. `close` it after them."""

    def __init__(
        self,
        predictor: BatchPredictor,
        store: ObjectStore,
        settings: Settings,
        past: PastResults | None = None,
        watchdog: Watchdog | None = None,
        room: Room | None = None,
    ) -> None:
        """`past`: where to look for results that were computed before; None computes each.
        `watchdog`: who is told what native code is busy with. `room`: that of all pipelines.
        """
        self._past = past
        self._predictor = predictor
        self._store = store
        self._settings = settings
        self._watchdog = watchdog or Watchdog(settings.image_timeout_s)
        self._quarantine = Quarantine(settings)
        self._pictures = Pictures(self._read_picture)
        self._io = SmallFirstPool(settings.io_threads, "io")
        # One image a thread: OpenCV's own threads would only contend with these.
        cv2.setNumThreads(1)
        self._codecs = SmallFirstPool(settings.codec_threads, "codec")
        self._room = room or Room(settings.max_decoded_pixels)
        # Suspects wait for their child here, so that they keep no codec thread from the others.
        self._suspects = SmallFirstPool(settings.codec_threads, "suspect")

    def run_many(self, items: Sequence[WorkItem]) -> list[Outcome]:
        """Do a batch: one outcome for each item, in their order. One bad image fails alone."""
        # A device that hangs would hold the batch for ever, since its leases are renewed: after
        # this long its messages are another's anyway.
        limit_s = self._settings.queue_visibility_timeout_s
        with self._watchdog.watching(None, "batch", limit_s):
            return self._run_many(items)

    def _run_many(self, items: Sequence[WorkItem]) -> list[Outcome]:
        passages = [Passage(item, Outcome(item_id=item.item_id), len(items)) for item in items]
        # Each image goes on to decoding as soon as it is there; no codec thread waits for a fetch.
        fetching = {self._fetch(passage): passage for passage in passages}
        fetched = (
            (fetching[future], data)
            for future in as_completed(fetching)
            if (data := future.result()) is not None
        )
        # Asked once a batch, while the last photos are decoded: what is there is only copied.
        left, storing = self._round(fetched, lambda: self._reuse(passages))
        while left:
            rest = [(passage, data) for passage, data in left if not passage.outcome.reused]
            left, more = self._round(rest, list)
            storing += more
        for stored in storing:
            stored.result()
        return [passage.outcome for passage in passages]

    def _round(
        self,
        photos: Iterable[tuple[Passage, bytes]],
        meanwhile: "Callable[[], list[Future[None]]]",
    ) -> "tuple[list[tuple[Passage, bytes]], list[Future[None]]]":
        """Do as many as there is room for now, up to storing them; returns those that are left, and
        what is being stored.
        """
        begun: list[Passage] = []
        left: list[tuple[Passage, bytes]] = []
        decoding: list[Future[None]] = []
        held = 0
        try:
            for passage, data in photos:
                pixels = self._pixels(passage, data)
                if not begun:
                    held = self._room.take(pixels)
                elif self._room.try_take(pixels):
                    held += pixels
                else:
                    left.append((passage, data))
                    continue
                begun.append(passage)
                decoding.append(self._pool(passage).submit(passage.of, self._decode, passage, data))
            for future in [*decoding, *meanwhile()]:
                future.result()
            self._predict(begun)
            finishing = [
                self._codecs.submit(passage.of, self._finish, passage) for passage in begun
            ]
            return left, [finished.result() for finished in finishing]
        finally:
            self._room.give_back(held)

    def close(self) -> None:
        """Wait for what is under way and end the threads."""
        self._suspects.shutdown()
        self._codecs.shutdown()
        self._io.shutdown()
        self._quarantine.close()

    def _pixels(self, passage: Passage, data: bytes) -> int:
        """What decoding it needs room for; one with too many pixels is refused, and needs none."""
        pixels = pixels_to_decode(data, enough_px(passage.item.options))
        return pixels if pixels <= self._settings.max_image_pixels else 0

    def _pool(self, passage: Passage) -> SmallFirstPool:
        return self._suspects if passage.item.suspect else self._codecs

    def _fetch(self, passage: Passage) -> "Future[bytes | None]":
        return self._io.submit(
            passage.of,
            self._stage,
            passage,
            "fetch",
            lambda: self._get(passage),
        )

    def _get(self, passage: Passage) -> bytes:
        item = passage.item
        data = self._store.get(item.bucket, item.key, self._settings.max_image_bytes)
        passage.outcome.input_bytes = len(data)
        if self._past is not None:
            passage.outcome.fingerprint = self._past.fingerprint(item.tenant, data, item.options)
        return data

    def _reuse(self, passages: list[Passage]) -> "list[Future[None]]":
        """Look for earlier results, and begin to copy them."""
        asked = {
            (passage.item.tenant, passage.outcome.fingerprint): passage
            for passage in passages
            if passage.outcome.fingerprint is not None
        }
        if self._past is None or not asked:
            return []
        try:
            found = self._past.find_many([(t, mark) for t, mark in asked if mark is not None])
        except MattingError as error:  # it can all be computed
            log.warning("reuse-failed", code=error.code, detail=error.detail)
            return []
        return [
            self._io.submit(passage.of, copy_again, self._past, past, passage.item, passage.outcome)
            for passage in passages
            if (past := found.get((passage.item.tenant, passage.outcome.fingerprint or "")))
        ]

    def _decode(self, passage: Passage, data: bytes) -> None:
        self._stage(passage, "decode", lambda: self._decode_and_prepare(passage, data))

    def _decode_and_prepare(self, passage: Passage, data: bytes) -> None:
        options = passage.item.options
        order = Order(enough_px(options), options.colour_profile is ColourProfile.KEEP)
        if passage.item.suspect:
            decoded = Decoded(*self._quarantine.decode(data, order))
        else:
            with self._watchdog.watching(passage.item.item_id, "decode"):
                decoded = decode(
                    data,
                    self._settings,
                    enough_px=order.enough_px,
                    keep_profile=order.keep_profile,
                )
        passage.metadata = keep_metadata(data, options)
        passage.pictures = self._pictures.get_many(options.background_images())
        passage.outcome.width, passage.outcome.height = decoded.width, decoded.height
        passage.prepared = self._predictor.prepare(decoded.image, options.profile)
        passage.decoded = decoded

    def _predict(self, passages: list[Passage]) -> None:
        ready = [p for p in passages if p.prepared is not None and not p.outcome.reused]
        if not ready:
            return
        started, started_ns = time.perf_counter(), time.time_ns()
        alphas = self._predictor.predict_many([p.prepared for p in ready if p.prepared])
        share_ms = (time.perf_counter() - started) * 1e3 / len(ready)
        assert len(alphas) == len(ready), "predict_many must give one result for each input"
        for passage, alpha in zip(ready, alphas, strict=True):
            passage.outcome.timings_ms["predict"] = share_ms
            passage.outcome.stages.append(Stretch("predict", started_ns, time.time_ns()))
            if isinstance(alpha, MattingError):
                passage.outcome.error = alpha
            else:
                passage.alpha = alpha
        self._review([passage for passage in ready if passage.alpha is not None])

    def _review(self, passages: list[Passage]) -> None:
        seen = [
            Seen(p.alpha, p.prepared, min(p.outcome.width, p.outcome.height))
            for p in passages
            if p.alpha is not None and p.prepared is not None
        ]
        found = review_many(seen, self._predictor.predict_many, self._settings)
        for passage, reasons in zip(passages, found, strict=True):
            passage.outcome.review = tuple(reasons)

    def _finish(self, passage: Passage) -> "Future[None]":
        if passage.alpha is not None:
            with self._watchdog.watching(passage.item.item_id, "finish"):
                self._stage(passage, "finish", lambda: self._compose(passage))
        # The big arrays go as soon as they are encoded: storing may wait for the network.
        passage.decoded = passage.prepared = passage.alpha = None
        return self._io.submit(passage.of, self._put, passage)

    def _put(self, passage: Passage) -> None:
        if passage.files:  # an image that failed before has nothing to store
            self._stage(passage, "store", lambda: self._put_files(passage))

    def _put_files(self, passage: Passage) -> None:
        item, files = passage.item, passage.files
        keys = [item.result_key, *item.extra_keys]
        kinds = [item.options.format, *(one.format for one in item.options.extras)]
        for key, kind, file in zip(keys, kinds, files, strict=True):
            self._store.put(key, file.data, kind.content_type)
        passage.outcome.outputs = tuple(
            StoredOutput(
                name=file.name,
                key=key,
                width=file.width,
                height=file.height,
                bytes=len(file.data),
                unmet=file.unmet,
                subject=file.subject,
            )
            for key, file in zip(keys, files, strict=True)
        )

    def _compose(self, passage: Passage) -> None:
        assert passage.decoded is not None
        assert passage.prepared is not None
        assert passage.alpha is not None
        passage.files = finish(
            passage.decoded,
            passage.prepared,
            passage.alpha,
            passage.item.options,
            name=passage.item.name,
            metadata=passage.metadata,
            pictures=passage.pictures,
            timings_ms=passage.outcome.timings_ms,
        )
        passage.outcome.output_bytes = len(passage.files[0].data)

    def _read_picture(self, bucket: str, key: str) -> Image:
        data = self._store.get(bucket, key, self._settings.max_image_bytes)
        # Each of a job's batches reads it: one that ends a worker would end one after another.
        return self._quarantine.decode(data, Order())[0]

    def _stage(self, passage: Passage, name: str, work: Callable[[], T]) -> T | None:
        """Do one stage of one image: its time is noted, its error is the image's own."""
        started, started_ns = time.perf_counter(), time.time_ns()
        try:
            return work()
        except MattingError as error:
            passage.outcome.error = error
        except MemoryError:
            passage.outcome.error = WorkerMemoryError()
        except Exception:
            log.exception("image-crashed", item=passage.item.item_id, stage=name)
            passage.outcome.error = MattingError(f"The stage {name} failed unexpectedly")
        finally:
            spent_ms = (time.perf_counter() - started) * 1e3
            inner_ms = passage.outcome.timings_ms.get("encode", 0) if name == "finish" else 0
            passage.outcome.timings_ms[name] = spent_ms - inner_ms
            passage.outcome.stages.append(Stretch(name, started_ns, time.time_ns()))
        return None
