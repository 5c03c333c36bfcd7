"""The queue becomes batches: one message an image in Redis, one call a batch in the pool.

Celery's own strategy receives each message (events, revocation and acknowledgement are its own, so
Flower and `inspect` see every image as in plain Celery); only where it would hand a request to the
pool, the request is collected instead, and the pool gets the whole list. Then every request is
settled by itself: what is done is acknowledged, and a batch that raises fails its images instead of
losing them.

Chosen after a trial against celery-batches and a claim-ahead task (tests/benchmarks/README.md).
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from billiard.einfo import ExceptionInfo
from celery import Celery, Task
from celery.worker import strategy
from celery.worker.consumer import Consumer
from celery.worker.request import Request

from shared.errors import MattingError
from shared.telemetry import get_logger

log = get_logger(__name__)


class BatchBody(Protocol):
    """What a batch is run by."""

    def run_many(self, messages: Sequence[dict[str, Any]]) -> Sequence[str | MattingError]:
        """For each message's arguments, in their order: a word on its success, or its error."""


class BatchTask(Task):  # type: ignore[type-arg]  # generic in its stubs only
    """A task whose messages run as batches. `body` is set when the worker starts."""

    Strategy = "worker.batching:collecting_strategy"
    body: BatchBody
    batch_size = 1
    batch_wait_s = 0.05


class _Collecting:
    """The consumer, but requests go to the collector instead of the pool."""

    def __init__(self, consumer: Consumer, collector: "Collector") -> None:
        self._consumer = consumer
        self.on_task_request = collector.add

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


class Collector:
    """Gathers requests into batches. All but `_run` happens in the consumer's loop thread."""

    def __init__(self, task: BatchTask, consumer: Consumer) -> None:
        self._task = task
        self._consumer = consumer
        self._waiting: list[Request] = []
        self._timer: Any = None
        # Acknowledgements are carried out by the loop, which may sleep up to a second: wake it.
        self._hub: Any = consumer.hub  # type: ignore[attr-defined]  # set by Celery's blueprint
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._hub.add_reader(self._wake_fd, self._woken)

    def add(self, request: Request) -> None:
        """Take a request; a full batch leaves at once, another after the wait."""
        self._waiting.append(request)
        if len(self._waiting) >= self._task.batch_size:
            self._flush()
        elif self._timer is None:
            self._timer = self._consumer.timer.call_after(self._task.batch_wait_s, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        requests, self._waiting = self._waiting, []
        if requests:
            self._consumer.pool.apply_async(self._run, (requests,))

    def _run(self, requests: list[Request]) -> None:
        """In a thread of the pool: run the batch."""
        started = time.monotonic()
        self._in_loop(_accept, requests, started)
        try:
            results = self._task.body.run_many([dict(request.kwargs) for request in requests])
            assert len(results) == len(requests), "run_many must settle every message"
        except Exception as error:
            log.exception("batch-failed", messages=len(requests))
            results = [MattingError(f"The batch failed: {error!r}")] * len(requests)
        self._in_loop(_settle, requests, results, time.monotonic() - started)

    def _in_loop(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have the loop's thread do it, now: Celery's event buffer loses what two threads add at
        once (seen: 35 of 2,000 `task-started` arrived).
        """
        self._hub.call_soon(work, *arguments)
        os.eventfd_write(self._wake_fd, 1)

    def _woken(self) -> None:
        os.eventfd_read(self._wake_fd)


def _accept(requests: list[Request], started: float) -> None:
    for request in requests:
        request.on_accepted(str(os.getpid()), started)


def _settle(
    requests: list[Request], results: Sequence[str | MattingError], runtime_s: float
) -> None:
    """Acknowledge each message and send its event: the database has the item's state already."""
    for request, result in zip(requests, results, strict=True):
        try:
            if isinstance(result, MattingError):
                request.on_failure(_as_exception_info(result), return_ok=True)
            else:
                request.on_success((False, result, runtime_s))
        except Exception:
            # Never let one request keep the others from being acknowledged.
            log.exception("settling-failed", message=request.id)


def _as_exception_info(error: MattingError) -> ExceptionInfo:
    try:
        raise error
    except MattingError:
        return ExceptionInfo()  # it takes what is being handled, traceback and all


def collecting_strategy(task: BatchTask, app: Celery, consumer: Consumer) -> Any:
    """Celery's default strategy, with the collector in the pool's place."""
    return strategy.default(task, app, _Collecting(consumer, Collector(task, consumer)))
