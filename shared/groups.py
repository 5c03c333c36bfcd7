"""Groups: photos of one product that get one common frame, in two passes.

The first pass finds the matte and the subject's box of each photo. When no photo of the group is
left to measure, the common frame is computed from all boxes. The second pass renders each photo
from its stored matte in that frame. All boxes are shares of the photo's sides, 0..1.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any

MAX_GROUP_PHOTOS = 1_000
"""Most photos of one group. All of them are read when the frame is computed."""

NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""`not_before` of an item that waits for its group: no moment reaches it."""

SEEN_IN_ALL = 12
"""From this many photos on, neighbours in a turn look alike, so a side that no other photo comes
near is a fault of the matte. With fewer photos only marked ones are doubted.
"""

NEAR_SHARE = 0.02
"""Two sides of boxes within this share of the photo's side are alike, whatever the others do."""

NEAR_MEDIAN_SHARE = 0.5
"""A side is supported by another one that lies at most this share of its distance from the median
away. The widest view of a turn in twelve steps has two at 0.13 (1 - cos 30°) of the whole swing.
"""

DOUBTFUL = frozenset({"empty", "full", "cut", "parts"})
"""The review marks (shared.jobs.Reason) of a matte whose box may be wrong."""

ShareBox = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the photo's width and height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the first pass found in a photo."""

    width: int
    height: int
    """Of the decoded photo, which the matte has too."""
    box: ShareBox | None
    """Of the subject; None: there is none."""
    reasons: tuple[str, ...] = ()
    """Review marks."""
    model: str | None = None
    photo_crc32: int = 0
    """CRC-32 of the photo's file (ISO 3309), which may be replaced between the passes."""
    timings_ms: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For the database."""
        return {
            "width": self.width,
            "height": self.height,
            "box": None if self.box is None else list(self.box),
            "reasons": list(self.reasons),
            "model": self.model,
            "photo_crc32": self.photo_crc32,
            "timings_ms": self.timings_ms,
        }

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> "Measured":
        """What `to_json` wrote."""
        box = value["box"]
        return cls(
            width=value["width"],
            height=value["height"],
            box=None if box is None else (box[0], box[1], box[2], box[3]),
            reasons=tuple(value["reasons"]),
            model=value["model"],
            photo_crc32=value["photo_crc32"],
            timings_ms=value["timings_ms"],
        )


@dataclass(frozen=True, slots=True)
class GroupFrame:
    """The common frame: a box in a photo of the group's usual size."""

    width: int
    height: int
    """The usual size, in pixels."""
    box: ShareBox
    """The box that takes the place of each subject's own one."""

    def to_json(self) -> dict[str, Any]:
        """For the database."""
        return {"width": self.width, "height": self.height, "box": list(self.box)}

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> "GroupFrame":
        """What `to_json` wrote."""
        box = value["box"]
        return cls(value["width"], value["height"], (box[0], box[1], box[2], box[3]))

    def fit_of(self, width: int, height: int) -> tuple[float, float, float]:
        """How a photo of another size lies in the usual one: scale, and left and top in pixels. It
        is as large as fits, and centred.
        """
        scale = min(self.width / width, self.height / height)
        return scale, (self.width - width * scale) / 2, (self.height - height * scale) / 2

    def seen_in(self, width: int, height: int, box: ShareBox) -> ShareBox:
        """A box of a photo of this size, as a box of the usual photo."""
        scale, left, top = self.fit_of(width, height)
        across, down = width * scale / self.width, height * scale / self.height
        moved_x, moved_y = left / self.width, top / self.height
        return (
            box[0] * across + moved_x,
            box[1] * down + moved_y,
            box[2] * across + moved_x,
            box[3] * down + moved_y,
        )

    def holds(self, width: int, height: int, box: ShareBox) -> bool:
        """Whether the subject of a photo of this size is within the frame, but for a little."""
        seen = self.seen_in(width, height, box)
        return (
            seen[0] >= self.box[0] - NEAR_SHARE
            and seen[1] >= self.box[1] - NEAR_SHARE
            and seen[2] <= self.box[2] + NEAR_SHARE
            and seen[3] <= self.box[3] + NEAR_SHARE
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupWork:
    """What a worker needs to know about the group of an item."""

    frame: GroupFrame | None = None
    """None: the first pass is due."""
    measured: Measured | None = None
    """What the first pass found; None: the photo is matted and rendered in one go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurntableFrame:
    """One picture of a turntable: the result of a photo of the group."""

    key: str
    """Its object in the service's bucket."""
    name: str
    """The file name of the result."""
    item_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurntableWork:
    """What a worker needs to make a turntable."""

    group: str
    frames: tuple[TurntableFrame, ...]
    missing: int
    """Photos of the group without a result."""


def common_frame(measured: Sequence[Measured]) -> GroupFrame | None:
    """The frame that holds the subjects of all photos, but for those whose matte is wrong. Without
    any subject it is the whole photo. None: there is no photo.

    A photo is left out if a side of its box lies farther out than that of any other photo, and none
    is near (`NEAR_SHARE`, `NEAR_MEDIAN_SHARE`). Among few photos that may be the truth, a product
    seen from its broad side, so it takes a review mark too.
    """
    if not measured:
        return None
    sizes = Counter((one.width, one.height) for one in measured)
    width, height = max(sizes, key=lambda size: (sizes[size], size[0] * size[1], size))
    frame = GroupFrame(width, height, (0.0, 0.0, 1.0, 1.0))
    seen = [
        (frame.seen_in(one.width, one.height, one.box), bool(DOUBTFUL & set(one.reasons)))
        for one in measured
        if one.box is not None
    ]
    if not seen:
        return frame
    boxes = [box for box, _ in seen]
    doubted = len(seen) >= SEEN_IN_ALL
    kept = [
        box for box, marked in seen if not (doubted or marked) or not _stands_out(box, boxes)
    ] or boxes
    return GroupFrame(
        width,
        height,
        (
            max(0.0, min(box[0] for box in kept)),
            max(0.0, min(box[1] for box in kept)),
            min(1.0, max(box[2] for box in kept)),
            min(1.0, max(box[3] for box in kept)),
        ),
    )


def _stands_out(box: ShareBox, boxes: Sequence[ShareBox]) -> bool:
    """Whether a side of a box lies farther out than that of all others, and none is near."""
    for side in range(4):
        outwards = -1 if side < 2 else 1
        values = sorted((one[side] * outwards for one in boxes), reverse=True)
        mine = box[side] * outwards
        if len(values) < 2 or mine < values[0]:
            continue
        beyond_next = mine - values[1]
        beyond_median = mine - median(values[1:])
        if beyond_next > max(NEAR_SHARE, NEAR_MEDIAN_SHARE * beyond_median):
            return True
    return False


def in_order_of_turn(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts file names as people number them: `2.jpg` before `10.jpg`."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d{1,18})", name.casefold())
        if part
    ]
