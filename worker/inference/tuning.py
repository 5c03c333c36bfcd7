"""Which batch sizes and streams a worker runs with: what is set, tuned here, or usual."""

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
"""Messages a batch: enough to keep fetching and encoding busy around the forward passes."""

TUNABLE = ("batch_size", "predict_batch_size", "predict_streams", "cpu_threads")
"""What a tune file holds, under the device's and the model's name."""


def batch_sizes(settings: Settings) -> Settings:
    """The settings with `batch_size`, `predict_batch_size`, streams and threads filled in.

    What the environment sets wins over the tune file, and that over the defaults. Raises
    SetupError when the tune file can't be read.
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
    """Note what was found for the settings' device and model, beside what the file has for others.
    Raises SetupError when the file is there and can't be read.
    """
    known = _read(path)
    known.setdefault(settings.device, {})[settings.model] = {"cores": settings.cpu_threads, **found}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(known, indent=2) + "\n")
    partial.replace(path)


def measured_speed(settings: Settings) -> float | None:
    """Images a second that `matting tune` found here for the settings' device and model."""
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
            log.warning("tuned-elsewhere", file=str(path), cores=found["cores"])
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
