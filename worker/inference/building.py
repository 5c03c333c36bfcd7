"""Builds what a plan for a device opens, once for all workers: the program for pixels, and
TensorRT's engines. Both are kept in MATTING_ENGINE_CACHE_DIR.
"""

import gc
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from shared.errors import EngineUnavailableError
from shared.settings import Settings
from worker.inference.catalog import Model
from worker.inference.engine import EnginePlan, collecting, talkative, tensorrt_plan
from worker.inference.pixel_program import write_program
from worker.inference.postprocess import Alphas
from worker.inference.session import Batch, PredictorSession, blank
from worker.inference.tensorrt import SHAPE_RANGES, Warm, build_once, engine_folder

DIGEST = "sha256"
"""The file with the digest of the program beside it."""

LEVEL = 1 / 255
"""Largest difference of an alpha in the program for pixels, in the same engine: it is rounded."""


def build_program(
    truthful: EnginePlan, model: Model, graph: Path, card: Batch, truth: Alphas
) -> None:
    """Write the program for pixels, unless it is there as it was written. `truth`: the alphas of
    `card`, pixels [N, H, W, 3], by the plan `truthful`, with which it is compared.

    Raises EngineUnavailableError if the model can't have one, or if it can't be kept.
    """

    def build(folder: Path) -> None:
        file = folder / graph.name
        write_program(file, model)
        alphas = PredictorSession(replace(truthful, graph=file), model).run(card)
        away = float(np.abs(alphas - truth).max())
        if not away <= LEVEL:
            raise EngineUnavailableError(
                f"The program for pixels gives other alphas: {away / LEVEL:.1f} levels of 255 away"
            )
        (folder / DIGEST).write_text(_digest(file))

    def sound(folder: Path) -> bool:
        try:
            return (folder / DIGEST).read_text() == _digest(folder / graph.name)
        except (OSError, ValueError):
            return False

    _kept(graph.parent, build, sound)


def build_engines(settings: Settings, model: Model, warm: Warm, graph: Path | None) -> None:
    """Collect the shape ranges and build TensorRT's engines, unless they exist. `graph`: the
    program, if it is not the model's own.

    Raises EngineUnavailableError if they cannot be stored.
    """

    def build(folder: Path) -> None:
        noting = collecting(settings, model, folder / SHAPE_RANGES, graph)
        collect_shapes(talkative(noting), model, warm)
        plan = talkative(tensorrt_plan(settings, model, folder, graph))
        session = PredictorSession(plan, model)
        session.run(blank(plan, *warm[0]))
        del session
        gc.collect()

    _kept(engine_folder(settings, model, warm, graph), build)


def collect_shapes(plan: EnginePlan, model: Model, warm: Warm) -> None:
    """Let Paddle record the range of every tensor's shape over all inputs that will occur."""
    session = PredictorSession(plan, model)
    for count, shape in warm:
        session.run(blank(plan, count, shape))
    del session  # Paddle writes the file when the predictor is destroyed
    gc.collect()


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _kept(
    folder: Path, build: Callable[[Path], None], sound: Callable[[Path], bool] = Path.is_dir
) -> None:
    try:
        build_once(folder, build, sound)
    except OSError as error:
        raise EngineUnavailableError(
            f"What is built for the device can't be kept in {folder.parent} "
            f"(MATTING_ENGINE_CACHE_DIR): {error}"
        ) from error
