"""How well the option `subject` finds what is meant: python -m tests.benchmarks.subjects.

Composites of two cut-outs side by side, from `--cutouts FOLDER` (PNG files with alpha) on
`--grounds FOLDER`. Counted are the subjects that are found (IoU 0.9) when they stand there alone:
how many of them are found between two, without the option, by a box, and by two points.
"""

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.options import Options
from shared.settings import Settings
from tests.benchmarks.report import report
from worker.imaging.arrays import Alpha, Image
from worker.inference.predictor import Predictor, load_predictor
from worker.inference.tuning import batch_sizes
from worker.pipeline.pipeline import Pipeline, WorkItem
from worker.pipeline.second_opinions import SecondOpinions
from worker.pipeline.work_items import requested_outputs

HEIGHT, WIDTH = 600, 900
FOUND = 0.9
JITTER = 0.02
"""How far a side of a drawn box lies from the true one, as a share of the photo."""

Cutout = tuple[Image, Alpha]


class Memory:
    """Photos in, mattes out."""

    def __init__(self) -> None:
        self.photo, self.matte = b"", b""

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """The photo."""
        return self.photo

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Keep the matte."""
        self.matte = data


def read_cutout(path: Path) -> Cutout | None:
    """Colours [H, W, 3] RGB and alpha [H, W] of what is visible; None if there is no alpha."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        return None
    rows, columns = np.nonzero(image[..., 3] > 25)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    alpha = (image[..., 3] / np.float32(255)).astype(np.float32)
    return image[box][..., 2::-1].astype(np.uint8), alpha[box]


def paste(ground: Image, cutout: Cutout, left: float, size: float) -> tuple[Image, Alpha]:
    """The ground with the cut-out in the half that begins at `left`, and its alpha [H, W]."""
    colours, alpha = cutout
    scale = size * min(HEIGHT / alpha.shape[0], WIDTH / 2 / alpha.shape[1])
    side = max(1, int(alpha.shape[1] * scale)), max(1, int(alpha.shape[0] * scale))
    colours = cv2.resize(colours, side, interpolation=cv2.INTER_AREA).astype(np.uint8)
    alpha = cv2.resize(alpha, side, interpolation=cv2.INTER_AREA).astype(np.float32)
    top = (HEIGHT - side[1]) // 2
    first = int(left * WIDTH + (WIDTH / 2 - side[0]) / 2)
    whole = np.zeros((HEIGHT, WIDTH), np.float32)
    place = np.s_[top : top + side[1], first : first + side[0]]
    whole[place] = alpha
    image = ground.astype(np.float32)
    image[place] = colours * alpha[..., None] + image[place] * (1 - alpha[..., None])
    return np.rint(image).astype(np.uint8), whole


def box_of(alpha: Alpha, rng: np.random.Generator) -> list[float]:
    """A box as a person draws it, in fractions of the photo."""
    rows, columns = np.nonzero(alpha > 0.5)
    exact = [
        columns.min() / WIDTH,
        rows.min() / HEIGHT,
        (columns.max() + 1) / WIDTH,
        (rows.max() + 1) / HEIGHT,
    ]
    return [float(np.clip(side + rng.uniform(-JITTER, JITTER), 0, 1)) for side in exact]


def inner_point(alpha: Alpha) -> tuple[float, float]:
    """The point that lies deepest inside, as a person would choose one."""
    depth = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float((column + 0.5) / WIDTH), float((row + 0.5) / HEIGHT)


def iou(matte: NDArray[np.uint8], truth: Alpha) -> float:
    """IoU of the masks at 0.5."""
    ours, true = matte > 127, truth > 0.5
    return float((ours & true).sum() / max(1, (ours | true).sum()))


class Measured:
    """The pipeline with both shipped models."""

    def __init__(self, pipeline: Pipeline, memory: Memory) -> None:
        self._pipeline, self._memory = pipeline, memory

    def iou(self, image: Image, truth: Alpha, subject: dict[str, Any] | None) -> float:
        """Of the matte that a customer gets."""
        options = Options.model_validate({"output": "alpha", "subject": subject})
        self._memory.photo = bytes(cv2.imencode(".png", image[..., ::-1])[1])
        item = WorkItem(
            item_id="1",
            bucket="",
            key="photo",
            options=options,
            outputs=requested_outputs(options, ["matte"]),
        )
        (outcome,) = self._pipeline.run_many([item])
        if outcome.error is not None:
            raise outcome.error
        matte = cv2.imdecode(np.frombuffer(self._memory.matte, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert matte is not None
        return iou(matte.astype(np.uint8), truth)


def main() -> None:
    """Headline: share of the subjects found alone that a box finds, too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cutouts", type=Path, required=True)
    parser.add_argument("--grounds", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=60)
    arguments = parser.parse_args()
    cutouts = [
        one for path in sorted(arguments.cutouts.glob("*.png")) if (one := read_cutout(path))
    ]
    grounds = sorted(arguments.grounds.glob("*"))
    rng = np.random.default_rng(7)
    settings = batch_sizes(Settings(log_level="ERROR"))
    models: dict[str, Predictor] = {
        name: load_predictor(settings.model_copy(update={"model": name}))
        for name in settings.served_models
    }
    memory = Memory()
    seconds = SecondOpinions(settings, models.get)
    found: dict[str, list[float]] = {"none": [], "box": [], "points": []}
    alone = 0
    with closing(Pipeline(models[settings.model], memory, settings, second=seconds)) as pipeline:
        measured = Measured(pipeline, memory)
        for _ in range(arguments.pairs):
            read = cv2.imread(str(grounds[rng.integers(len(grounds))]))
            assert read is not None
            ground = cv2.resize(read[..., ::-1], (WIDTH, HEIGHT)).astype(np.uint8)
            chosen = [cutouts[int(one)] for one in rng.choice(len(cutouts), 2, replace=False)]
            sizes = rng.uniform(0.6, 0.9, 2)
            first, truth = paste(ground, chosen[0], 0, sizes[0])
            both, other = paste(first, chosen[1], 0.5, sizes[1])
            if measured.iou(first, truth, None) < FOUND:
                continue
            alone += 1
            points = [[*inner_point(truth), 1], [*inner_point(other), 0]]
            asked = {"none": None, "box": {"box": box_of(truth, rng)}, "points": {"points": points}}
            for name, subject in asked.items():
                found[name].append(measured.iou(both, truth, subject))
    for model in models.values():
        model.close()
    share = {name: float(np.mean([one >= FOUND for one in row])) for name, row in found.items()}
    report(
        "subjects",
        round(share["box"], 3),
        target=">= 0.95",
        unit="of the subjects found alone",
        details={
            "pairs": arguments.pairs,
            "found_alone": alone,
            "found": {name: round(one, 3) for name, one in share.items()},
            "mean_iou": {name: round(float(np.mean(row)), 3) for name, row in found.items()},
        },
    )


if __name__ == "__main__":
    main()
