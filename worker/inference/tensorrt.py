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
"""In a set's folder: the ranges of all tensors' shapes."""

DETECTED = re.compile(r"detect a sub-graph with (\d+) nodes")
"""Paddle's log: TensorRT takes this part of the graph (tensorrt_subgraph_pass.cc)."""

BUILT = re.compile(r"Prepare TRT engine|Load TRT Optimized Info from")
"""Paddle's log: it has an engine for one such part, built now or read."""

Warm = Sequence[tuple[int, Size]]
"""Batch sizes and shapes of all inputs that will be met."""


@dataclass(frozen=True)
class TakenByTensorRT:
    """What TensorRT really runs, by Paddle's log of a start."""

    engines: int
    operators: int
    """Of the graph, in all of its parts that TensorRT takes."""


def taken(log: str) -> TakenByTensorRT:
    """What Paddle's log says of the predictor that was made last."""
    parts = [int(count) for count in DETECTED.findall(log)]
    return TakenByTensorRT(len(BUILT.findall(log)), sum(parts))


def why_not(model: Model) -> str | None:
    """Why TensorRT can't run this export; none if it may."""
    if model.graph.suffix == ".json":
        return (
            "Paddle's TensorRT call does nothing for .json graphs; export the model as .pdmodel "
            "(FLAGS_enable_pir_api=0)"
        )
    return None


def engine_folder(settings: Settings, model: Model, warm: Warm) -> Path:
    """Where the set for this model, precision, Paddle and these inputs is kept."""
    asked = [
        _paddle_version(),
        settings.precision,
        settings.predict_batch_size,
        sorted((count, *shape) for count, shape in warm),
    ]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]
    cache = settings.engine_cache_dir or model.graph.parent
    return cache / "tensorrt" / f"{model.fingerprint}-{digest}"


def build_once(folder: Path, build: Callable[[Path], None]) -> None:
    """Have `build` fill the folder, unless it is there; of several processes one builds, and the
    others wait for it. A folder that is there is whole. Raises OSError and what `build` raises.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        for left in folder.parent.glob(f"{folder.name}.part-*"):
            shutil.rmtree(left, ignore_errors=True)  # of one that crashed
        if folder.is_dir():
            return
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
        try:
            build(part)
            part.chmod(0o755)
            part.rename(folder)
        finally:
            with suppress(FileNotFoundError):
                shutil.rmtree(part)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The kernel lets go of it when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _paddle_version() -> str:
    for package in ("paddlepaddle-gpu", "paddlepaddle"):
        with suppress(importlib.metadata.PackageNotFoundError):
            return f"{package} {importlib.metadata.version(package)}"
    return ""
