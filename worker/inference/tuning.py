"""Batch sizes and streams of a worker: from settings, else the tune file, else defaults."""

import json
from pathlib import Path
from typing import Any

from shared.errors import SetupError
from shared.settings import Settings
from shared.telemetry import get_logger
from worker.inference.predictor import CPU_PREDICT_BATCH, DEVICE_PREDICT_BATCH

log = get_logger(__name__)

CPU_BATCH = 8
DEVICE_BATCH = 32
"""Messages per batch; enough to fetch and encode while the network runs."""

TUNABLE = ("batch_size", "predict_batch_size", "predict_streams", "cpu_threads")
"""The values in a tune file, stored by device and model."""


def batch_sizes(settings: Settings) -> Settings:
    """The settings with `batch_size`, `predict_batch_size`, streams and threads filled in.

    Environment variables win over the tune file, and the tune file over the defaults. Raises
    SetupError if the tune file cannot be read.
    """
    cpu = settings.device == "cpu"
    chosen: dict[str, int] = {
        "batch_size": CPU_BATCH if cpu else DEVICE_BATCH,
        "predict_batch_size": CPU_PREDICT_BATCH if cpu else DEVICE_PREDICT_BATCH,
        **_tuned(settings),
    }
    explicit = {
        name: value
        for name, value in settings.model_dump(include=set(TUNABLE), exclude_unset=True).items()
        if value is not None
    }
    return settings.model_copy(update={**chosen, **explicit})


def write_tuned(path: Path, settings: Settings, found: dict[str, Any]) -> None:
    """Write the tuned values for the settings' device and model; other entries of the file stay.
    Raises SetupError if the existing file cannot be read.
    """
    known = _read(path)
    known.setdefault(settings.device, {})[settings.model] = {"cores": settings.cpu_threads, **found}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(known, indent=2) + "\n")
    partial.replace(path)


def measured_speed(settings: Settings) -> float | None:
    """Images per second that `matting tune` measured here for the settings' device and model."""
    found = _read(settings.effective_tune_file).get(settings.device, {}).get(settings.model, {})
    speed = found.get("images_per_s")
    return float(speed) if speed else None


def _tuned(settings: Settings) -> dict[str, int]:
    path = settings.effective_tune_file
    try:
        found = _read(path).get(settings.device, {}).get(settings.model, {})
        if not found:
            return {}
        if settings.device == "cpu" and found["cores"] != settings.cpu_threads:
            log.warning("tune-file-ignored", file=str(path), cores=found["cores"])
            return {}
        return {name: int(found[name]) for name in TUNABLE if name in found}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SetupError(f"{path} is not what `matting tune` writes: {error!r}") from error


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SetupError(f"{path} is not what `matting tune` writes: {error!r}") from error
    if not isinstance(known, dict):
        raise SetupError(f"{path} is not what `matting tune` writes")
    return known
