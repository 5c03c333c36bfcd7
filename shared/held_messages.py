"""Which messages Redis still holds: what it has is not sent again, what it lost is.

A message lies in a lane of its queue, or, taken by a worker and not acknowledged yet, in Kombu's
hash of those. It can be lost from either: with Redis' disk or memory, or with a connection that
breaks while a worker takes it.
"""

import re
import time
import uuid
from collections.abc import Collection, Sequence

from shared.queue import Celery, lane_keys, redis_of

TAKEN, TAKEN_AT = "unacked", "unacked_index"
"""Kombu's names: a hash of the messages, and a sorted set of the moments they were taken."""

PAGE = 1_000

MESSAGE_ID = re.compile(rb'"id": ?"([0-9a-f-]{36})"')
"""The item's id in a message, as Kombu writes it: the first of that name, since the body before it
is base64.
"""


def find_lost(
    queue: Celery, names: Sequence[str], sent: Collection[uuid.UUID], *, claimed_within_s: float
) -> set[uuid.UUID]:
    """Those of the sent messages that are in none of these queues, and that no worker took within
    `claimed_within_s`: what a live one takes, it claims sooner. Raises QueueError.
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
                # From the end at which they are put in: what is taken meanwhile shifts nothing.
                start = 0
                while lost and (page := client.lrange(key, start, start + PAGE - 1)):
                    found(page)
                    start += PAGE
        # Last, since they go from the lanes to here.
        if lost:
            since = time.time() - claimed_within_s
            tags = client.zrangebyscore(TAKEN_AT, since, "+inf")
            for start in range(0, len(tags), PAGE):
                found(client.hmget(TAKEN, tags[start : start + PAGE]))
    return set(lost.values())
