"""Cutting a clip into segments that can be matted apart from each other."""

import itertools
from dataclasses import dataclass

from worker.video.facts import ClipFacts


@dataclass(frozen=True, slots=True)
class Segment:
    """A range of frames of a clip."""

    first: int
    last: int
    """The frame behind the last one."""

    @property
    def frames(self) -> int:
        """The number of frames."""
        return self.last - self.first


def segments(facts: ClipFacts, most_frames: int) -> list[Segment]:
    """Cut a clip at key frames into segments of at most `most_frames` frames each.

    Where key frames are farther apart, a segment begins between them: its reader decodes from the
    key frame before.
    """
    keys = set(facts.key_frames)
    cuts = [0]
    last_key = 0
    for frame in range(1, facts.frames):
        if frame in keys:
            last_key = frame
        if frame - cuts[-1] >= most_frames:
            cuts.append(last_key if last_key > cuts[-1] else frame)
    cuts.append(facts.frames)
    return [Segment(first, last) for first, last in itertools.pairwise(cuts)]
