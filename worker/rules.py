"""Whether a finished file is what a marketplace asks for: looked at after encoding, pixel by pixel.

Pictures that look right as thumbnails fail a pixel check: JPEG smears white near edges, so what
counts is what a decoder gives back.
"""

import io

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms

from shared.marketplaces import RULES, Market, MarketRules
from shared.rendition import Format
from worker.matte import Box, Image

NEARLY_WHITE = 240
"""The background is what can be reached from the frame over pixels of at least this."""

SMEAR_PX = 9
"""So near to the subject a JPEG's block may smear: there, white is not asked to be exact."""

RATIO_TOLERANCE = 0.005


def unmet_rules(
    data: bytes, kind: Format, market: Market, *, subject: tuple[int, int] | None
) -> list[str]:
    """What the file fails, one sentence each. `subject`: width and height of the subject's box in
    the photo, so that a rule that the photo itself can't meet says so (None: there is none).
    """
    rules = RULES[market]
    if subject is None:
        return ["There is no subject in the picture"]
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or kind.value not in rules.formats:
        return [f"The format is {kind.value}; asked for is {', '.join(rules.formats)}"]
    pixels = np.asarray(decoded, np.uint8)
    unmet = [*_sides(pixels, rules, subject), *_bytes(data, rules), *_colour_space(data)]
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        behind = _background(pixels)
        unmet += [*_white(pixels, behind, rules), *_fill(behind, rules, subject)]
    elif rules.white_background:
        unmet.append("The background is not white: the file has an alpha channel or no colours")
    return unmet


def _sides(pixels: Image, rules: MarketRules, subject: tuple[int, int]) -> list[str]:
    height, width = pixels.shape[:2]
    longest = max(width, height)
    begin = f"; the subject has only {subject[0]} × {subject[1]} px in the photo"
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


def _background(pixels: Image) -> NDArray[np.bool_]:
    """[H, W]: what nearly white pixels connect to the frame."""
    light = (pixels.min(2) >= NEARLY_WHITE).astype(np.uint8)
    around = cv2.copyMakeBorder(light, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, labels = cv2.connectedComponents(around, connectivity=4)
    return np.asarray(labels == labels[0, 0])[1:-1, 1:-1]


def _white(pixels: Image, behind: NDArray[np.bool_], rules: MarketRules) -> list[str]:
    if not rules.white_background:
        return []
    near = np.ones((2 * SMEAR_PX + 1, 2 * SMEAR_PX + 1), np.uint8)
    away = cv2.erode(behind.astype(np.uint8), near, borderValue=1) > 0
    off = int((pixels[away] != 255).any(1).sum())
    if not behind.any():
        return ["The background is not white"]
    return [f"{off:,} pixels of the background are not exactly white"] if off else []


def _fill(behind: NDArray[np.bool_], rules: MarketRules, subject: tuple[int, int]) -> list[str]:
    box = _box(~behind)
    if box is None:
        return ["The subject can't be told from the white background"]
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
            f" (in the photo it has {subject[0]} × {subject[1]})"
        )
    return unmet


def _box(mask: NDArray[np.bool_]) -> Box | None:
    """The box of a mask, lines with a single pixel (noise of the codec) left out."""
    columns, rows = np.nonzero(mask.sum(0) > 1)[0], np.nonzero(mask.sum(1) > 1)[0]
    if not len(columns) or not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
