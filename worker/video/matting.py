"""Frames become mattes: prepare, predict in batches, measure, smooth along the motion."""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np

from shared.errors import MattingError
from shared.jobs import Reason
from shared.options import Options, SourceAlpha
from shared.settings import Settings
from worker.imaging.arrays import Alpha, Box, Image, Size
from worker.imaging.decoding import WHITE, DecodedImage
from worker.imaging.matte import adjust_matte, full_size_alpha, subject_box
from worker.imaging.prepared import PreparedImage
from worker.imaging.review import ReviewInput, reasons_without_mirroring
from worker.inference.predictor import Predictor
from worker.video.facts import ClipFacts
from worker.video.stages import BusyTime, ahead, in_order
from worker.video.steady import REACH, Sight, steadied

MEASURED_PER_S = 4
"""Frames of each second whose mattes are measured for signs of trouble."""

BATCH_BYTES = 96 * 1024**2
"""Most bytes of decoded frames in one batch. Three batches are under way."""

BATCHES_PER_STREAM = 2
"""Forward passes of each stream that one call of the predictor asks for. With more, a device waits
longer for the first frames of a segment, and the last ones longer for the rest of the work."""

FEWEST_FRAMES = 8
"""... but no fewer frames than these: networks with batches of one have nothing to wait for."""

Steps = tuple[tuple[str, Size], ...]
_NO_PIXELS = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class MattedFrame:
    """A frame with its matte at the network's size."""

    number: int
    decoded: DecodedImage
    alpha: Alpha
    """[h, w] without padding."""
    steps: Steps
    """The way from the frame's size to alpha's."""
    box: Box | None
    """The subject's box in alpha [px]; None: there is no subject, or no output is framed by it."""
    reasons: tuple[Reason, ...] | None
    """Signs of trouble; None if this frame was not measured."""
    unsteady: float = 0.0
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class _Prepared:
    number: int
    decoded: DecodedImage
    prepared: PreparedImage


@contextmanager
def matted(
    frames: Iterator[tuple[int, Image]],
    facts: ClipFacts,
    predictor: Predictor,
    options: Options,
    settings: Settings,
    on_device: BusyTime | None = None,
) -> Generator[Iterator[MattedFrame]]:
    """The frames [H, W, 3 or 4] of a clip with their mattes. Decoding, the network and smoothing
    work at the same time, each a bounded number of frames ahead of the next. `on_device` measures
    how long the network worked.

    Raises PredictorError, and whatever `frames` raises.
    """
    on_device = on_device or BusyTime()
    batch = _frames_per_batch(facts, predictor)
    every = max(1, round(facts.frames / max(facts.seconds, 1e-3) / MEASURED_PER_S))
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(settings.codec_threads, "clip"))
        networks = stack.enter_context(ThreadPoolExecutor(2, "clip-predict"))

        def prepare(frame: tuple[int, Image]) -> _Prepared:
            decoded = frame_photo(frame[1])
            return _Prepared(frame[0], decoded, predictor.prepare(decoded.image, options.profile))

        def predict(group: list[_Prepared]) -> list[Sight[MattedFrame]]:
            with on_device:
                alphas = predictor.predict_many([one.prepared for one in group])
            return [
                _sight(one, alpha, every, options, settings)
                for one, alpha in zip(group, alphas, strict=True)
            ]

        decoded = stack.enter_context(ahead(frames, batch))
        prepared = in_order(decoded, prepare, threads, settings.codec_threads + 1)
        predicted = in_order(_batches(prepared, batch), predict, networks, 2)
        sights = stack.enter_context(ahead(_flat(predicted), batch))
        steady = steadied(
            sights, threads, depth=settings.codec_threads + 1, average=options.clip_steady
        )
        wants_box = any(not one.is_plain for one in options.renditions)
        yield (_finished(one, facts, options, wants_box=wants_box) for one in steady)


def grey_of(prepared: PreparedImage) -> Image:
    """The grey picture [h, w] uint8 of a network input, without padding."""
    red, green, blue = (plane.astype(np.uint16) for plane in cv2.split(prepared.photo()))
    grey: Image = ((2 * (red + green + blue) + 3) // 6).astype(np.uint8)  # the rounded mean
    return grey


def content_input(steps: Steps) -> PreparedImage:
    """What `finishing.matte_of` needs to know about an alpha without padding: the way back."""
    return PreparedImage(_NO_PIXELS, _without_padding(steps))


def _without_padding(steps: Steps) -> Steps:
    return steps[:-1] if steps and steps[-1][0] == "padding" else steps


def frame_photo(pixels: Image) -> DecodedImage:
    """A frame as a photo: on white where it is transparent."""
    height, width = pixels.shape[:2]
    if pixels.shape[2] == 3:
        return DecodedImage(pixels, width, height)
    alpha = np.ascontiguousarray(pixels[..., 3])
    colours = np.ascontiguousarray(pixels[..., :3])
    if (alpha == 255).all():
        return DecodedImage(colours, width, height, alpha)
    share = alpha[..., None].astype(np.float32) / 255
    on_white = np.rint(colours * share + WHITE * (1 - share)).astype(np.uint8)
    return DecodedImage(on_white, width, height, alpha)


def _sight(
    one: _Prepared,
    alpha: Alpha | MattingError,
    every: int,
    options: Options,
    settings: Settings,
) -> Sight[MattedFrame]:
    if isinstance(alpha, MattingError):
        raise alpha
    reasons: tuple[Reason, ...] | None = None
    if one.number % every == 0:
        side_px = min(one.decoded.width, one.decoded.height)
        found = reasons_without_mirroring(ReviewInput(alpha, one.prepared, side_px), settings)
        reasons = tuple(found)
    content = _with_own(one.prepared.without_padding(alpha), one.decoded, options)
    steps = _without_padding(one.prepared.steps)
    frame = MattedFrame(one.number, one.decoded, content, steps, None, reasons)
    return Sight(content, grey_of(one.prepared), frame)


def _with_own(alpha: Alpha, decoded: DecodedImage, options: Options) -> Alpha:
    """The network's alpha [h, w] together with the frame's own, as the options say."""
    if decoded.alpha is None or options.source_alpha is SourceAlpha.IGNORE:
        return np.ascontiguousarray(alpha)
    size = alpha.shape[1], alpha.shape[0]
    own = cv2.resize(decoded.alpha, size, interpolation=cv2.INTER_AREA) / np.float32(255)
    limited = own if options.keep_alpha else np.minimum(alpha, own)
    return np.ascontiguousarray(limited, np.float32)


def _finished(
    sight: Sight[MattedFrame], facts: ClipFacts, options: Options, *, wants_box: bool
) -> MattedFrame:
    frame = sight.frame
    return MattedFrame(
        frame.number,
        frame.decoded,
        sight.alpha,
        frame.steps,
        _box(sight.alpha, facts, options) if wants_box else None,
        frame.reasons,
        sight.unsteady,
        sight.is_cut,
    )


def _box(alpha: Alpha, facts: ClipFacts, options: Options) -> Box | None:
    """The subject's box in an alpha, after the options that change the matte."""
    height, width = alpha.shape
    matte = full_size_alpha(alpha, width, height)
    return subject_box(adjust_matte(matte, options, scale=width / facts.width))


def _frames_per_batch(facts: ClipFacts, predictor: Predictor) -> int:
    asked = predictor.batch_sizes[-1] * predictor.streams * BATCHES_PER_STREAM
    wanted = max(FEWEST_FRAMES, asked)
    return max(1, min(wanted, BATCH_BYTES // (4 * facts.width * facts.height)))


def frames_held(facts: ClipFacts, predictor: Predictor, settings: Settings) -> int:
    """About how many decoded frames `matted` holds at a time: three batches, the window of the
    smoothing, and those with threads.
    """
    return 3 * _frames_per_batch(facts, predictor) + 2 * REACH + 1 + 2 * settings.codec_threads


def _batches(items: Iterable[_Prepared], size: int) -> Iterator[list[_Prepared]]:
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def _flat(batches: Iterable[list[Sight[MattedFrame]]]) -> Iterator[Sight[MattedFrame]]:
    for batch in batches:
        yield from batch


def enlarged(box: Box, alpha: Size, frame: Size) -> Box:
    """A box in an alpha, outwards to whole pixels of the frame; sizes are (height, width)."""
    down, across = frame[0] / alpha[0], frame[1] / alpha[1]
    return (
        max(0, int(box[0] * across)),
        max(0, int(box[1] * down)),
        min(frame[1], int(np.ceil(box[2] * across))),
        min(frame[0], int(np.ceil(box[3] * down))),
    )


def to_bytes(alpha: Alpha) -> Image:
    """An alpha in 0..1 as [h, w] uint8."""
    return cv2.convertScaleAbs(alpha, alpha=255).astype(np.uint8, copy=False)
