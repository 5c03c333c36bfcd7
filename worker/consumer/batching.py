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
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, cast

from billiard.einfo import ExceptionInfo
from celery import Celery, Task
from celery.exceptions import Ignore
from celery.worker import loops, state, strategy
from celery.worker.consumer import Consumer
from celery.worker.request import Request

from shared.errors import InvalidMessageError, MattingError
from shared.queue import EXPRESS_STEP, TASK
from shared.telemetry import get_logger
from worker.concurrency.watchdog import Watchdog

log = get_logger(__name__)

LOOP_TURN_S = 5.0
MAX_LOOP_TURN_S = 300.0
"""A loop that does not turn for so long takes no messages and acknowledges none: its process ends.
Longer than Redis takes to load its file, and than a connection takes to find its machine gone."""

MAX_MESSAGE_BYTES = 64 * 1024
"""Ours have a few hundred."""

REFUSED_WAIT_S = 1.0
"""Between two tries while Redis refuses writes."""


class BatchBody(Protocol):
    """What a batch is run by."""

    def run_many(self, messages: Sequence[dict[str, Any]]) -> Sequence[str | MattingError | None]:
        """For each message's arguments, in their order: a word on its success, its error, or None
        when there was nothing to do.
        """


class BatchTask(Task):  # type: ignore[type-arg]  # generic in its stubs only
    """A task whose messages run as batches. `body` is set when the worker starts."""

    Strategy = "worker.consumer.batching:collecting_strategy"
    body: BatchBody
    batch_size = 1
    batch_wait_s = 0.05
    batches_in_flight = 1
    watchdog: Watchdog | None = None
    """Who is to notice that the loop stands still; none: nobody."""


class CheckedConsumer(Consumer):
    """Celery's consumer, but what is not a message of ours is refused before Celery looks into it:
    a body of another shape ends its worker, is delivered again, and ends the next. And it is
    noticed when its loop stands still.
    """

    collector: "Collector | None" = None
    # Set by Celery, which its stubs do not say.
    app: Celery
    hub: Any
    amqheartbeat: Any
    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]

    def connect(self) -> Any:
        """The broker's connection, heard by the loop. Celery forgets to close it if Redis answers
        but refuses writes (a full disk, say): each try would cost a descriptor.
        """
        connection = self.connection_for_read(heartbeat=self.amqheartbeat)
        try:
            if self.hub:
                connection.transport.register_with_event_loop(connection.connection, self.hub)
        except self.channel_errors:
            connection.close()
            time.sleep(REFUSED_WAIT_S)
            raise
        return connection

    def loop(self, *arguments: Any) -> None:
        """Celery's, while the connection lasts; none turns while Redis is away."""
        app, hub = self.app, self.hub
        watchdog = cast(BatchTask, app.tasks[TASK]).watchdog
        if watchdog is None:
            loops.asynloop(*arguments)
            return
        with watchdog.watching(None, "loop", MAX_LOOP_TURN_S) as turned:
            hub.timer.call_repeatedly(LOOP_TURN_S, turned)
            loops.asynloop(*arguments)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """What is called with each message."""
        handle = super().create_task_handler(*args, **kwargs)
        away = self.connection_errors

        def checked(message: Any) -> Any:
            try:
                keep_ours(message)
            except InvalidMessageError as error:
                log.warning("message-refused", code=error.code, detail=error.detail)
                message.reject_log_error(log, away)
                return None
            return handle(message)

        return checked


def keep_ours(message: Any) -> None:
    """Leave of a message (kombu's) nothing but what ours have: neither times, links to other tasks,
    nor names to show in its place. Raises InvalidMessageError.
    """
    headers, body = message.headers, message.body
    if not isinstance(headers, dict) or headers.get("task") != TASK:
        raise InvalidMessageError("It is for no task of this worker")
    if body is None or len(body) > MAX_MESSAGE_BYTES:
        raise InvalidMessageError(f"It has more than {MAX_MESSAGE_BYTES:,} bytes, or none")
    try:
        number = str(uuid.UUID(headers["id"]))
        args, kwargs, _links = message.payload
    except Exception as error:  # of whatever its decoder raises
        raise InvalidMessageError(f"It can't be read: {type(error).__name__}") from error
    if args != [] or not isinstance(kwargs, dict):
        raise InvalidMessageError("Its arguments are not those of the task")
    shown = headers.get("kwargsrepr")
    message.headers = {
        "lang": "py",
        "task": TASK,
        "id": number,
        "root_id": number,
        "argsrepr": "()",
        "kwargsrepr": shown if isinstance(shown, str) else "{}",
        "ignore_result": True,
    }
    message.payload[:] = args, kwargs, {}


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
        self._running = 0
        self._timer: Any = None
        self._due = False
        """Whether the oldest that waits has waited long enough for a batch that is not full."""
        self._to_do: deque[Callable[[], None]] = deque()
        """What threads of the pool left to the loop's."""
        # Acknowledgements are carried out by the loop, which may sleep up to a second: wake it.
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._hub: Any = None

    def attach(self) -> None:
        """Let the loop hear of it; again when it begins anew, since it forgets all it heard of."""
        self._hub = self._consumer.hub  # type: ignore[attr-defined]  # set by Celery's blueprint
        self._hub.add_reader(self._wake_fd, self._woken)
        # A worker that stops waits for its pool after the loop's last turn. The hub calls what is
        # in here, then carries out the acknowledgements that came of it.
        self._hub.on_close.add(self._hub_closes)

    def add(self, request: Request) -> None:
        """Take a request; a full batch leaves at once, another after the wait."""
        self._waiting.append(request)
        self._send()

    def _send(self) -> None:
        """Hand batches out while a thread of the pool is free. A batch that would only wait there
        goes on growing here: sent small, it comes back small, since as many messages are let in as
        are acknowledged (seen: 1.5 of 8 images a batch for a whole job).
        """
        if _stops():  # what waits goes back to the queue: the pool takes nothing more
            return
        size = self._task.batch_size
        while self._running < self._task.batches_in_flight and (
            len(self._waiting) >= size or (self._due and self._waiting)
        ):
            requests = self._next(size)
            self._due = False
            self._running += 1
            self._consumer.pool.apply_async(self._run, (requests,))
        if not self._due and self._waiting:
            if self._timer is None:
                self._timer = self._consumer.timer.call_after(self._task.batch_wait_s, self._waited)
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self, size: int) -> list[Request]:
        """Take up to `size`. Somebody may wait for what is express: it goes first, and alone, since
        a batch takes as long as all of its images.
        """
        express = [one for one in self._waiting if one.delivery_info["priority"] == EXPRESS_STEP]
        taken = (express or self._waiting)[:size]
        self._waiting = [one for one in self._waiting if one not in taken]
        return taken

    def _waited(self) -> None:
        self._timer, self._due = None, True
        self._send()

    def _run(self, requests: list[Request]) -> None:
        """In a thread of the pool: run the batch."""
        started = time.monotonic()
        self._in_loop(_accept, requests, started)
        results: Sequence[str | MattingError | None]
        try:
            results = self._task.body.run_many([dict(request.kwargs) for request in requests])
            assert len(results) == len(requests), "run_many must settle every message"
        except Exception as error:
            log.exception("batch-failed", messages=len(requests))
            results = [MattingError(f"The batch failed: {error!r}")] * len(requests)
        self._in_loop(self._ended, requests, results, time.monotonic() - started)

    def _ended(
        self,
        requests: list[Request],
        results: Sequence[str | MattingError | None],
        runtime_s: float,
    ) -> None:
        _settle(requests, results, runtime_s)
        self._running -= 1
        self._send()

    def _in_loop(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have the loop's thread do it, now: Celery's event buffer loses what two threads add at
        once (seen: 35 of 2,000 `task-started` arrived).
        """
        self._to_do.append(partial(work, *arguments))
        os.eventfd_write(self._wake_fd, 1)

    def _woken(self) -> None:
        os.eventfd_read(self._wake_fd)
        self._catch_up()

    def _hub_closes(self, _hub: Any) -> None:
        self._catch_up()

    def _catch_up(self) -> None:
        while self._to_do:
            self._to_do.popleft()()


def _stops() -> bool:
    asked: tuple[Any, ...] = (state.should_stop, state.should_terminate)  # an exit status, or not
    return any(one is not None and one is not False for one in asked)


def _accept(requests: list[Request], started: float) -> None:
    for request in requests:
        request.on_accepted(str(os.getpid()), started)


def _settle(
    requests: list[Request], results: Sequence[str | MattingError | None], runtime_s: float
) -> None:
    """Acknowledge each message and send its event: the database has the item's state already. A
    message that came twice sends none: a success after the failure would hide it from Flower.
    """
    for request, result in zip(requests, results, strict=True):
        try:
            if result is None:
                request.on_failure(_as_exception_info(Ignore()))
            elif isinstance(result, MattingError):
                request.on_failure(_as_exception_info(result), return_ok=True)
            else:
                request.on_success((False, result, runtime_s))
        except Exception:
            # Never let one request keep the others from being acknowledged.
            log.exception("settling-failed", message=request.id)


def _as_exception_info(error: Exception) -> ExceptionInfo:
    try:
        raise error
    except Exception:
        return ExceptionInfo()  # it takes what is being handled, traceback and all


def collecting_strategy(task: BatchTask, app: Celery, consumer: CheckedConsumer) -> Any:
    """Celery's default strategy, with the collector in the pool's place. It is asked for each time
    that Redis comes back; the collector stays the same, or each would leave a descriptor behind.
    """
    if consumer.collector is None:
        consumer.collector = Collector(task, consumer)
    consumer.collector.attach()
    return strategy.default(task, app, _Collecting(consumer, consumer.collector))
