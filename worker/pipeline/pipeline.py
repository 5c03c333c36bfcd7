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
from shared.tracing import StageSpan
from worker.concurrency.pixel_budget import PixelBudget
from worker.concurrency.thread_pool import SmallestBatchFirstPool
from worker.concurrency.watchdog import Watchdog
from worker.imaging.arrays import Image
from worker.imaging.decoding import DecodedImage, decode, pixels_to_decode
from worker.imaging.finishing import enough_px, finish, keep_metadata
from worker.imaging.quarantine import DecodeRequest, Quarantine
from worker.imaging.review import ReviewInput, review_many
from worker.pipeline.background_pictures import BackgroundPictures
from worker.pipeline.in_flight import BatchPredictor, InFlightImage, ObjectStore
from worker.pipeline.result_reuse import EarlierResults, copy_again
from worker.pipeline.work_items import Outcome, StoredOutput, WorkItem

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
        past: EarlierResults | None = None,
        watchdog: Watchdog | None = None,
        pixel_budget: PixelBudget | None = None,
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
        self._pictures = BackgroundPictures(self._read_picture)
        self._io = SmallestBatchFirstPool(settings.io_threads, "io")
        # One image a thread: OpenCV's own threads would only contend with these.
        cv2.setNumThreads(1)
        self._codecs = SmallestBatchFirstPool(settings.codec_threads, "codec")
        self._pixel_budget = pixel_budget or PixelBudget(settings.max_decoded_pixels)
        # Suspects wait for their child here, so that they keep no codec thread from the others.
        self._suspects = SmallestBatchFirstPool(settings.codec_threads, "suspect")

    def run_many(self, items: Sequence[WorkItem]) -> list[Outcome]:
        """Do a batch: one outcome for each item, in their order. One bad image fails alone."""
        # A device that hangs would hold the batch for ever, since its leases are renewed: after
        # this long its messages are another's anyway.
        limit_s = self._settings.queue_visibility_timeout_s
        with self._watchdog.watching(None, "batch", limit_s):
            return self._run_many(items)

    def _run_many(self, items: Sequence[WorkItem]) -> list[Outcome]:
        in_flight_images = [
            InFlightImage(item, Outcome(item_id=item.item_id), len(items)) for item in items
        ]
        # Each image goes on to decoding as soon as it is there; no codec thread waits for a fetch.
        fetching = {self._fetch(in_flight): in_flight for in_flight in in_flight_images}
        fetched = (
            (fetching[future], data)
            for future in as_completed(fetching)
            if (data := future.result()) is not None
        )
        # Asked once a batch, while the last photos are decoded: what is there is only copied.
        left, storing = self._round(fetched, lambda: self._reuse(in_flight_images))
        while left:
            rest = [(in_flight, data) for in_flight, data in left if not in_flight.outcome.reused]
            left, more = self._round(rest, list)
            storing += more
        for stored in storing:
            stored.result()
        return [in_flight.outcome for in_flight in in_flight_images]

    def _round(
        self,
        photos: Iterable[tuple[InFlightImage, bytes]],
        meanwhile: "Callable[[], list[Future[None]]]",
    ) -> "tuple[list[tuple[InFlightImage, bytes]], list[Future[None]]]":
        """Do as many as there is room for now, up to storing them; returns those that are left, and
        what is being stored.
        """
        begun: list[InFlightImage] = []
        left: list[tuple[InFlightImage, bytes]] = []
        decoding: list[Future[None]] = []
        held = 0
        try:
            for in_flight, data in photos:
                pixels = self._pixels(in_flight, data)
                if not begun:
                    held = self._pixel_budget.acquire(pixels)
                elif self._pixel_budget.try_acquire(pixels):
                    held += pixels
                else:
                    left.append((in_flight, data))
                    continue
                begun.append(in_flight)
                decoding.append(
                    self._pool(in_flight).submit(in_flight.of, self._decode, in_flight, data)
                )
            for future in [*decoding, *meanwhile()]:
                future.result()
            self._predict(begun)
            finishing = [
                self._codecs.submit(in_flight.of, self._finish, in_flight) for in_flight in begun
            ]
            return left, [finished.result() for finished in finishing]
        finally:
            self._pixel_budget.release(held)

    def close(self) -> None:
        """Wait for what is under way and end the threads."""
        self._suspects.shutdown()
        self._codecs.shutdown()
        self._io.shutdown()
        self._quarantine.close()

    def _pixels(self, in_flight: InFlightImage, data: bytes) -> int:
        """What decoding it needs room for; one with too many pixels is refused, and needs none."""
        pixels = pixels_to_decode(data, enough_px(in_flight.item.options))
        return pixels if pixels <= self._settings.max_image_pixels else 0

    def _pool(self, in_flight: InFlightImage) -> SmallestBatchFirstPool:
        return self._suspects if in_flight.item.suspect else self._codecs

    def _fetch(self, in_flight: InFlightImage) -> "Future[bytes | None]":
        return self._io.submit(
            in_flight.of,
            self._stage,
            in_flight,
            "fetch",
            lambda: self._get(in_flight),
        )

    def _get(self, in_flight: InFlightImage) -> bytes:
        item = in_flight.item
        data = self._store.get(item.bucket, item.key, self._settings.max_image_bytes)
        in_flight.outcome.input_bytes = len(data)
        if self._past is not None:
            in_flight.outcome.fingerprint = self._past.fingerprint(item.tenant, data, item.options)
        return data

    def _reuse(self, in_flight_images: list[InFlightImage]) -> "list[Future[None]]":
        """Look for earlier results, and begin to copy them."""
        asked = {
            (in_flight.item.tenant, in_flight.outcome.fingerprint): in_flight
            for in_flight in in_flight_images
            if in_flight.outcome.fingerprint is not None
        }
        if self._past is None or not asked:
            return []
        try:
            found = self._past.find_many([(t, mark) for t, mark in asked if mark is not None])
        except MattingError as error:  # it can all be computed
            log.warning("reuse-failed", code=error.code, detail=error.detail)
            return []
        return [
            self._io.submit(
                in_flight.of, copy_again, self._past, past, in_flight.item, in_flight.outcome
            )
            for in_flight in in_flight_images
            if (past := found.get((in_flight.item.tenant, in_flight.outcome.fingerprint or "")))
        ]

    def _decode(self, in_flight: InFlightImage, data: bytes) -> None:
        self._stage(in_flight, "decode", lambda: self._decode_and_prepare(in_flight, data))

    def _decode_and_prepare(self, in_flight: InFlightImage, data: bytes) -> None:
        options = in_flight.item.options
        request = DecodeRequest(enough_px(options), options.colour_profile is ColourProfile.KEEP)
        if in_flight.item.suspect:
            decoded = DecodedImage(*self._quarantine.decode(data, request))
        else:
            with self._watchdog.watching(in_flight.item.item_id, "decode"):
                decoded = decode(
                    data,
                    self._settings,
                    enough_px=request.enough_px,
                    keep_profile=request.keep_profile,
                )
        in_flight.metadata = keep_metadata(data, options)
        in_flight.pictures = self._pictures.get_many(options.background_images())
        in_flight.outcome.width, in_flight.outcome.height = decoded.width, decoded.height
        in_flight.prepared = self._predictor.prepare(decoded.image, options.profile)
        in_flight.decoded = decoded

    def _predict(self, in_flight_images: list[InFlightImage]) -> None:
        ready = [p for p in in_flight_images if p.prepared is not None and not p.outcome.reused]
        if not ready:
            return
        started, started_ns = time.perf_counter(), time.time_ns()
        alphas = self._predictor.predict_many([p.prepared for p in ready if p.prepared])
        share_ms = (time.perf_counter() - started) * 1e3 / len(ready)
        assert len(alphas) == len(ready), "predict_many must give one result for each input"
        for in_flight, alpha in zip(ready, alphas, strict=True):
            in_flight.outcome.timings_ms["predict"] = share_ms
            in_flight.outcome.stages.append(StageSpan("predict", started_ns, time.time_ns()))
            if isinstance(alpha, MattingError):
                in_flight.outcome.error = alpha
            else:
                in_flight.alpha = alpha
        self._review([in_flight for in_flight in ready if in_flight.alpha is not None])

    def _review(self, in_flight_images: list[InFlightImage]) -> None:
        seen = [
            ReviewInput(p.alpha, p.prepared, min(p.outcome.width, p.outcome.height))
            for p in in_flight_images
            if p.alpha is not None and p.prepared is not None
        ]
        found = review_many(seen, self._predictor.predict_many, self._settings)
        for in_flight, reasons in zip(in_flight_images, found, strict=True):
            in_flight.outcome.review = tuple(reasons)

    def _finish(self, in_flight: InFlightImage) -> "Future[None]":
        if in_flight.alpha is not None:
            with self._watchdog.watching(in_flight.item.item_id, "finish"):
                self._stage(in_flight, "finish", lambda: self._compose(in_flight))
        # The big arrays go as soon as they are encoded: storing may wait for the network.
        in_flight.decoded = in_flight.prepared = in_flight.alpha = None
        return self._io.submit(in_flight.of, self._put, in_flight)

    def _put(self, in_flight: InFlightImage) -> None:
        if in_flight.files:  # an image that failed before has nothing to store
            self._stage(in_flight, "store", lambda: self._put_files(in_flight))

    def _put_files(self, in_flight: InFlightImage) -> None:
        item, files = in_flight.item, in_flight.files
        for output, file in zip(item.outputs, files, strict=True):
            self._store.put(output.key, file.data, output.rendition.format.content_type)
        in_flight.outcome.outputs = tuple(
            StoredOutput(
                name=file.name,
                key=output.key,
                width=file.width,
                height=file.height,
                bytes=len(file.data),
                unmet=file.unmet,
                subject=file.subject,
            )
            for output, file in zip(item.outputs, files, strict=True)
        )

    def _compose(self, in_flight: InFlightImage) -> None:
        assert in_flight.decoded is not None
        assert in_flight.prepared is not None
        assert in_flight.alpha is not None
        in_flight.files = finish(
            in_flight.decoded,
            in_flight.prepared,
            in_flight.alpha,
            in_flight.item.options,
            name=in_flight.item.name,
            metadata=in_flight.metadata,
            pictures=in_flight.pictures,
            timings_ms=in_flight.outcome.timings_ms,
        )
        in_flight.outcome.output_bytes = len(in_flight.files[0].data)

    def _read_picture(self, bucket: str, key: str) -> Image:
        data = self._store.get(bucket, key, self._settings.max_image_bytes)
        # Each of a job's batches reads it: one that ends a worker would end one after another.
        return self._quarantine.decode(data, DecodeRequest())[0]

    def _stage(self, in_flight: InFlightImage, name: str, work: Callable[[], T]) -> T | None:
        """Do one stage of one image: its time is noted, its error is the image's own."""
        started, started_ns = time.perf_counter(), time.time_ns()
        try:
            return work()
        except MattingError as error:
            in_flight.outcome.error = error
        except MemoryError:
            in_flight.outcome.error = WorkerMemoryError()
        except Exception:
            log.exception("image-crashed", item=in_flight.item.item_id, stage=name)
            in_flight.outcome.error = MattingError(f"The stage {name} failed unexpectedly")
        finally:
            spent_ms = (time.perf_counter() - started) * 1e3
            inner_ms = in_flight.outcome.timings_ms.get("encode", 0) if name == "finish" else 0
            in_flight.outcome.timings_ms[name] = spent_ms - inner_ms
            in_flight.outcome.stages.append(StageSpan(name, started_ns, time.time_ns()))
        return None
