"""The facts of a clip that its container tells: size, frame times, key frames, sound."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFacts:
    """What the container says about a clip, before any frame is decoded."""

    container: str
    """One of `shared.clip_kinds.CLIP_KINDS`."""
    codec: str
    """FFmpeg's name of the video's codec."""
    width: int
    height: int
    """Width and height of an upright frame with square pixels."""
    bytes: int
    """Size of the file."""
    time_base: tuple[int, int]
    """Seconds per tick, as numerator and denominator."""
    times: tuple[int, ...]
    """The tick at which each frame is shown, ascending."""
    end: int
    """The tick at which the last frame ends."""
    key_frames: tuple[int, ...]
    """The numbers of the frames at which decoding can begin; the first is 0."""
    audio: str | None
    """FFmpeg's name of the sound's codec; None for a silent clip."""
    has_alpha: bool
    """Whether the clip is transparent in places."""
    whole: bool = True
    """Whether the file is complete. A cut-off clip is read only if that was asked for."""

    @property
    def frames(self) -> int:
        """The number of frames."""
        return len(self.times)

    @property
    def seconds(self) -> float:
        """The length of the video."""
        return self._seconds(self.end - self.times[0])

    @property
    def megapixel_frames(self) -> float:
        """Frames times megapixels: the measure of the work."""
        return self.frames * self.width * self.height / 1e6

    def time_s(self, frame: int) -> float:
        """When a frame is shown, counted from the first; `frames` gives the end."""
        tick = self.end if frame >= self.frames else self.times[frame]
        return self._seconds(tick - self.times[0])

    def _seconds(self, ticks: int) -> float:
        return ticks * self.time_base[0] / self.time_base[1]

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ClipFacts":
        """The facts from `to_json`."""
        lists = {name: tuple(data[name]) for name in ("time_base", "times", "key_frames")}
        return cls(**{**data, **lists})
