"""Whether a finished file is what a marketplace asks for: looked at after encoding, pixel by pixel.

Pictures that look right as thumbnails fail a pixel check: JPEG smears white near edges, so what
counts is what a decoder gives back. Where the subject is, the matte says: a white shirt is no
background, and a grey haze is no subject.
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
from worker.imaging.matte import SOLID, reach_px, subject_box

NEARLY_WHITE = 240
"""The background is what can be reached from the frame over pixels of at least this, and over none
of the subject."""

SMEAR_PX = 9
"""A JPEG's block and a pixel: so near to an edge what is within the block smears."""

EDGE_SHARE = 0.006
"""Of the longer side of the subject: its edge is no wider, and what is beyond is background."""

RATIO_TOLERANCE = 0.005


def unmet_rules(
    data: bytes, kind: Format, market: Market, *, matte: Image, photo_px: tuple[int, int]
) -> list[str]:
    """What the file fails, one sentence each. `matte`: [H, W] uint8, as it lies in the picture;
    `photo_px`: width and height of the subject in the photo, so that a rule that the photo itself
    can't meet says so.
    """
    rules = RULES[market]
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or kind.value not in rules.formats:
        return [f"The format is {kind.value}; asked for is {', '.join(rules.formats)}"]
    pixels = np.asarray(decoded, np.uint8)
    unmet = [*_sides(pixels, rules, photo_px), *_bytes(data, rules), *_colour_space(data)]
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        unmet += [*_white(pixels, matte, rules), *_fill(pixels, matte, rules, photo_px)]
    elif rules.white_background:
        unmet.append("The background is not white: the file has an alpha channel or no colours")
    return unmet


def _sides(pixels: Image, rules: MarketRules, photo_px: tuple[int, int]) -> list[str]:
    height, width = pixels.shape[:2]
    longest = max(width, height)
    begin = f"; the subject has only {photo_px[0]} × {photo_px[1]} px in the photo"
    unmet = []
    for what, value, least in (
        ("width", width, rules.min_width_px),
        ("height", height, rules.min_height_px),
        ("longest side", longest, rules.min_longest_px),
    ):
        if least is not None and value < least:
            unmet.append(f"The {what} is {value} px; asked for are at least {least}{begin}")
    if rules.max_longest_px is not None and longest > rules.max_longest_px:
        unmet.append(f"The longest side is {longest} px; the most is {rules.max_longest_px}")
    if rules.max_megapixels is not None and width * height > rules.max_megapixels * 1e6:
        unmet.append(f"It has {width * height / 1e6:.1f} MP; the most is {rules.max_megapixels:g}")
    if rules.ratio is not None and abs(width / height / rules.ratio - 1) > RATIO_TOLERANCE:
        unmet.append(f"Width by height is {width / height:.3f}; asked for is {rules.ratio:.3f}")
    return unmet


def _bytes(data: bytes, rules: MarketRules) -> list[str]:
    if rules.max_bytes is not None and len(data) > rules.max_bytes:
        return [f"The file has {len(data):,} bytes; the most is {rules.max_bytes:,}"]
    if rules.min_bytes is not None and len(data) < rules.min_bytes:
        return [f"The file has {len(data):,} bytes; asked for are at least {rules.min_bytes:,}"]
    return []


def _colour_space(data: bytes) -> list[str]:
    """All of them show sRGB: a file says so, or says nothing."""
    with PIL.Image.open(io.BytesIO(data)) as header:
        mode, icc = header.mode, header.info.get("icc_profile")
    if mode not in ("RGB", "RGBA"):
        return [f"The colours are {mode}; asked for is RGB of 8 bits"]
    if not icc:
        return []
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()
    except (ImageCms.PyCMSError, OSError):
        return ["The colour profile can't be read; asked for is sRGB"]
    if "srgb" in name.lower():
        return []
    return [f"The colour profile is {name[:60]}; asked for is sRGB (`colour_profile: srgb`)"]


def _background(pixels: Image, matte: Image) -> NDArray[np.bool_]:
    """[H, W]: what nearly white pixels connect to the frame, around the subject."""
    light = ((pixels.min(2) >= NEARLY_WHITE) & (matte < SOLID)).astype(np.uint8)
    around = cv2.copyMakeBorder(light, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, labels = cv2.connectedComponents(around, connectivity=4)
    return np.asarray(labels == labels[0, 0])[1:-1, 1:-1]


def _white(pixels: Image, matte: Image, rules: MarketRules) -> list[str]:
    box = subject_box(matte)
    if not rules.white_background or box is None:
        return []
    # A solid pixel of the photo may have half its alpha where the picture was shrunk.
    ground = cv2.inRange(matte, 0, SOLID // 2)
    distance = cv2.distanceTransform(ground, cv2.DIST_C, cv2.DIST_MASK_3)
    behind = pixels[distance > SMEAR_PX + reach_px(box, EDGE_SHARE)]
    off = int((behind != 255).any(1).sum())
    return [f"{off:,} pixels of the background are not exactly white"] if off else []


def _fill(pixels: Image, matte: Image, rules: MarketRules, photo_px: tuple[int, int]) -> list[str]:
    behind = _background(pixels, matte)
    box = _box(~behind)
    if box is None:
        return ["There is no subject in the picture"]
    height, width = behind.shape
    across, down = box[2] - box[0], box[3] - box[1]
    fill = max(across / width, down / height)
    unmet = []
    if rules.min_fill is not None and fill < rules.min_fill:
        unmet.append(f"The subject fills {fill:.0%} of the frame; at least {rules.min_fill:.0%}")
    if rules.max_fill is not None and fill > rules.max_fill:
        unmet.append(f"The subject fills {fill:.0%} of the frame; at most {rules.max_fill:.0%}")
    if rules.min_subject_px is not None and min(across, down) < rules.min_subject_px:
        unmet.append(
            f"The subject is {across} × {down} px; both sides are to have {rules.min_subject_px}"
            f" (in the photo it has {photo_px[0]} × {photo_px[1]})"
        )
    return unmet


def _box(mask: NDArray[np.bool_]) -> Box | None:
    """The box of a mask, lines with a single pixel (noise of the codec) left out."""
    columns, rows = np.nonzero(mask.sum(0) > 1)[0], np.nonzero(mask.sum(1) > 1)[0]
    if not len(columns) or not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
