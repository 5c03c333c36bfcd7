"""Writing the outputs of a range of frames: they are rendered and encoded as they come."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from shared.errors import OutputTooLargeError, TruncatedClipError
from shared.options import CutOff, ExtraOutput, Options, Output
from shared.rendition_values import BackgroundImage
from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.imaging.crop_and_canvas import size_without_subject
from worker.imaging.decoding import without_white
from worker.imaging.finishing import matte_of
from worker.imaging.render import Subject, render
from worker.video.encoders import (
    MAX_ENCODERS_BYTES,
    Encoder,
    encoder_bytes,
    encoder_for,
    refuse_long_sides,
)
from worker.video.facts import ClipFacts
from worker.video.framing import SteadyFrame
from worker.video.mattes import OnFrames
from worker.video.matting import MattedFrame, content_input
from worker.video.parts import Part, Signs
from worker.video.previews import Previews
from worker.video.segments import Segment
from worker.video.stages import in_order

Rendered = tuple[MattedFrame, list[Image]]
Frames = Callable[[], AbstractContextManager[Iterator[MattedFrame]]]
"""Reads the frames from the first of the range."""


@dataclass(slots=True)
class _Outputs:
    """The files of a part. They are written in rounds, if their encoders take too much memory to be
    open all at once.
    """

    renditions: Sequence[Options | ExtraOutput]
    facts: ClipFacts
    folder: Path
    threads: int
    first: int
    """The first frame."""
    begun: int = 0
    """Outputs of the rounds before."""
    encoders: list[Encoder] = field(default_factory=list)
    """Those of this round: for the outputs from `begun` on."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """Width and height of those that are complete."""

    @property
    def left(self) -> Sequence[Options | ExtraOutput]:
        """The outputs of this round; before its first frame, all that are left."""
        last = self.begun + len(self.encoders) if self.encoders else len(self.renditions)
        return self.renditions[self.begun : last]

    @property
    def is_complete(self) -> bool:
        """Whether all outputs are."""
        return self.begun == len(self.renditions)

    def name(self, number: int) -> str:
        """The file of an output in the folder."""
        return f"{number}.{self.renditions[number].effective_clip_format.extension}"

    def write(self, pixels: list[Image], number: int) -> None:
        if not self.encoders:
            self._open(pixels)
        # The first frames of a round were rendered before its outputs were known.
        for encoder, one_frame in zip(self.encoders, pixels, strict=False):
            encoder.write(one_frame, number)

    def _open(self, pixels: list[Image]) -> None:
        """Open encoders for as many outputs as fit into memory together. Raises OutputTooLargeError
        for one that does not fit by itself.
        """
        sizes = [
            _room_of(one, self.facts, shown.shape[1], shown.shape[0], clear=_is_clear(shown))
            for one, shown in zip(self.renditions[self.begun :], pixels, strict=True)
        ]
        fit = sum(total <= MAX_ENCODERS_BYTES for total in accumulate(sizes))
        opened: list[Encoder] = []
        try:
            for index, shown in enumerate(pixels[:fit], self.begun):
                height, width = shown.shape[:2]
                one, target = self.renditions[index], self.folder / self.name(index)
                opened.append(
                    encoder_for(one, self.facts, width, height, target, self.threads, self.first)
                )
        finally:
            self.encoders = opened  # at once: other threads read `left` meanwhile

    def close(self) -> None:
        """Complete the files of a round."""
        for encoder in self.encoders:
            encoder.close()
            self.sizes.append(encoder.size)
        self.begun, self.encoders = self.begun + len(self.encoders), []

    def abandon(self) -> None:
        for encoder in self.encoders:
            encoder.abandon()


def _room_of(
    rendition: Options | ExtraOutput, facts: ClipFacts, width: int, height: int, *, clear: bool
) -> int:
    """The memory of an output's encoder. Raises OutputTooLargeError if it does not fit by itself,
    or can't write frames of this size.
    """
    kind = rendition.effective_clip_format
    refuse_long_sides(kind, width, height)
    room_bytes = encoder_bytes(rendition, facts, width, height, clear=clear)
    if room_bytes > MAX_ENCODERS_BYTES:
        raise OutputTooLargeError(
            f"Encoding {width} × {height} pixels as {kind} would take {room_bytes:,} bytes of"
            f" memory; the limit is {MAX_ENCODERS_BYTES:,} bytes"
        )
    return room_bytes


def refuse_too_large(facts: ClipFacts, options: Options) -> None:
    """Raise OutputTooLargeError for an output that is known to be too large before its first frame.
    The size of some depends on the subject.
    """
    for one in options.renditions:
        size = size_without_subject(one, facts.width, facts.height)
        if size is not None:
            clear = one.background is None and one.output is not Output.ALPHA
            _room_of(one, facts, *size, clear=clear)


def write_part(
    frames: Frames,
    facts: ClipFacts,
    asked: Segment,
    options: Options,
    settings: Settings,
    out: Path,
    *,
    steady: SteadyFrame | None = None,
    pictures: Mapping[str, Image] | None = None,
    on_frames: OnFrames | None = None,
) -> Part:
    """Render and encode all outputs of the frames `asked` into the folder `out`. If the encoders do
    not fit into memory together, `frames` is read several times; `on_frames` counts the first time
    only. Where the clip is damaged, the part has fewer frames, if the options allow that.

    `steady`: the subject in the whole clip, for the frame and the shadow of all outputs.
    `pictures`: decoded background pictures by URL. Raises OutputTooLargeError, EncodingFailedError,
    and what `frames` raises.
    """
    out.mkdir(parents=True, exist_ok=True)
    threads = max(1, settings.codec_threads)
    outputs = _Outputs(options.renditions, facts, out, threads, asked.first)
    previews = Previews(facts)
    signs: list[Signs] = []
    done: int | None = None
    """Frames of the first round."""

    def rendered(frame: MattedFrame) -> Rendered:
        subject = _subject(frame, options, steady)
        return frame, [render(subject, one, _picture(one, pictures)) for one in outputs.left]

    while not outputs.is_complete and done != 0:
        count = 0
        try:
            with frames() as read, ThreadPoolExecutor(threads, "clip-finish") as finishing:
                for frame, pixels in in_order(read, rendered, finishing, threads + 1):
                    outputs.write(pixels, frame.number)
                    if done is None:
                        signs.append((frame.number, frame.reasons, frame.unsteady))
                        previews.add(pixels[0], frame.number)
                    count += 1
                    if on_frames is not None:
                        on_frames(int(done is None))
            missing = count < asked.frames and options.clip_cut_off is not CutOff.KEEP
            if missing or count != (count if done is None else done):
                raise TruncatedClipError(f"Only {count:,} of {asked.frames:,} frames could be read")
        except BaseException:
            outputs.abandon()
            raise
        outputs.close()
        done = count
    names = [outputs.name(number) for number in range(outputs.begun)]
    return Part(
        out, asked.first, done or 0, tuple(names), tuple(outputs.sizes), tuple(signs), previews
    )


def _subject(frame: MattedFrame, options: Options, steady: SteadyFrame | None) -> Subject:
    """A frame with its matte: the network's, or its own with the option `keep_alpha`."""
    decoded = frame.decoded
    box, side_px = (None, None) if steady is None else (steady.box, steady.side_px)
    if options.keep_alpha and decoded.alpha is not None:
        own = without_white(decoded).image
        return Subject(own, decoded.alpha, own_colours=True, box=box, side_px=side_px)
    matte = matte_of(decoded, content_input(frame.steps), frame.alpha, options)
    return Subject(decoded.image, matte, box=box, side_px=side_px)


def _is_clear(pixels: Image) -> bool:
    return pixels.ndim == 3 and pixels.shape[2] == 4


def _picture(
    rendition: Options | ExtraOutput, pictures: Mapping[str, Image] | None
) -> Image | None:
    if not isinstance(rendition.background, BackgroundImage) or pictures is None:
        return None
    return pictures[rendition.background.image]
