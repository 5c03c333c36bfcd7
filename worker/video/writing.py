"""Writing the outputs of a clip: frames with mattes are rendered and encoded as they come."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from shared.errors import OutputTooLargeError, TruncatedClipError
from shared.options import CutOff, ExtraOutput, Options, Output
from shared.rendition_values import BackgroundImage
from shared.settings import Settings
from worker.imaging.arrays import Box, Image
from worker.imaging.decoding import without_white
from worker.imaging.finishing import matte_of
from worker.imaging.render import Subject, render
from worker.video.doubts import Doubt, Doubts
from worker.video.encoders import MAX_ENCODERS_BYTES, Encoder, encoder_bytes, encoder_for
from worker.video.facts import ClipFacts
from worker.video.mattes import OnFrames
from worker.video.matting import MattedFrame, content_input
from worker.video.previews import Previews
from worker.video.quarantine import ClipProcess
from worker.video.stages import in_order

Rendered = tuple[MattedFrame, list[Image]]
Frames = Callable[[], AbstractContextManager[Iterator[MattedFrame]]]
"""Reads the clip from its beginning."""


@dataclass(frozen=True, slots=True)
class ClipFile:
    """One result file of a clip."""

    path: Path
    width: int
    height: int
    bytes: int
    content_type: str
    sound: str
    """`copied`, `coded` or `none`."""


@dataclass(frozen=True, slots=True)
class ClipResult:
    """What became of a clip."""

    files: list[ClipFile]
    """One for each of `options.renditions`."""
    poster: bytes
    """WebP of one frame."""
    strip: bytes
    """WebP of frames side by side, for scrubbing."""
    strip_layout: dict[str, Any]
    doubts: list[Doubt]
    frames: int
    seconds: float
    megapixel_frames: float
    whole: bool
    """False if the clip was cut off, and only its whole frames were done."""

    def to_json(self) -> dict[str, Any]:
        """The result without its pictures, as JSON."""
        return {
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "megapixel_frames": round(self.megapixel_frames, 3),
            "whole": self.whole,
            "doubts": [one.to_json() for one in self.doubts],
            "strip": self.strip_layout,
        }


@dataclass(slots=True)
class _Outputs:
    """The files of a clip. They are written in rounds, if their encoders take too much memory to be
    open all at once.
    """

    renditions: Sequence[Options | ExtraOutput]
    facts: ClipFacts
    folder: Path
    threads: int
    begun: int = 0
    """Outputs of the rounds before."""
    encoders: list[Encoder] = field(default_factory=list)
    """Those of this round: for the outputs from `begun` on."""

    @property
    def left(self) -> Sequence[Options | ExtraOutput]:
        """The outputs of this round; before its first frame, all that are left."""
        last = self.begun + len(self.encoders) if self.encoders else len(self.renditions)
        return self.renditions[self.begun : last]

    def path(self, number: int) -> Path:
        kind = self.renditions[number].effective_clip_format
        return self.folder / f"{number}.{kind.extension}"

    def pictures(self, number: int) -> Path:
        return self.folder / f"{number}.pictures.{self.path(number).suffix[1:]}"

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
                one, target = self.renditions[index], self.pictures(index)
                opened.append(encoder_for(one, self.facts, width, height, target, self.threads))
        finally:
            self.encoders = opened  # at once: other threads read `left` meanwhile

    def abandon(self) -> None:
        for encoder in self.encoders:
            encoder.abandon()


def _room_of(
    rendition: Options | ExtraOutput, facts: ClipFacts, width: int, height: int, *, clear: bool
) -> int:
    """The memory of an output's encoder. Raises OutputTooLargeError if it does not fit by
    itself.
    """
    room_bytes = encoder_bytes(rendition, facts, width, height, clear=clear)
    if room_bytes > MAX_ENCODERS_BYTES:
        kind = rendition.effective_clip_format
        raise OutputTooLargeError(
            f"Encoding {width} × {height} pixels as {kind} would take {room_bytes:,} bytes of"
            f" memory; the limit is {MAX_ENCODERS_BYTES:,} bytes"
        )
    return room_bytes


def refuse_too_large(facts: ClipFacts, options: Options) -> None:
    """Raise OutputTooLargeError for an output that is known to be too large before its first frame:
    one that has the size of the clip. The size of others depends on the subject.
    """
    for one in options.renditions:
        if not one.changes_frame:
            clear = one.background is None and one.output is not Output.ALPHA
            _room_of(one, facts, facts.width, facts.height, clear=clear)


def write_clip(
    process: ClipProcess,
    frames: Frames,
    facts: ClipFacts,
    options: Options,
    settings: Settings,
    out: Path,
    *,
    box: Box | None = None,
    pictures: Mapping[str, Image] | None = None,
    on_frames: OnFrames | None = None,
) -> ClipResult:
    """Render and encode all outputs of a clip into the folder `out`. `process` reads the clip; it
    adds the sound once `frames` has ended. If the encoders do not fit into memory together,
    `frames` is read several times; `on_frames` counts the first time only.

    `box`: the subject's box for the frame of all outputs. `pictures`: decoded background pictures
    by URL. Raises OutputTooLargeError, EncodingFailedError, and what `frames` raises.
    """
    out.mkdir(parents=True, exist_ok=True)
    outputs = _Outputs(options.renditions, facts, out, max(1, settings.codec_threads))
    doubts, previews = Doubts(facts), Previews(facts)
    files: list[ClipFile] = []
    done = 0

    def rendered(frame: MattedFrame) -> Rendered:
        subject = _subject(frame, options, box)
        return frame, [render(subject, one, _picture(one, pictures)) for one in outputs.left]

    while len(files) < len(options.renditions):
        is_first, before, done = not files, done, 0
        try:
            with (
                frames() as read,
                ThreadPoolExecutor(settings.codec_threads, "clip-finish") as threads,
            ):
                for frame, pixels in in_order(read, rendered, threads, settings.codec_threads + 1):
                    outputs.write(pixels, frame.number)
                    if is_first:
                        doubts.add(frame.number, frame.reasons, frame.unsteady)
                        previews.add(pixels[0], frame.number)
                    done += 1
                    if on_frames is not None:
                        on_frames(int(is_first))
            missing = done < facts.frames and options.clip_cut_off is not CutOff.KEEP
            if not done or missing or (not is_first and done != before):
                raise TruncatedClipError(f"Only {done:,} of {facts.frames:,} frames could be read")
        except BaseException:
            outputs.abandon()
            raise
        files += _completed(outputs, process, facts, options, done, on_frames)
    return ClipResult(
        files=files,
        poster=previews.poster(),
        strip=previews.strip(),
        strip_layout=previews.layout(),
        doubts=doubts.found(),
        frames=done,
        seconds=facts.time_s(done),
        megapixel_frames=done * facts.width * facts.height / 1e6,
        whole=facts.whole and done == facts.frames,
    )


def _subject(frame: MattedFrame, options: Options, box: Box | None) -> Subject:
    """A frame with its matte: the network's, or its own with the option `keep_alpha`."""
    decoded = frame.decoded
    if options.keep_alpha and decoded.alpha is not None:
        own = without_white(decoded).image
        return Subject(own, decoded.alpha, own_colours=True, box=box)
    matte = matte_of(decoded, content_input(frame.steps), frame.alpha, options)
    return Subject(decoded.image, matte, box=box)


def _completed(
    outputs: _Outputs,
    process: ClipProcess,
    facts: ClipFacts,
    options: Options,
    done: int,
    on_frames: OnFrames | None,
) -> list[ClipFile]:
    """Close the files of a round, and add the clip's sound."""
    files: list[ClipFile] = []
    for number, encoder in enumerate(outputs.encoders, outputs.begun):
        encoder.close()
        rendition = outputs.renditions[number]
        kind, target = rendition.effective_clip_format, outputs.path(number)
        pictures = outputs.pictures(number)
        sound = "none"
        if options.clip_audio and facts.audio is not None and kind.has_sound:
            until_s = facts.time_s(done) if done < facts.frames else None
            sound = process.add_sound(facts, pictures, target, until_s)
            if on_frames is not None:
                on_frames(0)
            pictures.unlink()
        else:
            pictures.rename(target)
        width, height = encoder.size
        files.append(
            ClipFile(target, width, height, target.stat().st_size, kind.content_type, sound)
        )
    outputs.begun, outputs.encoders = outputs.begun + len(files), []
    return files


def _is_clear(pixels: Image) -> bool:
    return pixels.ndim == 3 and pixels.shape[2] == 4


def _picture(
    rendition: Options | ExtraOutput, pictures: Mapping[str, Image] | None
) -> Image | None:
    if not isinstance(rendition.background, BackgroundImage) or pictures is None:
        return None
    return pictures[rendition.background.image]
