"""Scores the network on the held-out photos, by kind of photo."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from worker.training.network import MattingNet
from worker.training.sources import Labelled

SCORED_SIDE = 384
"""The longer side at which the network runs, as in the worker."""

MOST_OF_A_KIND = 24
"""How many photos of a kind are scored during training."""


class KindScore(NamedTuple):
    """Means over the photos of one kind. Pixels with a loss weight of 0 don't count."""

    photos: int
    iou: float
    """IoU of the masks thresholded at 0.5."""
    mae: float
    bad: float
    """Share of the photos with an IoU below 0.9."""


def held_out_scores(
    net: MattingNet, kinds: Mapping[str, Sequence[Labelled]], most: int = MOST_OF_A_KIND
) -> dict[str, KindScore]:
    """Score each kind that has photos."""
    net.eval()
    table = {}
    for kind, photos in kinds.items():
        some = photos[:: max(1, len(photos) // most)][:most]
        rows = np.array([score_photo(alpha_of(net, photo), photo) for photo in some])
        iou, mae = rows.mean(0)
        table[kind] = KindScore(len(some), float(iou), float(mae), float((rows[:, 0] < 0.9).mean()))
    net.train()
    return table


def mean_over_kinds(table: Mapping[str, KindScore]) -> float:
    """The figure that decides which weights are the best: IoU minus MAE, averaged over kinds."""
    return float(np.mean([score.iou - score.mae for score in table.values()]))


def score_photo(alpha: np.ndarray, photo: Labelled) -> tuple[float, float]:
    """IoU at 0.5 and mean absolute error of one alpha [H, W]."""
    known = np.ones(alpha.shape, bool) if photo.worth is None else photo.worth > 0
    truth = photo.mask.astype(np.float32) / 255
    a, b = (alpha > 0.5) & known, (truth > 0.5) & known
    return (a & b).sum() / max(1, (a | b).sum()), float(np.abs(alpha - truth)[known].mean())


@torch.no_grad()
def alpha_of(net: MattingNet, photo: Labelled) -> np.ndarray:
    """Run the bare network on a photo. Returns alpha [H, W] in 0..1."""
    h, w = photo.mask.shape
    scale = SCORED_SIDE / max(h, w)
    height, width = (max(32, round(side * scale / 32) * 32) for side in (h, w))
    small = cv2.resize(photo.image, (width, height), interpolation=cv2.INTER_AREA)
    x: Tensor = torch.from_numpy(small).permute(2, 0, 1)[None].float().div(127.5).sub(1)
    alpha = torch.sigmoid(net(x.contiguous(memory_format=torch.channels_last))[0])[0, 0].numpy()
    return cv2.resize(alpha, (w, h), interpolation=cv2.INTER_LINEAR)
