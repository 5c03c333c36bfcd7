"""Finds messages that Redis has lost, so that only these are published again.

A message is in a lane of its queue or, received by a worker but not acknowledged, in Kombu's hash
of unacknowledged messages. It can be lost from both: with Redis' disk or memory, or when a
connection breaks while a worker receives it.
"""

import re
import time
import uuid
from collections.abc import Collection, Sequence

from shared.queue import Celery, lane_keys, redis_of

TAKEN, TAKEN_AT = "unacked", "unacked_index"
"""Kombu's names: a hash of unacknowledged messages, and a sorted set of the times of receipt."""

PAGE = 1_000

MESSAGE_ID = re.compile(rb'"id": ?"([0-9a-f-]{36})"')
"""The item's id in a message, as Kombu writes it. The first match is the right one, because the
body before it is base64.
"""


def find_lost(
    queue: Celery, names: Sequence[str], sent: Collection[uuid.UUID], *, claimed_within_s: float
) -> set[uuid.UUID]:
    """The sent messages that are in none of these queues and that no worker received within
    `claimed_within_s`; a live worker claims a message sooner. Raises QueueError.
    """
    lost = {str(one).encode(): one for one in sent}

    def found(messages: Sequence[bytes | None]) -> None:
        for message in messages:
            match = MESSAGE_ID.search(message or b"")
            if match is not None:
                lost.pop(match[1], None)

    with redis_of(queue) as client:
        for name in names:
            for key in lane_keys(name):
                # Read from the end where messages are added, so that consumption does not shift the
                # pages.
                start = 0
                while lost and (page := client.lrange(key, start, start + PAGE - 1)):
                    found(page)
                    start += PAGE
        # Last, because messages move from the lanes to this hash.
        if lost:
            since = time.time() - claimed_within_s
            tags = client.zrangebyscore(TAKEN_AT, since, "+inf")
            for start in range(0, len(tags), PAGE):
                found(client.hmget(TAKEN, tags[start : start + PAGE]))
    return set(lost.values())
