"""The queue: the Celery app, its settings, and the message that crosses it.

`celery -A shared.queue flower` watches it; the worker's own entry is worker.app. Nothing connects
at import.
"""

import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu.exceptions import LimitExceeded, OperationalError
from redis.exceptions import RedisError

from shared.errors import InvalidMessageError, QueueError
from shared.settings import Settings, get_settings

__all__ = [
    "EXPRESS_STEP",
    "MODEL_NAME",
    "QUEUE",
    "TASK",
    "URL_QUEUE",
    "Celery",
    "Lane",
    "Message",
    "all_queues",
    "app",
    "lane_keys",
    "lane_of",
    "make_app",
    "parse_message",
    "publish_many",
    "queue_depth",
    "queue_facts",
    "queue_lanes",
    "queue_name",
    "redis_of",
    "served_queues",
    "try_to_write",
]

QUEUE = "matting"
URL_QUEUE = f"{QUEUE}-urls"
TASK = "matting.remove_background"

PRIORITY_STEPS = (0, 1, 4, 7)
"""Redis keeps one list a step; the first is drained first. The first is the express lane; a
caller's priorities 9 to 6, 5 to 3 and 2 to 0 share the others."""

EXPRESS_STEP = PRIORITY_STEPS[0]

LANES = dict(zip(PRIORITY_STEPS, ("express", "high", "normal", "low"), strict=True))
"""What the steps are called where people watch."""

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a model that jobs can name is called: it becomes part of a queue's name and of a path."""

MESSAGE_VERSION = "1"
"""Raised when a message can no longer be read by the workers before; more fields don't count."""

SENT_AT = "sent_at"
"""A message's header: when it was sent, in seconds since 1970."""

SOCKET_TIMEOUT_S = 5
"""For each answer of Redis, which takes milliseconds: one that is frozen or cut off is given up."""

PRODUCER_WAIT_S = 2
"""For a connection to send over, while all are in use."""


def queue_name(model: str | None, *, by_url: bool = False) -> str:
    """The queue of the jobs that name a model; of those that name none, the default one. Photos
    that come from URLs have queues of their own: other people's servers may hang.
    """
    base = URL_QUEUE if by_url else QUEUE
    return base if model is None else f"{base}.{model}"


def lane_of(priority: int) -> str:
    """The lane that a caller's priority (0 to 9, 9 the most urgent) leads to."""
    wanted = max(1, 9 - priority)
    return LANES[max(step for step in PRIORITY_STEPS if step <= wanted)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One image on its way: ids only, never pixels. `job` and `file` are what Flower shows."""

    item_id: uuid.UUID
    job_id: uuid.UUID
    name: str
    priority: int
    """The caller's: 9 is the most urgent."""
    express: bool = False
    """Before all others, whatever their priority."""
    model: str | None = None
    """Whose queue it goes to; none: the default one."""
    by_url: bool = False
    """Whether the photo comes from a URL."""

    @property
    def step(self) -> int:
        """Redis's: 0 is drained first."""
        return EXPRESS_STEP if self.express else max(1, 9 - self.priority)

    def kwargs(self) -> dict[str, str]:
        """The task's arguments, JSON; Flower shows their beginning, so the file comes first."""
        ids = {"job": str(self.job_id), "item": str(self.item_id)}
        return {"file": self.name, **ids, "v": MESSAGE_VERSION}


def parse_message(kwargs: dict[str, Any]) -> tuple[uuid.UUID, uuid.UUID]:
    """The item's and the job's id of a message; fields that this version does not know are ignored.

    Raises InvalidMessageError, also for a message of another version: its image stays queued in the
    database and is sent again, until a worker takes it that reads it.
    """
    version = kwargs.get("v", MESSAGE_VERSION)  # older ones have none
    if version != MESSAGE_VERSION:
        raise InvalidMessageError(
            f"The message is of version {version!r}, this worker reads {MESSAGE_VERSION}"
        )
    try:
        return uuid.UUID(kwargs["item"]), uuid.UUID(kwargs["job"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidMessageError from error


def make_app(settings: Settings) -> Celery:
    """The Celery app of these settings."""
    queue = Celery("matting", broker=settings.redis_url, set_as_current=False)
    queue.conf.update(
        task_default_queue=QUEUE,
        task_serializer="json",
        accept_content=["json"],  # never pickle: a message must not be able to run code
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_send_sent_event=False,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=0,
        worker_detect_quorum_queues=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # however long Redis is away, the warm worker waits
        broker_channel_error_retry=True,  # a Redis that refuses writes (full disk) passes, too
        broker_transport_options={
            "visibility_timeout": settings.queue_visibility_timeout_s,
            # Kombu looks for messages of dead workers every interval × throttle seconds.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 2,
            "queue_order_strategy": "priority",
            "priority_steps": list(PRIORITY_STEPS),
            "sep": ":",
            "socket_keepalive": True,
            "socket_connect_timeout": SOCKET_TIMEOUT_S,
            "socket_timeout": SOCKET_TIMEOUT_S,
            # Kombu's own look at the connection that waits for messages, which no timeout ends.
            "health_check_interval": 10,
            # A caller is told at once; who can wait tries again by itself.
            "max_retries": 0,
        },
        worker_pool="threads",  # no fork: a CUDA context does not survive one
        worker_concurrency=settings.batches_in_flight,
        timezone="UTC",
    )
    return queue


app = make_app(get_settings())


def publish_many(queue: Celery, messages: Iterable[Message]) -> None:
    """Send messages over one connection, in their order. Raises QueueError.

    The task's id is the item's: however often it is sent, Flower shows one row an image.
    """
    try:
        with queue.producer_pool.acquire(block=True, timeout=PRODUCER_WAIT_S) as producer:
            for message in messages:
                queue.send_task(
                    TASK,
                    kwargs=message.kwargs(),
                    task_id=str(message.item_id),
                    queue=queue_name(message.model, by_url=message.by_url),
                    priority=message.step,
                    producer=producer,
                    headers={SENT_AT: time.time()},
                    retry=False,
                    ignore_result=True,
                )
    except _FAULTS as error:
        raise QueueError(f"Redis did not take a message: {_said(error)}") from error


_FAULTS = (OperationalError, LimitExceeded, RedisError, OSError)
"""What comes out of Celery and Redis; the second, when all connections are in use."""


@contextmanager
def redis_of(queue: Celery) -> Iterator[Any]:
    """redis-py's client of the queue's Redis, for a while. Raises QueueError."""
    try:
        with queue.connection_for_read() as connection:
            yield connection.default_channel.client  # type: ignore[attr-defined]  # redis-py's
    except _FAULTS as error:
        raise QueueError(f"Redis did not answer: {_said(error)}") from error


def lane_keys(name: str) -> list[str]:
    """Redis' lists of a queue, in the order in which they are drained."""
    return [f"{name}:{step}" if step else name for step in PRIORITY_STEPS]


def all_queues(settings: Settings) -> list[str]:
    """The queues that a service of these settings sends messages to."""
    models = [None, *filter(MODEL_NAME.fullmatch, settings.offered_models)]
    return [queue_name(model, by_url=by_url) for by_url in (False, True) for model in models]


def served_queues(settings: Settings, *, by_url: bool = False) -> list[str]:
    """The queues that a worker of these settings takes messages from: that of each model it serves,
    and the default one if it serves the default model.
    """
    served = settings.served_models
    default: list[str | None] = [None] if settings.model in served else []
    named = filter(MODEL_NAME.fullmatch, served)
    return [queue_name(model, by_url=by_url) for model in [*default, *named]]


@dataclass(frozen=True, slots=True)
class Lane:
    """One list of Redis: a queue at one priority."""

    queue: str
    name: str
    """`express`, `high`, `normal` or `low`."""
    messages: int
    oldest_s: float
    """How long the message that is taken next has waited; 0 when there is none."""


def queue_lanes(queue: Celery, names: Sequence[str] = (QUEUE,)) -> list[Lane]:
    """How each lane of these queues stands, in one round trip. Raises QueueError."""
    lists = [
        (name, lane, key)
        for name in names
        for lane, key in zip(LANES.values(), lane_keys(name), strict=True)
    ]
    with redis_of(queue) as client:
        pipe = client.pipeline(transaction=False)
        for _, _, key in lists:
            pipe.llen(key)
            pipe.lindex(key, -1)  # they are pushed at the left and taken at the right
        answers = pipe.execute()
    return [
        Lane(name, lane, int(answers[2 * index]), _age_s(answers[2 * index + 1]))
        for index, (name, lane, _) in enumerate(lists)
    ]


def queue_depth(queue: Celery, names: Sequence[str] = (QUEUE,)) -> int:
    """Messages that wait in Redis, taken by no worker yet. Raises QueueError."""
    return sum(lane.messages for lane in queue_lanes(queue, names))


def queue_facts(queue: Celery) -> dict[str, Any]:
    """What Redis says of itself (INFO): version, persistence, eviction. Raises QueueError."""
    with redis_of(queue) as client:
        facts: dict[str, Any] = client.info()
    return facts


def try_to_write(queue: Celery) -> None:
    """Write what is gone in a second: a Redis without disk or memory answers all else. Raises
    QueueError.
    """
    with redis_of(queue) as client:
        client.set("matting.doctor", "1", ex=1)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _age_s(message: bytes | None) -> float:
    if message is None:
        return 0.0
    try:
        sent_at = float(json.loads(message)["headers"][SENT_AT])
    except (ValueError, KeyError, TypeError):
        return 0.0  # of an older version, which wrote no time
    return max(0.0, time.time() - sent_at)
