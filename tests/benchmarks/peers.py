"""The same photos through this product, rembg, and one-by-one scripts: python -m
tests.benchmarks.peers [--rembg COMMAND] [--isnet FILE.onnx] [--ppmattingv2] [--photos N].

COMMAND is `rembg` of an environment of its own (`pip install "rembg[cpu,cli]"`), U2NET_HOME is its
folder of models. Every program is a process of its own that starts cold, reads a folder of JPEGs of
0.3 to 6 MP, and writes PNGs with alpha. `scripts` works as PaddleSeg's own deploy script does: the
network is loaded once, photos come one by one, PyMatting estimates the colours of all pixels
(extra `bench`). This product runs twice: `first` is its first run on a machine, with nothing
remembered, `later` any other one. `--ppmattingv2` uses a bundle of PP-MattingV2's size with random
weights.
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
PAGE_BYTES = resource.getpagesize()
MATTING = str(Path(sys.executable).with_name("matting"))
SCRIPTS = [sys.executable, "-m", "tests.benchmarks.peers", "--one-by-one"]


@dataclass(frozen=True)
class Figures:
    """What one program took for all photos."""

    photos: int
    took_s: float
    images_per_s: float
    cpu_s: float
    cpu_s_per_image: float
    peak_mb: int
    """Of the program and its children together, at one moment. Libraries that they share count
    several times."""
    first_result_s: float


def main() -> None:
    """Headline: images/s of this product divided by rembg's, both with U²-NetP; without rembg by
    those of the scripts with the same bundle, in the first run on a machine.
    """
    if "--one-by-one" in sys.argv:
        one_by_one(*map(Path, sys.argv[-2:]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rembg")
    parser.add_argument("--isnet", type=Path)
    parser.add_argument("--ppmattingv2", action="store_true")
    parser.add_argument("--photos", type=int, default=100)
    asked = parser.parse_args()
    if not asked.rembg and not asked.ppmattingv2:
        parser.error("name --rembg or --ppmattingv2")
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photos = drawn(folder / "photos", asked.photos)
        if asked.ppmattingv2:
            bundle = exported(folder / "ppmattingv2")
            found["scripts, ppmattingv2"] = timed(folder, photos, SCRIPTS, model=bundle)
            found |= ours("ppmattingv2", folder, photos, model=bundle)
        if asked.rembg:
            found |= ours("builtin", folder, photos)
            found["scripts, builtin"] = timed(folder, photos, SCRIPTS, model="builtin")
            found |= ours("u2netp", folder, photos)
            theirs = [asked.rembg, "p", "-m", "u2netp"]
            found["rembg, u2netp"] = timed(folder, photos, theirs)
        if asked.rembg and asked.isnet:
            few = drawn(folder / "few", asked.photos // HEAVY_SHARE)
            command = [MATTING, "models", "import", str(asked.isnet)]
            env = {**os.environ, "MATTING_MODELS_DIR": str(folder / "models")}
            subprocess.run([*command, "--name", "isnet", "--like", "isnet"], check=True, env=env)
            found |= ours("isnet", folder, few)
            theirs = [asked.rembg, "p", "-m", "isnet-general-use"]
            found["rembg, isnet"] = timed(folder, few, theirs)
    for name, figures in found.items():
        print(name, asdict(figures))
    mine, other, target = "matting, ppmattingv2, first", "scripts, ppmattingv2", ">= 1"
    if asked.rembg:
        mine, other, target = "matting, u2netp, later", "rembg, u2netp", ">= 1.5"
    ratio = found[mine].images_per_s / found[other].images_per_s
    details = {name: asdict(figures) for name, figures in found.items()}
    report("peers", ratio, target=target, unit=f"{other}, same network", details=details)


def drawn(folder: Path, count: int) -> Path:
    """Draw photos of mixed sizes."""
    folder.mkdir()
    choose = random.Random(7)
    for number in range(count):
        size = size_of(choose.choice(MEGAPIXELS), choose.choice(RATIOS))
        (folder / f"{number:04}.jpg").write_bytes(jpeg(draw(size, seed=number)))
    return folder


def exported(folder: Path) -> str:
    """A bundle of PP-MattingV2's size, written by a process of its own: it imports Paddle."""
    folder.mkdir()
    code = "import sys, pathlib, tests.benchmarks.ppmattingv2 as made; "
    code += "made.export(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
    return str(folder)


def ours(name: str, folder: Path, photos: Path, model: str | None = None) -> dict[str, Figures]:
    """This product with a model: the first run on a machine, and a later one."""
    command = [MATTING, "cutout"]
    cache = Path(tempfile.mkdtemp(dir=folder))
    return {
        f"matting, {name}, {run}": timed(folder, photos, command, model=model or name, cache=cache)
        for run in ("first", "later")
    }


def timed(
    folder: Path,
    photos: Path,
    command: list[str],
    model: str | None = None,
    cache: Path | None = None,
) -> Figures:
    """Run a program that takes the folder of the photos and, last, that of its results. `cache`:
    what it has remembered of earlier runs.
    """
    count = len(list(photos.iterdir()))
    out = Path(tempfile.mkdtemp(dir=folder))
    env = {**os.environ, "MATTING_LOG_LEVEL": "ERROR"}
    if model is not None:
        env |= {"MATTING_MODEL": model, "MATTING_MODELS_DIR": str(folder / "models")}
    if cache is not None:
        env["XDG_CACHE_HOME"] = str(cache)
        command = [*command, str(photos), "--out", str(out)]
    else:
        command = [*command, str(photos), str(out)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as process:
        first_s, peak_bytes = 0.0, 0
        while process.poll() is None:
            if not first_s and results(out):
                first_s = time.perf_counter() - started
            peak_bytes = max(peak_bytes, resident_bytes(process.pid))
            time.sleep(1 / LOOKS_PER_S)
    took_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    written = len(results(out))
    if written < count:
        raise SystemExit(f"{command[0]} wrote {written} of {count} results")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Figures(
        photos=count,
        took_s=round(took_s, 1),
        images_per_s=round(count / took_s, 2),
        cpu_s=round(cpu_s, 1),
        cpu_s_per_image=round(cpu_s / count, 3),
        peak_mb=peak_bytes // 1_000_000,
        first_result_s=round(first_s, 2),
    )


def results(out: Path) -> list[Path]:
    """The results under their names: not what a program still works on in a hidden folder."""
    found = (one.relative_to(out) for one in out.rglob("*.png"))
    return [one for one in found if not any(part.startswith(".") for part in one.parts)]


def resident_bytes(pid: int) -> int:
    """The resident memory of a process and of all its children; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(one) for thread in threads for one in _children(thread)]
    except (OSError, IndexError):
        return 0
    return pages * PAGE_BYTES + sum(map(resident_bytes, children))


def _children(thread: Path) -> list[str]:
    try:
        return (thread / "children").read_text().split()
    except OSError:  # the thread has ended meanwhile
        return []


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
