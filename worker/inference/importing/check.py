"""Compares a bundle with onnxruntime on photos, in a child process, and decides whether it may run
in bf16.

On an unknown graph Paddle can crash in C++; the parent process survives that. The comparison uses
the network's answers: after the sigmoid, if the recipe has one, because logits of ±20 can't be
compared; and before any stretching.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadOnnxError, ImportDisagreesError, MattingError, PredictorError
from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.inference.catalog import Model, read_export
from worker.inference.engine import EnginePlan, Kind, plans
from worker.inference.postprocess import sigmoid
from worker.inference.session import PredictorSession
from worker.inference.transforms import ExactTransforms
from worker.inference.trial import WORST_PERCENTILE

TOLERANCE = 1e-3
HALF_TOLERANCE = 2 / 255
"""Largest allowed difference for weights in fp32 and in fp16. With fp16 weights onnxruntime also
rounds the values between layers to fp16, and the bundle does not.
"""

BF16_MEAN, BF16_WORST = 0.01, 0.1
"""Largest allowed difference of a photo's alphas in bf16: on average, and at the worst thousandth
of the pixels. IS-Net has 0.001 and 0.015. U²-NetP has 0.01 and 0.2 without the marks of
worker.inference.importing.precision, and more on other photos.
"""

BF16_GAIN = 1.1
"""bf16 is used if it is at least so many times as fast."""

BF16_LEAST_S = 0.01
"""A network that is faster than this in fp32 is not tried in bf16: its time can't be measured well,
and there is little to save.
"""

OUTSIDE = 0.05
"""Rounding may put an alpha this far outside 0..1. Values further outside are logits."""

PLAIN_PHOTOS = 2
"""How many photos run with the plain engine, which takes four times as long."""

TIMEOUT_S = 1_800

BF16: Kind = "onednn-bf16"

PREFIX = "difference: "
"""Marks the child's result among the lines that Paddle prints."""

Answers = NDArray[np.float32]


class Difference(NamedTuple):
    """The largest difference of all pixels."""

    single: float
    """When photos run one by one."""
    pair: float
    """When two photos run as a batch."""


class Bf16Result(NamedTuple):
    """bf16 compared with fp32 on this machine."""

    mean: float
    """The mean difference of a photo's alphas, of the photo where it is largest."""
    worst: float
    """The same at the worst thousandth of the pixels."""
    gain: float
    """How many times as fast it is, in CPU time."""

    @property
    def pays(self) -> bool:
        """Whether it is as good and faster."""
        good = self.mean <= BF16_MEAN and self.worst <= BF16_WORST
        return good and self.gain >= BF16_GAIN


@dataclass(frozen=True)
class Agreement:
    """The largest differences between a bundle and onnxruntime, over all pixels of all photos."""

    plain: float
    onednn: float | None
    """None if oneDNN fails on this network. The worker then uses the plain engine."""
    onednn_fails: str | None
    batch: bool
    """Whether a batch of two gives the same answers as single photos."""
    bf16: Bf16Result | None = None
    """None if it was not tried (the network is tiny, or this processor has no instructions for it)
    or fails.
    """

    @property
    def worst(self) -> float:
        """The larger difference of the engines that work."""
        return max(self.plain, self.onednn or 0.0)


def check(
    onnx_file: Path, output: str, folder: Path, photos: Sequence[Image], *, half: bool
) -> Agreement:
    """Run the bundle in `folder` and its ONNX file on `photos` ([H, W, 3] uint8 RGB).

    Raises ImportDisagreesError if the answers differ by more than rounding. Raises BadOnnxError if
    the answer, under the bundle's recipe, is no alpha.
    """
    model = read_export(folder, folder.name)
    transforms = ExactTransforms(model.transforms)
    prepared = np.stack([transforms.prepare(photo).image for photo in photos])
    inputs = transforms.normalisation.apply(prepared)
    truth = _onnxruntime(onnx_file, output, inputs)
    if "Sigmoid" in model.postprocess:
        if truth.min() >= 0 and truth.max() <= 1:
            raise BadOnnxError("The answers are in 0..1 already: import it with --no-sigmoid")
        truth = sigmoid(truth)
    elif truth.min() < -OUTSIDE or truth.max() > 1 + OUTSIDE:
        raise BadOnnxError(
            f"The answers go from {truth.min():.1f} to {truth.max():.1f}: logits? Import it with "
            "--sigmoid"
        )
    plain, onednn, bf16 = _in_a_child(folder, inputs, truth)
    if isinstance(plain, str):
        raise ImportDisagreesError(f"The plain configuration fails on it: {plain}")
    allowed = HALF_TOLERANCE if half else TOLERANCE
    if plain.single > allowed:
        raise ImportDisagreesError(
            f"It differs from onnxruntime by {plain.single:.1e}; {allowed:.1e} are allowed"
        )
    if not isinstance(onednn, str) and onednn.single > allowed:
        onednn = f"it differs by {onednn.single:.1e}"
    best = plain if isinstance(onednn, str) else onednn
    return Agreement(
        plain=plain.single,
        onednn=None if isinstance(onednn, str) else onednn.single,
        onednn_fails=onednn if isinstance(onednn, str) else None,
        batch=not model.one_at_a_time and best.pair <= allowed,
        bf16=None if isinstance(onednn, str) else bf16,
    )


def _onnxruntime(file: Path, output: str, inputs: Answers) -> Answers:
    """Run the ONNX file on one photo at a time. Returns its answers [N, H, W]."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0]
        kind = np.float16 if "float16" in entry.type else np.float32
        answers = [
            session.run([output], {entry.name: one[None].astype(kind)})[0].astype(np.float32)
            for one in inputs
        ]
    except Exception as error:  # onnxruntime has one exception class per status
        raise BadOnnxError(f"onnxruntime fails on {file.name}: {error}") from error
    shape = answers[0].shape
    if len(shape) not in (3, 4) or shape[0] != 1 or (len(shape) == 4 and shape[1] != 1):
        raise BadOnnxError(f"The answer has the shape {shape}; an alpha is [N, 1, H, W]")
    return np.concatenate([one.reshape(1, *shape[-2:]) for one in answers])


def _in_a_child(
    folder: Path, inputs: Answers, truth: Answers
) -> tuple["Difference | str", "Difference | str", "Bf16Result | None"]:
    """The differences of the plain engine and of oneDNN, or for either the reason why it failed;
    and what bf16 gives.
    """
    with tempfile.TemporaryDirectory() as work:
        np.savez(Path(work) / "photos.npz", inputs=inputs, truth=truth)
        command = [sys.executable, "-m", "worker.inference.importing.check", str(folder), work]
        try:
            child = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
            said, last = child.stdout, (child.stderr.strip().splitlines() or [""])[-1]
            ended = f"it crashed with signal {-child.returncode}" if child.returncode < 0 else last
        except subprocess.TimeoutExpired as error:
            said = error.stdout.decode() if isinstance(error.stdout, bytes) else ""
            ended = f"it did not end within {TIMEOUT_S} s"
    lines = (line.partition(PREFIX)[2] for line in said.splitlines() if PREFIX in line)
    found = dict(map(json.loads, lines))

    def difference(kind: str) -> Difference | str:
        value = found.get(kind, ended)
        return value if isinstance(value, str) else Difference(*value)

    narrow = found.get(BF16)
    bf16 = Bf16Result(*narrow) if isinstance(narrow, list) else None
    return difference("plain"), difference("onednn"), bf16


def main() -> int:
    """Run all engines in the child process. Print each result as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("work", type=Path)
    arguments = parser.parse_args()
    model = replace(read_export(arguments.folder, "check"), bf16=True)
    with np.load(arguments.work / "photos.npz") as given:
        inputs, truth = given["inputs"], given["truth"]
    known: dict[str, EnginePlan] = {
        plan.kind: plan for plan in plans(Settings(device="cpu"), model, shapes=2)
    }
    fp32_s = 0.0
    for kind, count in (("plain", PLAIN_PHOTOS), ("onednn", len(inputs)), (BF16, len(inputs))):
        if kind not in known or (kind == BF16 and fp32_s < BF16_LEAST_S):
            continue
        found: list[float] | str
        try:
            session = PredictorSession(known[kind], model)
            away, spent_s = _differences(session, inputs[:count], truth[:count], model)
            if kind == BF16:
                mean = max(float(one.mean()) for one in away)
                worst = max(float(np.percentile(one, WORST_PERCENTILE)) for one in away)
                found = [mean, worst, fp32_s / spent_s]
            else:
                pair = _pair(session, inputs[:2], truth[:2], model)
                found = [max(float(one.max()) for one in away), pair]
                fp32_s = spent_s
            del session
            gc.collect()
        except MattingError as error:
            found = error.detail
        sys.stdout.write(f"\n{PREFIX}{json.dumps([kind, found])}\n")
        sys.stdout.flush()
    return 0


def _differences(
    session: PredictorSession, inputs: Answers, truth: Answers, model: Model
) -> tuple[list[Answers], float]:
    """The differences [H, W] of single photos, and the shortest CPU time of a photo."""
    away, spent_s = [], []
    for photo, exact in zip(inputs, truth, strict=True):
        started = time.process_time()
        answer = _answer(session, photo[None], model)[0]
        spent_s.append(time.process_time() - started)
        away.append(np.abs(answer - exact))
    return away, min(spent_s)


def _pair(session: PredictorSession, inputs: Answers, truth: Answers, model: Model) -> float:
    """The largest difference of two photos that run as a batch; 0 if there is only one."""
    if model.one_at_a_time or len(inputs) < 2:
        return 0.0
    try:
        return float(np.abs(_answer(session, inputs, model) - truth).max())
    except PredictorError:
        return float("inf")  # the network takes one photo at a time


def _answer(session: PredictorSession, batch: Answers, model: Model) -> Answers:
    answer = session.forward(batch)
    return sigmoid(answer) if "Sigmoid" in model.postprocess else answer


if __name__ == "__main__":
    sys.exit(main())
