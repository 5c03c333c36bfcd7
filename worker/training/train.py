"""Trains the built-in network: python -m worker.training.train --data DIR --out FOLDER.

Training saves FOLDER/state.pt regularly. It can be stopped at any time, and `--resume` continues
from there. FOLDER/best.npz holds the weights with the best score on the held-out photos (mean over
kinds), FOLDER/last.npz the latest ones.
"""

import argparse
import copy
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from worker.training.compose import compose
from worker.training.held_out import held_out_scores, mean_over_kinds
from worker.training.network import Bottleneck, MattingNet, load_encoder
from worker.training.sources import Sources, load_sources
from worker.training.weights import load_weights, save_weights

RATIOS = (0.5625, 0.6667, 0.75, 0.75, 1.0, 1.0, 1.3333, 1.7778)
"""Ratios of width to height of the batches, as in shop photos: mostly portrait and square."""

EMA_DECAY = 0.998
"""Decay of the running mean of the weights (about 500 steps). The mean is scored and saved."""

ENCODER_SHARE = 0.15
"""Factor on the encoder's learning rate: it starts with ImageNet's weights, the rest with noise."""

KEPT_BLOCKS = 3
"""How many encoder blocks (down to stride 4) keep ImageNet's weights: edges look the same
everywhere.
"""

REPORT_EVERY_S = 900
"""Seconds between two scorings of the held-out photos."""

LOSS_EVERY = 50
"""Steps between two printed losses. The state is saved at the same steps."""

RISE_STEPS = 100
"""Steps of learning-rate warm-up at the start of each run."""

Batch = tuple[Tensor, Tensor, Tensor]


class Stream(IterableDataset[Batch]):
    """Endless batches.

    Images are [N, 3, H, W] float32 in -1..1; alphas and loss weights are [N, 1, H, W] in 0..1.
    """

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
            worths = np.stack([sample.worth for sample in samples])
            yield (
                torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1),
                torch.from_numpy(alphas)[:, None],
                torch.from_numpy(worths)[:, None],
            )


def batch_shape(side: int, ratio: float) -> tuple[int, int]:
    """Height and width in multiples of 32, with about side² pixels and the given ratio of width to
    height.
    """
    width = max(32, round(side * math.sqrt(ratio) / 32) * 32)
    height = max(32, round(side / math.sqrt(ratio) / 32) * 32)
    return height, width


def matting_loss(logits: Tensor, coarse: Tensor, alpha: Tensor, worth: Tensor) -> Tensor:
    """Cross entropy, absolute error, soft IoU and gradient at full size; cross entropy at 1/8.

    `worth` is the weight of each pixel. Soft IoU (Rahman and Wang 2016) weights all pictures
    equally, however small the subject is.
    """
    logits, coarse = logits.float(), coarse.float()
    p = torch.sigmoid(logits)
    bce = nnf.binary_cross_entropy_with_logits(logits, alpha, worth)
    l1 = ((p - alpha).abs() * worth).mean()
    inter = (p * alpha * worth).sum((1, 2, 3))
    union = ((p + alpha - p * alpha) * worth).sum((1, 2, 3))
    iou = (1 - (inter + 1) / (union + 1)).mean()
    gradient = sum((torch.diff((p - alpha) * worth, dim=axis)).abs().mean() for axis in (2, 3))
    known = nnf.avg_pool2d(worth, 8)
    small = nnf.avg_pool2d(alpha * worth, 8) / known.clamp(min=1e-3)
    aux = nnf.binary_cross_entropy_with_logits(coarse, small.clamp(0, 1), known)
    return bce + 2 * l1 + 0.5 * iou + gradient + 0.3 * aux


def parameter_groups(net: MattingNet) -> list[dict[str, Any]]:
    """The trained parameters, grouped by their factor on the learning rate. Of the encoder only the
    1×1 convolutions after the kept blocks are trained.
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


def start_weights(net: MattingNet, arguments: argparse.Namespace) -> None:
    """Choose the initial weights of a new training: ImageNet's encoder, a file of weights, or a
    bundle.
    """
    if arguments.encoder:
        load_encoder(net, arguments.encoder)
    if arguments.weights:
        load_weights(net, arguments.weights)
    if arguments.from_bundle:
        arguments.out.mkdir(parents=True, exist_ok=True)
        path = arguments.out / "from_bundle.npz"
        command = [sys.executable, "-m", "worker.training.from_bundle"]
        subprocess.run([*command, "--bundle", arguments.from_bundle, "--out", path], check=True)
        load_weights(net, path)


@dataclass
class State:
    """The state of a training, for `--resume`."""

    net: MattingNet
    mean: MattingNet
    """The running mean of the network's weights, which is scored and saved."""
    optimiser: torch.optim.Optimizer
    step: int = 0
    spent_s: float = 0.0
    best: float = -math.inf

    def save(self, path: Path) -> None:
        """Save the state. The old file stays until the new one is complete."""
        parts = {"net": self.net, "mean": self.mean, "optimiser": self.optimiser}
        stored = {name: part.state_dict() for name, part in parts.items()}
        stored |= {"step": self.step, "spent_s": self.spent_s, "best": self.best}
        torch.save(stored, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Load the state. Raises RuntimeError if it belongs to another network."""
        stored = torch.load(path, weights_only=True)
        for name in ("net", "mean", "optimiser"):
            getattr(self, name).load_state_dict(stored[name])
        self.step, self.spent_s, self.best = stored["step"], stored["spent_s"], stored["best"]


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=Path, help="what make_labels.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--encoder", type=Path, help="ImageNet's weights (README.md)")
    parser.add_argument("--weights", type=Path, help="begin with these: an .npz")
    parser.add_argument("--from-bundle", type=Path, help="begin with these: what export.py wrote")
    parser.add_argument("--resume", action="store_true", help="go on from FOLDER/state.pt")
    parser.add_argument("--minutes", type=float, default=60, help="of training, all sittings")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Train for the given time. The learning rate falls to zero at the end."""
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)  # before the data loader forks: a thread pool does not survive a fork
    sources = load_sources(arguments.data, arguments.labels)
    lists = ("figures", "garments", "people", "goods", "exact", "packshots", "surroundings")
    print(", ".join(f"{len(getattr(sources, name))} {name}" for name in lists), flush=True)
    net = MattingNet().to(memory_format=torch.channels_last)
    groups = parameter_groups(net)
    arguments.out.mkdir(parents=True, exist_ok=True)
    state = State(net, copy.deepcopy(net), torch.optim.AdamW(groups, weight_decay=1e-4))
    if arguments.resume:
        state.load(arguments.out / "state.pt")
    else:
        start_weights(net, arguments)
        state.mean.load_state_dict(net.state_dict())
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, step {state.step}", flush=True)
    seed = arguments.seed + state.step
    stream = Stream(sources, arguments.side, arguments.batch, seed)
    batches = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=6))
    began, spent_before = time.monotonic(), state.spent_s
    reported, losses, first = began, [], state.step
    while state.spent_s < arguments.minutes * 60:
        rise = min(1.0, (state.step - first + 1) / RISE_STEPS)
        fall = 0.5 * (1 + math.cos(math.pi * state.spent_s / (arguments.minutes * 60)))
        for group in state.optimiser.param_groups:
            group["lr"] = arguments.rate * rise * fall * group["share"]
        losses.append(train_step(state, next(batches)))
        now = time.monotonic()
        state.spent_s = spent_before + now - began
        if state.step % LOSS_EVERY == 0:
            minutes, loss = state.spent_s / 60, np.mean(losses[-LOSS_EVERY:])
            print(f"{minutes:5.1f} min step {state.step} loss {loss:.4f}", flush=True)
            state.save(arguments.out / "state.pt")
        if now - reported > REPORT_EVERY_S:
            reported = now
            report(state, sources, arguments.out)
    report(state, sources, arguments.out)


def train_step(state: State, batch: Batch) -> float:
    """Run one step and return its loss."""
    images, alphas, worths = batch
    with torch.autocast("cpu", torch.bfloat16):
        logits, coarse = state.net(images.contiguous(memory_format=torch.channels_last))
    loss = matting_loss(logits, coarse, alphas, worths)
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.net.parameters(), 1.0)
    state.optimiser.step()
    state.step += 1
    _follow(state.mean, state.net, min(EMA_DECAY, state.step / (state.step + 10)))
    return float(loss.detach())


def report(state: State, sources: Sources, out: Path) -> None:
    """Score the running mean on the held-out photos, print the scores, and save it if it is the
    best.
    """
    table = held_out_scores(state.mean, sources.held_out_kinds)
    mean = mean_over_kinds(table)
    kinds = "  ".join(
        f"{kind} {score.iou:.4f}/{score.mae:.4f}/{score.bad:.2f}" for kind, score in table.items()
    )
    print(f"step {state.step} IoU-MAE {mean:.4f}: {kinds}", flush=True)
    if mean > state.best:
        state.best = mean
        save_weights(state.mean, out / "best.npz")
    save_weights(state.mean, out / "last.npz")
    state.save(out / "state.pt")


@torch.no_grad()
def _follow(mean: MattingNet, net: MattingNet, decay: float) -> None:
    """Move the running mean of all weights and batch-norm statistics towards `net`."""
    for kept, new in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


if __name__ == "__main__":
    main()
