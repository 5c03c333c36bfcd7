"""Completing a clip: its parts become the result files, with sound, previews and times of doubt."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import MattingError, TruncatedClipError
from shared.options import CutOff, ExtraOutput, Options
from worker.video.concatenation import Concatenation
from worker.video.doubts import Doubt, Doubts
from worker.video.facts import ClipFacts
from worker.video.mattes import OnFrames
from worker.video.options import without_effect
from worker.video.parts import Part
from worker.video.previews import Previews
from worker.video.quarantine import ClipProcess


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
    without_effect: list[str]
    """Options that were given and that clips don't have."""

    def to_json(self) -> dict[str, Any]:
        """The result without its pictures, as JSON."""
        return {
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "megapixel_frames": round(self.megapixel_frames, 3),
            "whole": self.whole,
            "doubts": [one.to_json() for one in self.doubts],
            "strip": self.strip_layout,
            "without_effect": self.without_effect,
        }


def complete(
    process: ClipProcess,
    parts: Iterable[Part],
    facts: ClipFacts,
    options: Options,
    out: Path,
    *,
    on_frames: OnFrames | None = None,
) -> ClipResult:
    """Join the parts of a clip, in their order, in the folder `out`. The folder of each part is
    removed. `process` reads the clip's sound; `on_frames` is called without new frames.

    With the option `clip_cut_off`, all behind the first missing frame is left out. Raises
    TruncatedClipError, EncodingFailedError, OutputTooLargeError, MattingError.
    """
    out.mkdir(parents=True, exist_ok=True)
    keep_whole = options.clip_cut_off is CutOff.KEEP
    doubts, previews = Doubts(facts), Previews(facts)
    outputs: list[Concatenation] = []
    done = 0
    try:
        for part in parts:
            if part.first != done:
                if keep_whole:
                    break
                raise MattingError("The parts don't cover the clip exactly once")
            if not part.frames:
                continue
            if not outputs:
                outputs = _begun(options, facts, part, out)
            for output, path in zip(outputs, part.paths, strict=True):
                output.add(path, part.frames)
                if on_frames is not None:
                    on_frames(0)
            for number, reasons, unsteady in part.signs:
                doubts.add(number, reasons, unsteady)
            previews.put(part.previews.pictures())
            shutil.rmtree(part.folder, ignore_errors=True)
            done += part.frames
        if not done or (done < facts.frames and not keep_whole):
            raise TruncatedClipError(f"Only {done:,} of {facts.frames:,} frames could be read")
    except BaseException:
        for output in outputs:
            output.abandon()
        raise
    return ClipResult(
        files=[
            _file(process, output, number, facts, options, out, done, on_frames)
            for number, output in enumerate(outputs)
        ],
        poster=previews.poster(),
        strip=previews.strip(),
        strip_layout=previews.layout(),
        doubts=doubts.found(),
        frames=done,
        seconds=facts.time_s(done),
        megapixel_frames=done * facts.width * facts.height / 1e6,
        whole=facts.whole and done == facts.frames,
        without_effect=without_effect(options),
    )


def _begun(options: Options, facts: ClipFacts, first: Part, out: Path) -> list[Concatenation]:
    return [
        Concatenation(one.effective_clip_format, facts, size, _pictures(out, number, one))
        for number, (one, size) in enumerate(zip(options.renditions, first.sizes, strict=True))
    ]


def _file(
    process: ClipProcess,
    output: Concatenation,
    number: int,
    facts: ClipFacts,
    options: Options,
    out: Path,
    done: int,
    on_frames: OnFrames | None,
) -> ClipFile:
    """Complete a file, and add the clip's sound."""
    output.close()
    rendition = options.renditions[number]
    kind, pictures = rendition.effective_clip_format, _pictures(out, number, rendition)
    target = out / f"{number}.{kind.extension}"
    sound = "none"
    if options.clip_audio and facts.audio is not None and kind.has_sound:
        until_s = facts.time_s(done) if done < facts.frames else None
        sound = process.add_sound(facts, pictures, target, until_s)
        if on_frames is not None:
            on_frames(0)
        pictures.unlink()
    else:
        pictures.rename(target)
    width, height = output.size
    return ClipFile(target, width, height, target.stat().st_size, kind.content_type, sound)


def _pictures(out: Path, number: int, rendition: Options | ExtraOutput) -> Path:
    """The file of an output before it has sound."""
    extension = rendition.effective_clip_format.extension
    return out / f"{number}.pictures.{extension}"
