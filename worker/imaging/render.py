"""Rendering: photo and matte become the pixels of one rendition, ready for encoding.

Plain cut-outs are most of the load, so they have a fast path that reads the full-size pixels once.
Crop, canvas, shadows and pictures as background take the general path, `_compose`.
"""

from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.groups import GroupFrame
from shared.rendition import Foreground, Format, Output, Rendition
from worker.imaging.arrays import Box, Image
from worker.imaging.background import render_background, rgb
from worker.imaging.crop_and_canvas import Placement, compute_placement
from worker.imaging.edge_colours import (
    PixelIndices,
    blocks,
    estimate_foreground,
    transition_pixels,
)
from worker.imaging.group_frame import box_of, placement_in_group
from worker.imaging.matte import subject_box
from worker.imaging.pasting import Edge, paste, paste_matte
from worker.imaging.samples import row_blocks
from worker.imaging.shadow import shadow_alpha

STRIP_ROWS = 64
"""Rows that are composed at once, so that their pixels stay in the processor's cache."""


class Subject:
    """A photo [H, W, 3] uint8 RGB and its matte [H, W] uint8.

    Edge colours and the subject's box are computed once for all renditions.
    """

    def __init__(
        self,
        image: Image,
        matte: Image,
        *,
        small: Image | None = None,
        own_colours: bool = False,
        box: Box | None = None,
        side_px: float | None = None,
        frame: GroupFrame | None = None,
        profile: bytes | None = None,
    ) -> None:
        """`small`: the image's small_copy, where it is at hand. `own_colours`: the edge has the
        subject's own colours, whatever the options say. `box`: takes the place of the subject's
        box, to place several pictures alike. `side_px`: takes the place of the subject's longer
        side, so that several pictures have shadows alike. `frame`: the one that all photos of its
        group share. `profile`: the ICC profile that the photo keeps; None: it is sRGB.
        """
        self.image, self.matte, self._small = image, matte, small
        self.frame, self.profile = frame, profile
        self._own_colours = own_colours
        self._given_box = box
        self._side_px = side_px

    @cached_property
    def edge(self) -> PixelIndices:
        """The indices [N] of the half-transparent pixels."""
        return transition_pixels(self.matte)

    @cached_property
    def box(self) -> Box | None:
        """The subject's box; None when there is no subject."""
        return self._given_box or subject_box(self.matte)

    def placement(self, rendition: Rendition) -> Placement:
        """Where the photo lies in a result that changes the frame. Raises OutputTooLargeError."""
        height, width = self.matte.shape
        if self.frame is not None:
            return placement_in_group(rendition, width, height, self.frame)
        return compute_placement(rendition, width, height, self.box)

    def shadow_size(self, rendition: Rendition) -> float | None:
        """The longer side of what throws the shadow [px of the result], where a group or the frames
        of a clip share it; None: the subject's own.
        """
        if self.frame is None:
            if self._side_px is None:
                return None
            scale = self.placement(rendition).scale if rendition.changes_frame else 1.0
            return self._side_px * scale
        left, top, right, bottom = box_of(self.frame)
        height, width = self.matte.shape
        scale = 1 / self.frame.fit_of(width, height)[0]
        if rendition.changes_frame:
            scale *= self.placement(rendition).scale
        return max(right - left, bottom - top) * scale

    @cached_property
    def _estimated_edge_colours(self) -> Image:
        return estimate_foreground(self.image, self.matte, self.edge, self._small)

    def edge_colours(self, foreground: Foreground) -> Image:
        """The colours [N, 3] uint8 RGB of the edge pixels: estimated, or the photo's own."""
        if foreground is Foreground.ESTIMATE and not self._own_colours:
            return self._estimated_edge_colours
        return self.image.reshape(-1, 3)[self.edge]

    def image_with_edge_colours(self, foreground: Foreground) -> Image:
        """A copy of the photo with `edge_colours` at the edge."""
        result = self.image.copy()
        result.reshape(-1, 3)[self.edge] = self.edge_colours(foreground)
        return result

    def placed(self, rendition: Rendition) -> tuple[Image, Image]:
        """The photo [H', W', 3] with `edge_colours` and its matte [H', W'], where the rendition
        puts them. Raises OutputTooLargeError.
        """
        if not rendition.changes_frame:
            return self.image_with_edge_colours(rendition.foreground), self.matte
        edge = Edge(self.edge, self.edge_colours(rendition.foreground))
        return paste(self.placement(rendition), self.image, self.matte, edge)


def render(subject: Subject, rendition: Rendition, picture: Image | None = None) -> Image:
    """Render a rendition as uint8 pixels: [H', W'] (alpha alone), [H', W', 3] RGB on a background,
    or [H', W', 4] RGBA.

    RGBA has straight (not premultiplied) colours. Fully transparent pixels are 0, which makes files
    small. `picture` is the decoded background picture, if the rendition has one.

    Raises InvalidOptionsError.
    """
    if rendition.output is Output.ALPHA:
        return matte_on_canvas(subject, rendition)
    if rendition.is_plain and rendition.format is not Format.ZIP:
        if rendition.background is None:
            return _transparent_cutout(subject, rendition.foreground)
        if isinstance(rendition.background, str):
            return _on_solid_colour(subject, rendition.foreground, rendition.background)
    return _compose(subject, rendition, picture)


def matte_on_canvas(subject: Subject, rendition: Rendition) -> Image:
    """The matte [H', W'] uint8 after crop, scale and position. Raises InvalidOptionsError."""
    if not rendition.changes_frame:
        return subject.matte
    return paste_matte(subject.placement(rendition), subject.matte)


def _transparent_cutout(subject: Subject, foreground: Foreground) -> Image:
    """The plain cut-out [H, W, 4] RGBA."""
    cutout = np.zeros((*subject.matte.shape, 4), np.uint8)
    left, top, width, height = cv2.boundingRect(subject.matte)
    for row in range(top, top + height, STRIP_ROWS):
        strip = np.s_[row : min(row + STRIP_ROWS, top + height), left : left + width]
        matte = subject.matte[strip]
        pixels = cv2.cvtColor(subject.image[strip], cv2.COLOR_RGB2RGBA)
        cv2.insertChannel(matte, pixels, 3)
        cv2.copyTo(pixels, matte, cutout[strip])
    cutout.reshape(-1, 4)[subject.edge, :3] = subject.edge_colours(foreground)
    return cutout


def _on_solid_colour(subject: Subject, foreground: Foreground, colour: str) -> Image:
    """Composite over `#rrggbb`. Where alpha is 0, the result has exactly that colour, as the
    photo's profile writes it.
    """
    value = rgb(colour, subject.profile)
    result = np.empty_like(subject.image)
    result[:] = value
    result = cv2.copyTo(subject.image, subject.matte, result).astype(np.uint8, copy=False)
    colours = subject.edge_colours(foreground)
    for part in blocks(subject.edge):
        pixels = subject.edge[part]
        share = subject.matte.reshape(-1)[pixels, None].astype(np.float32) / 255
        result.reshape(-1, 3)[pixels] = np.rint(colours[part] * share + value * (1 - share))
    return result


def _compose(subject: Subject, rendition: Rendition, picture: Image | None) -> Image:
    """The general path: crop, canvas, shadow and any background."""
    colours, alpha = subject.placed(rendition)
    if rendition.format is Format.ZIP:
        return cv2.merge([*cv2.split(colours), alpha]).astype(np.uint8, copy=False)
    shadow = None
    if rendition.shadow:
        shadow = shadow_alpha(rendition.shadow, alpha, size=subject.shadow_size(rendition))
    if rendition.background is None:
        return _rgba(colours, alpha, shadow)
    height, width = alpha.shape
    result = render_background(rendition.background, width, height, picture, subject.profile)
    if shadow is not None:
        for rows in row_blocks(height, width):
            light = 1 - shadow[rows]
            result[rows] = cv2.merge(_darkened(result[rows], light))
    result = cv2.copyTo(colours, cv2.inRange(alpha, 255, 255), result).astype(np.uint8, copy=False)
    edge = transition_pixels(alpha)
    flat = result.reshape(-1, 3)
    for part in blocks(edge):
        pixels = edge[part]
        share = alpha.reshape(-1)[pixels, None].astype(np.float32) / 255
        flat[pixels] = np.rint(colours.reshape(-1, 3)[pixels] * share + flat[pixels] * (1 - share))
    return result


def _rgba(colours: Image, alpha: Image, shadow: NDArray[np.float32] | None) -> Image:
    """Merge colours and alpha into straight RGBA. The shadow becomes a black layer below."""
    result = np.zeros((*alpha.shape, 4), np.uint8)
    for rows in row_blocks(*alpha.shape):
        if shadow is None:
            merged = cv2.merge([*cv2.split(colours[rows]), alpha[rows]])
            cv2.copyTo(merged, alpha[rows], result[rows])
            continue
        share = alpha[rows].astype(np.float32) / 255
        total = share + (1 - share) * shadow[rows]
        tint = share / np.maximum(total, np.float32(1e-6))
        planes = _darkened(colours[rows], tint)
        result[rows] = cv2.merge([*planes, cv2.convertScaleAbs(total, alpha=255)])
    return result


def _darkened(colours: Image, light: NDArray[Any]) -> list[Image]:
    """The three planes [H, W] of colours, times the share of light, rounded."""
    return [
        cv2.multiply(plane, light, dtype=cv2.CV_8U).astype(np.uint8, copy=False)
        for plane in cv2.split(colours)
    ]
