"""One rendition: photo and matte become the pixels that are to be encoded.

The plain cut-out, which most of the work is, touches the full-size pixels once; whatever changes
the frame goes through worker.imaging.frame, on the part of the photo that is seen.
"""

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.rendition import Foreground, Format, Output, Rendition
from worker.imaging.arrays import Box, Image
from worker.imaging.backdrop import backdrop, rgb, shade
from worker.imaging.edge_colours import Places, subject_colours, transition
from worker.imaging.frame import place, put, put_matte
from worker.imaging.matte import subject_box


class Subject:
    """A photo [H, W, 3] uint8 RGB and its matte [H, W] uint8, with what several renditions share
    worked out once.
    """

    def __init__(self, image: Image, matte: Image) -> None:
        self.image, self.matte = image, matte

    @cached_property
    def edge(self) -> Places:
        """Where it is half transparent."""
        return transition(self.matte)

    @cached_property
    def box(self) -> Box | None:
        """The subject's box; None when there is no subject."""
        return subject_box(self.matte)

    @cached_property
    def _estimated(self) -> Image:
        return subject_colours(self.image, self.matte, self.edge)

    def edge_colours(self, foreground: Foreground) -> Image:
        """The colours [N, 3] of the edge."""
        if foreground is Foreground.ESTIMATE:
            return self._estimated
        return self.image.reshape(-1, 3)[self.edge]

    def clean(self, foreground: Foreground) -> Image:
        """The whole photo with those colours at the edge: a copy."""
        result = self.image.copy()
        result.reshape(-1, 3)[self.edge] = self.edge_colours(foreground)
        return result


def render(subject: Subject, rendition: Rendition, picture: Image | None = None) -> Image:
    """[H', W'] (alpha alone), [H', W', 3] (on a background) or [H', W', 4] (RGBA, colours straight:
    not multiplied by alpha; fully clear pixels are 0, which makes files small). `picture`: the
    decoded background picture.

    Raises InvalidOptionsError.
    """
    if rendition.output is Output.ALPHA:
        return framed_matte(subject, rendition)
    if rendition.is_plain and rendition.format is not Format.ZIP:
        if rendition.background is None:
            return _clear(subject, rendition.foreground)
        if isinstance(rendition.background, str):
            return _on_colour(subject, rendition.foreground, rendition.background)
    return _framed(subject, rendition, picture)


def framed_matte(subject: Subject, rendition: Rendition) -> Image:
    """The matte [H', W'] as it lies in the picture. Raises InvalidOptionsError."""
    if not rendition.changes_frame:
        return subject.matte
    height, width = subject.matte.shape
    return put_matte(place(rendition, width, height, subject.box), subject.matte)


def _clear(subject: Subject, foreground: Foreground) -> Image:
    colours = subject.edge_colours(foreground)
    cutout = cv2.cvtColor(subject.image, cv2.COLOR_RGB2RGBA).astype(np.uint8, copy=False)
    cutout.reshape(-1, 4)[subject.edge, :3] = colours
    cutout[..., 3] = subject.matte
    return cv2.copyTo(cutout, subject.matte).astype(np.uint8, copy=False)


def _on_colour(subject: Subject, foreground: Foreground, colour: str) -> Image:
    """Composite over `#rrggbb`: exactly that colour where alpha is 0, the image where it is 255,
    and the edge's colours by their share between.
    """
    value = rgb(colour)
    result = np.empty_like(subject.image)
    result[:] = value
    result = cv2.copyTo(subject.image, subject.matte, result).astype(np.uint8, copy=False)
    share = subject.matte.reshape(-1)[subject.edge, None].astype(np.float32) / 255
    mixed = subject.edge_colours(foreground) * share + value * (1 - share)
    result.reshape(-1, 3)[subject.edge] = np.rint(mixed).astype(np.uint8)
    return result


def _framed(subject: Subject, rendition: Rendition, picture: Image | None) -> Image:
    """The frame, the shadow, and what lies behind."""
    colours, alpha = subject.clean(rendition.foreground), subject.matte
    if rendition.changes_frame:
        placement = place(rendition, alpha.shape[1], alpha.shape[0], subject.box)
        colours, alpha = put(placement, colours, alpha)
    if rendition.format is Format.ZIP:
        return cv2.merge([*cv2.split(colours), alpha]).astype(np.uint8, copy=False)
    dark = shade(rendition.shadow, alpha) if rendition.shadow else None
    if rendition.background is None:
        return _with_alpha(colours, alpha, dark)
    height, width = alpha.shape
    behind = backdrop(rendition.background, width, height, picture)
    if dark is not None:
        behind = np.rint(behind * (1 - dark[..., None])).astype(np.uint8)
    behind = cv2.copyTo(colours, cv2.inRange(alpha, 255, 255), behind).astype(np.uint8, copy=False)
    edge = transition(alpha)
    share = alpha.reshape(-1)[edge, None].astype(np.float32) / 255
    flat = behind.reshape(-1, 3)
    flat[edge] = np.rint(colours.reshape(-1, 3)[edge] * share + flat[edge] * (1 - share))
    return behind


def _with_alpha(colours: Image, alpha: Image, dark: NDArray[np.float32] | None) -> Image:
    """RGBA with straight colours; a shadow is black that lies under the subject."""
    if dark is not None:
        share = alpha.astype(np.float32) / 255
        total = share + (1 - share) * dark
        tint = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
        colours = np.rint(colours * tint[..., None]).astype(np.uint8)
        alpha = np.rint(total * 255).astype(np.uint8)
    result = cv2.merge([*cv2.split(colours), alpha])
    return cv2.copyTo(result, alpha).astype(np.uint8, copy=False)
