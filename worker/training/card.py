"""The test card as a network input. It shows whether two copies of the weights compute the same."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.inference.testcard import testcard

CARD = "card"
"""Key of the network's answer [1, 1, H, W] to the card in a file of weights."""

CARD_SIZE = (384, 288)
"""Height and width of the card during the check."""


def read_card(height: int, width: int) -> NDArray[Any]:
    """Read the card as [1, 3, height, width], float32 in -1..1."""
    small = cv2.resize(testcard(), (width, height), interpolation=cv2.INTER_AREA)
    card: NDArray[Any] = small.transpose(2, 0, 1)[None].astype(np.float32)
    return card / np.float32(127.5) - np.float32(1)
