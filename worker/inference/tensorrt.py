"""TensorRT's files: the ranges of shapes and the engines, built once and shared by all workers.

What holds for Paddle 3.2.2 (its documentation on PIR-TRT, analysis_predictor.cc and
tensorrt_subgraph_pass.cc): `enable_tensorrt_engine` is for .pdmodel graphs, and for .json graphs it
does nothing and says nothing; noting shapes into a missing folder aborts the process; an engine's
name follows from the graph, the batch and the precision, not from the weights, nor from the shapes;
engines and shapes are written in place. So each set has a folder of its own, which is built under
another name by whoever holds its lock, and appears at once.
"""

import fcntl
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from shared.settings import Settings
from worker.imaging.arrays import Size
from worker.inference.catalog import Model

SHAPE_RANGES = "shapes.pbtxt"
"""The file of a set with the ranges of all tensors' shapes."""

DETECTED = re.compile(r"detect a sub-graph with (\d+) nodes")
"""A line of Paddle's log: TensorRT takes this part of the graph (tensorrt_subgraph_pass.cc)."""

BUILT = re.compile(r"Prepare TRT engine|Load TRT Optimized Info from")
"""A line of Paddle's log: an engine for one such part was built or loaded."""

GPUS = Path("/proc/driver/nvidia/gpus")
"""NVIDIA's driver has a folder for each GPU here, with a file `information` (driver's README, "The
/proc interface")."""

Warm = Sequence[tuple[int, Size]]
"""All batch sizes and shapes that will occur."""


@dataclass(frozen=True)
class TakenByTensorRT:
    """What TensorRT really runs, according to Paddle's log of a start."""

    engines: int
    operators: int
    """Number of the graph's operators in the parts that TensorRT takes."""


def taken(log: str) -> TakenByTensorRT:
    """Parse Paddle's log of the predictor created last."""
    parts = [int(count) for count in DETECTED.findall(log)]
    return TakenByTensorRT(len(BUILT.findall(log)), sum(parts))


def why_not(model: Model) -> str | None:
    """Why TensorRT cannot run this export; None if it can."""
    if model.graph.suffix == ".json":
        return (
            "Paddle's TensorRT call does nothing for .json graphs; export the model as .pdmodel "
            "(FLAGS_enable_pir_api=0)"
        )
    return None


def engine_folder(settings: Settings, model: Model, warm: Warm, graph: Path | None = None) -> Path:
    """The folder of the set for this model, precision, Paddle version, these inputs, and this
    machine's models of GPU: an engine runs on no other. `graph`: the program, if it is not the
    model's own.
    """
    asked = [
        paddle_version(),
        settings.precision,
        settings.predict_batch_size,
        sorted((count, *shape) for count, shape in warm),
        *([graph.parent.name] if graph else []),
        *gpu_models(),
    ]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]
    return engine_cache(settings, model) / "tensorrt" / f"{model.fingerprint}-{digest}"


def engine_cache(settings: Settings, model: Model) -> Path:
    """The folder for what is built from a model for devices."""
    return settings.engine_cache_dir or model.graph.parent


def build_once(
    folder: Path, build: Callable[[Path], None], sound: Callable[[Path], bool] = Path.is_dir
) -> None:
    """Fill the folder with `build` unless it exists; one that is not `sound` is built anew. One
    process builds, the others wait for it. Raises OSError and what `build` raises.
    """
    if folder.is_dir() and sound(folder):  # needs no lock: others may not be allowed to write
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        _remove_leftovers(folder)
        if folder.is_dir():
            if sound(folder):
                return
            shutil.rmtree(folder)
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
        try:
            build(part)
            part.chmod(0o755)
            for path in (*part.rglob("*"), part):
                _flush(path)  # otherwise a crash of the machine could leave empty files
            part.rename(folder)
        finally:
            with suppress(FileNotFoundError):
                shutil.rmtree(part)


def _remove_leftovers(own: Path) -> None:
    """Remove what crashed builds left: of this folder, which is locked, and of others that nobody
    builds.
    """
    for left in own.parent.glob("*.part-*"):
        folder = left.with_name(left.name.partition(".part-")[0])
        # one that is being built, or whose lock belongs to another user, stays
        with suppress(OSError), folder.with_suffix(".lock").open("w") as file:
            if folder != own:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file lock; the kernel releases it when the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def gpu_models() -> list[str]:
    """The models of NVIDIA's GPUs in this machine, each once; none, if the driver does not tell."""
    found = set()
    for file in GPUS.glob("*/information"):
        with suppress(OSError):
            lines = file.read_text(errors="replace").splitlines()
            found |= {line[6:].strip() for line in lines if line.startswith("Model:")}
    return sorted(found)


def paddle_version() -> str:
    """The installed package and its version."""
    for package in ("paddlepaddle-gpu", "paddlepaddle"):
        with suppress(importlib.metadata.PackageNotFoundError):
            return f"{package} {importlib.metadata.version(package)}"
    return ""
