"""Stores trained weights as a plain .npz file, which PyTorch and Paddle read without pickle."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from worker.training.card import CARD, CARD_SIZE, read_card

TRAINING_ONLY = ("coarse.", "num_batches_tracked")
"""Name parts of arrays that bundles don't hold. The coarse stage exists only for the loss."""

TOLERANCE = 1e-4
"""Largest allowed difference in alpha between the network that wrote the weights and the one that
read them.
"""


def save_weights(net: nn.Module, path: Path) -> None:
    """Write all arrays, and the network's answer to the test card."""
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    np.savez(path, **arrays, **{CARD: answer(net)})


def load_weights(net: nn.Module, path: Path) -> None:
    """Load weights that save_weights or from_bundle.py wrote.

    A bundle has no coarse stage; it starts at zero. Raises RuntimeError if the weights belong to
    another network, or if the answer to the test card differs from the stored one.
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
    """The network's alpha [1, 1, H, W] in 0..1 for the test card."""
    was_training = net.training
    net.eval()
    alpha: NDArray[np.float32] = torch.sigmoid(
        net(torch.from_numpy(read_card(*CARD_SIZE)))[0]
    ).numpy()
    net.train(was_training)
    return alpha
