"""The test card as a network input: what tells whether weights mean the same on both sides."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.inference.testcard import testcard

CARD = "card"
"""Under this name a file of weights holds the network's answer [1, 1, H, W] to the card."""

CARD_SIZE = (384, 288)
"""Height and width at which the check is made."""


def read_card(height: int, width: int) -> NDArray[Any]:
    """The card [1, 3, height, width], float32 in -1..1."""
    small = cv2.resize(testcard(), (width, height), interpolation=cv2.INTER_AREA)
    card: NDArray[Any] = small.transpose(2, 0, 1)[None].astype(np.float32)
    return card / np.float32(127.5) - np.float32(1)
