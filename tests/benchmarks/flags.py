"""How well the review measures find bad cut-outs: python -m tests.benchmarks.flags.

`--photos FOLDER --labels FILE.csv` uses a person's verdicts (columns file; label: good or bad;
wrong: what is wrong). `--pairs FOLDER` (the same layout as for `matting models verify`) and
`--training FOLDER` (held-out figures, and composites of them) count a result as bad if its IoU is
below `--least-iou`. `--sheets OUT` draws pages of before | after with numbers, for labelling.
Labels judge the results of one model. Other weights need new labels.
"""

import argparse
import csv
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.models.verify import find_pairs, read_true_alpha
from shared.errors import MattingError
from shared.jobs import Reason
from shared.options import Options, Profile
from shared.settings import Settings
from tests.benchmarks.report import report
from tests.benchmarks.sheets import write_sheets
from worker.imaging.arrays import Image
from worker.imaging.decoding import DecodedImage, decode
from worker.imaging.finishing import matte_of
from worker.imaging.matte_metrics import MatteMetrics, measure
from worker.imaging.review import ReviewInput, review_measured
from worker.inference.predictor import Predictor, load_predictor
from worker.training.compose import compose
from worker.training.metrics import score
from worker.training.sources import load_sources

COMPOSITES = 150
LEAST_IOU = 0.9

RANKING = ("soft", "alike", "hidden", "cut", "parts", "coverage")
"""Measures that rank photos on their own; larger is worse. The ranking shows which
thresholds pay.
"""


@dataclass(frozen=True)
class Judged:
    """The product's verdict on one photo, and the true one."""

    name: str
    bad: bool
    wrong: str
    """What is wrong, in the words of the person who labelled it."""
    reasons: Sequence[Reason]
    metrics: MatteMetrics
    spent_ms: float
    """CPU time of the review, including the prediction of the mirrored photo."""


@dataclass(frozen=True)
class Case:
    """A photo and what is known about it."""

    name: str
    decoded: DecodedImage
    bad: bool | None = None
    wrong: str = ""
    truth: NDArray[np.float32] | None = None
    """The true alpha [H, W] in 0..1."""


def labelled(folder: Path, labels: Path, settings: Settings) -> Iterator[Case]:
    """Read the photos that the labels name."""
    with labels.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            path = folder / row["file"]
            if path.is_file():
                decoded = decode(path.read_bytes(), settings)
                yield Case(row["file"], decoded, row["label"] == "bad", row.get("wrong") or "")


def pairs(folder: Path, settings: Settings) -> Iterator[Case]:
    """Read photos with true alphas."""
    for photo, alpha in find_pairs(folder):
        decoded = decode(photo.read_bytes(), settings)
        yield Case(photo.name, decoded, truth=read_true_alpha(alpha, decoded.image.shape[:2]))


def held_out(root: Path) -> Iterator[Case]:
    """The held-out figures, and composites with exact alpha made of them."""
    sources = load_sources(root, None, held_out=True)
    sources.figures = sources.held_out
    for photo in sources.held_out:
        truth = (photo.mask / np.float32(255)).astype(np.float32)
        yield Case(photo.name, _as_decoded(photo.image), truth=truth)
    rng = np.random.default_rng(2_026)
    for number in range(COMPOSITES):
        sample = compose(rng, sources, 512, 448, only_pasted="products")
        yield Case(f"composite-{number:03}", _as_decoded(sample.image), truth=sample.alpha)


def _as_decoded(image: Image) -> DecodedImage:
    return DecodedImage(image, image.shape[1], image.shape[0])


def judge(
    cases: Iterable[Case], predictor: Predictor, settings: Settings, least_iou: float
) -> Iterator[tuple[Judged, Image, Image]]:
    """Run the worker's steps. Yields each case with its photo [H, W, 3] and its matte [H, W]."""
    for case in cases:
        image = case.decoded.image
        prepared = predictor.prepare(image, Profile.FAST)
        (alpha,) = predictor.predict_many([prepared])
        if isinstance(alpha, MattingError):
            raise alpha
        matte = matte_of(case.decoded, prepared, alpha, Options())
        bad = case.bad
        if case.truth is not None:
            ours = (matte / np.float32(255)).astype(np.float32)
            bad = score(ours, case.truth).iou < least_iou
        side_px = min(case.decoded.width, case.decoded.height)
        started = time.thread_time()
        seen = ReviewInput(alpha, prepared, side_px)
        (reviewed,) = review_measured([seen], [measure(*seen)], predictor.predict_many, settings)
        spent_ms = (time.thread_time() - started) * 1e3
        metrics = measure(*seen)
        yield (
            Judged(case.name, bool(bad), case.wrong, reviewed.reasons, metrics, spent_ms),
            image,
            matte,
        )


def precision_recall(flagged: NDArray[np.bool_], bad: NDArray[np.bool_]) -> dict[str, float]:
    """Precision: the share of bad ones among the flagged. Recall: the share of flagged ones among
    the bad.
    """
    hits = int((flagged & bad).sum())
    return {
        "flagged": int(flagged.sum()),
        "precision": round(hits / max(1, int(flagged.sum())), 3),
        "recall": round(hits / max(1, int(bad.sum())), 3),
    }


def average_precision(scores: NDArray[np.float64], bad: NDArray[np.bool_]) -> float:
    """The mean of the precision at each bad photo, most doubtful first (area under the curve)."""
    ranked = bad[np.argsort(-scores, kind="stable")]
    precisions = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precisions[ranked].mean()) if ranked.any() else 0.0


def summary(judged: Sequence[Judged]) -> dict[str, Any]:
    """Precision and recall overall and by reason, the ranking quality of each measure, and missed
    photos.
    """
    bad = np.array([one.bad for one in judged])
    by_reason = {
        reason.value: precision_recall(np.array([reason in one.reasons for one in judged]), bad)
        for reason in Reason
    }
    return {
        "images": len(judged),
        "bad": int(bad.sum()),
        "overall": precision_recall(np.array([bool(one.reasons) for one in judged]), bad),
        "by_reason": {name: row for name, row in by_reason.items() if row["flagged"]},
        "average_precision": {
            name: round(average_precision(np.array(values), bad), 3)
            for name in RANKING
            if (values := [float(getattr(one.metrics, name)) for one in judged])
        },
        "missed": [
            f"{one.name}: {one.wrong}" if one.wrong else one.name
            for one in judged
            if one.bad and not one.reasons
        ],
        "review_cpu_ms_an_image": round(float(np.median([one.spent_ms for one in judged])), 2),
    }


def main() -> None:
    """Headline: recall of the bad results."""
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--photos", type=Path)
    source.add_argument("--pairs", type=Path)
    source.add_argument("--training", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--least-iou", type=float, default=LEAST_IOU)
    parser.add_argument("--sheets", type=Path)
    arguments = parser.parse_args()
    settings = Settings(log_level="ERROR")
    if arguments.photos:
        if arguments.labels is None:
            parser.error("--photos needs --labels")
        cases = labelled(arguments.photos, arguments.labels, settings)
    elif arguments.pairs:
        cases = pairs(arguments.pairs, settings)
    else:
        cases = held_out(arguments.training)
    cv2.setNumThreads(1)
    predictor = load_predictor(settings)
    judged: list[Judged] = []
    shown: list[tuple[str, Image, Image]] = []
    for one, image, matte in judge(cases, predictor, settings, arguments.least_iou):
        judged.append(one)
        if arguments.sheets:
            shown.append((f"{len(judged) - 1} {one.name} {' '.join(one.reasons)}", image, matte))
    predictor.close()
    if arguments.sheets:
        write_sheets(arguments.sheets, shown)
    details = summary(judged)
    groups = {"composites": True, "figures": False} if arguments.training else {}
    for name, drawn in groups.items():
        part = [one for one in judged if one.name.startswith("composite-") is drawn]
        details[name] = {key: summary(part)[key] for key in ("images", "bad", "overall")}
    report(
        "flags",
        details["overall"]["recall"],
        target=">= 0.8 at a precision of 0.5",
        unit="recall of the bad",
        details={"model": predictor.describe()["fingerprint"], **details},
    )


if __name__ == "__main__":
    main()
