"""Writes the model repository of a Triton server: a folder for each model, with config.pbtxt and a
folder for each version, which holds model.py and the model's files.
"""

import filecmp
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

from shared.errors import SetupError
from shared.options import MODEL_NAME
from shared.settings import Settings
from worker.imaging.arrays import Size
from worker.inference.catalog import Model, find_model, read_export
from worker.inference.predictor import shape_grid, warm_batch_sizes
from worker.inference.triton_wire import (
    PIXELS,
    PIXELS_TYPE,
    PREDICT_BATCH_SIZE,
    served_name,
    tensors,
)

Device = Literal["gpu", "cpu"]

BUNDLE = "bundle"
"""Folder of the model's own files within a version."""

PER_PASS, LEAST_PER_EXECUTION = 2, 8
"""Most images of an execution: twice those of a forward pass, and at least eight. Photos of several
shapes arrive mixed, and model.py runs those of one shape together; on a CPU it runs several
networks at a time.
"""


def export(
    folder: Path, settings: Settings, device: Device, *, instances: int = 1, delay_ms: float = 5
) -> Path:
    """Write the settings' model into the repository `folder`; returns its folder. `delay_ms`: how
    long an execution that is not full waits for more images.

    A model that is there already gets a new version if its files differ. Raises ModelLoadError,
    SetupError.
    """
    model = find_model(settings)
    name = served_name(settings.model)
    if not MODEL_NAME.fullmatch(name):
        raise SetupError(f"{name!r} can't be a name in Triton's repository: rename the folder")
    own = folder / name
    versions = _versions(own)
    if not versions or not _holds(own / str(versions[-1]), model):
        versions.append(versions[-1] + 1 if versions else 1)
        _write_version(own / str(versions[-1]), model)
    sizes = [1] if model.one_at_a_time else warm_batch_sizes(_on(settings, device))
    text = _config(name, model, sizes[-1], device, instances, delay_ms)
    if not (own / "config.pbtxt").exists() or (own / "config.pbtxt").read_text() != text:
        partial = own / ".config.pbtxt"
        partial.write_text(text)
        partial.replace(own / "config.pbtxt")  # last: a server that polls then loads it whole
    return own


def _config(
    name: str,
    model: Model,
    predict_batch_size: int,
    device: Device,
    instances: int,
    delay_ms: float,
) -> str:
    """The contents of config.pbtxt."""
    most = max(LEAST_PER_EXECUTION, PER_PASS * predict_batch_size)
    preferred = sorted({max(LEAST_PER_EXECUTION, predict_batch_size), most})
    (pixels, *outputs) = (
        f'{{ name: "{title}" data_type: TYPE_{kind} dims: [ {_numbers(sizes[1:])} ]'
        for title, kind, sizes in tensors(model)
    )
    return TEMPLATE.format(
        name=name,
        most=most,
        pixels=pixels,
        alphas=outputs[0],
        model=outputs[1],
        preferred=_numbers(preferred),
        delay_us=round(delay_ms * 1e3),
        instances=instances,
        kind=f"KIND_{device.upper()}",
        parameter=PREDICT_BATCH_SIZE,
        predict_batch_size=predict_batch_size,
        warmup="".join(_warmup(shape) for shape in shape_grid(model).shapes),
    )


def _warmup(shape: Size) -> str:
    height, width = shape
    return (
        f'model_warmup {{ name: "{height}x{width}" batch_size: 1\n'
        f'  inputs {{ key: "{PIXELS}" value {{ data_type: TYPE_{PIXELS_TYPE} '
        f"dims: [ 3, {height}, {width} ] zero_data: true }} }} }}\n"
    )


def _versions(own: Path) -> list[int]:
    if not own.is_dir():
        return []
    return sorted(int(one.name) for one in own.iterdir() if one.name.isdecimal())


def _holds(version: Path, model: Model) -> bool:
    """Whether the version has this model and this model.py."""
    if not filecmp.cmp(version / "model.py", _program(), shallow=False):
        return False
    return read_export(version / BUNDLE, model.name).fingerprint == model.fingerprint


def _write_version(version: Path, model: Model) -> None:
    """Write model.py and the model's files. The folder appears whole: a server may be polling."""
    partial = version.with_name(f".{version.name}")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / BUNDLE).mkdir(parents=True)
    for file in (model.graph, model.params, model.graph.parent / "deploy.yaml"):
        shutil.copyfile(file, partial / BUNDLE / file.name)
    shutil.copyfile(_program(), partial / "model.py")
    partial.rename(version)


def _program() -> Path:
    return Path(str(files("deploy.triton") / "model.py"))


def _on(settings: Settings, device: Device) -> Settings:
    return settings.model_copy(update={"device": "cpu" if device == "cpu" else "gpu:0"})


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


TEMPLATE = """\
# Written by `matting models export-triton`, whose next run writes this file again: give
# --delay-ms and --instances there. The workers check names, types and parameters at their start.
name: "{name}"
backend: "python"
# Most images of one execution. model.py runs those of one shape together, at most
# predict_batch_size (below) in one forward pass.
max_batch_size: {most}

# RGB pixels at one of the network's input sizes. Requests of different sizes may share an execution
# (ragged), because model.py sorts them.
input {pixels} allow_ragged_batch: true }}
# The alphas, and for each image the number of the model that made it: workers accept only theirs.
output [
  {alphas} }},
  {model} }}
]

dynamic_batching {{
  preferred_batch_size: [ {preferred} ]
  # How long the first image waits for others while an instance is free.
  max_queue_delay_microseconds: {delay_us}
  # Leave default_queue_policy out: with it, server 2.51 prepares no batch before an instance is
  # free, and some batches wait half a second. The queue stays short anyway, because a worker has
  # few requests in flight, and Triton drops those that their worker gave up.
}}

# On GPUs: so many instances on each GPU of the server. Two let one copy its images while the other
# computes, and take the memory twice.
instance_group {{ kind: {kind} count: {instances} }}

# Only the newest version is loaded. While a new one is loading, the old one goes on.
version_policy {{ latest {{ num_versions: 1 }} }}

# Most images of one shape in a forward pass.
parameters {{ key: "{parameter}" value {{ string_value: "{predict_batch_size}" }} }}

# An instance is ready after one request of each input size has gone all the way. Before that,
# model.py has run each size in each batch size of its forward passes, and compared the engine with
# the plain CPU.
{warmup}"""
