"""Connects Celery to batches: Redis holds one message per image, the pool receives whole batches.

Celery's default strategy receives each message and handles its events, revocation and
acknowledgement, so Flower and `inspect` show every image as with plain Celery. Where the strategy
would pass a request to the pool, the collector (worker.consumer.collector) gathers it into a batch.

docs/decisions/0001 compares this with celery-batches.
"""

import time
import uuid
from collections.abc import Callable
from functools import partial
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
"""The process ends if its event loop does not turn for this long, because it then neither receives
nor acknowledges messages. Redis needs less time to load its file, and a connection needs less to
notice that its peer is gone.
"""

MAX_MESSAGE_BYTES = 64 * 1024
"""The service's own messages have a few hundred bytes."""

REFUSED_WAIT_S = 1.0
"""Wait between two attempts while Redis refuses writes."""

RECONNECT_WAIT_S = 3
"""Longest wait between two attempts to connect to Redis."""


class CheckedConsumer(Consumer):
    """Celery's consumer with four additions.

    It refuses a message of a foreign shape before Celery parses it. Such a message would end its
    worker, be delivered again, and end the next worker. It reports an event loop that hangs. It
    notices within seconds when Redis is back. And it ends a process whose batches are to be
    cancelled.
    """

    collector: Collector | None = None
    # Celery sets these attributes; its type stubs omit them.
    app: Celery
    hub: Any
    amqheartbeat: Any
    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]

    def connect(self) -> Any:
        """Connect to the broker and register the connection with the loop. It closes the connection
        if Redis answers but refuses writes (for example with a full disk); Celery does not, and
        would lose a file descriptor with each attempt.
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

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, with an attempt every few seconds while Redis is unavailable. Celery itself
        waits up to 30 s between two attempts after a long outage.
        """
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=1, interval_step=1, interval_max=RECONNECT_WAIT_S
        )
        return super().ensure_connected(conn)

    def loop(self, *arguments: Any) -> None:
        """Run Celery's loop while the connection lasts, watched by the watchdog."""
        app, hub = self.app, self.hub
        watchdog = cast(BatchTask, app.tasks[TASK]).watchdog
        if watchdog is None:
            loops.asynloop(*arguments)
            return
        with watchdog.watching(None, "loop", MAX_LOOP_TURN_S) as turned:
            hub.timer.call_repeatedly(LOOP_TURN_S, turned)
            loops.asynloop(*arguments)

    def cancel_active_requests(self) -> None:
        """Celery calls it at SIGQUIT and at a second Ctrl-C. Its pool of threads can't cancel, so
        its own method raises an error.
        """
        end = cast(BatchTask, self.app.tasks[TASK]).end_at_once
        if end is not None:
            end()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """The function that Celery calls with each message."""
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
    """Reduce a message (kombu's) to the fields of this service's messages: no ETA, no links to
    other tasks, no display names. Raises InvalidMessageError.
    """
    headers, body = message.headers, message.body
    if not isinstance(headers, dict) or headers.get("task") != TASK:
        raise InvalidMessageError("It names no task of this worker")
    if body is None or len(body) > MAX_MESSAGE_BYTES:
        raise InvalidMessageError(f"It has more than {MAX_MESSAGE_BYTES:,} bytes, or none")
    try:
        number = str(uuid.UUID(headers["id"]))
        args, kwargs, _links = message.payload
    except Exception as error:  # the decoder may raise anything
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
    """A consumer proxy that passes requests to the collector instead of the pool."""

    def __init__(self, consumer: Consumer, collector: "Collector") -> None:
        self._consumer = consumer
        self.on_task_request = collector.add

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


def collecting_strategy(task: BatchTask, app: Celery, consumer: CheckedConsumer) -> Any:
    """Celery's default strategy, with the collector in place of the pool. Celery asks for it after
    each reconnect; the collector is reused, because a new one each time would leak a descriptor.
    """
    if consumer.collector is None:
        consumer.collector = Collector(task, consumer)
    consumer.collector.attach()
    return strategy.default(task, app, _Collecting(consumer, consumer.collector))
