"""Remembers the engine plans that passed their trial on this machine, so that later starts skip it.

A trial loads the model twice in a child process, which takes longer than the rest of a start. Its
result can only change with what is part of the key. Only passed trials on a CPU are remembered: the
driver of another device may change without a trace here, and a failure may have passing causes.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from pathlib import Path

from shared.settings import Settings
from shared.telemetry import get_logger
from worker.imaging.arrays import Size
from worker.inference.catalog import Model
from worker.inference.engine import EnginePlan
from worker.inference.processor import description

log = get_logger(__name__)

RULES = 1
"""Raise it when a trial checks more than before: then all plans are tried again."""

_NO_FILE = (OSError, RuntimeError)
"""RuntimeError: the user has no home folder (`Path.home`)."""

ENGINE_VARIABLES = ("FLAGS_", "DNNL_", "ONEDNN_", "OMP_", "KMP_", "MKL_")
"""Environment variables with these prefixes change what Paddle and oneDNN do."""


def passed_before(
    settings: Settings, model: Model, plan: EnginePlan, shapes: Sequence[Size]
) -> int | None:
    """The index of the shape with which this plan passed its trial; None if it has to be tried."""
    if plan.device != "cpu":
        return None
    try:
        stored = json.loads(_file(settings, model, plan, shapes).read_text())
        shape = int(stored["shape"])
    except (*_NO_FILE, ValueError, KeyError, TypeError):
        return None  # whatever it is, a trial replaces it
    return shape if 0 <= shape < len(shapes) else None


def remember(
    settings: Settings, model: Model, plan: EnginePlan, shapes: Sequence[Size], shape: int
) -> None:
    """Note that the plan passed its trial with this one of the shapes. A folder that can't be
    written, or is not known, costs the next start a trial, nothing else.
    """
    if plan.device != "cpu":
        return
    try:
        path = _file(settings, model, plan, shapes)
        part = path.with_name(f"{path.name}.part-{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"model": model.name, "plan": plan.kind, "shape": shape}) + "\n")
        part.replace(path)
    except _NO_FILE as error:
        log.debug("trial-not-remembered", model=model.name, detail=repr(error))


def _file(settings: Settings, model: Model, plan: EnginePlan, shapes: Sequence[Size]) -> Path:
    decides = [
        RULES,
        _versions(),
        model.fingerprint,
        repr(plan),
        list(shapes),
        sorted(settings.alpha_tolerances.items()),
        list(description()),
        sorted(one for one in os.environ.items() if one[0].startswith(ENGINE_VARIABLES)),
    ]
    digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]
    return _folder(settings) / f"{digest}.json"


def _folder(settings: Settings) -> Path:
    """MATTING_ENGINE_CACHE_DIR, else the user's cache folder (XDG Base Directory Specification)."""
    if settings.engine_cache_dir is not None:
        return settings.engine_cache_dir / "trials"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # the specification wants relative paths ignored
    base = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return base / "matting" / "trials"


def _versions() -> list[str]:
    found = []
    for package in ("paddlepaddle-gpu", "paddlepaddle", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return found
