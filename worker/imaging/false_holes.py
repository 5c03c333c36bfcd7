"""False holes: parts of the subject that the network took for background seen through it.

A pale print between stripes may look to the network like a gap, and its alpha is as surely 0 there
as in the handle of a mug. Colour tells them apart. A hole shows the background, perhaps in the
shade. So a region that the subject encloses is filled if its colours are far from those of the
background, lit or shaded, and nearer to those of the subject around it. Every other one stays.

Both are compared by samples of pixels, not by means: a printed shirt on a street has no mean
colour. The distance to known background and subject decides, as in sampling-based matting (He et
al., "A global sampling method for alpha matting", CVPR 2011). In CIELAB, L + 16, a and b are linear
in the cube roots of X, Y and Z. So shade scales all three alike.

The thresholds come from 2,907 photos of training. They fill 88 regions there. By their labels 77 of
85 are false holes. Six of the others are parts of the subject whose label is wrong, and two are
paper in a hand. Of 53 regions in 1,000 composites with exact alpha, 52 are false holes, and one is
half of each. On 507 held-out photos 16 results change: 12 have a larger IoU, none a smaller one.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.arrays import Alpha, Image, Mask, Plane

LEVELS = (0.25, 0.6)
"""A region is connected pixels below one of these alphas. At the lower one, an edge of half alpha
closes a region that leaks into the background; at the higher one, grey regions are found."""

BACKGROUND, SUBJECT = 0.05, 0.95
"""Pixels below and above these alphas show the background and the subject alone."""

MIN_REGION_SHARE = 5e-5
"""A smaller share of the pixels is left to despeckling: fewer than 7 of 384 x 384."""

MOST_REGIONS = 16
"""Most regions that are judged, the largest first: hair and lace have hundreds of tiny ones."""

MIN_SAMPLES = 20
"""Fewest pixels of background and of subject that allow a judgement."""

REGION_SAMPLES, NEAR_SAMPLES, FAR_SAMPLES = 80, 200, 200
"""Most pixels that are compared: of a region, of its neighbourhood, of the whole background."""

NEIGHBOURHOOD, MIN_NEIGHBOURHOOD = 0.6, 0.04
"""Width of a region's neighbourhood, as a share of the region's longer side; at least this share of
the photo's."""

SURE_ALPHA = 0.15
"""A region with a mean alpha below this is a hole for the network, which is sure of it."""

DEEP_SHADE, LIGHT_SHADE = 0.15, 0.55
"""Smallest factor of L + 16, a and b in the shade, where the network is sure of a hole and where it
is not. The one reaches from white to black: nothing is filled that is only darker than the
background. The other is a sixth of the light."""

THIRDS = 3
"""A colour must be near a sample in each third of the samples: what occurs once is noise."""

MIN_FAR, MIN_LEAST_FAR = 8.0, 3.0
"""Smallest distance of a false hole from the background: the median of its pixels, and the one that
a tenth of them may fall below."""

MAX_NEAR = 20.0
"""Largest distance from the subject for three quarters of the pixels."""

MIN_RATIO = 2.0
"""How many times as far the background must be as the subject: the median of the pixels."""

NOISE = 2.0
"""Added to both distances: colours that are nearer are the same to a camera."""

UNCLEAR_SHARE = 0.002
"""A region with a larger share of the subject is unclear if it shows neither the subject nor the
background. Of 20 such regions in training, 14 were false holes."""

EDGE_SHARE = 0.01
"""Width of the soft edge that is filled with a region, as a share of the photo's longer side: 4
pixels of 384."""

LAB_SCALE, LAB_OFFSET = np.array([[100 / 255, 1, 1], [16, -128, -128]], np.float32)
"""From OpenCV's CIELAB in 8 bits to L + 16, a and b."""

SQUARE = np.ones((3, 3), np.uint8)

Place = tuple[slice, slice]


class Filled(NamedTuple):
    """An alpha without false holes."""

    alpha: Alpha
    unclear: bool
    """Whether it has a hole that does not look like the background, and was left open."""


class _Region(NamedTuple):
    label: int
    place: Place
    """The rows and columns of its box."""
    area: int


class _Regions(NamedTuple):
    """The regions below one level that the subject encloses."""

    labels: NDArray[np.int32]
    found: list[_Region]
    outside: Mask
    """Not 0: low alpha that reaches the border of the photo [h, w]."""


class _Evidence(NamedTuple):
    far: bool
    """The colours are far from those of the background."""
    near: bool
    """They are near those of the subject, too."""


def fill_false_holes(alpha: Alpha, image: Image) -> Filled:
    """Set false holes to 1 in an alpha [h, w] float32 in 0..1.

    `image` is the photo [H, W, 3] uint8 RGB at any size; the alpha's is enough.
    """
    photo: _Photo | None = None
    unclear = False
    for level in LEVELS:
        regions = _enclosed_regions(alpha, level)
        if not regions.found:
            continue
        photo = photo or _Photo(alpha, regions.outside, image)
        least = UNCLEAR_SHARE * float(alpha.sum())
        false = []
        for region in regions.found:
            evidence = photo.evidence(regions, region)
            if evidence.near:
                false.append(region)
            elif evidence.far:
                unclear |= region.area > least
        if false:
            alpha = _filled(alpha, regions, false)
    return Filled(alpha, unclear)


def _enclosed_regions(alpha: Alpha, level: float) -> _Regions:
    low = (alpha < level).view(np.uint8)
    padded = cv2.copyMakeBorder(low, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    # A quarter of the time of labelling everything: most photos have no such region.
    cv2.floodFill(padded, None, (0, 0), 0, flags=8)
    enclosed = padded[1:-1, 1:-1].astype(np.uint8, copy=False)
    outside = low - enclosed
    labels = np.zeros(alpha.shape, np.int32)
    least = max(2, round(MIN_REGION_SHARE * alpha.size))
    if cv2.countNonZero(enclosed) < least:
        return _Regions(labels, [], outside)
    left, top, width, height = cv2.boundingRect(enclosed)
    inner = np.s_[top : top + height, left : left + width]
    _, labels[inner], stats, _ = cv2.connectedComponentsWithStats(enclosed[inner], connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    found = []
    for label in 1 + np.argsort(-areas, kind="stable")[:MOST_REGIONS]:
        x, y, across, down, area = (int(one) for one in stats[label])
        if area >= least:
            place = np.s_[top + y : top + y + down, left + x : left + x + across]
            found.append(_Region(int(label), place, area))
    return _Regions(labels, found, outside)


class _Photo:
    """The colours of a photo, and where they are those of background and subject alone."""

    def __init__(self, alpha: Alpha, outside: Mask, image: Image) -> None:
        background = outside & (alpha < BACKGROUND).view(np.uint8)
        self._background = _eroded(background)
        self._subject = _eroded((alpha > SUBJECT).view(np.uint8))
        self._alpha = alpha
        self._image = image
        self._far = self._sample(self._background, FAR_SAMPLES, np.s_[0:, 0:])

    def evidence(self, regions: _Regions, region: _Region) -> _Evidence:
        """What the colours of a region say."""
        if len(self._far) < MIN_SAMPLES:
            return _Evidence(far=False, near=False)
        inside = (regions.labels[region.place] == region.label).view(np.uint8)
        sure = cv2.mean(self._alpha[region.place], inside)[0] < SURE_ALPHA
        inner = _eroded(inside, outside=0)
        if cv2.countNonZero(inner) >= MIN_SAMPLES:
            inside = inner
        colours = self._sample(inside, REGION_SAMPLES, region.place)
        around = _widened(region.place, self._subject.shape)
        beside = self._sample(self._background[around], NEAR_SAMPLES, around)
        shade = DEEP_SHADE if sure else LIGHT_SHADE
        far = _distances(colours, np.concatenate([self._far, beside]), shade)
        least, middle = np.sort(far)[[len(far) // 10, len(far) // 2]]
        if middle < MIN_FAR or least < MIN_LEAST_FAR:
            return _Evidence(far=False, near=False)
        subject = self._sample(self._subject[around], NEAR_SAMPLES, around)
        if len(subject) < MIN_SAMPLES:
            return _Evidence(far=True, near=False)
        near = _distances(colours, subject, 1.0)
        ratio = float(np.median((far + NOISE) / (near + NOISE)))
        is_near = float(np.quantile(near, 0.75)) < MAX_NEAR and ratio > MIN_RATIO
        return _Evidence(far=True, near=is_near)

    def _sample(self, mask: Mask, most: int, place: Place) -> Plane:
        """L + 16, a and b [n, 3] of at most `most` pixels of a mask that lies at this place."""
        step = max(1, int(np.sqrt(cv2.countNonZero(mask) / (2 * most))))
        rows, columns = np.nonzero(mask[::step, ::step])
        if not len(rows):  # thin lines may lie between the sampled ones
            step = 1
            rows, columns = np.nonzero(mask)
        if not len(rows):
            return np.zeros((0, 3), np.float32)
        if len(rows) > most:
            chosen = np.linspace(0, len(rows) - 1, most).astype(np.intp)
            rows, columns = rows[chosen], columns[chosen]
        height, width = self._subject.shape
        y = (rows * step + place[0].start) * self._image.shape[0] // height
        x = (columns * step + place[1].start) * self._image.shape[1] // width
        lab = cv2.cvtColor(self._image[y, x][None], cv2.COLOR_RGB2LAB)[0]
        return np.asarray(lab * LAB_SCALE + LAB_OFFSET, np.float32)


def _eroded(mask: Mask, *, outside: int = 1) -> Mask:
    """A mask without its edge. `outside`: what lies beyond its border."""
    inner = cv2.erode(mask, SQUARE, borderType=cv2.BORDER_CONSTANT, borderValue=outside)
    return inner.astype(np.uint8, copy=False)


def _widened(place: Place, size: tuple[int, ...]) -> Place:
    """The neighbourhood of a region."""
    rows, columns = place
    longer = max(rows.stop - rows.start, columns.stop - columns.start)
    return _with_margin(place, round(max(MIN_NEIGHBOURHOOD * max(size), NEIGHBOURHOOD * longer)))


def _with_margin(place: Place, margin: int) -> Place:
    rows, columns = (slice(max(0, one.start - margin), one.stop + margin) for one in place)
    return rows, columns


def _distances(colours: Plane, samples: Plane, darkest: float) -> Plane:
    """The distance [n] of each colour [n, 3] from the samples [m, 3], in any shade down to
    `darkest`.
    """
    products = colours @ samples.T
    sizes = (samples * samples).sum(1)
    shade = np.clip(products / np.maximum(sizes, 1), darkest, 1)
    squares = (colours * colours).sum(1)[:, None] + shade * (shade * sizes - 2 * products)
    nearest = np.max([squares[:, third::THIRDS].min(1) for third in range(THIRDS)], axis=0)
    return np.asarray(np.sqrt(np.maximum(nearest, 0)), np.float32)


def _filled(alpha: Alpha, regions: _Regions, false: list[_Region]) -> Alpha:
    """The alpha with these regions and their soft edges at 1. An edge that is nearer to the
    background or to another hole keeps its alpha.
    """
    edge = EDGE_SHARE * max(alpha.shape)
    filled = [region.label for region in false]
    result = alpha.copy()
    for region in false:
        place = _with_margin(region.place, 2 * int(np.ceil(edge)) + 1)
        labels = regions.labels[place]
        others = (regions.outside[place] > 0) | ~np.isin(labels, [0, *filled])
        to_region, to_others = (
            cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3)
            for mask in (labels == region.label, others)
        )
        result[place][(to_region <= edge) & (to_region < to_others)] = 1
    return result
