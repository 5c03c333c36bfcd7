"""The steps of `Deploy.postprocess` in deploy.yaml, which convert a network's answer to an alpha.

PaddleSeg's exports need none. Other networks answer with logits, or with values whose scale has no
meaning.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shared.errors import UnsupportedTransformError

Alphas = NDArray[np.float32]
"""[N, H, W]."""


def sigmoid(answers: Alphas) -> Alphas:
    """1 / (1 + exp(-x)), computed with tanh, which does not overflow."""
    alphas: Alphas = np.float32(0.5) + np.float32(0.5) * np.tanh(answers * np.float32(0.5))
    return alphas


LEAST_SPAN = 0.3
"""A network of the U²-Net family answers with probabilities. On photos with a subject they reach
0.99; on plain grounds, brick and asphalt 0.002 to 0.16. A smaller span than this is not stretched,
because that would make a subject out of noise."""


def stretch(answers: Alphas) -> Alphas:
    """Scale each photo's smallest value to 0 and its largest to 1, where they differ by LEAST_SPAN;
    else the smallest value becomes 0.
    """
    least = answers.min((1, 2), keepdims=True)
    span = answers.max((1, 2), keepdims=True) - least
    alphas: Alphas = (answers - least) / np.where(span >= LEAST_SPAN, span, np.float32(1))
    return alphas


POSTPROCESS: dict[str, Callable[[Alphas], Alphas]] = {"Sigmoid": sigmoid, "Stretch": stretch}
"""The steps that `Deploy.postprocess` may name; each converts an answer to alphas in 0..1."""


def checked_postprocess(steps: object) -> tuple[str, ...]:
    """Validate `Deploy.postprocess`, a list of `{type: NAME}`; returns the names. Raises
    UnsupportedTransformError for anything else.
    """
    if not isinstance(steps, list | tuple):
        raise UnsupportedTransformError("postprocess in deploy.yaml is not a list")
    for step in steps:
        if not isinstance(step, dict) or [*step] != ["type"] or step["type"] not in POSTPROCESS:
            known = ", ".join(POSTPROCESS)
            raise UnsupportedTransformError(f"postprocess has {step!r}; there are {known}")
    return tuple(str(step["type"]) for step in steps)
