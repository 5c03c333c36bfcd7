"""What a second model mends and costs: python -m tests.benchmarks.second_opinion --pairs FOLDER.

`--pairs` as `matting models verify` takes them. Where `worth/NAME.png` beside `alphas/NAME.png` is
0, nobody knows the truth, and the pixel does not count. Each photo goes through the pipeline of the
worker twice, without and with the second model. A cut-out is bad below `--least-iou`. Time is CPU
time of the whole pipeline, so a busy machine changes little. Photos named KIND-NAME are also scored
by kind.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.models.verify import find_pairs, read_true_alpha
from shared.options import Options
from shared.settings import Settings
from tests.benchmarks.report import report
from worker.inference.predictor import load_predictor
from worker.inference.tuning import batch_sizes
from worker.pipeline.pipeline import Outcome, Pipeline, WorkItem
from worker.pipeline.second_opinions import SecondOpinions
from worker.pipeline.work_items import requested_outputs
from worker.training.metrics import score

LEAST_IOU = 0.9


class Folder:
    """Photos from files; mattes kept in memory."""

    def __init__(self) -> None:
        self.mattes: dict[str, bytes] = {}

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """The photo."""
        return Path(key).read_bytes()

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Keep the matte."""
        self.mattes[key] = data


def run(
    pipeline: Pipeline, store: Folder, photos: Sequence[Path], second: str
) -> tuple[list[Outcome], float]:
    """The outcome of each photo, and the CPU seconds of all."""
    options = Options.model_validate({"output": "alpha", "second_model": second})
    items = [
        WorkItem(
            item_id=str(photo),
            bucket="",
            key=str(photo),
            options=options,
            outputs=requested_outputs(options, [str(photo)]),
        )
        for photo in photos
    ]
    started = time.process_time()
    outcomes = [
        one for at in range(0, len(items), 8) for one in pipeline.run_many(items[at : at + 8])
    ]
    return outcomes, time.process_time() - started


def known_pixels(truth: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """1 where the truth [H, W] is known, 0 elsewhere."""
    worth = cv2.imread(str(truth.parents[1] / "worth" / truth.name), cv2.IMREAD_GRAYSCALE)
    if worth is None:
        return np.ones(shape[:2], np.float32)
    return (cv2.resize(worth, (shape[1], shape[0])) > 0).astype(np.float32)


def by_kind(
    names: Sequence[str], ious: Sequence[float], bad: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    """Number of photos, mean IoU and number of bad ones for each KIND of the names KIND-NAME."""
    kinds = np.array([name.split("-")[0] for name in names])
    return {
        str(kind): {
            "photos": int((kinds == kind).sum()),
            "iou": round(float(np.array(ious)[kinds == kind].mean()), 4),
            "bad": int(bad[kinds == kind].sum()),
        }
        for kind in np.unique(kinds)
    }


def main() -> None:
    """Headline: bad cut-outs with the second model, as a share of those without."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--second", default="u2netp")
    parser.add_argument("--least-iou", type=float, default=LEAST_IOU)
    parser.add_argument("--every", type=int, default=1, help="Take each so-many-th photo.")
    arguments = parser.parse_args()
    pairs = find_pairs(arguments.pairs)[:: arguments.every]
    settings = batch_sizes(Settings(log_level="ERROR", second_model=arguments.second))
    first = load_predictor(settings)
    second = load_predictor(settings.model_copy(update={"model": arguments.second}))
    store = Folder()
    seconds = SecondOpinions(settings, {arguments.second: second}.get)
    found: dict[str, dict[str, Any]] = {}
    with closing(Pipeline(first, store, settings, second=seconds)) as pipeline:
        for name in ("none", arguments.second):
            outcomes, cpu_s = run(pipeline, store, [photo for photo, _ in pairs], name)
            ious = []
            for photo, truth in pairs:
                matte = cv2.imdecode(np.frombuffer(store.mattes[str(photo)], np.uint8), 0)
                assert matte is not None
                alpha = (matte / np.float32(255)).astype(np.float32)
                known = known_pixels(truth, matte.shape)
                true_alpha = read_true_alpha(truth, matte.shape)
                ious.append(score(alpha * known, true_alpha * known).iou)
            bad = np.array(ious) < arguments.least_iou
            marked = np.array([bool(one.review) for one in outcomes])
            found[name] = {
                "iou": round(float(np.mean(ious)), 4),
                "bad": int(bad.sum()),
                "marked": int(marked.sum()),
                "bad_not_marked": int((bad & ~marked).sum()),
                "by_second": sum(one.model == arguments.second for one in outcomes),
                "cpu_ms_a_photo": round(cpu_s * 1e3 / len(pairs), 1),
                "kinds": by_kind([photo.stem for photo, _ in pairs], ious, bad),
            }
    first.close()
    second.close()
    before, after = found["none"], found[arguments.second]
    report(
        "second_opinion",
        after["bad"] / max(1, before["bad"]),
        target="<= 0.5 at 1.5 times the CPU time",
        unit="of the bad cut-outs are left",
        details={
            "photos": len(pairs),
            "times_the_cpu": round(after["cpu_ms_a_photo"] / before["cpu_ms_a_photo"], 2),
            "asked_share": round(before["marked"] / len(pairs), 3),
            "found": found,
        },
    )


if __name__ == "__main__":
    main()
