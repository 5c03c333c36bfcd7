"""Matting metrics against a ground-truth alpha: IoU, MAE, SAD, MSE, Grad, Conn.

SAD, MSE, Grad and Conn follow Rhemann et al., "A perceptually motivated online benchmark for image
matting" (CVPR 2009), with PaddleSeg's scaling (ppmatting/metrics/metric.py): SAD, Grad and Conn are
in thousands.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from worker.imaging.arrays import Alpha

GRADIENT_SIGMA = 1.4
CONNECTIVITY_STEP = 0.1


@dataclass(frozen=True)
class Scores:
    """The metrics of one alpha. Smaller is better, except for IoU."""

    iou: float
    """Intersection over union of the two alphas thresholded at 0.5."""
    mae: float
    sad: float
    mse: float
    grad: float
    conn: float


def score(alpha: Alpha, truth: Alpha) -> Scores:
    """Compare two alphas [H, W] float32 in 0..1 over all pixels, without a trimap."""
    a, b = alpha > 0.5, truth > 0.5
    union = int((a | b).sum())
    difference = np.abs(alpha - truth)
    return Scores(
        iou=float((a & b).sum() / union) if union else 1.0,
        mae=float(difference.mean()),
        sad=float(difference.sum() / 1_000),
        mse=float((difference**2).mean()),
        grad=gradient_error(alpha, truth),
        conn=connectivity_error(alpha, truth),
    )


def gradient_error(alpha: Alpha, truth: Alpha) -> float:
    """Grad: the squared differences of the gradient magnitudes (Gaussian derivatives) / 1000."""
    return float(((_magnitude(alpha) - _magnitude(truth)) ** 2).sum() / 1_000)


def connectivity_error(alpha: Alpha, truth: Alpha) -> float:
    """Conn: how far pixels are disconnected from the largest part of both alphas / 1000."""
    level = np.full(alpha.shape, -1.0, np.float32)
    steps = np.arange(0, 1 + CONNECTIVITY_STEP, CONNECTIVITY_STEP)
    for index in range(1, len(steps)):
        both = ((alpha >= steps[index]) & (truth >= steps[index])).astype(np.uint8)
        _count, parts, stats, _ = cv2.connectedComponentsWithStats(both, connectivity=4)
        largest = np.zeros(alpha.shape, bool)
        if len(stats) > 1:
            largest = parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        level[(level == -1) & ~largest] = steps[index - 1]
    level[level == -1] = 1

    def connected(matte: Alpha) -> Alpha:
        distance = matte - level
        return (1 - distance * (distance >= 0.15)).astype(np.float32)

    return float(np.abs(connected(alpha) - connected(truth)).sum() / 1_000)


def _magnitude(alpha: Alpha) -> Alpha:
    half = int(np.ceil(3 * GRADIENT_SIGMA))
    x = np.arange(-half, half + 1, dtype=np.float32)
    gauss = np.exp(-(x**2) / (2 * GRADIENT_SIGMA**2))
    slope = -x * gauss / GRADIENT_SIGMA**2
    kernel = np.outer(gauss, slope).astype(np.float32)
    kernel /= np.sqrt((kernel**2).sum())
    dx = cv2.filter2D(alpha, cv2.CV_32F, kernel, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.filter2D(alpha, cv2.CV_32F, kernel.T, borderType=cv2.BORDER_REPLICATE)
    return np.sqrt(dx**2 + dy**2).astype(np.float32)
