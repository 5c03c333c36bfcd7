"""Cutting a clip into segments that can be matted apart from each other."""

import itertools
from dataclasses import dataclass

from worker.video.facts import ClipFacts

LONGEST = 32
"""How many times longer a segment may be where key frames are rare."""


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
    key frame before. Such a segment is as long as what is decoded in vain, up to LONGEST times
    `most_frames`: otherwise a clip with one key frame would be decoded from its start for each
    segment.
    """
    keys = set(facts.key_frames)
    cuts = [0]
    last_key = key_of_cut = 0
    for frame in range(1, facts.frames):
        if frame in keys:
            last_key = frame
        length = frame - cuts[-1]
        in_vain = min(cuts[-1] - key_of_cut, LONGEST * most_frames)
        if length >= max(most_frames, in_vain):
            cuts.append(last_key if last_key - cuts[-1] > most_frames // 4 else frame)
        elif last_key == frame and length > most_frames * 3 // 4:
            cuts.append(frame)
        else:
            continue
        key_of_cut = last_key
    cuts.append(facts.frames)
    return [Segment(first, last) for first, last in itertools.pairwise(cuts)]
