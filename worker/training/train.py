"""Train the built-in network: python -m worker.training.train --data DIR --out FILE.npz."""

import argparse
import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from worker.training.compose import compose
from worker.training.network import Bottleneck, MattingNet, load_encoder
from worker.training.sources import Sources, load_sources
from worker.training.weights import load_weights, save_weights

RATIOS = (0.5625, 0.6667, 0.75, 0.75, 1.0, 1.0, 1.3333, 1.7778)
"""Width by height of the batches: what shops send, upright more often than not."""

EMA_DECAY = 0.998
"""The weights that are kept are a running mean over about 500 steps."""

ENCODER_SHARE = 0.15
"""Of the learning rate, for the encoder: it begins with ImageNet's weights, the rest with noise."""

KEPT_BLOCKS = 3
"""Blocks, down to stride 4, that stay as ImageNet left them: edges are the same everywhere."""

REPORT_EVERY_S = 300
"""Held-out figures are scored and the weights saved this often."""

Batch = tuple[Tensor, Tensor]


class Stream(IterableDataset[Batch]):
    """Endless batches: images [N, 3, H, W] float32 in -1..1 and alphas [N, 1, H, W] in 0..1."""

    def __init__(self, sources: Sources, side: int, batch: int, seed: int) -> None:
        self.sources, self.side, self.batch, self.seed = sources, side, batch, seed

    def __iter__(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, info.id if info else 0))
        cv2.setNumThreads(1)
        while True:
            height, width = batch_shape(self.side, float(rng.choice(RATIOS)))
            samples = [compose(rng, self.sources, height, width) for _ in range(self.batch)]
            images = np.stack([sample.image for sample in samples])
            alphas = np.stack([sample.alpha for sample in samples])
            yield (
                torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1),
                torch.from_numpy(alphas)[:, None],
            )


def batch_shape(side: int, ratio: float) -> tuple[int, int]:
    """Height and width, multiples of 32, of about side² pixels and the ratio width:height."""
    width = max(32, round(side * math.sqrt(ratio) / 32) * 32)
    height = max(32, round(side / math.sqrt(ratio) / 32) * 32)
    return height, width


def matting_loss(logits: Tensor, coarse: Tensor, alpha: Tensor) -> Tensor:
    """Cross entropy, absolute error, soft IoU and gradient at full size; cross entropy at 1/8.

    Soft IoU (Rahman and Wang 2016) counts each picture alike, however small its subject.
    """
    logits, coarse = logits.float(), coarse.float()
    p = torch.sigmoid(logits)
    bce = nnf.binary_cross_entropy_with_logits(logits, alpha)
    l1 = (p - alpha).abs().mean()
    inter = (p * alpha).sum((1, 2, 3))
    union = (p + alpha - p * alpha).sum((1, 2, 3))
    iou = (1 - (inter + 1) / (union + 1)).mean()
    gradient = sum(
        (torch.diff(p, dim=axis) - torch.diff(alpha, dim=axis)).abs().mean() for axis in (2, 3)
    )
    small = nnf.avg_pool2d(alpha, 8)
    aux = nnf.binary_cross_entropy_with_logits(coarse, small)
    return bce + 2 * l1 + 0.5 * iou + gradient + 0.3 * aux


def parameter_groups(net: MattingNet) -> list[dict[str, Any]]:
    """What is trained, by its share of the learning rate. Of the encoder: the 1×1 convolutions that
    lie behind the kept blocks.
    """
    kept: list[nn.Module] = [net.stem, *net.blocks[:KEPT_BLOCKS]]
    kept += [block.filter for block in net.blocks if isinstance(block, Bottleneck)]
    for module in kept:
        module.requires_grad_(False)
    encoder = [p for p in net.blocks.parameters() if p.requires_grad]
    others = [
        p
        for name, p in net.named_parameters()
        if p.requires_grad and not name.startswith("blocks.")
    ]
    return [{"params": encoder, "share": ENCODER_SHARE}, {"params": others, "share": 1.0}]


@torch.no_grad()
def held_out_scores(net: MattingNet, sources: Sources, side: int) -> tuple[float, float]:
    """Mean IoU (at 0.5) and mean absolute error over the held-out figures, at their own size."""
    net.eval()
    ious, maes = [], []
    for photo in sources.held_out:
        h, w = photo.mask.shape
        height, width = batch_shape(side, w / h)
        small = cv2.resize(photo.image, (width, height), interpolation=cv2.INTER_AREA)
        x = torch.from_numpy(small).permute(2, 0, 1)[None].float().div(127.5).sub(1)
        alpha = torch.sigmoid(net(x)[0])[0, 0].numpy()
        alpha = cv2.resize(alpha, (w, h), interpolation=cv2.INTER_LINEAR)
        truth = photo.mask.astype(np.float32) / 255
        a, b = alpha > 0.5, truth > 0.5
        ious.append((a & b).sum() / max(1, (a | b).sum()))
        maes.append(np.abs(alpha - truth).mean())
    net.train()
    return float(np.mean(ious)), float(np.mean(maes))


def main() -> None:
    """Train for a set time; the learning rate falls to zero at its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=Path, help="masks of the garments (label_garments.py)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, help="ImageNet's weights (README.md)")
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)  # before the fork of the loader: its thread pool does not survive one
    sources = load_sources(arguments.data, arguments.labels)
    print(
        f"{len(sources.figures)} figures, {len(sources.held_out)} held out, "
        f"{len(sources.garments)} garments, {len(sources.packshots)} packshots",
        flush=True,
    )
    net = MattingNet().to(memory_format=torch.channels_last)
    if arguments.encoder:
        load_encoder(net, arguments.encoder)
    if arguments.resume:
        load_weights(net, arguments.resume)
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters", flush=True)
    mean = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(parameter_groups(net), weight_decay=1e-4)
    stream = Stream(sources, arguments.side, arguments.batch, arguments.seed)
    batches = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=6))
    start = reported = time.monotonic()
    seconds = arguments.minutes * 60
    step, losses = 0, []
    while (spent := time.monotonic() - start) < seconds:
        rise = min(1.0, (step + 1) / 200)
        rate = arguments.rate * rise * 0.5 * (1 + math.cos(math.pi * spent / seconds))
        for group in optimiser.param_groups:
            group["lr"] = rate * group["share"]
        images, alphas = next(batches)
        with torch.autocast("cpu", torch.bfloat16):
            logits, coarse = net(images.contiguous(memory_format=torch.channels_last))
        loss = matting_loss(logits, coarse, alphas)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        step += 1
        losses.append(loss.item())
        _follow(mean, net, min(EMA_DECAY, step / (step + 10)))
        if time.monotonic() - reported > REPORT_EVERY_S:
            reported = time.monotonic()
            iou, mae = held_out_scores(mean, sources, arguments.side)
            print(
                f"{spent / 60:5.1f} min step {step} loss {np.mean(losses[-300:]):.4f} "
                f"IoU {iou:.4f} MAE {mae:.4f}",
                flush=True,
            )
            save_weights(mean, arguments.out)
    iou, mae = held_out_scores(mean, sources, arguments.side)
    save_weights(mean, arguments.out)
    print(f"end: step {step} IoU {iou:.4f} MAE {mae:.4f}", flush=True)


@torch.no_grad()
def _follow(mean: MattingNet, net: MattingNet, decay: float) -> None:
    """Move the running mean of all weights, batch-norm statistics with them, towards `net`."""
    for kept, new in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


if __name__ == "__main__":
    main()
