"""The files beside a result: thumbnails of result and photo, and the matte."""

import io
from dataclasses import dataclass

import cv2
import numpy as np
import PIL.Image

from worker.imaging.arrays import Image
from worker.imaging.colours import to_srgb
from worker.imaging.decoding import DecodedImage
from worker.imaging.metadata import NO_METADATA
from worker.imaging.pasting import Resampled
from worker.imaging.png_file import encode_png
from worker.imaging.samples import Samples

THUMBNAIL_SIDE_PX = 208
"""The console shows them at about 190. Their time grows with the pixels: 224 take a tenth more."""
SPARSE_SCALE = 1 / 16
"""Below it, which is above 8 megapixels, fewer pixels are read for a thumbnail."""
THUMBNAIL_QUALITY = 60
THUMBNAIL_ALPHA_QUALITY = 50
"""Half of the time that exact alpha takes; no difference is seen at this size."""

WEBP_METHOD = 0
"""libwebp's fastest: a quarter of the time of its default, for files that are half as large again
(`python -m tests.benchmarks.kept_files`)."""


@dataclass(slots=True, kw_only=True)
class KeptFiles:
    """The files to make of one image, and their bytes once they are made."""

    wants_thumbnails: bool
    wants_matte: bool
    thumbnails: bytes | None = None
    """WebP of the result, then of the photo."""
    matte: bytes | None = None
    """8-bit grey PNG of the photo's size."""

    def make(
        self, decoded: DecodedImage, matte: Image, pixels: Image, profile: bytes | None = None
    ) -> None:
        """Make what is wanted of a photo, its matte [H, W] uint8, and the main output's pixels
        [H', W'], [H', W', 3] RGB or [H', W', 4] RGBA. `profile`: the ICC profile that both keep;
        None: sRGB.
        """
        if self.wants_thumbnails:
            self.thumbnails = thumbnail(pixels, profile) + thumbnail(decoded.image, profile)
        if self.wants_matte:
            size = decoded.width, decoded.height
            if matte.shape != size[::-1]:
                matte = cv2.resize(matte, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
            self.matte = encode_png(matte, NO_METADATA)


def thumbnail(pixels: Image, profile: bytes | None = None) -> bytes:
    """A WebP of at most THUMBNAIL_SIDE_PX a side, in sRGB. `profile`: of the pixels."""
    height, width = pixels.shape[:2]
    scale = THUMBNAIL_SIDE_PX / max(height, width)
    if scale < 1:
        pixels = _shrunk(pixels, max(1, round(width * scale)), max(1, round(height * scale)), scale)
    if profile is not None and pixels.ndim == 3:
        colours = to_srgb(Samples(pixels[..., :3], "RGB"), profile)
        pixels = np.concatenate([colours, pixels[..., 3:]], axis=2)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(
        buffer,
        "WEBP",
        method=WEBP_METHOD,
        quality=THUMBNAIL_QUALITY,
        alpha_quality=THUMBNAIL_ALPHA_QUALITY,
    )
    return buffer.getvalue()


def _shrunk(pixels: Image, width: int, height: int, scale: float) -> Image:
    """A small picture whose pixels are each the mean of four of the large one's pixels, or of two,
    with colours weighted by alpha.

    The mean of all takes ten times as long. From very large pictures one row in each line is read:
    their memory is what the time goes to.
    """
    how = cv2.INTER_AREA
    if scale < SPARSE_SCALE:
        pixels, how = _resized(pixels, 2 * width, height, cv2.INTER_NEAREST), cv2.INTER_LINEAR
    elif scale < 0.5:
        pixels = _resized(pixels, 2 * width, 2 * height, cv2.INTER_NEAREST)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        weighted = Resampled(np.ascontiguousarray(pixels[..., 3]), (width, height))
        planes = [weighted.plane(np.ascontiguousarray(pixels[..., n])) for n in range(3)]
        return cv2.merge([*planes, weighted.alpha]).astype(np.uint8, copy=False)
    return _resized(pixels, width, height, how)


def _resized(pixels: Image, width: int, height: int, how: int) -> Image:
    return cv2.resize(pixels, (width, height), interpolation=how).astype(np.uint8, copy=False)
