"""Checks of this machine for `matting doctor`: memory, disk, image formats, Paddle, the models.

Each check returns a short description of what it found, or raises CheckFailed. The checks of the
services are in deploy/doctor/service_checks.py.
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
from shared.plurals import counted
from shared.settings import Settings
from worker.inference.predictor import load_predictor
from worker.inference.published_models import PUBLISHED_MODELS

MIN_MEMORY_BYTES = 1_500_000_000
"""A worker with the built-in model takes about 1 GB (tests/benchmarks/memory)."""

MIN_DISK_BYTES = 2_000_000_000
"""A downloaded model takes up to 0.5 GB, plus its archive while it is unpacked."""


def python() -> str:
    """The Python version and the number of cores that this process may use."""
    return f"{platform.python_version()} on {len(os.sched_getaffinity(0))} cores"


def memory() -> str:
    """Check that the memory that the kernel and the container leave is enough for one worker."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        available = min(available, int(text))
    if available < MIN_MEMORY_BYTES:
        raise CheckFailed(
            f"{available / 1e9:.1f} GB of memory are free; a worker needs about 1 GB",
            "Provide 3 GB (compose: deploy.resources.limits.memory), or set"
            " MATTING_PREDICT_STREAMS=1",
        )
    return f"{available / 1e9:.1f} GB free"


def disk(folder: Path) -> str:
    """Check that the folder for models is writable and has free space."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise CheckFailed(
            f"User {os.getuid()} can't write to {existing}",
            f"chown -R {os.getuid()} {existing}",
        )
    free = shutil.disk_usage(existing).free
    if free < MIN_DISK_BYTES:
        raise CheckFailed(
            f"{free / 1e9:.1f} GB are free in {existing}",
            f"Free 2 GB there (du -xh --max-depth=2 {existing} | sort -h | tail)",
        )
    return f"{free / 1e9:.0f} GB free in {existing}"


def formats() -> str:
    """Check that this build of Pillow can write all output formats."""
    missing = [name for name in ("jpg", "zlib", "webp", "avif") if not features.check(name)]
    if missing:
        raise CheckFailed(
            f"Pillow can't write {', '.join(missing)}",
            f"{sys.executable} -m pip install --force-reinstall --no-cache-dir pillow",
        )
    return "PNG, JPEG, WebP, AVIF"


def paddle(settings: Settings) -> str:
    """Check that the Paddle build for the device is installed, in the tested release. With Triton
    the server has it.
    """
    if settings.device == "triton":
        return "not needed: the network runs on Triton"
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
            f"{wanted} is not installed, but MATTING_DEVICE={settings.device} needs it",
            _install(wanted, tested),
        ) from error
    if version.split("+")[0].split(".post")[0] != tested:
        raise CheckFailed(
            f"{wanted} {version} is installed; {tested} is the tested release (3.3 crashes with"
            " oneDNN)",
            _install(wanted, tested),
        )
    return f"{wanted} {version}"


def _install(wanted: str, version: str) -> str:
    if wanted == "paddlepaddle":
        return f"{sys.executable} -m pip install paddlepaddle=={version}"
    return f"Use the container image for this device: deploy/docker/README.md ({wanted} {version})"


def model(settings: Settings) -> str:
    """Check that a model loads, warms up, and passes its self-test."""
    try:
        predictor = load_predictor(settings)
    except EngineUnavailableError:
        raise
    except ModelLoadError as error:
        if settings.model in PUBLISHED_MODELS:
            raise CheckFailed(error.detail, f"matting models pull {settings.model}") from error
        if settings.model == "builtin":
            fix = "Restore it: git checkout worker/bundles, or pull the container image again"
            raise CheckFailed(error.detail, fix) from error
        raise
    known = predictor.describe()
    predictor.close()
    text = (
        f"{known['model']} warm in {known['warmup_s']} s on {known['device']} "
        f"({known['configuration']}), {counted(len(known['shapes']), 'shape')}"
    )
    return f"{text}; {known['fallback']}" if known["fallback"] else text
