"""From the network's alpha to finished files: matte, renditions, encoding, marketplace rules."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.options import ExtraOutput, Options, Profile
from shared.rendition import BackgroundImage, ColourProfile, Output, Rendition
from shared.result_names import file_name
from worker.imaging.arrays import Box, Image
from worker.imaging.decoding import DecodedImage
from worker.imaging.despeckle import despeckled
from worker.imaging.encoding import encode
from worker.imaging.frame import box_within
from worker.imaging.marketplace_rules import unmet_rules
from worker.imaging.matte import adjust, full_size_alpha
from worker.imaging.metadata import Metadata, read_metadata
from worker.imaging.prepared import PreparedImage, restore
from worker.imaging.refine import refined_alpha
from worker.imaging.render import Subject, framed_matte, render

REDUCED_SIDE_PX = 1_024
"""A JPEG whose full-size pixels are not needed keeps at least this much of its short side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedFile:
    """One encoded result."""

    data: bytes
    width: int
    height: int
    name: str
    """As its template says."""
    unmet: tuple[str, ...] = ()
    """The marketplace's rules that it fails."""
    subject: Box | None = None
    """Of the subject in this picture; None when there is none."""


def enough_px(options: Options) -> int | None:
    """The shorter side that is enough for all outputs; None: the photo's full size is needed."""
    if options.profile is not Profile.FAST:
        return None
    sides: list[int] = []
    for one in options.renditions:
        if one.output is Output.ALPHA and one.is_plain and not options.extras:
            # The matte alone needs no full-size pixels: twice the network's side is plenty.
            sides.append(REDUCED_SIDE_PX)
        elif one.max_side_px and one.only_shrinks:
            sides.append(max(REDUCED_SIDE_PX, one.max_side_px))
        else:
            return None
    return max(sides)


def keep_metadata(data: bytes, options: Options) -> list[Metadata]:
    """For each output, what of the photo's header it carries on."""
    keep_icc = options.colour_profile is ColourProfile.KEEP
    return [read_metadata(data, one, keep_icc=keep_icc) for one in options.renditions]


def matte_of(
    decoded: DecodedImage, prepared: PreparedImage, alpha: NDArray[np.float32], options: Options
) -> Image:
    """The matte [H, W] uint8 at the decoded image's size, from the network's alpha."""
    levels = options.profile is Profile.FAST
    height, width = decoded.image.shape[:2]
    if levels:
        alpha = despeckled(alpha)
    if options.refine and levels:
        small = prepared.steps[1:] if prepared.steps[0][0] == "resize" else prepared.steps
        matte = refined_alpha(decoded.image, restore(alpha, small), levels=levels)
    else:
        matte = full_size_alpha(restore(alpha, prepared.steps), width, height, levels=levels)
    return adjust(matte, options, scale=width / decoded.width)


def finish(
    decoded: DecodedImage,
    prepared: PreparedImage,
    alpha: NDArray[np.float32],
    options: Options,
    *,
    name: str = "",
    metadata: Sequence[Metadata] = (),
    pictures: Mapping[str, Image] | None = None,
    timings_ms: dict[str, float] | None = None,
) -> list[FinishedFile]:
    """Every output of an image, the main one first. `name`: the photo's, for templates;
    `metadata`: for each output; `pictures`: the decoded background pictures by URL;
    `timings_ms["encode"]` takes the time of the encoding.

    Raises InvalidOptionsError, FormatUnavailableError.
    """
    subject = Subject(decoded.image, matte_of(decoded, prepared, alpha, options))
    files: list[FinishedFile] = []
    encoding_s = 0.0
    for index, one in enumerate(options.renditions):
        pixels = render(subject, one, _picture(one, pictures))
        if one.output is Output.ALPHA and one.is_plain and pixels.shape[1] != decoded.width:
            pixels = _enlarged(pixels, decoded)
        started = time.perf_counter()
        data = encode(pixels, one, metadata[index] if metadata else Metadata())
        encoding_s += time.perf_counter() - started
        height, width = pixels.shape[:2]
        files.append(
            FinishedFile(
                data=data,
                width=width,
                height=height,
                name=file_name(one.name, name, one.format.extension, width, height),
                unmet=_unmet(data, one, subject, decoded),
                subject=box_within(one, subject.box, subject.matte.shape, (height, width)),
            )
        )
    if timings_ms is not None:
        timings_ms["encode"] = encoding_s * 1e3
    return files


def _picture(rendition: Rendition, pictures: Mapping[str, Image] | None) -> Image | None:
    if not isinstance(rendition.background, BackgroundImage) or pictures is None:
        return None
    return pictures[rendition.background.image]


def _enlarged(matte: Image, decoded: DecodedImage) -> Image:
    size = decoded.width, decoded.height
    return cv2.resize(matte, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def _unmet(
    data: bytes, one: Options | ExtraOutput, subject: Subject, decoded: DecodedImage
) -> tuple[str, ...]:
    if one.market is None:
        return ()
    box = subject.box
    if box is None:
        return ("There is no subject in the picture",)
    scale = decoded.width / subject.matte.shape[1]
    size = round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale)
    matte = framed_matte(subject, one)
    return tuple(unmet_rules(data, one.format, one.market, matte=matte, photo_px=size))
