"""The life of one batch: fetch → decode → predict → finish → encode → store.

The device is never kept waiting: two or three batches are in flight, each driven by a thread of its
own, and while one holds the predictor the others' images are fetched, decoded, encoded and stored
by two shared pools, one for what waits (network) and one for what computes (codecs).
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import cv2
from numpy import float32
from numpy.typing import NDArray

from shared.errors import MattingError
from shared.options import Options, Output, Profile
from shared.settings import Settings
from shared.telemetry import get_logger
from worker.codec import Decoded, decode, encode
from worker.matte import finish, full_alpha
from worker.transforms import Image, Prepared, restore

log = get_logger(__name__)

T = TypeVar("T")


class ObjectStore(Protocol):
    """Where photos come from and results go to."""

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """The object's bytes. Raises MattingError."""

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object of the own bucket. Raises MattingError."""


class BatchPredictor(Protocol):
    """What turns photos into alphas."""

    def prepare(self, image: Image, profile: Profile) -> Prepared:
        """A photo as an input of the network."""

    def predict_many(self, prepared: Sequence[Prepared]) -> list[NDArray[float32] | MattingError]:
        """An alpha or an error for each input, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """One image to be done."""

    item_id: str
    bucket: str
    key: str
    result_key: str
    options: Options


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of one image."""

    item_id: str
    error: MattingError | None = None
    width: int = 0
    height: int = 0
    """Of the upright original; 0 if it was never decoded."""
    input_bytes: int = 0
    output_bytes: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Passage:
    """An image on its way through the stages."""

    item: WorkItem
    outcome: Outcome
    decoded: Decoded | None = None
    prepared: Prepared | None = None
    alpha: NDArray[float32] | None = None
    encoded: bytes = b""


class Pipeline:
    """Runs batches; `run_many` may be called by several threads at once. `close` it after them."""

    def __init__(self, predictor: BatchPredictor, store: ObjectStore, settings: Settings) -> None:
        self._predictor = predictor
        self._store = store
        self._settings = settings
        self._io = ThreadPoolExecutor(settings.io_threads, "io")
        # One image a thread: OpenCV's own threads would only contend with these.
        cv2.setNumThreads(1)
        self._codecs = ThreadPoolExecutor(settings.codec_threads, "codec")

    def run_many(self, items: Sequence[WorkItem]) -> list[Outcome]:
        """Do a batch: one outcome for each item, in their order. One bad image fails alone."""
        passages = [_Passage(item, Outcome(item_id=item.item_id)) for item in items]
        # Each image goes on to decoding as soon as it is there; no codec thread waits for a fetch.
        fetching = {self._fetch(passage): passage for passage in passages}
        decoding = [
            self._codecs.submit(self._decode, fetching[future], data)
            for future in as_completed(fetching)
            if (data := future.result()) is not None
        ]
        for future in decoding:
            future.result()
        self._predict(passages)
        storing = [self._codecs.submit(self._finish, passage) for passage in passages]
        for finished in storing:
            finished.result().result()
        return [passage.outcome for passage in passages]

    def close(self) -> None:
        """Wait for what is under way and end the threads."""
        self._codecs.shutdown()
        self._io.shutdown()

    def _fetch(self, passage: _Passage) -> "Future[bytes | None]":
        item = passage.item
        return self._io.submit(
            self._stage,
            passage,
            "fetch",
            lambda: self._store.get(item.bucket, item.key, self._settings.max_image_bytes),
        )

    def _decode(self, passage: _Passage, data: bytes) -> None:
        passage.outcome.input_bytes = len(data)
        self._stage(passage, "decode", lambda: self._decode_and_prepare(passage, data))

    def _decode_and_prepare(self, passage: _Passage, data: bytes) -> None:
        options = passage.item.options
        # The matte alone needs no full-size pixels: twice the network's side is plenty.
        enough_px = (
            REDUCED_SIDE_PX
            if options.output is Output.ALPHA and options.profile is Profile.FAST
            else None
        )
        decoded = decode(data, self._settings, enough_px=enough_px)
        passage.outcome.width, passage.outcome.height = decoded.width, decoded.height
        passage.prepared = self._predictor.prepare(decoded.image, options.profile)
        passage.decoded = decoded

    def _predict(self, passages: list[_Passage]) -> None:
        ready = [passage for passage in passages if passage.prepared is not None]
        if not ready:
            return
        started = time.perf_counter()
        alphas = self._predictor.predict_many([p.prepared for p in ready if p.prepared])
        share_ms = (time.perf_counter() - started) * 1e3 / len(ready)
        assert len(alphas) == len(ready), "predict_many must give one result for each input"
        for passage, alpha in zip(ready, alphas, strict=True):
            passage.outcome.timings_ms["predict"] = share_ms
            if isinstance(alpha, MattingError):
                passage.outcome.error = alpha
            else:
                passage.alpha = alpha

    def _finish(self, passage: _Passage) -> "Future[None]":
        if passage.alpha is not None:
            self._stage(passage, "finish", lambda: self._compose(passage))
        # The big arrays go as soon as they are encoded: storing may wait for the network.
        passage.decoded = passage.prepared = passage.alpha = None
        return self._io.submit(self._put, passage)

    def _put(self, passage: _Passage) -> None:
        item = passage.item
        if passage.encoded:  # an image that failed before has nothing to store
            self._stage(
                passage,
                "store",
                lambda: self._store.put(
                    item.result_key, passage.encoded, item.options.format.content_type
                ),
            )

    def _compose(self, passage: _Passage) -> None:
        assert passage.decoded is not None
        assert passage.prepared is not None
        assert passage.alpha is not None
        decoded, options = passage.decoded, passage.item.options
        pixels = finish_alpha(decoded, passage.prepared, passage.alpha, options)
        started = time.perf_counter()
        passage.encoded = encode(pixels, options)
        passage.outcome.output_bytes = len(passage.encoded)
        passage.outcome.timings_ms["encode"] = (time.perf_counter() - started) * 1e3

    def _stage(self, passage: _Passage, name: str, work: Callable[[], T]) -> T | None:
        """Do one stage of one image: its time is noted, its error is the image's own."""
        started = time.perf_counter()
        try:
            return work()
        except MattingError as error:
            passage.outcome.error = error
        except Exception:
            log.exception("image-crashed", item=passage.item.item_id, stage=name)
            passage.outcome.error = MattingError(f"The stage {name} failed unexpectedly")
        finally:
            spent_ms = (time.perf_counter() - started) * 1e3
            inner_ms = passage.outcome.timings_ms.get("encode", 0) if name == "finish" else 0
            passage.outcome.timings_ms[name] = spent_ms - inner_ms
        return None


REDUCED_SIDE_PX = 1_024
"""A JPEG whose full-size pixels are not needed keeps at least this much of its short side."""


def finish_alpha(
    decoded: Decoded, prepared: Prepared, alpha: NDArray[float32], options: Options
) -> Image:
    """The result's pixels at the original's size, from the network's alpha."""
    matte = full_alpha(
        restore(alpha, prepared.steps),
        decoded.width,
        decoded.height,
        levels=options.profile is Profile.FAST,
    )
    return finish(decoded.image, matte, options)
