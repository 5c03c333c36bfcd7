"""Messages become batches in a real Celery worker with a real Redis."""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import pytest
from celery.contrib.testing.worker import start_worker
from celery.worker import state
from kombu import Exchange, Queue

from shared.errors import MattingError
from shared.queue import QUEUE, TASK, URL_QUEUE, Celery, Message, publish_many, queue_depth
from tests.waiting import eventually
from worker.concurrency.watchdog import Watchdog
from worker.consumer import batching
from worker.consumer.batching import CheckedConsumer
from worker.consumer.collector import BatchTask

SIZE = 8
WAIT_S = 0.02
URL_PLACES = 12
URL_QUEUES = (URL_QUEUE, f"{URL_QUEUE}.other")


class Held:
    """A task body that holds its batches until `release` is set."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.release = threading.Event()

        self.batches_by_url: list[list[str]] = []
        self.by_url: list[str] = []
        """Files by URL that are in flight."""
        self.came = threading.Event()
        """Until this is set, the servers of all URLs hang, except for files named `quick`."""
        self.done_by_url = 0
        self.most_by_url = 0
        self._lock = threading.Lock()

    def run_many(self, messages: Sequence[dict[str, Any]]) -> list[str]:
        self.sizes.append(len(messages))
        assert self.release.wait(180)
        return ["done"] * len(messages)

    def run_each(
        self,
        messages: Sequence[dict[str, Any]],
        tell: Callable[[int, str | MattingError | None], None],
        *,
        urgent: bool,
    ) -> None:
        names = [str(message["file"]) for message in messages]
        with self._lock:
            self.batches_by_url.append(names)
            self.by_url += names
            self.most_by_url = max(self.most_by_url, len(self.by_url))
        for place in sorted(range(len(names)), key=lambda place: names[place] != "quick"):
            if names[place] != "quick":
                assert self.came.wait(180)
            with self._lock:
                self.by_url.remove(names[place])
                self.done_by_url += 1
            tell(place, "done")


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the worker's watchdog found hanging. The event loop may take seconds per turn."""
    monkeypatch.setattr(batching, "LOOP_TURN_S", 0.05)
    monkeypatch.setattr(batching, "MAX_LOOP_TURN_S", 2.5)
    found: list[str] = []
    watchdog = Watchdog(0.4)  # checks every tenth of a second
    watchdog.start(lambda _item, stage, _limit_s: found.append(stage))
    monkeypatch.setattr(BatchTask, "watchdog", watchdog)
    yield found
    watchdog.stop()


@pytest.fixture
def declared(queue: Celery, stuck: list[str]) -> Held:
    """The body that a worker runs once it starts."""
    body = Held()

    @queue.task(name=TASK, base=BatchTask, bind=True, acks_late=True)
    def collected(task: BatchTask, /, **message: str) -> None:
        raise NotImplementedError

    task = cast(BatchTask, queue.tasks[TASK])
    task.body, task.batch_size, task.batch_wait_s, task.batches_in_flight = body, SIZE, WAIT_S, 2
    task.url_queues, task.url_places = URL_QUEUES, URL_PLACES
    queue.conf.broker_transport_options["polling_interval"] = 0.02
    queue.conf.worker_prefetch_multiplier = SIZE
    queue.conf.task_queues = [Queue(name, Exchange(name), name) for name in (*URL_QUEUES, QUEUE)]

    class RememberedConsumer(CheckedConsumer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            CONSUMERS[queue.main] = self

    queue.conf.worker_consumer = RememberedConsumer
    return body


@pytest.fixture
def body(queue: Celery, declared: Held) -> Iterator[Held]:
    """The body of a running worker with two threads."""
    with start_worker(queue, pool="threads", concurrency=2, perform_ping_check=False):
        yield declared
        declared.release.set()
        declared.came.set()


CONSUMERS: dict[str | None, CheckedConsumer] = {}
"""The running consumers by the name of their app."""


def pass_time_in_the_loop(queue: Celery, seconds: float) -> None:
    """Wait until the worker's event loop has run its timers for this long."""
    passed = threading.Event()
    CONSUMERS[queue.main].hub.call_later(seconds, passed.set)
    assert passed.wait(180), "the loop stands still"


def send(
    queue: Celery, count: int, *, express: bool = False, by_url: bool = False, name: str = "x.jpg"
) -> None:
    ids = [uuid.uuid4() for _ in range(count)]
    messages = [
        Message(item_id=one, job_id=one, name=name, priority=5, express=express, by_url=by_url)
        for one in ids
    ]
    publish_many(queue, messages)
    eventually(lambda: queue_depth(queue) == 0, "the worker to receive them")


def keep_both_threads_busy(queue: Celery, body: Held) -> None:
    """Give each of the two threads a batch of one message."""
    send(queue, 1)
    eventually(lambda: len(body.sizes) == 1, "the first batch")
    send(queue, 1)
    eventually(lambda: len(body.sizes) == 2, "the second batch")


def test_messages_that_wait_for_a_thread_become_full_batches(queue: Celery, body: Held) -> None:
    keep_both_threads_busy(queue, body)
    for _ in range(14):  # one by one, as small batches are acknowledged
        send(queue, 1)
        pass_time_in_the_loop(queue, 2 * WAIT_S)
    assert body.sizes == [1, 1], "both threads are busy"
    body.release.set()
    eventually(lambda: sum(body.sizes) == 16, "all images")
    assert sorted(body.sizes[2:]) == [6, 8]


def test_express_images_start_first_in_a_batch_of_their_own(queue: Celery, body: Held) -> None:
    keep_both_threads_busy(queue, body)
    send(queue, 5)
    send(queue, 1, express=True)
    pass_time_in_the_loop(queue, 2 * WAIT_S)
    body.release.set()
    eventually(lambda: sum(body.sizes) == 8, "all images")
    assert body.sizes[2:] == [1, 5]


def test_a_stopping_worker_records_its_batches_and_gives_back_the_rest(
    queue: Celery, declared: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_worker(queue, pool="threads", concurrency=2, perform_ping_check=False):
        keep_both_threads_busy(queue, declared)
        send(queue, 5)
        monkeypatch.setattr(state, "should_stop", 0)  # like SIGTERM
        declared.release.set()
        # Leaving the block earlier would cut the shutdown short.
        eventually(lambda: queue_depth(queue) >= 5, "the rest to be given back")
    assert declared.sizes == [1, 1], "no batch begins in a pool that ends"
    assert queue_depth(queue) == 5, "what was done is acknowledged, the rest waits again"


def test_hanging_urls_take_no_places_of_storage_photos(queue: Celery, body: Held) -> None:
    body.release.set()
    send(queue, 300, by_url=True)
    eventually(lambda: len(body.by_url) == URL_PLACES, "all places to be taken")
    for round_ in range(1, 11):
        send(queue, 40)
        done = 40 * round_
        eventually(partial(lambda wanted: sum(body.sizes) == wanted, done), "the storage's photos")
    assert max(body.sizes) == SIZE
    assert body.most_by_url == URL_PLACES, "each has a place of its own, and there are no more"
    assert queue_depth(queue, [URL_QUEUE]) >= 300 - URL_PLACES - 1, "others may take the rest"
    body.came.set()
    eventually(lambda: body.done_by_url == 300, "all photos by URL")
    assert body.most_by_url == URL_PLACES


def test_a_fetched_url_is_recorded_while_others_of_its_batch_hang(
    queue: Celery, body: Held
) -> None:
    send(queue, URL_PLACES - 1, by_url=True)
    eventually(lambda: len(body.by_url) == URL_PLACES - 1, "all places but one")
    send(queue, 30, by_url=True, name="quick")
    eventually(lambda: body.done_by_url == 30, "those that come")
    assert len(body.by_url) == URL_PLACES - 1
    body.came.set()
    eventually(lambda: body.done_by_url == 30 + URL_PLACES - 1, "the others")


def test_clips_and_photos_of_two_models_that_come_together_do_not_wait_for_each_other(
    queue: Celery, body: Held
) -> None:
    messages = [
        Message(
            item_id=one,
            job_id=one,
            name=name,
            priority=5,
            by_url=True,
            of_clip=name.endswith("mp4"),
            model="other" if name == "z.jpg" else None,
        )
        for one, name in ((uuid.uuid4(), name) for name in ("a.mp4", "b.mp4", "y.jpg", "z.jpg"))
    ]
    publish_many(queue, messages)
    eventually(lambda: len(body.by_url) == 4, "all of them")
    assert sorted(body.batches_by_url) == [["a.mp4"], ["b.mp4"], ["y.jpg"], ["z.jpg"]]


def test_a_busy_storage_does_not_block_photos_by_url(queue: Celery, body: Held) -> None:
    body.came.set()
    publish_many(
        queue,
        [
            Message(item_id=one, job_id=one, name="x", priority=5)
            for one in (uuid.uuid4() for _ in range(200))
        ],
    )
    # all threads are busy until `release` is set
    eventually(lambda: len(body.sizes) == 2, "both threads")
    publish_many(
        queue,
        [
            Message(item_id=one, job_id=one, name="x", priority=5, by_url=True)
            for one in (uuid.uuid4() for _ in range(20))
        ],
    )
    body.release.set()
    eventually(lambda: body.done_by_url == 20 and sum(body.sizes) == 200, "all of both")


def test_a_hanging_event_loop_is_noticed(queue: Celery, body: Held, stuck: list[str]) -> None:
    """Redis is there but does not answer, so the event loop hangs in an acknowledgement."""
    send(queue, 1)
    eventually(lambda: body.sizes == [1], "a batch")
    pass_time_in_the_loop(queue, 2 * batching.MAX_LOOP_TURN_S)
    assert stuck == [], "a loop that has nothing to do turns all the same"
    with queue.connection_for_write() as connection:
        client = connection.default_channel.client  # type: ignore[attr-defined]  # redis-py's
        client.execute_command("CLIENT", "PAUSE", "8000", "ALL")
        body.release.set()
        eventually(lambda: stuck == ["loop"], "the loop to be noticed")


def test_a_worker_reconnects_to_redis_every_few_seconds_without_a_limit(queue: Celery) -> None:
    asked: dict[str, Any] = {}

    class Connection:
        def ensure_connection(self, errback: Any, max_retries: Any, **options: Any) -> None:
            asked.update(options, max_retries=max_retries)

    consumer = CheckedConsumer.__new__(CheckedConsumer)
    consumer.app = queue
    consumer.first_connection_attempt = False
    consumer.ensure_connected(Connection())
    assert asked["max_retries"] is None
    assert asked["interval_max"] <= 5
