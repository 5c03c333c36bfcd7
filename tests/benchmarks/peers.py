"""The same photos through this product, rembg, and one-by-one scripts: python -m
tests.benchmarks.peers --rembg COMMAND [--isnet FILE.onnx] [--photos N].

COMMAND is `rembg` of an environment of its own (`pip install "rembg[cpu,cli]"`), U2NET_HOME is its
folder of models. Every program is a process of its own that starts cold, reads a folder of JPEGs of
0.3 to 6 MP, and writes PNGs with alpha. `scripts` works as PaddleSeg's own deploy script does: the
network is loaded once, photos come one by one, PyMatting estimates the colours of all pixels
(extra `bench`).
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from shared.settings import Settings
from tests.benchmarks.photos import RATIOS, draw, jpeg, size_of
from tests.benchmarks.report import report

MEGAPIXELS = (0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
HEAVY_SHARE = 5
"""Of the photos, one in five goes through IS-Net: it takes seconds for each."""

LOOKS_PER_S = 50


@dataclass(frozen=True)
class Figures:
    """What one program took for all photos."""

    photos: int
    images_per_s: float
    cpu_s_per_image: float
    peak_mb: int
    first_result_s: float


def main() -> None:
    """Headline: images/s of this product divided by rembg's, both with U²-NetP."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rembg", required=True)
    parser.add_argument("--isnet", type=Path)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--one-by-one", nargs=2, type=Path, help=argparse.SUPPRESS)
    if "--one-by-one" in sys.argv:
        one_by_one(*map(Path, sys.argv[-2:]))
        return
    asked = parser.parse_args()
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photos = drawn(folder / "photos", asked.photos)
        matting = [str(Path(sys.executable).with_name("matting"))]
        ours = [*matting, "cutout", str(photos), "--out"]
        found["matting, built-in"] = timed(folder, asked.photos, ours, model="builtin")
        found["matting, u2netp"] = timed(folder, asked.photos, ours, model="u2netp")
        theirs = [asked.rembg, "p", "-m", "u2netp", str(photos)]
        found["rembg, u2netp"] = timed(folder, asked.photos, theirs)
        scripts = [sys.executable, "-m", "tests.benchmarks.peers", "--one-by-one", str(photos)]
        found["scripts, built-in"] = timed(folder, asked.photos, scripts, model="builtin")
        if asked.isnet:
            few = asked.photos // HEAVY_SHARE
            photos = drawn(folder / "few", few)
            command = [*matting, "models", "import", str(asked.isnet)]
            env = {**os.environ, "MATTING_MODELS_DIR": str(folder / "models")}
            subprocess.run([*command, "--name", "isnet", "--like", "isnet"], check=True, env=env)
            ours = [*matting, "cutout", str(photos), "--out"]
            found["matting, isnet"] = timed(folder, few, ours, model="isnet")
            theirs = [asked.rembg, "p", "-m", "isnet-general-use", str(photos)]
            found["rembg, isnet"] = timed(folder, few, theirs)
    for name, figures in found.items():
        print(name, asdict(figures))
    ratio = found["matting, u2netp"].images_per_s / found["rembg, u2netp"].images_per_s
    details = {name: asdict(figures) for name, figures in found.items()}
    report("peers", ratio, target=">= 1.5", unit="rembg, same network", details=details)


def drawn(folder: Path, count: int) -> Path:
    """Draw photos of mixed sizes."""
    folder.mkdir()
    choose = random.Random(7)
    for number in range(count):
        size = size_of(choose.choice(MEGAPIXELS), choose.choice(RATIOS))
        (folder / f"{number:04}.jpg").write_bytes(jpeg(draw(size, seed=number)))
    return folder


def timed(folder: Path, photos: int, command: list[str], model: str | None = None) -> Figures:
    """Run a program that writes into the folder given last."""
    out = Path(tempfile.mkdtemp(dir=folder))
    env = {**os.environ, "MATTING_LOG_LEVEL": "ERROR"}
    if model is not None:
        env |= {"MATTING_MODEL": model, "MATTING_MODELS_DIR": str(folder / "models")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with subprocess.Popen([*command, str(out)], env=env, stdout=subprocess.DEVNULL) as process:
        first_s, peak_mb = 0.0, 0
        while process.poll() is None:
            if not first_s and any(out.rglob("*.png")):
                first_s = time.perf_counter() - started
            peak_mb = max(peak_mb, _peak_mb(process.pid))
            time.sleep(1 / LOOKS_PER_S)
    took_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    written = len(list(out.rglob("*.png")))
    if written < photos:
        raise SystemExit(f"{command[0]} wrote {written} of {photos} results")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Figures(
        photos=photos,
        images_per_s=round(photos / took_s, 2),
        cpu_s_per_image=round(cpu_s / photos, 3),
        peak_mb=peak_mb,
        first_result_s=round(first_s, 2),
    )


def _peak_mb(pid: int) -> int:
    """The peak resident memory of a process, in MB; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(one.split()[1]) // 1024 for one in lines if one.startswith("VmHWM")), 0)


def one_by_one(photos: Path, out: Path) -> None:
    """PaddleSeg's way: the network is loaded once, everything else is done photo by photo."""
    from pymatting import estimate_foreground_ml

    from worker.imaging.prepared import restore
    from worker.inference.catalog import find_model
    from worker.inference.engine import plans
    from worker.inference.session import PredictorSession
    from worker.inference.transforms import ExactTransforms

    settings = Settings(precision="fp32", predict_streams=1, log_level="ERROR")
    model = find_model(settings)
    session = PredictorSession(plans(settings, model, shapes=1)[0], model)
    transforms = ExactTransforms(model.transforms)
    for path in sorted(photos.iterdir()):
        decoded = cv2.imread(str(path))
        assert decoded is not None
        image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8)
        prepared = transforms.prepare(image)
        batch = transforms.normalisation.apply(prepared.image[None])
        alpha = restore(session.run(batch)[0], prepared.steps)
        colours = estimate_foreground_ml(image / 255.0, alpha.astype(np.float64))
        colours = np.clip(np.rint(colours[..., ::-1] * 255), 0, 255)
        cutout = np.dstack([colours, np.rint(alpha * 255)]).astype(np.uint8)
        cv2.imwrite(str(out / f"{path.stem}.png"), cutout)


if __name__ == "__main__":
    main()
