"""Finishing: the network's alpha becomes a full-size matte and the encoded result files."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.errors import OutputTooLargeError
from shared.groups import GroupFrame
from shared.options import ExtraOutput, Options, Profile, SourceAlpha
from shared.rendition import ColourProfile, Format, Output, Rendition
from shared.rendition_values import BackgroundImage
from shared.result_names import UNNAMED, NamedPhoto, file_name
from worker.imaging.arrays import Box, Image
from worker.imaging.crop_and_canvas import most_pixels, subject_box_in_result
from worker.imaging.decoding import DecodedImage
from worker.imaging.despeckle import despeckle
from worker.imaging.encoding import encode
from worker.imaging.kept_files import KeptFiles
from worker.imaging.marketplace_rules import unmet_rules
from worker.imaging.matte import adjust_matte, full_size_alpha
from worker.imaging.metadata import Metadata, read_metadata
from worker.imaging.prepared import PreparedImage, restore
from worker.imaging.psd_file import encode_psd
from worker.imaging.psd_layers import psd_layers
from worker.imaging.refine import refine_alpha
from worker.imaging.render import Subject, matte_on_canvas, render

MIN_REDUCED_SIDE_PX = 1_024
"""Shorter side that decoding must keep when no output needs the photo's full size."""

COPYING_FORMATS = frozenset({Format.WEBP, Format.AVIF, Format.ZIP, Format.PSD})
"""Formats whose encoders copy the pixels: into another layout, in parts, or layer after layer."""
COPIED = 3
"""An output of these formats, or one that is measured against the rules of a market, takes as much
memory as this many ordinary ones. Measured at the peak, for each pixel: PNG and JPEG 8 to 12 bytes,
14 where they are resampled, ZIP 15, WebP and PSD 29, AVIF and a market 32."""
SHADOWED = 1
"""A shadow takes as much beside it: PNG 15 to 23 bytes together, WebP and PSD 30, AVIF 35."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedFile:
    """One encoded result file of an image."""

    data: bytes
    width: int
    height: int
    name: str
    """File name, from the rendition's name template."""
    unmet: tuple[str, ...] = ()
    """A sentence for each marketplace rule that the file fails, or for `max_bytes`."""
    subject: Box | None = None
    """The subject's box in this file [px]; None when there is no subject."""


def min_decode_side_px(options: Options) -> int | None:
    """The shorter side that decoding must keep for all outputs; None for the photo's full size."""
    if options.profile is not Profile.FAST:
        return None
    if options.subject is not None and options.subject.box is not None:
        return None  # the network sees a part of the photo only
    sides: list[int] = []
    for rendition in options.renditions:
        if rendition.output is Output.ALPHA and rendition.is_plain and not options.extras:
            # The matte alone needs no full-size pixels: twice the network's side is enough.
            sides.append(MIN_REDUCED_SIDE_PX)
        elif rendition.max_side_px and rendition.only_shrinks:
            sides.append(max(MIN_REDUCED_SIDE_PX, rendition.max_side_px))
        else:
            return None
    return max(sides)


def pixels_to_finish(options: Options, width: int, height: int) -> int:
    """How many pixels of ordinary photos take as much memory as finishing a photo of this size."""
    needed = []
    for rendition in options.renditions:
        output = most_pixels(rendition, width, height)
        times = _memory_times(rendition)
        needed.append(max(width * height, output) + (times - 1) * output)
    return max(needed)


def _memory_times(rendition: Options | ExtraOutput) -> int:
    copies = rendition.format in COPYING_FORMATS or rendition.market is not None
    shadow = SHADOWED if rendition.shadow is not None else 0
    return (COPIED if copies else 1) + shadow


def metadata_to_keep(data: bytes, options: Options) -> list[Metadata]:
    """The metadata of the photo that each rendition keeps, in the order of `options.renditions`."""
    keep_icc = options.colour_profile is ColourProfile.KEEP
    return [read_metadata(data, rendition, keep_icc=keep_icc) for rendition in options.renditions]


def matte_of(
    decoded: DecodedImage, prepared: PreparedImage, alpha: NDArray[np.float32], options: Options
) -> Image:
    """Compute the matte [H, W] uint8 at the decoded image's size.

    `alpha` is the network's output [h, w] float32 in 0..1. The profile `exact` skips despeckling,
    refinement and the black and white point. Where the photo is transparent already, it stays so.
    """
    levels = options.profile is Profile.FAST
    height, width = decoded.image.shape[:2]
    if levels:
        alpha = despeckle(alpha)
    # The last enlargement is full_size_alpha's: it takes a quarter of the time.
    enlarged_last = prepared.steps[:1] == (("resize", (height, width)),)
    alpha = restore(alpha, prepared.steps[1:] if enlarged_last else prepared.steps)
    if options.refine and levels:
        matte = refine_alpha(decoded.image, decoded.small, alpha, levels=levels)
    else:
        matte = full_size_alpha(alpha, width, height, levels=levels)
    matte = adjust_matte(matte, options, scale=width / decoded.width)
    if decoded.alpha is not None and options.source_alpha is SourceAlpha.LIMIT:
        matte = np.minimum(matte, decoded.alpha)
    return matte


def finish(
    decoded: DecodedImage,
    prepared: PreparedImage,
    alpha: NDArray[np.float32],
    options: Options,
    *,
    photo: NamedPhoto = UNNAMED,
    metadata: Sequence[Metadata] = (),
    pictures: Mapping[str, Image] | None = None,
    timings_ms: dict[str, float] | None = None,
    kept: KeptFiles | None = None,
) -> list[FinishedFile]:
    """Render and encode every output of an image, the main one first, as `finish_matte` does.

    `alpha` is the network's output [h, w] float32 in 0..1.
    """
    return finish_matte(
        decoded,
        matte_of(decoded, prepared, alpha, options),
        options,
        photo=photo,
        metadata=metadata,
        pictures=pictures,
        timings_ms=timings_ms,
        kept=kept,
    )


def finish_matte(
    decoded: DecodedImage,
    matte: Image,
    options: Options,
    *,
    photo: NamedPhoto = UNNAMED,
    metadata: Sequence[Metadata] = (),
    pictures: Mapping[str, Image] | None = None,
    timings_ms: dict[str, float] | None = None,
    kept: KeptFiles | None = None,
    group_frame: GroupFrame | None = None,
    goes_on: Callable[[], None] = lambda: None,
) -> list[FinishedFile]:
    """Render and encode every output from a finished matte [H, W] uint8 of the decoded image's
    size; the options that change the matte itself have no effect.

    `photo` fills name templates. `metadata` has one entry for each output.
    `pictures` maps URLs to decoded background pictures. The encoding time is stored in
    `timings_ms["encode"]`. `kept`: the files beside the result to make.
    `group_frame`: the frame that the photo's group shares. `goes_on` is called before each output,
    and before each encoding.

    Raises OutputTooLargeError before anything is rendered, FormatUnavailableError,
    EncodingFailedError.
    """
    subject = Subject(
        decoded.image,
        matte,
        small=decoded.small,
        own_colours=matte is decoded.alpha,
        frame=group_frame,
        profile=next((one.icc for one in metadata if one.icc), None),
    )
    for rendition in options.renditions:
        _check_side(rendition, *_output_size(rendition, subject, decoded))
    files: list[FinishedFile] = []
    encoding_s = 0.0
    for index, rendition in enumerate(options.renditions):
        goes_on()
        pixels = render(subject, rendition, _background_image(rendition, pictures))
        if (
            rendition.output is Output.ALPHA
            and rendition.is_plain
            and pixels.shape[1] != decoded.width
        ):
            pixels = _enlarge_to_photo(pixels, decoded)
        started = time.perf_counter()
        about = metadata[index] if metadata else Metadata()
        if rendition.format is Format.PSD:
            layers = psd_layers(subject, rendition, _background_image(rendition, pictures))
            data = encode_psd(pixels, layers, about)
        else:
            data = encode(pixels, rendition, about, goes_on)
        encoding_s += time.perf_counter() - started
        if kept is not None and not index:
            kept.make(decoded, subject.matte, pixels, subject.profile)
        height, width = pixels.shape[:2]
        files.append(
            FinishedFile(
                data=data,
                width=width,
                height=height,
                name=file_name(rendition.name, photo, rendition.format.extension, width, height),
                unmet=_failed_rules(data, rendition, subject, decoded),
                subject=subject_box_in_result(
                    subject.placement(rendition) if rendition.changes_frame else None,
                    subject.box,
                    subject.matte.shape,
                    (height, width),
                ),
            )
        )
    if timings_ms is not None:
        timings_ms["encode"] = encoding_s * 1e3
    return files


def _output_size(
    rendition: Options | ExtraOutput, subject: Subject, decoded: DecodedImage
) -> tuple[int, int]:
    """Width and height of an output."""
    height, width = subject.matte.shape
    if rendition.changes_frame:
        placement = subject.placement(rendition)
        return placement.width, placement.height
    if rendition.output is Output.ALPHA and rendition.is_plain:
        return decoded.width, decoded.height
    return width, height


def _check_side(rendition: Options | ExtraOutput, width: int, height: int) -> None:
    """Raise OutputTooLargeError if a side is longer than the format allows."""
    longest = rendition.format.max_side_px
    if max(width, height) > longest:
        raise OutputTooLargeError(
            f"The output would have {width} × {height} pixels; {rendition.format} allows at most"
            f" {longest:,} px per side"
        )


def _background_image(rendition: Rendition, pictures: Mapping[str, Image] | None) -> Image | None:
    if not isinstance(rendition.background, BackgroundImage) or pictures is None:
        return None
    return pictures[rendition.background.image]


def _enlarge_to_photo(matte: Image, decoded: DecodedImage) -> Image:
    size = decoded.width, decoded.height
    return cv2.resize(matte, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def _failed_rules(
    data: bytes, rendition: Options | ExtraOutput, subject: Subject, decoded: DecodedImage
) -> tuple[str, ...]:
    """What the file fails of `max_bytes` and of the marketplace's rules."""
    limit, market = rendition.max_bytes, rendition.market
    too_large: list[str] = []
    if limit is not None and len(data) > limit:
        too_large.append(f"The file has {len(data):,} bytes; `max_bytes` is {limit:,}")
    if market is None:
        return tuple(too_large)
    box = subject.box
    if box is None:
        return (*too_large, "There is no subject in the picture")
    scale = decoded.width / subject.matte.shape[1]
    size = round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale)
    matte = matte_on_canvas(subject, rendition)
    unmet = unmet_rules(data, rendition.format, market, matte=matte, photo_px=size)
    # Where the marketplace has the same limit, its sentence is enough.
    if limit is not None and any(one.endswith(f"accepts at most {limit:,}") for one in unmet):
        return tuple(unmet)
    return (*too_large, *unmet)
