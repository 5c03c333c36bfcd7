"""What the service writes to Redis is what Celery itself would have written."""

import base64
import json
import time
import uuid
from typing import Any

import pytest

from shared.messages import Message
from shared.queue import SENT_AT, TASK, Celery, lane_keys, publish_many, queue_name, redis_of

OWN = ("delivery_tag", SENT_AT)
"""Fields that differ between two messages of the same image."""


def written(queue: Celery, name: str) -> dict[str, list[dict[str, Any]]]:
    """The messages of each list of a queue, oldest first; the lists are empty afterwards."""
    found = {}
    with redis_of(queue) as client:
        for key in lane_keys(name):
            texts = client.lrange(key, 0, -1)
            client.delete(key)
            found[key] = [json.loads(text) for text in reversed(texts)]
    return found


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    headers = {name: value for name, value in message["headers"].items() if name not in OWN}
    properties = {name: value for name, value in message["properties"].items() if name not in OWN}
    body = json.loads(base64.b64decode(message["body"]))
    return {**message, "headers": headers, "properties": properties, "body": body}


def send_with_celery(queue: Celery, message: Message) -> None:
    queue.send_task(
        TASK,
        kwargs=message.kwargs(),
        task_id=str(message.item_id),
        queue=queue_name(message.model, by_url=message.by_url),
        priority=message.step,
        headers={SENT_AT: time.time()},
        retry=False,
        ignore_result=True,
    )


@pytest.mark.parametrize(
    "name", ["a.jpg", 'it\'s "1" \\ é 写真\n.jpg', "long " * 99, "long " * 400]
)
@pytest.mark.parametrize(
    "which",
    [
        {"priority": 9},
        {"priority": 0},
        {"priority": 4, "express": True},
        {"priority": 5, "model": "u2netp", "by_url": True, "in_passes": True},
    ],
)
def test_a_message_is_the_one_that_celery_writes(
    queue: Celery, name: str, which: dict[str, Any]
) -> None:
    message = Message(item_id=uuid.uuid4(), job_id=uuid.uuid4(), name=name, **which)
    lists = queue_name(message.model, by_url=message.by_url)
    send_with_celery(queue, message)
    expected = written(queue, lists)
    publish_many(queue, [message])
    found = written(queue, lists)
    assert {key: [*map(comparable, some)] for key, some in found.items()} == {
        key: [*map(comparable, some)] for key, some in expected.items()
    }
    assert any(found.values())


def test_many_messages_keep_their_order_and_have_tags_of_their_own(queue: Celery) -> None:
    messages = [
        Message(item_id=uuid.uuid4(), job_id=uuid.uuid4(), name="a.jpg", priority=number % 10)
        for number in range(1_700)
    ]
    publish_many(queue, messages)
    found = written(queue, queue_name(None))
    for lane in found.values():
        sent = [one["headers"]["id"] for one in lane]
        steps = {one["properties"]["priority"] for one in lane}
        assert sent == [str(one.item_id) for one in messages if one.step in steps]
    tags = {one["properties"]["delivery_tag"] for lane in found.values() for one in lane}
    assert len(tags) == len(messages)
