"""Files beside a result that people work with: its thumbnails, and its matte.

Their keys follow from the result's, so they need no columns. They lie beside `results/`, not in it:
who copies that folder gets results only.
"""

from enum import StrEnum
from pathlib import PurePosixPath

from shared.options import Options
from shared.rendition import Format, Output


class MatteIn(StrEnum):
    """What kind of output contains the matte unchanged."""

    GREY = "grey"
    """A PNG of the matte alone."""
    ALPHA = "alpha"
    """The alpha channel of an RGBA PNG."""


def thumbnails_key(result_key: str) -> str:
    """The object key of the two thumbnails: the result's WebP file, then the photo's, in one
    object. A WebP file says its own length.
    """
    return _beside(result_key, "thumbnails", "webp")


def matte_key(result_key: str) -> str:
    """The object key of the matte."""
    return _beside(result_key, "mattes", "png")


def output_with_matte(options: Options) -> tuple[int, MatteIn] | None:
    """The index in `options.renditions` of an output that holds the matte at the photo's size
    without loss, and how; None: the matte must be kept as a file.

    That is a PNG in the photo's frame without a shadow, which changes alpha: the matte alone, or a
    cut-out without background. Edge colours change nothing about alpha. WebP holds alpha without
    loss too, but only as part of a whole picture that would have to be decoded in the API.
    """
    found: dict[MatteIn, int] = {}
    for index, rendition in enumerate(options.renditions):
        if rendition.format is not Format.PNG or not rendition.is_plain:
            continue
        if rendition.output is Output.ALPHA:
            found.setdefault(MatteIn.GREY, index)
        elif rendition.background is None:
            found.setdefault(MatteIn.ALPHA, index)
    for kind in MatteIn:
        if kind in found:
            return found[kind], kind
    return None


def _beside(result_key: str, folder: str, extension: str) -> str:
    place = PurePosixPath(result_key)
    return str(place.parent.parent / folder / f"{place.stem}.{extension}")
