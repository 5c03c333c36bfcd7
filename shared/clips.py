"""How far a clip has come on its way through the queue, and what is known of it.

The first claim of a clip reads its container and cuts it into segments. Each segment is an item of
a job that no caller sees (shared.job_store.segments), so several workers matte segments of one clip
at once, and a worker that dies loses its segment only. When all mattes are stored, the clip is
claimed again and joined; what is encoded already is copied.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from shared.clip_kinds import CLIP_ENDINGS

SEGMENT_FRAMES = 120
"""Most frames of a segment: some seconds of a film, and a claim of half a minute on two cores."""


def is_named_like_clip(name: str) -> bool:
    """Whether a path or a URL has the ending of a clip."""
    path = urlsplit(name).path if "://" in name else name
    return PurePosixPath(path.replace("\\", "/")).suffix.lower() in CLIP_ENDINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipState:
    """How far a clip has come."""

    file_bytes: int
    """Size of its file: another one may take its place between two claims."""
    seconds: float
    frames: int
    segments: int
    """Number of segments."""
    done: int = 0
    """Segments whose mattes are stored."""
    frames_done: int = 0
    """Frames of these."""
    passes: int = 0
    """Claims that got on; they do not count as tries."""
    mattes: str = ""
    """Folder of the objects with the mattes, with a slash at its end."""
    gone: tuple[int, ...] = ()
    """Segments whose mattes were stored and are not there any more."""
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def is_matted(self) -> bool:
        """Whether all mattes are stored: what is left is the join."""
        return self.done >= self.segments

    def to_json(self) -> dict[str, Any]:
        """For the database."""
        return {
            "file_bytes": self.file_bytes,
            "seconds": round(self.seconds, 3),
            "frames": self.frames,
            "frames_done": self.frames_done,
            "segments": self.segments,
            "done": self.done,
            "passes": self.passes,
            "mattes": self.mattes,
            "gone": list(self.gone),
            "timings_ms": self.timings_ms,
        }

    @classmethod
    def of_json(cls, value: dict[str, Any] | None) -> "ClipState | None":
        """What `to_json` wrote; None: the clip has not begun, or it has ended."""
        if value is None or "segments" not in value:
            return None
        return cls(
            file_bytes=value["file_bytes"],
            seconds=value["seconds"],
            frames=value["frames"],
            segments=value["segments"],
            done=value["done"],
            frames_done=value["frames_done"],
            passes=value["passes"],
            mattes=value.get("mattes", ""),
            gone=tuple(value.get("gone", ())),
            timings_ms=value["timings_ms"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSegment:
    """A segment of a clip, which any worker mattes."""

    number: int
    """From 0."""
    first: int
    last: int
    """Its frames: `last` is the one behind them."""
    file_bytes: int
    """Size of the clip's file when it was cut."""
    facts_key: str
    """The object that keeps the clip's facts."""
    mattes_key: str = ""
    """The object for the mattes; the database gives it its name."""

    def to_json(self) -> dict[str, Any]:
        """For the database."""
        return asdict(self)

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> "ClipSegment":
        """What `to_json` wrote."""
        return cls(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipWork:
    """What a worker needs to know about a clip."""

    state: ClipState | None = None
    """None: it has not begun."""
    segment: ClipSegment | None = None
    """The segment to matte; None: the clip is to be cut into segments, or joined."""


def passes_of(clip: dict[str, Any] | None) -> int:
    """The claims of an item that do not count as tries; `clip`: its column."""
    return 0 if clip is None else int(clip.get("passes", 0))


def doubts_as_text(doubts: Sequence[dict[str, Any]]) -> str:
    """Times of doubt for people: `0.0-1.2 s unsure; 7.0-7.5 s cut`."""
    return "; ".join(f"{one['start_s']:.1f}-{one['end_s']:.1f} s {one['reason']}" for one in doubts)
