"""Gathers requests into batches, runs them in threads, and settles each request in the event loop.

Each request is settled separately: a finished one is acknowledged, and a batch that raises fails
its images instead of losing them.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from billiard.einfo import ExceptionInfo
from celery import Task
from celery.exceptions import Ignore
from celery.worker import state
from celery.worker.request import Request

from shared.errors import MattingError
from shared.messages import is_of_clip
from shared.telemetry import get_logger
from worker.concurrency.watchdog import Watchdog
from worker.consumer.lanes import Lane, is_express

log = get_logger(__name__)


class BatchBody(Protocol):
    """The code that processes a batch."""

    def run_many(self, messages: Sequence[dict[str, Any]]) -> Sequence[str | MattingError | None]:
        """Process the messages. Returns for each one's arguments, in their order, a word for
        success, an error, or None if there was nothing to do.
        """

    def run_each(
        self,
        messages: Sequence[dict[str, Any]],
        tell: Callable[[int, str | MattingError | None], None],
        *,
        urgent: bool,
    ) -> None:
        """The same for photos that may arrive slowly; `tell` receives the index and result of each
        message as soon as it is settled.
        """


class BatchTask(Task):  # type: ignore[type-arg]  # generic in its stubs only
    """A Celery task whose messages run as batches. The worker sets `body` when it starts."""

    Strategy = "worker.consumer.batching:collecting_strategy"
    body: BatchBody
    batch_size = 1
    batch_wait_s = 0.05
    batches_in_flight = 1
    url_queues: tuple[str, ...] = ()
    """The queues of photos by URL; each such photo has a place of its own."""
    url_places = 1
    watchdog: Watchdog | None = None
    """The watchdog that watches the event loop; None: it is not watched."""
    end_at_once: Callable[[], None] | None = None
    """Ends the process without waiting for its batches."""


class Collector:
    """Gathers requests into batches. All methods but those that run batches run in the event loop's
    thread.
    """

    def __init__(self, task: BatchTask, consumer: Any) -> None:
        self._task = task
        self._consumer = consumer
        size = task.batch_size
        self._storage = Lane(size=size, places=task.batches_in_flight, place_per_request=False)
        self._by_url = Lane(size=size, places=task.url_places, place_per_request=True)
        self._url_threads = ThreadPoolExecutor(task.url_places, "url-batch")
        self._let_in = 0
        """The increase of the prefetch count for messages of photos by URL, so that they take no
        places of others.
        """
        self._paused = False
        self._to_do: deque[Callable[[], None]] = deque()
        """Calls that pool threads have queued for the event loop."""
        # The event loop sends acknowledgements and may sleep for up to a second: this wakes it.
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._hub: Any = None

    def attach(self) -> None:
        """Register with the event loop; again after each reconnect, because the loop forgets its
        callbacks.
        """
        self._hub = self._consumer.hub
        self._hub.add_reader(self._wake_fd, self._woken)
        # A stopping worker waits for its pool after the last turn of the loop. The hub calls these
        # functions when it closes, then sends the acknowledgements that resulted.
        self._hub.on_close.add(self._hub_closes)
        # A new connection consumes from all queues, with the initial prefetch count.
        self._paused, self._let_in = False, 0

    def add(self, request: Request) -> None:
        """Add a request. A full batch starts at once, a smaller one after `batch_wait_s`."""
        by_url = request.delivery_info["routing_key"] in self._task.url_queues
        lane = self._by_url if by_url else self._storage
        lane.add(request)
        if by_url:
            self._let_in += 1
            self._consumer.qos.increment_eventually()
        self._send(lane)

    def _send(self, lane: Lane) -> None:
        """Start batches while there are free places."""
        if _stops():  # the pool accepts nothing more; waiting requests go back to the queue
            return
        while requests := lane.next_batch():
            if lane is self._by_url:
                for some in _apart(requests):
                    self._url_threads.submit(self._run_each, some)
            else:
                self._consumer.pool.apply_async(self._run, (requests,))
        if not lane.due and lane.waits:
            if lane.timer is None:
                timer = self._consumer.timer
                lane.timer = timer.call_after(self._task.batch_wait_s, self._waited, (lane,))
        elif lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        self._pause_or_go_on()

    def _pause_or_go_on(self) -> None:
        """Consume messages of photos by URL only while there is a free place, so that other workers
        can take the rest.
        """
        consumer = self._consumer.task_consumer
        if consumer is None or self._by_url.full == self._paused:
            return
        self._paused = self._by_url.full
        # the queues were declared at the start, so this does not ask Redis
        consumer.auto_declare = False
        for name in self._task.url_queues:
            if self._paused:
                consumer.cancel_by_queue(name)
            else:
                consumer.add_queue(self._consumer.app.amqp.queues[name])
        if not self._paused:
            consumer.consume()

    def _waited(self, lane: Lane) -> None:
        lane.timer, lane.due = None, True
        self._send(lane)

    def _run(self, requests: list[Request]) -> None:
        """Run a batch in a thread of the pool."""
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

    def _run_each(self, requests: list[Request]) -> None:
        """Run photos by URL in a thread of their own, and settle each as soon as it is done."""
        started = time.monotonic()
        self._in_loop(_accept, requests, started)
        left = dict(enumerate(requests))

        def tell(place: int, result: str | MattingError | None) -> None:
            request = left.pop(place)
            self._in_loop(self._ended_by_url, request, result, time.monotonic() - started)

        lost: MattingError | None = MattingError("The batch ended without a result for this image")
        try:
            arguments = [dict(request.kwargs) for request in requests]
            self._task.body.run_each(arguments, tell, urgent=is_express(requests[0]))
        except Exception as error:
            log.exception("batch-failed", messages=len(left))
            lost = MattingError(f"The batch failed: {error!r}")
        for place in list(left):
            tell(place, lost)

    def _ended(
        self,
        requests: list[Request],
        results: Sequence[str | MattingError | None],
        runtime_s: float,
    ) -> None:
        _settle(requests, results, runtime_s)
        self._storage.free_place()
        self._send(self._storage)

    def _ended_by_url(
        self, request: Request, result: str | MattingError | None, runtime_s: float
    ) -> None:
        _settle([request], [result], runtime_s)
        self._by_url.free_place()
        if self._let_in:
            self._let_in -= 1
            self._consumer.qos.decrement_eventually()
        self._send(self._by_url)

    def _in_loop(self, work: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the event loop's thread soon. Celery's event buffer is not
        thread-safe: with two threads 35 of 2,000 `task-started` events arrived.
        """
        self._to_do.append(partial(work, *arguments))
        os.eventfd_write(self._wake_fd, 1)

    def _woken(self) -> None:
        os.eventfd_read(self._wake_fd)
        self._catch_up()

    def _hub_closes(self, _hub: Any) -> None:
        if _stops():
            self._url_threads.shutdown()
        self._catch_up()

    def _catch_up(self) -> None:
        while self._to_do:
            self._to_do.popleft()()


def _apart(requests: list[Request]) -> list[list[Request]]:
    """The photos by URL of each queue together: the models of a batch run one after the other, and
    one would wait for the slow servers of another. Each clip has a thread of its own: it goes on
    with its other segments, and takes turns with clips of other threads only.
    """
    together: dict[str, list[Request]] = {}
    for one in requests:
        key = one.id if is_of_clip(one.kwargs) else one.delivery_info["routing_key"]
        together.setdefault(str(key), []).append(one)
    return list(together.values())


def _stops() -> bool:
    asked: tuple[Any, ...] = (state.should_stop, state.should_terminate)  # an exit status, or none
    return any(one is not None and one is not False for one in asked)


def _accept(requests: list[Request], started: float) -> None:
    for request in requests:
        request.on_accepted(str(os.getpid()), started)


def _settle(
    requests: list[Request], results: Sequence[str | MattingError | None], runtime_s: float
) -> None:
    """Acknowledge each message and send its event; the database already has the item's state. A
    duplicate message sends no event: a success after a failure would hide the failure in Flower.
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
            # One failing request must not keep the others from being acknowledged.
            log.exception("settling-failed", message=request.id)


def _as_exception_info(error: Exception) -> ExceptionInfo:
    try:
        raise error
    except Exception:
        return ExceptionInfo()  # it uses the exception being handled, with its traceback
