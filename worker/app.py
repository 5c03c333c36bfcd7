"""The Celery worker process: load the model, warm it up, verify it, consume messages, stop.

Start it with `celery -A worker.app worker -P threads`. Celery's worker_init signal opens everything
before the first message is received; the worker closes it in reverse order at the end. Importing
this module opens nothing.
"""

# ruff: noqa: E402
import gc

# Until the worker is ready. Collections take a seventh of the time of its imports, and find
# nothing.
gc.disable()

import faulthandler
import os
import socket
import sys
import threading
import uuid
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from typing import Any, cast

from celery import signals
from kombu import Exchange, Queue

from shared.database import Database
from shared.errors import MattingError, SetupError
from shared.options import Options
from shared.queue import TASK, make_app, served_queues
from shared.redis_connection import refuse_cluster
from shared.settings import Settings, get_settings
from shared.storage import Storage
from shared.telemetry import PREDICTOR_WARM, configure_logging, get_logger
from shared.tracing import open_tracing
from shared.web import Web, WebLimits
from worker.concurrency.fifo_lock import FifoLock
from worker.concurrency.pixel_budget import PixelBudget
from worker.concurrency.shared_exclusive_lock import SharedExclusiveLock
from worker.concurrency.watchdog import Watchdog
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.consumer.collector import BatchTask
from worker.consumer.device_metrics import watch_device
from worker.consumer.heartbeat import Heartbeat
from worker.consumer.other_workers import OtherWorkers
from worker.consumer.probes import Probes
from worker.consumer.process_end import end_at_once, end_stuck, end_without_device
from worker.inference.engine import one_stream
from worker.inference.predictor import Predictor
from worker.inference.side_by_side import load_predictors
from worker.inference.tuning import batch_sizes
from worker.pipeline.model_router import ModelRouter
from worker.pipeline.photo_sources import PhotoSources
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.result_reuse import ResultReuse
from worker.pipeline.second_opinions import SecondOpinions
from worker.video.folders import remove_abandoned

log = get_logger(__name__)

QUEUE_POLL_S = 0.2
"""Longest blocking read from Redis, in s. After it the worker polls again, perhaps other queues,
because it polls only queues that it has free places for.
"""


def _settings_of(model: str) -> Settings:
    """The settings with the batch sizes and streams tuned for this model.

    A model that only gives second opinions gets few photos.
    """
    settings = get_settings()
    own = batch_sizes(settings.model_copy(update={"model": model}))
    rarely = model == settings.default_second_model and model not in settings.offered_models
    return one_stream(own) if rarely else own


# The first model decides how many messages make a batch; the other models take the same.
_settings = get_settings().model_copy(
    update={"batch_size": _settings_of(get_settings().served_models[0]).batch_size}
)
assert _settings.batch_size is not None, "batch_sizes fills it in"

app = make_app(_settings)
# Celery prefetches this number times the pool's threads: one batch for each batch in flight.
# Celery's command line reads the value before it sends any signal.
app.conf.worker_prefetch_multiplier = _settings.batch_size
app.conf.worker_consumer = "worker.consumer.batching:CheckedConsumer"
# Queues of photos by URL come first: the worker polls them only while it has a free place for such
# a photo (worker.consumer.lanes).
_url_queues = served_queues(_settings, by_url=True)
app.conf.task_queues = [
    Queue(name, Exchange(name), routing_key=name)
    for name in [*_url_queues, *served_queues(_settings)]
]
app.conf.broker_transport_options = {
    **app.conf.broker_transport_options,
    "polling_interval": QUEUE_POLL_S,
}
_opened = ExitStack()


@app.task(name=TASK, base=BatchTask, bind=True, acks_late=True)
def remove_background(task: BatchTask, /, **message: str) -> None:
    """The task that Celery knows. Its messages run in batches (see worker.consumer.batching)."""
    raise NotImplementedError(f"{task.name} runs in batches only")


@signals.setup_logging.connect
def _setup_logging(**_: Any) -> None:
    configure_logging(_settings)


@signals.worker_init.connect
def _open(**_: Any) -> None:
    """Open everything, or end the process: a worker that cannot work must not receive messages."""
    settings = _settings
    # After a crash in native code the log contains the stack of every thread.
    faulthandler.enable(sys.__stderr__ or sys.stderr)
    watchdog = Watchdog(settings.image_timeout_s)
    probes = Probes(watchdog)
    try:
        if settings.devices is not None:
            raise SetupError(
                "This process is one worker. With MATTING_DEVICES start `matting worker`, or set "
                "MATTING_DEVICE in its place"
            )
        if settings.worker_metrics_port:
            _opened.callback(probes.serve(settings.worker_metrics_port))
        worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        _opened.callback(open_tracing(settings, "worker"))
        database = Database.of(settings, process="worker")
        _opened.callback(database.close)
        database.ping()
        refuse_cluster(settings)
        # each model has threads of its own
        models = settings.served_models
        storage = Storage(settings, connections=settings.io_threads * len(models))
        _opened.callback(storage.close)
        storage.ping()
        web = Web(WebLimits.of(settings))
        _opened.callback(web.close)
        sources = PhotoSources(storage, web)
        pixel_budget = PixelBudget(settings.max_decoded_pixels)
        loaded = load_predictors([_settings_of(model) for model in models])
        predictors = dict(zip(models, loaded, strict=True))
        for predictor in loaded:
            _opened.callback(predictor.close)
        others = OtherWorkers(database, settings)
        second = SecondOpinions(settings, predictors.get, others.serve)

        def second_fingerprint(options: Options) -> str:
            name = second.model_for(options) or ""
            return predictors[name].model.fingerprint if name in predictors else name

        stopping, isolation = threading.Event(), SharedExclusiveLock()
        clip_turn, pipelines = FifoLock(), {}
        for model, predictor in predictors.items():
            own = _settings_of(model)
            past = ResultReuse(database, storage, predictor.model.fingerprint, second_fingerprint)
            pipelines[model] = Pipeline(
                predictor,
                sources,
                own,
                past if settings.reuse_results else None,
                watchdog,
                pixel_budget,
                second,
                sources,
                sources,
                stopping,
                isolation,
                clip_turn,
            )
            _opened.callback(pipelines[model].close)
        watch_device(settings)
        remove_abandoned()
        router = ModelRouter(pipelines, default=settings.model)
        # A server may come back; a device of this process that fails for good fails until its end.
        on_server = settings.device == "triton"
        breakers = (
            CircuitBreaker(storage.ping),
            CircuitBreaker(
                lambda: _ping(predictors.values()),
                None if on_server else lambda error: end_without_device(runner, error),
            ),
        )
        runner = BatchRunner(
            database,
            router,
            settings,
            worker_id,
            *breakers,
            stopping=stopping,
            isolation=isolation,
            clip_turn=clip_turn,
        )
        watchdog.start(lambda *stuck: end_stuck(runner, *stuck))
        _opened.callback(watchdog.stop)
        heartbeat = Heartbeat(database, runner, settings, worker_id)
        assert settings.batch_size is not None
        takes = settings.batch_size * settings.batches_in_flight
        description = predictors[settings.served_models[0]].describe()
        heartbeat.start(
            {
                **description,
                "models": list(pipelines),
                "takes": takes,
                "url_places": settings.url_threads,
                "version": version("matting"),
            }
        )
        _opened.callback(heartbeat.stop)
        task = cast(BatchTask, app.tasks[TASK])
        task.body, task.batch_size = runner, settings.batch_size
        task.batch_wait_s = settings.batch_wait_ms / 1e3
        task.batches_in_flight = settings.batches_in_flight
        task.url_queues, task.url_places = tuple(_url_queues), settings.url_threads
        task.watchdog = watchdog
        task.end_at_once = partial(end_at_once, runner)
        signals.worker_ready.connect(lambda **_: _ready(probes), weak=False)
        signals.worker_shutting_down.connect(
            lambda **_: _stopping(heartbeat, breakers, probes, stopping), weak=False
        )
        gc.freeze()  # what was loaded stays until the end: no collection examines it
        gc.enable()
    except Exception as error:
        # Catch everything: Celery only logs exceptions of signal handlers and then consumes
        # messages anyway. It does let an exit through.
        try:
            _report_failed_start(error)
            _opened.close()
        finally:
            sys.exit(2)


def _report_failed_start(error: Exception) -> None:
    if isinstance(error, MattingError):
        log.error("worker-cannot-start", code=error.code, detail=error.message)
    else:
        log.error("worker-cannot-start", code=SetupError.code, detail=repr(error), exc_info=error)


def _ready(probes: Probes) -> None:
    """Report the worker as ready: it receives messages, and SIGTERM ends it after its batches.
    Called again whenever Celery has connected anew.
    """
    if probes.state == "warming":
        probes.state = "warm"
        PREDICTOR_WARM.set(1)


def _ping(predictors: Iterable[Predictor]) -> None:
    for predictor in predictors:
        predictor.ping()


def _stopping(
    heartbeat: Heartbeat,
    breakers: Iterable[CircuitBreaker],
    probes: Probes,
    stopping: threading.Event,
) -> None:
    stopping.set()
    probes.state = "stopping"
    PREDICTOR_WARM.set(0)
    for breaker in breakers:
        breaker.stop()
    heartbeat.renew_only()


@signals.worker_shutdown.connect
def _close(**_: Any) -> None:
    """Close everything after the last batch: the pool has ended, so nothing uses these
    resources.
    """
    _opened.close()
