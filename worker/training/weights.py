"""Trained weights as a plain .npz: what PyTorch trained, Paddle reads, with no pickle between."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from worker.inference.testcard import testcard

CARD_SIZE = (384, 288)
"""Height and width at which the check is made."""


def card_tensor() -> torch.Tensor:
    """The test card as a network input [1, 3, 384, 288] in -1..1."""
    import cv2

    small = cv2.resize(testcard(), CARD_SIZE[::-1], interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small).permute(2, 0, 1)[None].float().div(127.5).sub(1)


def save_weights(net: nn.Module, path: Path) -> None:
    """Write every array, and what the network makes of the test card."""
    was_training = net.training
    net.eval()
    with torch.no_grad():
        card = torch.sigmoid(net(card_tensor())[0]).numpy()
    net.train(was_training)
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    np.savez(path, **arrays, card=card)


def load_weights(net: nn.Module, path: Path) -> None:
    """Read them back. Raises RuntimeError when they are of another network."""
    with np.load(path) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != "card"}
    net.load_state_dict(state)
