"""Trained weights as a plain .npz: what PyTorch trained, Paddle reads, with no pickle between."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from worker.training.card import CARD, CARD_SIZE, read_card

TRAINING_ONLY = ("coarse.", "num_batches_tracked")
"""Parts of names that no bundle holds: the coarse stage is there for the loss alone."""

TOLERANCE = 1e-4
"""Most that alpha may differ between what wrote the weights and what reads them."""


def save_weights(net: nn.Module, path: Path) -> None:
    """Write every array, and what the network makes of the test card."""
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    np.savez(path, **arrays, **{CARD: answer(net)})


def load_weights(net: nn.Module, path: Path) -> None:
    """Read them back, or what from_bundle.py wrote: then the coarse stage begins at zero. Raises
    RuntimeError when they are of another network, or do not answer the test card as stored.
    """
    with np.load(path) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != CARD}
        card = arrays[CARD]
    for name, value in net.state_dict().items():
        if name not in state and any(part in name for part in TRAINING_ONLY):
            state[name] = torch.zeros_like(value)
    net.load_state_dict(state)
    difference = float(np.abs(answer(net) - card).max())
    if difference > TOLERANCE:
        raise RuntimeError(f"{path}: alpha of the test card differs by {difference:.1e}")


@torch.no_grad()
def answer(net: nn.Module) -> NDArray[np.float32]:
    """The alpha [1, 1, H, W] of the test card, in 0..1."""
    was_training = net.training
    net.eval()
    alpha: NDArray[np.float32] = torch.sigmoid(
        net(torch.from_numpy(read_card(*CARD_SIZE)))[0]
    ).numpy()
    net.train(was_training)
    return alpha
