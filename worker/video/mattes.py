"""The mattes of a segment of a clip, in one file: any worker makes it, the join reads it.

The file is a zip with one grey PNG for each frame and `mattes.json`.
"""

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shared.errors import MattingError
from shared.jobs import Reason, known_reasons
from shared.options import Options
from shared.settings import Settings
from worker.imaging.arrays import Alpha, Box
from worker.inference.predictor import Predictor
from worker.video.facts import ClipFacts
from worker.video.matting import MattedFrame, Steps, matted, to_bytes
from worker.video.quarantine import ClipProcess
from worker.video.segments import Segment
from worker.video.stages import BusyTime
from worker.video.steady import REACH

INDEX = "mattes.json"
PNG_PARAMETERS = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, 3)
"""Level 1 with run lengths (IMWRITE_PNG_STRATEGY_RLE)."""

OnFrames = Callable[[int], None]
"""Called with the number of frames that were done since the last call, which may be 0. What it
raises ends the work."""


@dataclass(frozen=True, slots=True)
class StoredMatte:
    """What a file of mattes knows about one frame."""

    number: int
    box: Box | None
    reasons: tuple[Reason, ...] | None
    unsteady: float
    is_cut: bool
    size: tuple[int, int]
    """Height and width of the alpha."""


class MattesWriter:
    """Writes a file of mattes, frame by frame. A context manager; it is complete at its end."""

    def __init__(self, target: Path) -> None:
        self._zip = zipfile.ZipFile(target, "w", zipfile.ZIP_STORED)
        self._frames: list[dict[str, Any]] = []
        self._steps: Steps = ()

    def __enter__(self) -> "MattesWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            index = {"steps": self._steps, "frames": self._frames}
            self._zip.writestr(INDEX, json.dumps(index))
        self._zip.close()

    def add(self, frame: MattedFrame) -> None:
        """Add the matte of a frame."""
        encoded, data = cv2.imencode(".png", to_bytes(frame.alpha), PNG_PARAMETERS)
        if not encoded:
            raise MattingError("A matte can't be encoded")
        self._zip.writestr(_name(frame.number), data.tobytes())
        self._steps = frame.steps
        self._frames.append(
            {
                "number": frame.number,
                "box": frame.box,
                "reasons": None if frame.reasons is None else list(frame.reasons),
                "unsteady": round(frame.unsteady, 4),
                "is_cut": frame.is_cut,
                "size": frame.alpha.shape,
            }
        )


class Mattes:
    """The mattes of a segment. A context manager."""

    def __init__(self, file: Path, *, keep_whole: bool = False) -> None:
        """`keep_whole`: leave out all frames behind the first one that is missing, because the clip
        is damaged there. Raises MattingError if a frame is missing otherwise.
        """
        self._zip = zipfile.ZipFile(file)
        index = json.loads(self._zip.read(INDEX))
        self.steps: Steps = tuple((kind, (size[0], size[1])) for kind, size in index["steps"])
        self.frames = [_stored(one) for one in index["frames"]]
        self.first = self.frames[0].number if self.frames else 0
        """The first frame; 0 if there is none: the clip is damaged."""
        numbers = enumerate((one.number for one in self.frames), self.first)
        whole = next((at - self.first for at, number in numbers if number != at), None)
        if whole is not None and keep_whole:
            del self.frames[whole:]
        elif whole is not None:
            self.close()
            raise MattingError("A segment's mattes have a gap")

    def __enter__(self) -> "Mattes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def alpha(self, number: int) -> Alpha:
        """The alpha [h, w] of a frame. For one thread at a time."""
        data = np.frombuffer(self._zip.read(_name(number)), np.uint8)
        read = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        if read is None:
            raise MattingError("A stored matte can't be read")
        return read.astype(np.float32) / np.float32(255)


def nothing_new(on_frames: OnFrames | None) -> Callable[[], None] | None:
    """Tells `on_frames` that the work gets on without a frame that is done."""
    return None if on_frames is None else lambda: on_frames(0)


def matte_segment(
    process: ClipProcess,
    facts: ClipFacts,
    segment: Segment,
    predictor: Predictor,
    options: Options,
    settings: Settings,
    target: Path,
    *,
    on_frames: OnFrames | None = None,
) -> float:
    """Matte a segment of the clip that `process` reads into the file `target`. Returns the seconds
    for which the network worked.

    A few frames before and behind it are matted too, so that smoothing knows what comes. Raises the
    errors of shared/errors/clips.py, PredictorError.
    """
    first = max(0, segment.first - REACH)
    last = min(facts.frames, segment.last + REACH)
    on_device = BusyTime()
    read = process.frames(facts, first, last, on_skipped=nothing_new(on_frames))
    with (
        matted(read, facts, predictor, options, settings, on_device) as frames,
        MattesWriter(target) as writer,
    ):
        for frame in _own(frames, segment):
            writer.add(frame)
            if on_frames is not None:
                on_frames(1)
    return on_device.seconds


def _own(frames: Iterator[MattedFrame], segment: Segment) -> Iterator[MattedFrame]:
    return (one for one in frames if segment.first <= one.number < segment.last)


def _name(number: int) -> str:
    return f"{number:06d}.png"


def _stored(one: dict[str, Any]) -> StoredMatte:
    reasons, box = one["reasons"], one["box"]
    return StoredMatte(
        one["number"],
        None if box is None else (box[0], box[1], box[2], box[3]),
        None if reasons is None else known_reasons(reasons),
        one["unsteady"],
        one["is_cut"],
        (one["size"][0], one["size"][1]),
    )
