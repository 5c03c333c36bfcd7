"""Weights between those of two runs: python -m worker.training.average --first A.npz --second B.npz
--share 0.65 --out C.npz.

Runs that went on from one another end in one valley, where the mean is often better than both
(model soups, Wortsman et al. 2022, arXiv:2203.05482).
"""

import argparse
from pathlib import Path

import torch

from worker.training.network import MattingNet
from worker.training.weights import load_weights, save_weights


def main() -> None:
    """Mix and save; the answer to the test card is that of the mixture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=Path, required=True)
    parser.add_argument("--second", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.5, help="of the second, 0 to 1")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    first, second = MattingNet(), MattingNet()
    load_weights(first, arguments.first)
    load_weights(second, arguments.second)
    other = second.state_dict()
    with torch.no_grad():
        for name, value in first.state_dict().items():
            if value.is_floating_point():
                value.lerp_(other[name], arguments.share)
    save_weights(first.eval(), arguments.out)


if __name__ == "__main__":
    main()
