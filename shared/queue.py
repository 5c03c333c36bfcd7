"""The queue: the Celery app, its settings, publishing, and the state of the queues.

`celery -A shared.queue flower` shows it; the worker's own entry is worker.app. Importing this
module connects to nothing.
"""

import base64
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu.exceptions import LimitExceeded, OperationalError
from redis.exceptions import RedisError

from shared.celery_messages import write_many
from shared.errors import QueueError
from shared.messages import EXPRESS_STEP, PRIORITY_STEPS, Message, parse_message
from shared.options import MODEL_NAME
from shared.redis_connection import RedisAddress
from shared.settings import Settings, get_settings

__all__ = [
    "EXPRESS_STEP",
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
    "waiting_versions",
]

QUEUE = "matting"
URL_QUEUE = f"{QUEUE}-urls"
TASK = "matting.remove_background"

LANES = dict(zip(PRIORITY_STEPS, ("express", "high", "normal", "low"), strict=True))
"""The names of the steps in metrics and reports."""

SENT_AT = "sent_at"
"""Message header: time of sending, in seconds since 1970."""

SOCKET_TIMEOUT_S = 5
"""Time limit for each answer of Redis, which normally takes milliseconds: a frozen or unreachable
Redis raises an error.
"""

PRODUCER_WAIT_S = 2
"""Longest wait for a connection to publish over while all are in use."""


def queue_name(model: str | None, *, by_url: bool = False) -> str:
    """The queue for jobs with this model; None: the default queue. Photos by URL have queues of
    their own, because foreign servers may hang.
    """
    base = URL_QUEUE if by_url else QUEUE
    return base if model is None else f"{base}.{model}"


def lane_of(priority: int) -> str:
    """The lane for a caller's priority (0 to 9; 9 is the most urgent)."""
    wanted = max(1, 9 - priority)
    return LANES[max(step for step in PRIORITY_STEPS if step <= wanted)]


def make_app(settings: Settings) -> Celery:
    """The Celery app for these settings. Raises SetupError for an address of Redis that is not
    supported.
    """
    address = RedisAddress.of(settings)
    queue = Celery("matting", set_as_current=False)
    queue.conf.update(
        **address.celery_options(),
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
        # the warm worker waits for Redis, however long it is unavailable
        broker_connection_max_retries=None,
        # also while Redis refuses writes (for example with a full disk)
        broker_channel_error_retry=True,
        broker_transport_options={
            **address.transport_options(),
            "visibility_timeout": settings.queue_visibility_timeout_s,
            # Kombu searches for messages of dead workers every interval × throttle seconds.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 2,
            "queue_order_strategy": "priority",
            "priority_steps": list(PRIORITY_STEPS),
            "sep": ":",
            "socket_keepalive": True,
            "socket_connect_timeout": SOCKET_TIMEOUT_S,
            "socket_timeout": SOCKET_TIMEOUT_S,
            # Kombu's check of the consuming connection, which has no read timeout.
            "health_check_interval": 10,
            # Callers get an error at once; background threads try again by themselves.
            "max_retries": 0,
        },
        worker_pool="threads",  # no fork: a CUDA context does not survive one
        worker_concurrency=settings.batches_in_flight,
        timezone="UTC",
    )
    return queue


app = make_app(get_settings())


def publish_many(queue: Celery, messages: Iterable[Message]) -> None:
    """Send messages over one connection, those of a queue and priority in this order. Raises
    QueueError: some may have been sent then.

    The task id is the item's id, so Flower shows one row per image, however often it is sent.
    """
    try:
        with queue.producer_pool.acquire(block=True, timeout=PRODUCER_WAIT_S) as producer:
            write_many(
                queue,
                producer,
                TASK,
                SENT_AT,
                ((queue_name(one.model, by_url=one.by_url), one) for one in messages),
            )
    except _FAULTS as error:
        raise QueueError(f"Redis did not take a message: {_said(error)}") from error


_FAULTS = (OperationalError, LimitExceeded, RedisError, OSError)
"""The exceptions of Celery and Redis; LimitExceeded means that all connections are in use."""


@contextmanager
def redis_of(queue: Celery) -> Iterator[Any]:
    """A redis-py client for the queue's Redis, within the `with` block. Raises QueueError."""
    try:
        with queue.connection_for_read() as connection:
            yield connection.default_channel.client  # type: ignore[attr-defined]  # redis-py's
    except _FAULTS as error:
        raise QueueError(f"Redis did not answer: {_said(error)}") from error


def lane_keys(name: str) -> list[str]:
    """The Redis lists of a queue, in the order in which they are drained."""
    return [f"{name}:{step}" if step else name for step in PRIORITY_STEPS]


def all_queues(settings: Settings) -> list[str]:
    """The queues that a service with these settings publishes to."""
    models = [None, *filter(MODEL_NAME.fullmatch, settings.second_models)]
    return [queue_name(model, by_url=by_url) for by_url in (False, True) for model in models]


def served_queues(settings: Settings, *, by_url: bool = False) -> list[str]:
    """The queues that a worker with these settings consumes: those of its models, and the default
    queue if it serves the default model.
    """
    served = settings.served_models
    default: list[str | None] = [None] if settings.model in served else []
    named = filter(MODEL_NAME.fullmatch, served)
    return [queue_name(model, by_url=by_url) for model in [*default, *named]]


@dataclass(frozen=True, slots=True)
class Lane:
    """A Redis list: one queue at one priority."""

    queue: str
    name: str
    """`express`, `high`, `normal` or `low`."""
    messages: int
    oldest_s: float
    """Age of the message that is consumed next, in s; 0 if there is none."""


def queue_lanes(queue: Celery, names: Sequence[str] = (QUEUE,)) -> list[Lane]:
    """The state of each lane of these queues, in one round trip. Raises QueueError."""
    lists = [
        (name, lane, key)
        for name in names
        for lane, key in zip(LANES.values(), lane_keys(name), strict=True)
    ]
    with redis_of(queue) as client:
        pipe = client.pipeline(transaction=False)
        for _, _, key in lists:
            pipe.llen(key)
            pipe.lindex(key, -1)  # messages are pushed on the left and popped on the right
        answers = pipe.execute()
    return [
        Lane(name, lane, int(answers[2 * index]), _age_s(answers[2 * index + 1]))
        for index, (name, lane, _) in enumerate(lists)
    ]


def queue_depth(queue: Celery, names: Sequence[str] = (QUEUE,)) -> int:
    """The number of messages in Redis that no worker has received. Raises QueueError."""
    return sum(lane.messages for lane in queue_lanes(queue, names))


def waiting_versions(queue: Celery, names: Sequence[str] = (QUEUE,)) -> Counter[str]:
    """How many waiting messages of these queues have which version; `?`: not one of ours. Raises
    QueueError.
    """
    with redis_of(queue) as client:
        pipe = client.pipeline(transaction=False)
        for name in names:
            for key in lane_keys(name):
                pipe.lrange(key, 0, -1)
        answers = pipe.execute()
    return Counter(_version(message) for messages in answers for message in messages)


def _version(message: bytes) -> str:
    try:
        _args, kwargs, _embed = json.loads(base64.b64decode(json.loads(message)["body"]))
        return str(kwargs["v"])
    except (ValueError, KeyError, TypeError):
        return "?"


def queue_facts(queue: Celery) -> dict[str, Any]:
    """Redis' own report (INFO): version, persistence, eviction. Raises QueueError."""
    with redis_of(queue) as client:
        facts: dict[str, Any] = client.info()
    return facts


def try_to_write(queue: Celery) -> None:
    """Write a key that expires after a second. A Redis without disk space or memory refuses writes
    but answers everything else. Raises QueueError.
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
        return 0.0  # sent by an older version, without a time
    return max(0.0, time.time() - sent_at)
