"""The layers of a Photoshop document: the cut-out with its mask, shadow, background, the photo."""

from collections.abc import Iterator

import numpy as np

from shared.rendition import Rendition
from worker.imaging.arrays import Image
from worker.imaging.background import render_background
from worker.imaging.pasting import paste
from worker.imaging.psd_file import Layer
from worker.imaging.render import Subject
from worker.imaging.shadow import shadow_alpha


def psd_layers(subject: Subject, rendition: Rendition, picture: Image | None) -> Iterator[Layer]:
    """The layers of a rendition, the lowest one first; each is made when it is asked for. The photo
    is hidden, so that the document shows what other formats show. `picture` is the decoded
    background picture, if there is one.
    """
    image, alpha = subject.image, None
    if rendition.changes_frame:
        whole = np.full_like(subject.matte, 255)
        image, alpha = paste(subject.placement(rendition), image, whole)
        del whole
    yield Layer("Photo", image, alpha=alpha, hidden=True)
    del image, alpha
    height, width = _placed_size(subject, rendition)
    if rendition.background is not None:
        ground = render_background(rendition.background, width, height, picture, subject.profile)
        yield Layer("Background", ground)
        del ground
    colours, mask = subject.placed(rendition)
    shadow = None
    if rendition.shadow is not None:
        shadow = shadow_alpha(rendition.shadow, mask, size=subject.shadow_size(rendition))
    if shadow is not None:
        shade = np.rint(shadow * 255).astype(np.uint8)
        yield Layer("Shadow", np.zeros((height, width, 3), np.uint8), alpha=shade)
        del shade
    del shadow
    # ImageMagick applies a mask only to a layer that has a transparency.
    yield Layer("Cut-out", colours, alpha=np.full_like(mask, 255), mask=mask)


def _placed_size(subject: Subject, rendition: Rendition) -> tuple[int, int]:
    """Height and width of the rendition."""
    height, width = subject.matte.shape
    if not rendition.changes_frame:
        return height, width
    placement = subject.placement(rendition)
    return placement.height, placement.width
