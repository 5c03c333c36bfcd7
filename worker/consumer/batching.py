"""The queue becomes batches: one message an image in Redis, one call a batch in the pool.

Celery's own strategy receives each message (events, revocation and acknowledgement are its own, so
Flower and `inspect` see every image as in plain Celery); only where it would hand a request to the
pool, the request is collected instead (worker.consumer.collector), and the pool gets a whole list.

Chosen after a trial against celery-batches and a claim-ahead task (tests/benchmarks/README.md).
"""

import time
import uuid
from collections.abc import Callable
from typing import Any, cast

from celery import Celery
from celery.worker import loops, strategy
from celery.worker.consumer import Consumer

from shared.errors import InvalidMessageError
from shared.queue import TASK
from shared.telemetry import get_logger
from worker.consumer.collector import BatchTask, Collector

log = get_logger(__name__)

LOOP_TURN_S = 5.0
MAX_LOOP_TURN_S = 300.0
"""A loop that does not turn for so long takes no messages and acknowledges none: its process ends.
Longer than Redis takes to load its file, and than a connection takes to find its machine gone."""

MAX_MESSAGE_BYTES = 64 * 1024
"""Ours have a few hundred."""

REFUSED_WAIT_S = 1.0
"""Between two tries while Redis refuses writes."""


class CheckedConsumer(Consumer):
    """Celery's consumer, but what is not a message of ours is refused before Celery looks into it:
    a body of another shape ends its worker, is delivered again, and ends the next. And it is
    noticed when its loop stands still.
    """

    collector: Collector | None = None
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


def collecting_strategy(task: BatchTask, app: Celery, consumer: CheckedConsumer) -> Any:
    """Celery's default strategy, with the collector in the pool's place. It is asked for each time
    that Redis comes back; the collector stays the same, or each would leave a descriptor behind.
    """
    if consumer.collector is None:
        consumer.collector = Collector(task, consumer)
    consumer.collector.attach()
    return strategy.default(task, app, _Collecting(consumer, consumer.collector))
