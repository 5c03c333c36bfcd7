"""Which batch sizes and threads this machine runs best with: what was set, tuned, or by default."""

import json

from shared.errors import SetupError
from shared.settings import Settings
from worker.predictor import CPU_PREDICT_BATCH, DEVICE_PREDICT_BATCH

CPU_BATCH = 8
DEVICE_BATCH = 32
"""Messages a batch: enough to keep fetching and encoding busy around the forward passes."""


def batch_sizes(settings: Settings) -> Settings:
    """The settings with `batch_size`, `predict_batch_size` and threads filled in.

    What the environment sets wins over the tune file, and that over the defaults. Raises
    SetupError when the tune file can't be read.
    """
    cpu = settings.device == "cpu"
    chosen: dict[str, int] = {
        "batch_size": CPU_BATCH if cpu else DEVICE_BATCH,
        "predict_batch_size": CPU_PREDICT_BATCH if cpu else DEVICE_PREDICT_BATCH,
    }
    path = settings.effective_tune_file
    if path.exists():
        try:
            tuned = json.loads(path.read_text())[settings.device]
            chosen.update({name: int(tuned[name]) for name in tuned if name in TUNABLE})
        except (ValueError, KeyError, TypeError) as error:
            raise SetupError(f"{path} is not what `matting tune` writes: {error!r}") from error
    explicit = {
        name: value
        for name, value in settings.model_dump(include=set(TUNABLE), exclude_unset=True).items()
        if value is not None
    }
    return settings.model_copy(update={**chosen, **explicit})


TUNABLE = ("batch_size", "predict_batch_size", "cpu_threads")
"""What a tune file may hold, under the device's name."""
