"""What `matting doctor` checks of this machine: each check returns what it found, or raises Broken.

Those of the parts that this machine talks to are in deploy/doctor/service_checks.py.
"""

import os
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from PIL import features

from deploy.doctor.check_failed import CheckFailed
from shared.errors import EngineUnavailableError, ModelLoadError
from shared.settings import Settings
from worker.inference.predictor import load_predictor
from worker.inference.published_models import PUBLISHED_MODELS

MIN_MEMORY_BYTES = 1_500_000_000
"""A worker with the built-in model takes about 1 GB (tests/benchmarks/memory)."""

MIN_DISK_BYTES = 2_000_000_000
"""A pulled model takes up to 0.5 GB, unpacked beside its archive."""


def python() -> str:
    """The interpreter and the cores that this process may use."""
    return f"{platform.python_version()} on {len(os.sched_getaffinity(0))} cores"


def memory() -> str:
    """Enough for one worker, by what the kernel or the container leaves."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        available = min(available, int(text))
    if available < MIN_MEMORY_BYTES:
        raise CheckFailed(
            f"{available / 1e9:.1f} GB of memory are left; a worker takes about 1 GB",
            "Give it 3 GB (compose: deploy.resources.limits.memory), or MATTING_PREDICT_STREAMS=1",
        )
    return f"{available / 1e9:.1f} GB free"


def disk(folder: Path) -> str:
    """Room for models, and the right to write them."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise CheckFailed(
            f"{existing} can't be written by user {os.getuid()}",
            f"chown -R {os.getuid()} {existing}",
        )
    free = shutil.disk_usage(existing).free
    if free < MIN_DISK_BYTES:
        raise CheckFailed(
            f"{free / 1e9:.1f} GB are free below {existing}",
            f"Free 2 GB there (du -xh --max-depth=2 {existing} | sort -h | tail)",
        )
    return f"{free / 1e9:.0f} GB free below {existing}"


def formats() -> str:
    """What this build of Pillow can write."""
    missing = [name for name in ("jpg", "zlib", "webp", "avif") if not features.check(name)]
    if missing:
        raise CheckFailed(
            f"Pillow can't write {', '.join(missing)}",
            f"{sys.executable} -m pip install --force-reinstall --no-cache-dir pillow",
        )
    return "PNG, JPEG, WebP, AVIF"


def paddle(settings: Settings) -> str:
    """The build that the device needs, in the release that this project was tested with."""
    names = {"cpu": "paddlepaddle", "gpu": "paddlepaddle-gpu", "xpu": "paddlepaddle-xpu"}
    wanted = names.get(settings.device.partition(":")[0], "paddlepaddle")
    [tested] = {
        found.group(1)
        for one in metadata.requires("matting") or ()
        if (found := re.match(r"paddlepaddle==([\d.]+)", one))
    }
    try:
        version = metadata.version(wanted)
    except metadata.PackageNotFoundError as error:
        raise CheckFailed(
            f"{wanted} is not installed, and MATTING_DEVICE={settings.device} needs it",
            _install(wanted, tested),
        ) from error
    if version.split("+")[0].split(".post")[0] != tested:
        raise CheckFailed(
            f"{wanted} {version} is installed; tested is {tested} (3.3 crashes with oneDNN)",
            _install(wanted, tested),
        )
    return f"{wanted} {version}"


def _install(wanted: str, version: str) -> str:
    if wanted == "paddlepaddle":
        return f"{sys.executable} -m pip install paddlepaddle=={version}"
    return f"Use the image of this device, with {wanted} {version}: deploy/docker/README.md"


def model(settings: Settings) -> str:
    """It loads, warms and gives the same mattes as its plain form."""
    try:
        predictor = load_predictor(settings)
    except EngineUnavailableError:
        raise
    except ModelLoadError as error:
        if settings.model in PUBLISHED_MODELS:
            raise CheckFailed(error.detail, f"matting models pull {settings.model}") from error
        if settings.model == "builtin":
            fix = "git checkout worker/bundles; or take the image (or the package) anew"
            raise CheckFailed(error.detail, fix) from error
        raise
    known = predictor.describe()
    predictor.close()
    text = (
        f"{known['model']} warm in {known['warmup_s']} s on {known['device']} "
        f"({known['configuration']}), {len(known['shapes'])} shapes"
    )
    return f"{text}; {known['fallback']}" if known["fallback"] else text
