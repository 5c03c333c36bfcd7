"""The times of a clip's frames, in the ticks of a result's container."""

from fractions import Fraction

from shared.clip_format import ClipFormat
from worker.video.facts import ClipFacts


class Ticks:
    """Tells when each frame is shown, and for how long. For frames in their order."""

    def __init__(self, kind: ClipFormat, facts: ClipFacts, first: int = 0) -> None:
        """`first`: the frame that is shown at tick 0."""
        self.base = _time_base(kind, facts)
        """Seconds per tick."""
        self._facts = facts
        self._start = self._of_clip(first)
        self.end = 0
        """When the last frame that was asked for ends."""
        self._last = -1

    def of(self, number: int) -> tuple[int, int]:
        """The tick at which a frame begins, and its ticks. No two frames have the same."""
        tick = max(self._of_clip(number) - self._start, self._last + 1)
        ticks = max(1, self._of_clip(number + 1) - self._start - tick)
        self._last, self.end = tick, tick + ticks
        return tick, ticks

    def _of_clip(self, number: int) -> int:
        """The tick of a frame, counted from the clip's first."""
        facts = self._facts
        ticks = (facts.end if number >= facts.frames else facts.times[number]) - facts.times[0]
        return round(ticks * Fraction(*facts.time_base) / self.base)


def _time_base(kind: ClipFormat, facts: ClipFacts) -> Fraction:
    """Seconds per tick. WebM and WebP count milliseconds; the others keep the clip's own ticks."""
    if kind in (ClipFormat.WEBM, ClipFormat.WEBP):
        return Fraction(1, 1_000)
    return Fraction(*facts.time_base)
