"""Small pictures of a clip's result: a poster, and a strip that a player shows while scrubbing."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import PIL.Image

from worker.imaging.arrays import Image
from worker.video.facts import ClipFacts

POSTER_SIDE_PX = 1_280
TILE_SIDE_PX = 160
MOST_TILES = 20
QUALITY = 75

POSTER, TILE = "poster.png", "tile-{:06d}.png"


@dataclass(slots=True)
class Previews:
    """Collects the frames of the previews of one clip, or of a part of it."""

    facts: ClipFacts
    _wanted: list[int] = field(default_factory=list)
    _tiles: list[Image] = field(default_factory=list)
    _poster: Image | None = None

    def __post_init__(self) -> None:
        count = min(MOST_TILES, self.facts.frames)
        self._wanted = [int((tile + 0.5) * self.facts.frames / count) for tile in range(count)]

    def add(self, pixels: Image, number: int) -> None:
        """Note a frame of the main output: [H, W], [H, W, 3] RGB or [H, W, 4] RGBA."""
        if number in (0, self.facts.frames // 2):
            self._poster = _fitted(pixels, POSTER_SIDE_PX)
        if number in self._wanted:
            self._tiles.append(_fitted(pixels, TILE_SIDE_PX))

    def pictures(self) -> dict[str, Image]:
        """The frames, for `put`."""
        found = {} if self._poster is None else {POSTER: self._poster}
        return found | {TILE.format(number): tile for number, tile in enumerate(self._tiles)}

    def put(self, pictures: Mapping[str, Image]) -> None:
        """Take the frames of a later part."""
        self._poster = pictures.get(POSTER, self._poster)
        self._tiles += [pictures[name] for name in sorted(pictures) if name != POSTER]

    def poster(self) -> bytes:
        """The middle frame as WebP."""
        assert self._poster is not None, "a clip has at least one frame"
        return _webp(self._poster)

    def strip(self) -> bytes:
        """All tiles side by side as WebP."""
        tiles = self._tiles
        if not tiles:
            assert self._poster is not None, "a clip has at least one frame"
            tiles = [_fitted(self._poster, TILE_SIDE_PX)]
        return _webp(np.concatenate(tiles, axis=1))

    def layout(self) -> dict[str, Any]:
        """Where the tiles lie in the strip, and the time of each."""
        times = [round(self.facts.time_s(number), 3) for number in self._wanted]
        shown = self._tiles[0] if self._tiles else None
        return {
            "tile_width": 0 if shown is None else shown.shape[1],
            "tile_height": 0 if shown is None else shown.shape[0],
            "times_s": times[: len(self._tiles)],
        }


def _fitted(pixels: Image, side_px: int) -> Image:
    """A copy that is at most `side_px` a side."""
    height, width = pixels.shape[:2]
    scale = side_px / max(height, width)
    if scale >= 1:
        return pixels.copy()
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _webp(pixels: Image) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "WEBP", quality=QUALITY, method=2)
    return buffer.getvalue()
