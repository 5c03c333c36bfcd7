"""Loads the models of a worker side by side, and warms them up together."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from shared.settings import Settings
from shared.telemetry import get_logger
from worker.inference.predictor import Predictor, load_predictor

log = get_logger(__name__)

MODELS_AT_ONCE = 2
"""Models that are loaded at the same time on a CPU, so that no core waits for the other: opening a
network takes one thread, and a model that only gives second opinions has a single network.
"""


def load_predictors(settings: Sequence[Settings]) -> list[Predictor]:
    """The warm and verified predictors for these settings, in the same order. Raises like
    `load_predictor`; no predictor is left then.

    On a CPU all networks are opened before any is warmed up. In Paddle 3.2.2 opening a network
    drops the kernels that oneDNN compiled for the others: each first photo of a shape would compile
    them again, and the worker would take 100 MB more.
    """
    if any(one.device != "cpu" for one in settings):
        return _one_by_one(settings)
    opening = [partial(load_predictor, one, warm_shapes=False) for one in settings]
    opened = _all_or_none(opening)
    try:
        with ThreadPoolExecutor(MODELS_AT_ONCE, "warm-up") as threads:
            list(threads.map(Predictor.warm_up, opened))
    except BaseException:
        for predictor in opened:
            predictor.close()
        raise
    for predictor in opened:
        log.info("predictor-warm", **predictor.describe())
    return opened


def _one_by_one(settings: Sequence[Settings]) -> list[Predictor]:
    loaded: list[Predictor] = []
    try:
        loaded.extend(map(load_predictor, settings))
    except BaseException:
        for predictor in loaded:
            predictor.close()
        raise
    return loaded


def _all_or_none(loading: Sequence[Callable[[], Predictor]]) -> list[Predictor]:
    with ThreadPoolExecutor(MODELS_AT_ONCE, "load") as threads:
        futures = [threads.submit(load) for load in loading]
    failures = [error for future in futures if (error := future.exception())]
    if not failures:
        return [future.result() for future in futures]
    for future in futures:
        if not future.exception():
            future.result().close()
    raise failures[0]
