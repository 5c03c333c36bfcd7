"""Celery's messages as Redis holds them, written many at a time.

`Celery.send_task` takes 0.4 ms of CPU for each message, and waits for Redis each time. Here Celery
and Kombu make one message for each queue and priority. Its copies differ in the fields of the image
only, and one command adds many of them to a list.
"""

import base64
import json
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from celery import Celery
from celery.utils.saferepr import saferepr
from kombu import Producer
from kombu.common import maybe_declare
from kombu.serialization import dumps

from shared.messages import PRIORITY_STEPS, Message

AT_ONCE = 500
"""Messages of one command: about 0.5 MB, which Redis takes in a few milliseconds."""

LONGEST_REPR = 1_024
"""Celery's limit for the arguments that Flower shows."""


def write_many(
    queue: Celery,
    producer: Producer,
    task: str,
    sent_at: str,
    messages: Iterable[tuple[str, Message]],
) -> None:
    """Add messages, each with the name of its queue, to the lists of Redis; those of one list in
    this order. `sent_at`: the name of the header with the time. Raises Celery's and Redis' errors:
    some messages may have been written then.
    """
    channel: Any = producer.channel  # Kombu's for Redis
    lists: defaultdict[str, list[str]] = defaultdict(list)
    copies: dict[tuple[str, int], _Envelope] = {}
    for name, message in messages:
        place = name, message.step
        if place not in copies:
            copies[place] = _Envelope(queue, channel, task, *place)
        lists[copies[place].key].append(copies[place].text(message, sent_at))
    with channel.conn_or_acquire() as client:
        for key, texts in lists.items():
            for start in range(0, len(texts), AT_ONCE):
                client.lpush(key, *texts[start : start + AT_ONCE])


class _Envelope:
    """The message of one queue and priority, without what is the image's own."""

    def __init__(self, queue: Celery, channel: Any, task: str, name: str, step: int) -> None:
        entity = queue.amqp.router.route({"queue": name}, task)["queue"]
        maybe_declare(entity, channel)  # asks Redis once per connection
        headers, properties, body, _ = queue.amqp.as_task_v2("", task, ignore_result=True)
        self._embedded = body[2]
        content_type, content_encoding, _ = dumps(body, serializer="json")
        self._whole = channel.prepare_message(
            "",
            priority=step,
            content_type=content_type,
            content_encoding=content_encoding,
            headers=headers,
            properties={
                **properties,
                "reply_to": queue.thread_oid,
                "delivery_mode": 2,  # persistent, Celery's default
                "delivery_info": {"exchange": "", "routing_key": name},
                "priority": step,
                "body_encoding": "base64",
            },
        )
        lane = max(one for one in PRIORITY_STEPS if one <= step)
        self.key = f"{name}:{lane}" if lane else name

    def text(self, message: Message, sent_at: str) -> str:
        """The message of one image, as JSON."""
        kwargs, task_id = message.kwargs(), str(message.item_id)
        body = json.dumps([[], kwargs, self._embedded]).encode()
        headers = {
            **self._whole["headers"],
            "id": task_id,
            "root_id": task_id,
            "kwargsrepr": _shown(kwargs),
            sent_at: time.time(),
        }
        properties: dict[str, Any] = {
            **self._whole["properties"],
            "correlation_id": task_id,
            "delivery_tag": str(uuid.uuid4()),
        }
        whole = {
            **self._whole,
            "body": base64.b64encode(body).decode(),
            "headers": headers,
            "properties": properties,
        }
        return json.dumps(whole)


def _shown(kwargs: dict[str, str]) -> str:
    """The arguments as Celery shows them. For ordinary names Python's own repr is the same text, in
    a tenth of the time.
    """
    text = repr(kwargs)
    ordinary = text.isascii() and "\\" not in text and '"' not in text
    return text if ordinary and len(text) < LONGEST_REPR else saferepr(kwargs, LONGEST_REPR)
