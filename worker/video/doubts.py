"""The times of a clip at which a person should look, and why."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from shared.jobs import Reason
from worker.video.facts import ClipFacts

JUMP = 0.15
"""A matte that differs from that of the frame before, along the motion, by more than this share of
the subject is a jump."""

JOINED_S = 0.5
"""Two times of the same reason that are nearer than this are one."""

MOST_DOUBTS = 100
"""Most spans of a clip: a database row holds them, and a person looks at them."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A span of a clip that a person should check."""

    start_s: float
    end_s: float
    reason: Reason

    def to_json(self) -> dict[str, Any]:
        """The span as JSON."""
        return {
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "reason": self.reason.value,
        }


@dataclass(slots=True)
class Doubts:
    """Collects the doubtful frames of one clip, in their order."""

    facts: ClipFacts
    _open: dict[Reason, tuple[float, float]] = field(default_factory=dict)
    _measured: tuple[Reason, ...] = ()
    _closed: list[Doubt] = field(default_factory=list)

    def add(self, number: int, reasons: tuple[Reason, ...] | None, unsteady: float) -> None:
        """Note a frame. A frame that was not measured has the reasons of the last that was."""
        if reasons is not None:
            self._measured = reasons
        found = set(self._measured)
        if unsteady > JUMP:
            found.add(Reason.UNSURE)
        start, end = self.facts.time_s(number), self.facts.time_s(number + 1)
        for reason in found:
            span = self._open.get(reason)
            if span is not None and start - span[1] > JOINED_S:
                self._closed.append(Doubt(*span, reason))
                span = None
            self._open[reason] = (span[0] if span else start, end)

    def found(self) -> list[Doubt]:
        """All spans, by their beginnings. If there are too many, those of the same reason that are
        nearest to each other become one, with the time between them: no doubt is left out.
        """
        found, joined_s = list(self._all()), JOINED_S
        while len(found) > MOST_DOUBTS:
            joined_s *= 1.5
            found = _joined(found, joined_s)
        return sorted(found, key=_by_begin)

    def _all(self) -> Iterator[Doubt]:
        yield from self._closed
        for reason, span in self._open.items():
            yield Doubt(*span, reason)


def _joined(spans: list[Doubt], most_s: float) -> list[Doubt]:
    """The spans, where those of one reason with at most `most_s` between them are one."""
    last: dict[Reason, Doubt] = {}
    done: list[Doubt] = []
    for one in sorted(spans, key=_by_begin):
        before = last.get(one.reason)
        if before is not None and one.start_s - before.end_s <= most_s:
            one = Doubt(before.start_s, max(before.end_s, one.end_s), one.reason)
        elif before is not None:
            done.append(before)
        last[one.reason] = one
    return [*done, *last.values()]


def _by_begin(one: Doubt) -> tuple[float, Reason]:
    return one.start_s, one.reason
