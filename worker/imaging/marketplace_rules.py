"""Marketplace rules, checked on the encoded file pixel by pixel.

The check decodes the finished file, because JPEG compression changes white pixels near edges. The
matte tells subject from background: a white shirt is not background, a grey haze is not subject.
"""

import io

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms

from shared.marketplaces import RULES, Market, MarketRules
from shared.rendition import Format
from worker.imaging.arrays import Box, Image
from worker.imaging.matte import SOLID_ALPHA, reach_px, subject_box

MIN_WHITE = 240
"""Smallest channel value of a nearly white pixel. Nearly white pixels outside the subject that
connect to the image border form the background."""

JPEG_SMEAR_PX = 9
"""One JPEG block plus a pixel: this near to an edge, compression artefacts are expected."""

EDGE_WIDTH_SHARE = 0.006
"""Largest width of the subject's soft edge, as a share of the subject's longer side."""

RATIO_TOLERANCE = 0.005
"""Relative deviation of the aspect ratio that still passes."""


def unmet_rules(
    data: bytes, kind: Format, market: Market, *, matte: Image, photo_px: tuple[int, int]
) -> list[str]:
    """One sentence for each rule of the marketplace that an encoded file fails.

    `matte` is [H, W] uint8 at the file's size. `photo_px` is the subject's width and height in the
    original photo: the sentences name it where the photo has too few pixels for the rule.
    """
    rules, name = RULES[market], market.display_name
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or kind.value not in rules.formats:
        return [f"The format is {kind.value}; {name} accepts {', '.join(rules.formats)}"]
    pixels = np.asarray(decoded, np.uint8)
    unmet = [
        *_size_failures(pixels, rules, name, photo_px),
        *_byte_failures(data, rules, name),
        *_colour_space_failures(data, name),
    ]
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        unmet += [
            *_white_failures(pixels, matte, rules),
            *_fill_failures(pixels, matte, rules, name, photo_px),
        ]
    elif rules.white_background:
        unmet.append("The background is not white: the file has an alpha channel or is greyscale")
    return unmet


def _size_failures(
    pixels: Image, rules: MarketRules, name: str, photo_px: tuple[int, int]
) -> list[str]:
    height, width = pixels.shape[:2]
    longest = max(width, height)
    in_photo = f"; the subject has only {photo_px[0]} × {photo_px[1]} px in the photo"
    if_smaller = f"{name} requires at least"
    if_larger = f"{name} accepts at most"
    unmet = []
    for what, value, least in (
        ("width", width, rules.min_width_px),
        ("height", height, rules.min_height_px),
        ("longest side", longest, rules.min_longest_px),
    ):
        if least is not None and value < least:
            unmet.append(f"The {what} is {value} px; {if_smaller} {least} px{in_photo}")
    if rules.max_longest_px is not None and longest > rules.max_longest_px:
        unmet.append(f"The longest side is {longest} px; {if_larger} {rules.max_longest_px} px")
    if rules.max_megapixels is not None and width * height > rules.max_megapixels * 1e6:
        megapixels = width * height / 1e6
        unmet.append(f"It has {megapixels:.1f} MP; {if_larger} {rules.max_megapixels:g} MP")
    if rules.ratio is not None and abs(width / height / rules.ratio - 1) > RATIO_TOLERANCE:
        unmet.append(f"Width / height is {width / height:.3f}; {name} requires {rules.ratio:.3f}")
    return unmet


def _byte_failures(data: bytes, rules: MarketRules, name: str) -> list[str]:
    has = f"The file has {len(data):,} bytes"
    if rules.max_bytes is not None and len(data) > rules.max_bytes:
        return [f"{has}; {name} accepts at most {rules.max_bytes:,}"]
    if rules.min_bytes is not None and len(data) < rules.min_bytes:
        return [f"{has}; {name} requires at least {rules.min_bytes:,}"]
    return []


def _colour_space_failures(data: bytes, name: str) -> list[str]:
    """Check for 8-bit RGB in sRGB. A file without an ICC profile counts as sRGB."""
    with PIL.Image.open(io.BytesIO(data)) as header:
        mode, icc = header.mode, header.info.get("icc_profile")
    if mode not in ("RGB", "RGBA"):
        return [f"The colour mode is {mode}; {name} requires 8-bit RGB"]
    if not icc:
        return []
    try:
        profile = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()
    except (ImageCms.PyCMSError, OSError):
        return [f"The colour profile can't be read; {name} requires sRGB"]
    if "srgb" in profile.lower():
        return []
    hint = "set `colour_profile` to `srgb`"
    return [f"The colour profile is {profile[:60]}; {name} requires sRGB ({hint})"]


def _white_background_mask(pixels: Image, matte: Image) -> NDArray[np.bool_]:
    """The background as a mask [H, W]: nearly white pixels that connect to the image border."""
    light = ((pixels.min(2) >= MIN_WHITE) & (matte < SOLID_ALPHA)).astype(np.uint8)
    around = cv2.copyMakeBorder(light, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, labels = cv2.connectedComponents(around, connectivity=4)
    return np.asarray(labels == labels[0, 0])[1:-1, 1:-1]


def _white_failures(pixels: Image, matte: Image, rules: MarketRules) -> list[str]:
    box = subject_box(matte)
    if not rules.white_background or box is None:
        return []
    # Downscaling can halve the alpha of a solid pixel.
    outside = cv2.inRange(matte, 0, SOLID_ALPHA // 2)
    distance = cv2.distanceTransform(outside, cv2.DIST_C, cv2.DIST_MASK_3)
    background = pixels[distance > JPEG_SMEAR_PX + reach_px(box, EDGE_WIDTH_SHARE)]
    off = int((background != 255).any(1).sum())
    return [f"{off:,} pixels of the background are not exactly white"] if off else []


def _fill_failures(
    pixels: Image, matte: Image, rules: MarketRules, name: str, photo_px: tuple[int, int]
) -> list[str]:
    background = _white_background_mask(pixels, matte)
    box = _mask_box(~background)
    if box is None:
        return ["There is no subject in the picture"]
    height, width = background.shape
    across, down = box[2] - box[0], box[3] - box[1]
    fill = max(across / width, down / height)
    unmet = []
    fills = f"The subject fills {fill:.0%} of the frame"
    if rules.min_fill is not None and fill < rules.min_fill:
        unmet.append(f"{fills}; {name} requires at least {rules.min_fill:.0%}")
    if rules.max_fill is not None and fill > rules.max_fill:
        unmet.append(f"{fills}; {name} accepts at most {rules.max_fill:.0%}")
    if rules.min_subject_px is not None and min(across, down) < rules.min_subject_px:
        unmet.append(
            f"The subject is {across} × {down} px; {name} requires at least"
            f" {rules.min_subject_px} px on both sides"
            f" (the photo has {photo_px[0]} × {photo_px[1]} px of it)"
        )
    return unmet


def _mask_box(mask: NDArray[np.bool_]) -> Box | None:
    """The bounding box of a mask. Rows and columns with a single pixel are codec noise."""
    columns, rows = np.nonzero(mask.sum(0) > 1)[0], np.nonzero(mask.sum(1) > 1)[0]
    if not len(columns) or not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
