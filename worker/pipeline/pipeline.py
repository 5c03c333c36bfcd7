"""Processes a batch: fetch → decode → predict → finish → encode → store.

Two or three batches are in flight, each driven by its own thread, so that the device never waits:
while one batch uses the predictor, shared thread pools fetch, decode, encode and store the images
of the others. There is a pool for the storage, one for servers of photo URLs, and one for codecs.
Every pool runs the images of small batches first.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from contextlib import AbstractContextManager

import cv2

from shared.clips import ClipWork
from shared.errors import MattingError
from shared.groups import GroupWork, TurntableWork
from shared.settings import Settings
from shared.telemetry import get_logger
from shared.tracing import StageSpan
from worker.concurrency.fifo_lock import FifoLock
from worker.concurrency.pixel_budget import PixelBudget
from worker.concurrency.shared_exclusive_lock import SharedExclusiveLock
from worker.concurrency.thread_pool import SmallestBatchFirstPool
from worker.concurrency.watchdog import Watchdog
from worker.imaging.arrays import Image
from worker.imaging.matte_metrics import measure
from worker.imaging.review import ReviewInput, needs_second_look, reasons, review_measured
from worker.pipeline.background_pictures import BackgroundPictures
from worker.pipeline.clip_files import FileStore
from worker.pipeline.clips import Clips
from worker.pipeline.earlier_results import EarlierResults
from worker.pipeline.image_stages import ImageStages, needs_quarantine
from worker.pipeline.in_flight import BatchPredictor, InFlightImage, ObjectStore, Publisher
from worker.pipeline.meant_subject import put_back
from worker.pipeline.second_opinions import SecondOpinions
from worker.pipeline.transfers import Part, Transfers
from worker.pipeline.turntables import Turntables
from worker.pipeline.twins import Twins
from worker.pipeline.work_items import Outcome, WorkItem

__all__ = ["BatchPredictor", "ObjectStore", "Outcome", "Pipeline", "WorkItem"]

log = get_logger(__name__)

LONG_WORK = (TurntableWork, ClipWork)
"""What takes longer than a photo and shares no batch."""


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
        files: FileStore | None = None,
        stopping: threading.Event | None = None,
        isolation: SharedExclusiveLock | None = None,
        clip_turn: FifoLock | None = None,
    ) -> None:
        """`past`: finds results computed earlier; None: compute every image. `watchdog`: watches
        native code. `pixel_budget`: shared by all pipelines of the worker. `second`: the second
        models; None: it holds none. `publisher`: writes to the destinations of jobs; None: there
        are none. `files`: reads and writes clips; None: there are none. `stopping`: set when the
        worker stops. `isolation`: clips let an image that must run alone in. `clip_turn`: shared
        by all pipelines of the worker, of which one at a time works on a clip.
        """
        self._predictor = predictor
        self._model = settings.model
        self._settings = settings
        self._watchdog = watchdog or Watchdog(settings.image_timeout_s)
        self._stages = ImageStages(predictor, store, settings, self._watchdog)
        self._pictures = BackgroundPictures(self._stages.read_picture)
        self._transfers = Transfers(store, settings, past, publisher)
        # Each thread processes one image; OpenCV's own threads would only compete with these.
        cv2.setNumThreads(1)
        self._codecs = SmallestBatchFirstPool(settings.codec_threads, "codec")
        self._second = second or SecondOpinions(settings, lambda _: None)
        self._pixel_budget = pixel_budget or PixelBudget(settings.max_decoded_pixels)
        self._turntables = Turntables(
            self._transfers, self._codecs, self._pixel_budget, self._watchdog, settings
        )
        self._clips = None
        if files is not None:
            self._clips = Clips(
                predictor,
                files,
                publisher,
                self._pictures,
                self._watchdog,
                settings,
                self._pixel_budget,
                clip_turn or FifoLock(),
                stopping or threading.Event(),
                isolation or SharedExclusiveLock(),
            )
        # Suspects wait for their child process in a pool of their own and occupy no codec thread.
        self._suspects = SmallestBatchFirstPool(settings.codec_threads, "suspect")

    def run_many(self, items: Sequence[WorkItem]) -> list[Outcome]:
        """Process a batch: one outcome for each item, in the same order. A bad image
        fails alone.
        """
        photos = [item for item in items if not isinstance(item.group, LONG_WORK)]
        with self._watched() as turned:
            images = self._images(photos, len(items))
            for in_flight in images:
                in_flight.goes_on = turned
            left, twins = images, Twins()
            while left:
                # Each image is decoded as soon as it has been fetched; no codec thread waits for a
                # fetch.
                part = Part()
                fetching = {self._transfers.fetch(in_flight, part): in_flight for in_flight in left}
                self._run(left, _as_fetched(fetching), twins)
                left = part.postponed
        done = {one.item_id: one for one in (in_flight.outcome for in_flight in images)}
        done |= {one.item_id: one for one in self._run_long(items)}
        return [done[item.item_id] for item in items]

    def _run_long(self, items: Sequence[WorkItem]) -> Iterator[Outcome]:
        """Get on with turntables and clips, one after the other."""
        for item in items:
            in_flight = InFlightImage(item, Outcome(item_id=item.item_id))
            if isinstance(item.group, TurntableWork):
                self._turntables.make(in_flight)
            elif isinstance(item.group, ClipWork) and self._clips is not None:
                self._clips.go_on(in_flight)
            else:
                continue
            yield in_flight.outcome

    def run_each(self, items: Sequence[WorkItem], *, urgent: bool) -> Iterator[list[Outcome]]:
        """Process images that may arrive slowly: those that arrived together are processed
        together, while the others are still being fetched. Each item has an outcome in one of the
        lists.

        `urgent`: run before all images of full batches, otherwise after them.
        """
        photos = [item for item in items if not isinstance(item.group, LONG_WORK)]
        images = self._images(photos, len(photos) if urgent else self._settings.batch_size or 1)
        fetching = {self._transfers.fetch(in_flight): in_flight for in_flight in images}
        waiting = set(fetching)
        while waiting:
            first, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            others, waiting = wait(waiting, self._settings.batch_wait_ms / 1e3)
            came = {future: fetching.pop(future) for future in first | others}
            del first, others  # a future holds its photo's file
            these = list(came.values())
            with self._watched() as turned:
                for in_flight in these:
                    in_flight.goes_on = turned
                self._run(these, _as_fetched(came), Twins())
            yield [in_flight.outcome for in_flight in these]
        for outcome in self._run_long(items):
            yield [outcome]

    def _watched(self) -> AbstractContextManager[Callable[[], None]]:
        """Watch a batch: a hanging device would hold it forever, because its leases are renewed.
        After this time Redis delivers its messages again anyway. Each file that is encoded restarts
        the time.
        """
        return self._watchdog.watching(None, "batch", self._settings.queue_visibility_timeout_s)

    def _images(self, items: Sequence[WorkItem], of: int) -> list[InFlightImage]:
        for item in items:
            for url in item.options.background_images():
                self._pictures.load(url)
        return [InFlightImage(item, Outcome(item_id=item.item_id), of) for item in items]

    def _run(
        self,
        images: Sequence[InFlightImage],
        fetched: Iterable[tuple[InFlightImage, bytes]],
        twins: Twins,
    ) -> None:
        """Process fetched images, up to starting to store them. `twins`: knows the images of the
        batch that came before.
        """
        # One query for all, while the last photos are being decoded; earlier results are only
        # copied.
        left, storing = self._round(
            twins.without(fetched), lambda: self._transfers.copy_earlier(images), may_wait=False
        )
        self._finish_rounds(left, storing)
        found = twins.taken()
        for copied in self._transfers.copy_twins(
            [twin for twin in found if not twin.in_flight.outcome.reused]
        ):
            copied.result()
        # Those of a leader that failed, or whose files could not be copied.
        self._finish_rounds([(twin.in_flight, twin.data) for twin in found], [])

    def _finish_rounds(
        self, left: "list[tuple[InFlightImage, bytes]]", storing: "list[Future[None]]"
    ) -> None:
        """Process what is left, and wait until everything is stored."""
        while left:
            left, more = self._round(_taken(left), list, may_wait=True)
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
                pixels = self._stages.pixels(in_flight, data) + sum(
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
                    self._pool(in_flight, data).submit(
                        in_flight.of, self._stages.decode, in_flight, data
                    )
                )
            for future in [*decoding, *meanwhile()]:
                future.result()
            self._predict(begun)
            return left, self._finish_many(begun)
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
        if self._clips is not None:
            self._clips.close()
        self._suspects.shutdown()
        self._codecs.shutdown()
        self._transfers.close()
        self._pictures.close()
        self._stages.close()

    def _pool(self, in_flight: InFlightImage, data: bytes) -> SmallestBatchFirstPool:
        waits = in_flight.given_matte is not None or needs_quarantine(in_flight, data)
        return self._suspects if waits else self._codecs

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

    def _finish_many(self, in_flight_images: list[InFlightImage]) -> "list[Future[None]]":
        """Review and finish images; returns the writes in progress.

        Finishing comes after all decoding, so that the device soon has its next batch.
        """
        looking = [
            self._codecs.submit_last(in_flight.of, self._review_and_finish, in_flight)
            for in_flight in in_flight_images
        ]
        storing = [looked.result() for looked in looking]
        unclear = [
            in_flight
            for in_flight, stored in zip(in_flight_images, storing, strict=True)
            if stored is None
        ]
        self._look_again(unclear)
        finishing = [
            self._codecs.submit_last(in_flight.of, self._finish, in_flight) for in_flight in unclear
        ]
        return [stored for stored in storing if stored is not None] + [
            finished.result() for finished in finishing
        ]

    def _review_and_finish(self, in_flight: InFlightImage) -> "Future[None] | None":
        """Finish an image whose matte needs no other look at it; returns its write. None: it needs
        one.
        """
        seen = _review_input(in_flight)
        if seen is not None:
            options = in_flight.item.options
            if options.subject is not None or in_flight.item.forwarded_to is not None:
                return None
            in_flight.metrics = measure(*seen)
            if needs_second_look(in_flight.metrics, self._settings):
                return None
            in_flight.outcome.review = tuple(reasons(in_flight.metrics, self._settings))
        return self._finish(in_flight)

    def _look_again(self, matted: list[InFlightImage]) -> None:
        """Review images whose mirrored photo or second model may decide, or whose subject is given,
        and choose the matte of each.
        """
        firsts = [one for one in matted if one.item.forwarded_to is None]
        self._review([one for one in firsts if one.item.options.subject is None])
        self._second.review_meant([one for one in firsts if one.item.options.subject is not None])
        self._second.ask_many(firsts, self._codecs)
        forwarded = [one for one in matted if one.item.forwarded_to is not None]
        self._second.settle_forwarded(forwarded, self._model)
        for in_flight in matted:
            put_back(in_flight)

    def _review(self, in_flight_images: list[InFlightImage]) -> None:
        seen = [one for one in map(_review_input, in_flight_images) if one is not None]
        metrics = [one.metrics for one in in_flight_images if one.metrics is not None]
        found = review_measured(seen, metrics, self._predictor.predict_many, self._settings)
        for in_flight, reviewed in zip(in_flight_images, found, strict=True):
            in_flight.alpha, in_flight.metrics = reviewed.alpha, reviewed.metrics
            in_flight.outcome.review = tuple(reviewed.reasons)

    def _finish(self, in_flight: InFlightImage) -> "Future[None]":
        outcome, group = in_flight.outcome, in_flight.item.group
        ended = outcome.reused or outcome.forward_to is not None
        if not ended and (in_flight.alpha is not None or in_flight.matte is not None):
            if isinstance(group, GroupWork) and group.frame is None:
                self._stages.measure(in_flight)
            else:
                self._stages.finish(in_flight)
        # Release the large arrays right after encoding: storing may wait for the network.
        in_flight.decoded = in_flight.prepared = in_flight.alpha = in_flight.matte = None
        in_flight.pictures = {}
        return self._transfers.put(in_flight)


def _as_fetched(
    fetching: "dict[Future[bytes | None], InFlightImage]",
) -> Iterator[tuple[InFlightImage, bytes]]:
    """The photos as they arrive, without those that failed or wait. It empties `fetching`: a future
    holds its photo's file, which nobody needs once the photo is decoded.
    """
    for future in as_completed(fetching):
        in_flight, data = fetching.pop(future), future.result()
        del future
        if data is not None:
            yield in_flight, data


def _taken(photos: list[tuple[InFlightImage, bytes]]) -> Iterator[tuple[InFlightImage, bytes]]:
    """The photos that still need work, taken out of the list, so that it holds no file longer than
    needed.
    """
    waiting = deque(photos)
    photos.clear()
    while waiting:
        in_flight, data = waiting.popleft()
        if not in_flight.outcome.reused:
            yield in_flight, data


def _review_input(in_flight: InFlightImage) -> ReviewInput | None:
    """What is reviewed of an image; None: no network matted it."""
    if in_flight.alpha is None or in_flight.prepared is None:
        return None
    side_px = min(in_flight.outcome.width, in_flight.outcome.height)
    return ReviewInput(in_flight.alpha, in_flight.prepared, side_px)
