"""Flicker of mattes before and after smoothing: python -m tests.benchmarks.flicker.

Products with exact alpha are drawn (or cut-outs with transparency read from a folder) and move over
moving grounds, with a camera's noise. The error is the mean difference from the true alpha. Flicker
is the mean change of the error from one frame to the next, at the same point of the subject: along
its true motion (as MESSDdt of Erofeev et al., "Perceptually motivated benchmark for video matting",
BMVC 2015). At a fixed pixel an error that only moves with the subject would count as a change; that
figure is given too.
"""

import argparse
import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from shared.options import Options, Profile
from shared.settings import Settings
from tests.benchmarks.moving import Scene, drawn_scenes, scenes_of
from tests.benchmarks.report import report
from worker.imaging.arrays import Alpha, Image
from worker.imaging.decoding import DecodedImage
from worker.imaging.finishing import matte_of
from worker.inference.predictor import Predictor, load_predictor
from worker.video.matting import Steps, content_input, grey_of
from worker.video.steady import Sight, steadied

NEAR_PX = 15
"""Around the subject the error moves with it; farther away it stays."""


def measure(scene: Scene, predictor: Predictor) -> list[list[float]]:
    """Error, flicker, and flicker at fixed pixels of a scene's mattes, each without and with
    smoothing.
    """
    options = Options()
    prepared = [predictor.prepare(frame, Profile.FAST) for frame in scene.frames]
    alphas = [a for a in predictor.predict_many(prepared) if isinstance(a, np.ndarray)]
    assert len(alphas) == len(prepared)
    sights = [
        Sight(one.without_padding(alpha), grey_of(one), index)
        for index, (one, alpha) in enumerate(zip(prepared, alphas, strict=True))
    ]
    with ThreadPoolExecutor(2) as threads:
        steady = [one.alpha for one in steadied(sights, threads, depth=2)]
    errors: list[float] = []
    flickers: list[float] = []
    fixed: list[float] = []
    for series in ([sight.alpha for sight in sights], steady):
        off = [
            _matte(frame, one.steps, alpha, options) - true
            for frame, one, alpha, true in zip(
                scene.frames, prepared, series, scene.alphas, strict=True
            )
        ]
        errors.append(float(np.mean([np.abs(one).mean() for one in off])))
        fixed.append(float(np.mean([np.abs(b - a).mean() for a, b in itertools.pairwise(off)])))
        changes = [_change(scene, off, frame) for frame in range(1, len(off))]
        flickers.append(float(np.mean(changes)))
    return [errors, flickers, fixed]


def _change(scene: Scene, off: list[Alpha], frame: int) -> float:
    """The change of the error from the frame before, along the subject's motion."""
    here, there = (np.vstack([scene.places[at], [0, 0, 1]]) for at in (frame, frame - 1))
    way = (here @ np.linalg.inv(there))[:2]
    height, width = off[frame].shape
    moved = cv2.warpAffine(off[frame - 1], way, (width, height), borderMode=cv2.BORDER_REPLICATE)
    around = np.ones((2 * NEAR_PX + 1, 2 * NEAR_PX + 1), np.uint8)
    near = cv2.dilate((scene.alphas[frame] > 0.01).astype(np.uint8), around) > 0
    before = np.where(near, moved, off[frame - 1])
    return float(np.abs(off[frame] - before).mean())


def _matte(frame: Image, steps: Steps, alpha: Alpha, options: Options) -> Alpha:
    height, width = frame.shape[:2]
    decoded = DecodedImage(frame, width, height)
    matte = matte_of(decoded, content_input(steps), alpha, options)
    return (matte / np.float32(255)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, help="folder of cut-outs with transparency")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--first", type=int, default=0, help="number of the first scene")
    parser.add_argument("--frames", type=int, default=16)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    make = scenes_of(arguments.photos) if arguments.photos else drawn_scenes()
    with closing(load_predictor(Settings(log_level="ERROR"), warm_shapes=False)) as predictor:
        numbers = range(arguments.first, arguments.first + arguments.scenes)
        rows = [measure(make(number, arguments.frames), predictor) for number in numbers]
    errors = np.array([row[0] for row in rows])
    flickers = np.array([row[1] for row in rows])
    fixed = np.array([row[2] for row in rows])
    report(
        "flicker",
        float(flickers[:, 1].mean() / flickers[:, 0].mean()),
        target="<= 0.5",
        unit="ratio",
        details={
            "flicker_before": round(float(flickers[:, 0].mean()), 5),
            "flicker_after": round(float(flickers[:, 1].mean()), 5),
            "error_before": round(float(errors[:, 0].mean()), 5),
            "error_after": round(float(errors[:, 1].mean()), 5),
            "at_fixed_pixels": round(float(fixed[:, 1].mean() / fixed[:, 0].mean()), 3),
            "by_scene": [round(float(b / a), 3) for a, b in flickers],
            "error_by_scene": [round(float(b / a), 3) for a, b in errors],
            "scenes": arguments.scenes,
            "frames": arguments.frames,
        },
    )


if __name__ == "__main__":
    main()
