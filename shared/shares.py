"""What each open job may have on the queue: enough to keep the workers busy, and no more than that.

Keys share alike, and within a key its jobs do. The express lane is drained before all others, so a
key's first images go there a few at a time, as many as its part of the workers can hold: else one
that sends nothing but small jobs would leave no worker to the rest. Behind it each key has a window
of the same length, and a queue (a model's) holds about `MAX_OUT` messages, so that one which nobody
serves fills no memory.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.job_store import EXPRESS_IMAGES, OpenJob

MAX_OUT = 20_000
"""Messages of one queue, about 1 kB each, or twice what all workers take if that is more."""

FEWEST_EXPRESS = 2
"""Images of a key on the express lane, however many keys share the workers."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a job may have on the queue."""

    job_id: uuid.UUID
    ahead: int
    """Messages at a time."""
    express: int
    """The position up to which its first images may go now: 0 to EXPRESS_IMAGES."""


def shares(jobs: Sequence[OpenJob], *, ahead: int, held: int) -> list[Share]:
    """The shares of those of the open jobs, the oldest first, that may send now. `ahead`: messages
    of one key at a time, or twice `held`, what all workers take at a time, if that is more: a job
    alone must be able to keep all of them busy (tests/benchmarks/capacity).
    """
    windows = dict(_windows(jobs, ahead=ahead, held=held))
    room = _express_room(jobs, held)
    given: list[Share] = []
    for job in jobs:
        express = min(job.express_left, room[job.api_key_id])
        room[job.api_key_id] -= express
        most = max(windows.get(job.job_id, 0), express)
        if job.queued and most:
            last = min(EXPRESS_IMAGES, job.total) - (job.express_left - express)
            given.append(Share(job.job_id, most, last))
    return given


def _windows(jobs: Sequence[OpenJob], *, ahead: int, held: int) -> Iterator[tuple[uuid.UUID, int]]:
    """For each job that has one, how many messages it may have out; small jobs leave to large ones
    what they don't need.
    """
    queues: defaultdict[str | None, defaultdict[uuid.UUID, list[OpenJob]]]
    queues = defaultdict(lambda: defaultdict(list))
    for job in jobs:
        if job.queued:
            queues[job.model][job.api_key_id].append(job)
    for keys in queues.values():
        most = max(MAX_OUT, 2 * held) // len(keys)
        window = max(1, min(most, max(ahead, 2 * held)))
        for own in keys.values():
            left, oldest = window, own[:window]
            for others, job in zip(
                range(len(oldest), 0, -1), sorted(oldest, key=_unsettled), strict=True
            ):
                mine = min(left // others, job.unsettled)
                left -= mine
                yield job.job_id, mine


def _unsettled(job: OpenJob) -> int:
    return job.unsettled


def _express_room(jobs: Sequence[OpenJob], held: int) -> Counter[uuid.UUID]:
    """Images that each key may have on the express lane: its part of what the workers hold, or
    twice that while nothing else waits which they could go on with.
    """
    keys = {job.api_key_id for job in jobs}
    others = any(job.unsettled > job.express_left for job in jobs)
    part = (held if others else 2 * held) // max(1, len(keys)) if held else EXPRESS_IMAGES
    return Counter(dict.fromkeys(keys, max(FEWEST_EXPRESS, part)))
