"""Remembers the results of trials of engine plans on this machine, so that later starts skip them.

A trial loads the model twice in a child process, which takes longer than the rest of a start. Its
result can only change with what is part of the key. Passed trials are remembered on a CPU alone:
the driver of another device may change without a trace here. Failed ones are remembered for
optional plans of a device, whose trials take minutes; others may have passing causes. Workers that
start together wait for the first such trial.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from shared.settings import Settings
from shared.telemetry import get_logger
from worker.imaging.arrays import Size
from worker.inference.catalog import Model
from worker.inference.engine import EnginePlan
from worker.inference.paddle_runtime import VARIABLES
from worker.inference.processor import description
from worker.inference.tensorrt import gpu_models

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
    if plan.device == "cpu":
        _write(settings, model, plan, shapes, {"shape": shape})


def _write(
    settings: Settings,
    model: Model,
    plan: EnginePlan,
    shapes: Sequence[Size],
    found: dict[str, int | str],
) -> None:
    try:
        path = _file(settings, model, plan, shapes)
        part = path.with_name(f"{path.name}.part-{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"model": model.name, "plan": plan.kind, **found}) + "\n")
        part.replace(path)
    except _NO_FILE as error:
        log.debug("trial-not-remembered", model=model.name, detail=repr(error))


def failed_before(
    settings: Settings, model: Model, plan: EnginePlan, shapes: Sequence[Size]
) -> tuple[int, str] | None:
    """The shape and the reason with which this optional plan failed its trial, with what to do to
    have it tried again; None if it has to be tried.
    """
    if plan.device == "cpu" or not plan.optional:
        return None
    try:
        path = _file(settings, model, plan, shapes)
        stored = json.loads(path.read_text())
        shape, reason = int(stored["shape"]), str(stored["reason"])
    except (*_NO_FILE, ValueError, KeyError, TypeError):
        return None
    if not 0 <= shape < len(shapes):
        return None
    return shape, f"{reason} (an earlier trial; delete {path} to have it tried again)"


def remember_failure(
    settings: Settings,
    model: Model,
    plan: EnginePlan,
    shapes: Sequence[Size],
    shape: int,
    reason: str,
) -> None:
    """Note that an optional plan of a device failed, so that later starts pass it over at once."""
    if plan.device != "cpu" and plan.optional:
        _write(settings, model, plan, shapes, {"shape": shape, "reason": reason})


@contextlib.contextmanager
def after_the_first(
    settings: Settings, model: Model, plan: EnginePlan, shapes: Sequence[Size]
) -> Iterator[None]:
    """Let one worker of this machine try an optional plan of a device that is not built yet. Those
    that come meanwhile wait until it has built everything or remembered why not, and go on side by
    side. Without this each would build, and fail, in turn, and its wait for the others would count
    as time of its own trial.
    """
    with contextlib.ExitStack() as held:
        if plan.device == "cpu" or not plan.optional or _is_built(plan):
            yield
            return
        try:
            path = _file(settings, model, plan, shapes).with_suffix(".lock")
            path.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(path.open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(file, fcntl.LOCK_SH)
        except _NO_FILE as error:
            log.debug("trial-not-in-turn", model=model.name, detail=repr(error))
        yield


def _is_built(plan: EnginePlan) -> bool:
    """Whether what a trial of the plan would build is there (worker.inference.building)."""
    folders = [one.arguments[0] for one in plan.calls if one.method == "set_optim_cache_dir"]
    return plan.graph is not None and all(map(os.path.exists, [plan.graph, *folders]))


def _file(settings: Settings, model: Model, plan: EnginePlan, shapes: Sequence[Size]) -> Path:
    decides = [
        RULES,
        _versions(),
        model.fingerprint,
        repr(plan),
        list(shapes),
        sorted(settings.alpha_tolerances.items()),
        list(description()),
        [_driver(), *gpu_models()] if plan.device != "cpu" else "",
        sorted(_variables().items()),
    ]
    digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]
    return _folder(settings) / f"{digest}.json"


def _variables() -> dict[str, str]:
    """What Paddle and oneDNN will find in the environment. It is the same before and after the
    native library is loaded, which sets some of it: another model may load it meanwhile.
    """
    chosen = {
        name: value for name, value in os.environ.items() if name.startswith(ENGINE_VARIABLES)
    }
    return VARIABLES | chosen


def _folder(settings: Settings) -> Path:
    """MATTING_ENGINE_CACHE_DIR, else the user's cache folder (XDG Base Directory Specification)."""
    if settings.engine_cache_dir is not None:
        return settings.engine_cache_dir / "trials"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # the specification wants relative paths ignored
    base = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return base / "matting" / "trials"


def _driver() -> str:
    """The version of NVIDIA's driver, if there is one."""
    try:
        return Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return ""


def _versions() -> list[str]:
    found = []
    for package in ("paddlepaddle-gpu", "paddlepaddle", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return found
