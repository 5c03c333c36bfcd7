"""Reads the weights of an exported bundle back into a .npz from which training can continue.

python -m worker.training.from_bundle --bundle worker/bundles/builtin --out FILE.npz
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import static
from paddle.pir_utils import OldIrGuard
from paddle.utils import unique_name

from worker.training.card import CARD, CARD_SIZE, read_card
from worker.training.export import MattingNet, infer
from worker.training.last_layer import by_pixels

Arrays = dict[str, NDArray[Any]]


def read_bundle(folder: Path) -> Arrays:
    """Read the network's arrays under PyTorch's names.

    The key `card` holds the bundle's answer [1, 1, H, W] to the test card, so a reader can check
    the weights. The file uses the names that Paddle gave the arrays in their order of creation. So
    this function creates the same network again to match them. Raises ValueError when the bundle
    holds another network.
    """
    with unique_name.guard():
        parts = MattingNet().state_dict()
    arrays: Arrays = {}
    for name, stored in _stored_arrays(
        folder, {part.name: part for part in parts.values()}
    ).items():
        key = next(key for key, part in parts.items() if part.name == name)
        arrays[torch_name(key)] = stored
    last = arrays["head.1.weight"], arrays["head.1.bias"]
    arrays["head.1.weight"], arrays["head.1.bias"] = by_pixels(*last)
    arrays[CARD] = infer(folder, read_card(*CARD_SIZE), onednn=False)
    return arrays


def torch_name(name: str) -> str:
    """PyTorch's name for an array of Paddle's network. Batch norm's statistics are renamed."""
    if name.endswith("._mean"):
        return name.removesuffix("_mean") + "running_mean"
    return name.removesuffix("_variance") + "running_var" if name.endswith("._variance") else name


def _stored_arrays(folder: Path, parts: dict[str, Any]) -> Arrays:
    """Read the bundle's arrays by their names in the file. Raises ValueError unless names and
    shapes are exactly those of `parts`.
    """
    paddle.enable_static()
    try:
        scope = static.Scope()
        with OldIrGuard(), static.scope_guard(scope):
            program, *_ = static.load_inference_model(
                str(folder / "model"), static.Executor(paddle.CPUPlace())
            )
            stored = {
                var.name: np.array(scope.find_var(var.name).get_tensor())
                for var in program.list_vars()
                if var.persistable and var.name not in ("feed", "fetch")
            }
    finally:
        paddle.disable_static()
    shapes = {name: tuple(array.shape) for name, array in stored.items()}
    wanted = {name: tuple(part.shape) for name, part in parts.items()}
    if shapes != wanted:
        differing = sorted(set(shapes.items()) ^ set(wanted.items()))
        raise ValueError(f"{folder} holds another network: {differing[:4]} …")
    return stored


def main() -> None:
    """Write the .npz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arrays: dict[str, Any] = read_bundle(arguments.bundle)
    np.savez(arguments.out, **arrays)


if __name__ == "__main__":
    main()
