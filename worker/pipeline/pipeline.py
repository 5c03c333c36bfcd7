"""Processes a batch: fetch → decode → predict → finish → encode → store.

Two or three batches are in flight, each driven by its own thread, so that the device never waits:
while one batch uses the predictor, shared thread pools fetch, decode, encode and store the images
of the others. There is a pool for the storage, one for servers of photo URLs, and one for codecs.
Every pool runs the images of small batches first.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from contextlib import AbstractContextManager

import cv2
import numpy as np

from shared.errors import ImageError, InvalidMatteError, MattingError
from shared.jobs import Reason
from shared.kept_files import output_with_matte
from shared.options import ColourProfile
from shared.photo_kinds import HEAD_BYTES, photo_kind
from shared.settings import Settings
from shared.telemetry import get_logger
from shared.tracing import StageSpan
from worker.concurrency.pixel_budget import PixelBudget
from worker.concurrency.thread_pool import SmallestBatchFirstPool
from worker.concurrency.watchdog import Watchdog
from worker.imaging.arrays import Image
from worker.imaging.decoding import DecodedImage, decode, pixels_to_decode, without_white
from worker.imaging.finishing import (
    finish_matte,
    has_layers,
    largest_canvas_pixels,
    matte_of,
    metadata_to_keep,
    min_decode_side_px,
)
from worker.imaging.kept_files import KeptFiles
from worker.imaging.quarantine import DecodeRequest, Quarantine
from worker.imaging.review import ReviewInput, review_many
from worker.pipeline.background_pictures import BackgroundPictures
from worker.pipeline.earlier_results import EarlierResults
from worker.pipeline.in_flight import BatchPredictor, InFlightImage, ObjectStore, Publisher
from worker.pipeline.meant_subject import put_back, seen_by_network
from worker.pipeline.second_opinions import SecondOpinions
from worker.pipeline.transfers import Transfers
from worker.pipeline.twins import Twins
from worker.pipeline.work_items import Outcome, WorkItem

__all__ = ["BatchPredictor", "ObjectStore", "Outcome", "Pipeline", "WorkItem"]

log = get_logger(__name__)

LAYERED = 3
"""A document with layers takes as much memory as this many photos: its layers are packed one after
the other, and stay until the file is complete (tests/unit/test_psd.py).
"""

QUARANTINED_KINDS = frozenset({"HEIF", "AVIF"})
"""Kinds that are always decoded in a child process. Their decoders are those of films: large, and
they take the size from the packed pixels, whatever the header says.
"""


class Pipeline:
    """Processes batches. Several threads may call `run_many` at the same time. Close it
    after them.
    """

    def __init__(
        self,
        predictor: BatchPredictor,
        store: ObjectStore,
        settings: Settings,
        past: EarlierResults | None = None,
        watchdog: Watchdog | None = None,
        pixel_budget: PixelBudget | None = None,
        second: SecondOpinions | None = None,
        publisher: Publisher | None = None,
    ) -> None:
        """`past`: finds results computed earlier; None: compute every image. `watchdog`: watches
        native code. `pixel_budget`: shared by all pipelines of the worker. `second`: the second
        models; None: it holds none. `publisher`: writes to the destinations of jobs; None: there
        are none.
        """
        self._predictor = predictor
        self._model = settings.model
        self._store = store
        self._settings = settings
        self._watchdog = watchdog or Watchdog(settings.image_timeout_s)
        self._quarantine = Quarantine(settings)
        self._pictures = BackgroundPictures(self._read_picture)
        self._transfers = Transfers(store, settings, past, publisher)
        # Each thread processes one image; OpenCV's own threads would only compete with these.
        cv2.setNumThreads(1)
        self._codecs = SmallestBatchFirstPool(settings.codec_threads, "codec")
        self._second = second or SecondOpinions(settings, lambda _: None)
        self._pixel_budget = pixel_budget or PixelBudget(settings.max_decoded_pixels)
        # Suspects wait for their child process in a pool of their own and occupy no codec thread.
        self._suspects = SmallestBatchFirstPool(settings.codec_threads, "suspect")

    def run_many(self, items: Sequence[WorkItem]) -> list[Outcome]:
        """Process a batch: one outcome for each item, in the same order. A bad image
        fails alone.
        """
        with self._watched():
            images = self._images(items, len(items))
            # Each image is decoded as soon as it has been fetched; no codec thread waits for a
            # fetch.
            fetching = {self._transfers.fetch(in_flight): in_flight for in_flight in images}
            self._run(
                images,
                (
                    (fetching[future], data)
                    for future in as_completed(fetching)
                    if (data := future.result()) is not None
                ),
            )
        return [in_flight.outcome for in_flight in images]

    def run_each(self, items: Sequence[WorkItem], *, urgent: bool) -> Iterator[list[Outcome]]:
        """Process images that may arrive slowly: those that arrived together are processed
        together, while the others are still being fetched. Each item has an outcome in one of the
        lists.

        `urgent`: run before all images of full batches, otherwise after them.
        """
        images = self._images(items, len(items) if urgent else self._settings.batch_size or 1)
        fetching = {self._transfers.fetch(in_flight): in_flight for in_flight in images}
        waiting = set(fetching)
        while waiting:
            first, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            others, waiting = wait(waiting, self._settings.batch_wait_ms / 1e3)
            came = [(fetching[future], future.result()) for future in first | others]
            with self._watched():
                self._run(
                    [in_flight for in_flight, _ in came],
                    [(in_flight, data) for in_flight, data in came if data is not None],
                )
            yield [in_flight.outcome for in_flight, _ in came]

    def _watched(self) -> AbstractContextManager[object]:
        """Watch a batch: a hanging device would hold it forever, because its leases are renewed.
        After this time Redis delivers its messages again anyway.
        """
        return self._watchdog.watching(None, "batch", self._settings.queue_visibility_timeout_s)

    def _images(self, items: Sequence[WorkItem], of: int) -> list[InFlightImage]:
        for item in items:
            for url in item.options.background_images():
                self._pictures.load(url)
        return [InFlightImage(item, Outcome(item_id=item.item_id), of) for item in items]

    def _run(
        self, images: Sequence[InFlightImage], fetched: Iterable[tuple[InFlightImage, bytes]]
    ) -> None:
        """Process fetched images, up to starting to store them."""
        # One query for all, while the last photos are being decoded; earlier results are only
        # copied.
        twins = Twins()
        left, storing = self._round(
            twins.without(fetched), lambda: self._transfers.copy_earlier(images), may_wait=False
        )
        self._finish_rounds(left, storing)
        for copied in self._transfers.copy_twins(
            [twin for twin in twins.found if not twin.in_flight.outcome.reused]
        ):
            copied.result()
        # Those of a leader that failed, or whose files could not be copied.
        self._finish_rounds([(twin.in_flight, twin.data) for twin in twins.found], [])

    def _finish_rounds(
        self, left: "list[tuple[InFlightImage, bytes]]", storing: "list[Future[None]]"
    ) -> None:
        """Process what is left, and wait until everything is stored."""
        while left:
            rest = [(in_flight, data) for in_flight, data in left if not in_flight.outcome.reused]
            left, more = self._round(rest, list, may_wait=True)
            storing += more
        for stored in storing:
            stored.result()

    def _round(
        self,
        photos: Iterable[tuple[InFlightImage, bytes]],
        meanwhile: "Callable[[], list[Future[None]]]",
        *,
        may_wait: bool,
    ) -> "tuple[list[tuple[InFlightImage, bytes]], list[Future[None]]]":
        """Process as many images as the pixel budget allows now; returns the remaining images and
        the writes in progress. `may_wait`: wait for the background picture of the first image;
        otherwise skip all images whose picture is not loaded yet.
        """
        begun: list[InFlightImage] = []
        left: list[tuple[InFlightImage, bytes]] = []
        decoding: list[Future[None]] = []
        behind: set[str] = set()
        held = 0
        try:
            for in_flight, data in photos:
                pictures = self._load_pictures(in_flight, wait=may_wait and not begun)
                if in_flight.outcome.error is not None:
                    continue
                pixels = self._pixels(in_flight, data) + sum(
                    picture.shape[0] * picture.shape[1]
                    for url, picture in pictures.items()
                    if url not in behind
                )
                if len(pictures) < len(in_flight.picture_urls):
                    left.append((in_flight, data))
                    continue
                if not begun:
                    held = self._pixel_budget.acquire(pixels)
                elif self._pixel_budget.try_acquire(pixels):
                    held += pixels
                else:
                    left.append((in_flight, data))
                    continue
                begun.append(in_flight)
                in_flight.pictures = pictures
                behind.update(pictures)
                decoding.append(
                    self._pool(in_flight, data).submit(in_flight.of, self._decode, in_flight, data)
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

    def _load_pictures(self, in_flight: InFlightImage, *, wait: bool) -> dict[str, Image]:
        """The loaded background pictures of an image; one that cannot be read is the image's error.
        `wait`: wait for all of them.
        """
        try:
            loading = {url: self._pictures.load(url) for url in in_flight.picture_urls}
            return {url: one.result() for url, one in loading.items() if wait or one.done()}
        except Exception as error:
            in_flight.fail(error, "fetch")
            return {}

    def close(self) -> None:
        """Wait for all work in progress, then end the threads."""
        self._suspects.shutdown()
        self._codecs.shutdown()
        self._transfers.close()
        self._pictures.close()
        self._quarantine.close()

    def _pixels(self, in_flight: InFlightImage, data: bytes) -> int:
        """The pixels that the image needs from the budget: its photo or a larger canvas. An image
        with too many pixels fails and needs none.
        """
        options = in_flight.item.options
        pixels = pixels_to_decode(data, _min_side_px(in_flight))
        if pixels > self._settings.max_image_pixels:
            return 0
        if in_flight.given_matte is not None:
            pixels += pixels_to_decode(in_flight.given_matte)
        return max(pixels, largest_canvas_pixels(options)) * (LAYERED if has_layers(options) else 1)

    def _pool(self, in_flight: InFlightImage, data: bytes) -> SmallestBatchFirstPool:
        waits = in_flight.given_matte is not None or _needs_quarantine(in_flight, data)
        return self._suspects if waits else self._codecs

    def _decode(self, in_flight: InFlightImage, data: bytes) -> None:
        in_flight.stage("decode", lambda: self._decode_and_prepare(in_flight, data))

    def _decode_and_prepare(self, in_flight: InFlightImage, data: bytes) -> None:
        options = in_flight.item.options
        request = DecodeRequest(
            _min_side_px(in_flight), options.colour_profile is ColourProfile.KEEP
        )
        if _needs_quarantine(in_flight, data):
            decoded = self._quarantine.decode(data, request)
        else:
            with self._watchdog.watching(in_flight.item.item_id, "decode"):
                decoded = decode(
                    data,
                    self._settings,
                    min_side_px=request.min_side_px,
                    keep_profile=request.keep_profile,
                )
        in_flight.metadata = metadata_to_keep(data, options)
        in_flight.outcome.width, in_flight.outcome.height = decoded.width, decoded.height
        in_flight.decoded = decoded
        if in_flight.given_matte is not None:
            in_flight.matte = self._decode_matte(in_flight.given_matte, decoded)
            in_flight.given_matte = None
            return
        if options.keep_alpha and decoded.alpha is not None:
            in_flight.matte = decoded.alpha
            in_flight.decoded = without_white(decoded)
            if not decoded.alpha.any():
                in_flight.outcome.review = (Reason.EMPTY,)
            return
        seen = seen_by_network(in_flight)
        in_flight.prepared = self._predictor.prepare(seen, options.profile)

    def _decode_matte(self, data: bytes, decoded: DecodedImage) -> Image:
        """A matte that came through the API [H, W] uint8, decoded in a child process. Raises
        InvalidMatteError.
        """
        try:
            pixels = self._quarantine.decode(data, DecodeRequest()).image
        except ImageError as error:
            raise InvalidMatteError(f"The matte can't be read: {error.detail}") from error
        if pixels.shape[:2] != (decoded.height, decoded.width):
            raise InvalidMatteError(
                f"The matte has {pixels.shape[1]} x {pixels.shape[0]} pixels, the photo"
                f" {decoded.width} x {decoded.height}"
            )
        return np.ascontiguousarray(pixels[..., 0])

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
                in_flight.outcome.model = self._model
        matted = [in_flight for in_flight in ready if in_flight.alpha is not None]
        firsts = [one for one in matted if one.item.forwarded_to is None]
        self._review([one for one in firsts if one.item.options.subject is None])
        self._second.review_meant([one for one in firsts if one.item.options.subject is not None])
        self._second.ask_many(firsts, self._codecs)
        forwarded = [one for one in matted if one.item.forwarded_to is not None]
        self._second.settle_forwarded(forwarded, self._model)
        for in_flight in matted:
            put_back(in_flight)

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
        forwarded = in_flight.outcome.forward_to is not None
        if not forwarded and (in_flight.alpha is not None or in_flight.matte is not None):
            with self._watchdog.watching(in_flight.item.item_id, "finish"):
                in_flight.stage("finish", lambda: self._compose(in_flight))
        # Release the large arrays right after encoding: storing may wait for the network.
        in_flight.decoded = in_flight.prepared = in_flight.alpha = in_flight.matte = None
        in_flight.pictures = {}
        return self._transfers.put(in_flight)

    def _compose(self, in_flight: InFlightImage) -> None:
        decoded, options = in_flight.decoded, in_flight.item.options
        assert decoded is not None
        matte = in_flight.matte
        if matte is None:
            assert in_flight.prepared is not None
            assert in_flight.alpha is not None
            matte = matte_of(decoded, in_flight.prepared, in_flight.alpha, options)
        in_flight.kept = KeptFiles(
            wants_thumbnails=self._settings.thumbnails,
            wants_matte=self._settings.keep_mattes
            and in_flight.item.matte_key is None
            and output_with_matte(options) is None,
        )
        in_flight.files = finish_matte(
            decoded,
            matte,
            options,
            photo=in_flight.item.photo,
            metadata=in_flight.metadata,
            pictures=in_flight.pictures,
            timings_ms=in_flight.outcome.timings_ms,
            kept=in_flight.kept,
        )
        in_flight.outcome.output_bytes = len(in_flight.files[0].data)

    def _read_picture(self, bucket: str, key: str) -> Image:
        data = self._store.get(bucket, key, self._settings.max_image_bytes)
        # Decoded in quarantine: every batch of the job reads the picture, so a picture that crashes
        # native code would end one worker after another.
        return self._quarantine.decode(data, DecodeRequest()).image


def _min_side_px(in_flight: InFlightImage) -> int | None:
    """As `min_decode_side_px`. What a person painted is rendered at the photo's full size."""
    if in_flight.item.matte_key is not None:
        return None
    return min_decode_side_px(in_flight.item.options)


def _needs_quarantine(in_flight: InFlightImage, data: bytes) -> bool:
    """Whether a photo is decoded in a child process: suspects, and kinds of film codecs."""
    return in_flight.item.suspect or photo_kind(data[:HEAD_BYTES]) in QUARANTINED_KINDS
