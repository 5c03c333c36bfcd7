"""From a network's answer to an alpha: the steps of `Deploy.postprocess` in deploy.yaml.

PaddleSeg's exports need none; networks from elsewhere answer with logits, or with values of which
only the order is meant.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shared.errors import UnsupportedTransformError

Alphas = NDArray[np.float32]
"""[N, H, W]."""


def sigmoid(answers: Alphas) -> Alphas:
    """1 / (1 + exp(-x)), by tanh, which overflows nowhere."""
    alphas: Alphas = np.float32(0.5) + np.float32(0.5) * np.tanh(answers * np.float32(0.5))
    return alphas


def stretch(answers: Alphas) -> Alphas:
    """Each photo's least value to 0 and its most to 1; 0 where all are alike."""
    least = answers.min((1, 2), keepdims=True)
    span = answers.max((1, 2), keepdims=True) - least
    alphas: Alphas = (answers - least) / np.where(span > 0, span, np.float32(1))
    return alphas


POSTPROCESS: dict[str, Callable[[Alphas], Alphas]] = {"Sigmoid": sigmoid, "Stretch": stretch}
"""What `Deploy.postprocess` may name: from a network's answer to an alpha of 0..1."""


def checked_postprocess(steps: object) -> tuple[str, ...]:
    """The names in `Deploy.postprocess`, a list of `{type: NAME}`. Raises UnsupportedTransformError
    for anything else.
    """
    if not isinstance(steps, list | tuple):
        raise UnsupportedTransformError("postprocess in deploy.yaml is no list")
    for step in steps:
        if not isinstance(step, dict) or [*step] != ["type"] or step["type"] not in POSTPROCESS:
            known = ", ".join(POSTPROCESS)
            raise UnsupportedTransformError(f"postprocess has {step!r}; there are {known}")
    return tuple(str(step["type"]) for step in steps)
