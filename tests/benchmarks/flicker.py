"""Flicker of mattes before and after smoothing: python -m tests.benchmarks.flicker.

Products with exact alpha are drawn (or cut-outs with transparency read from a folder) and move over
moving grounds, with a camera's noise. Flicker is the mean change of the error from one frame to the
next; the error is the mean difference from the true alpha. Both at the frames' size.
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
from worker.imaging.arrays import Alpha
from worker.imaging.decoding import DecodedImage
from worker.imaging.finishing import matte_of
from worker.inference.predictor import Predictor, load_predictor
from worker.video.matting import content_input, grey_of
from worker.video.steady import Sight, steadied


def measure(scene: Scene, predictor: Predictor) -> tuple[list[float], list[float]]:
    """Error and flicker of a scene's mattes, each without and with smoothing."""
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
    for series in ([sight.alpha for sight in sights], steady):
        off = [
            _matte(frame, one.steps, alpha, options) - true
            for frame, one, alpha, true in zip(
                scene.frames, prepared, series, scene.alphas, strict=True
            )
        ]
        errors.append(float(np.mean([np.abs(one).mean() for one in off])))
        changes = [np.abs(b - a).mean() for a, b in itertools.pairwise(off)]
        flickers.append(float(np.mean(changes)))
    return errors, flickers


def _matte(frame: np.ndarray, steps: tuple, alpha: Alpha, options: Options) -> Alpha:  # type: ignore[type-arg]
    height, width = frame.shape[:2]
    decoded = DecodedImage(frame, width, height)
    matte = matte_of(decoded, content_input(steps), alpha, options)
    return (matte / np.float32(255)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, help="folder of cut-outs with transparency")
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--frames", type=int, default=24)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    make = scenes_of(arguments.photos) if arguments.photos else drawn_scenes()
    with closing(load_predictor(Settings(log_level="ERROR"), warm_shapes=False)) as predictor:
        rows = [
            measure(make(number, arguments.frames), predictor) for number in range(arguments.scenes)
        ]
    errors = np.array([row[0] for row in rows])
    flickers = np.array([row[1] for row in rows])
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
            "by_scene": [round(float(b / a), 3) for a, b in flickers],
            "error_by_scene": [round(float(b / a), 3) for a, b in errors],
            "scenes": arguments.scenes,
            "frames": arguments.frames,
        },
    )


if __name__ == "__main__":
    main()
