"""The share of the queue of each open job: enough to keep the workers busy, and no more.

API keys share equally, and so do the jobs of a key. The express lane is drained before all others,
so the first images of a key's jobs enter it only a few at a time, in proportion to its part of the
workers. Otherwise a key that sends only small jobs would block all others. Behind it each key has a
window of the same length. A queue (of one model) holds about `MAX_OUT` messages, so that a queue
without workers does not fill the memory. Photos by URL have a window of their own
(shared.url_shares).
"""

import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from shared.job_store import OpenJob
from shared.jobs import EXPRESS_IMAGES
from shared.url_shares import NewcomerUrls, url_rooms

MAX_OUT = 20_000
"""Most messages of one queue (about 1 kB each), or twice the capacity of all workers if that is
more.
"""

UNSERVED = ""
"""Stands for the queues of all models that no worker serves."""

FEWEST_EXPRESS = 2
"""Images of a key in the express lane, however many keys share the workers."""


@dataclass(frozen=True, slots=True)
class Share:
    """The share of one job."""

    job_id: uuid.UUID
    ahead: int
    """Messages on the queue at a time."""
    express: int
    """How many of its first images may be sent now: 0 to EXPRESS_IMAGES."""
    urls: int | None = None
    """How many photos by URL may be sent now; None: it has none."""


def shares(
    jobs: Sequence[OpenJob],
    *,
    ahead: int,
    held: int,
    url_places: int,
    served: Collection[str] = (),
) -> list[Share]:
    """The shares of the open jobs (oldest first) that may send now. `ahead`: messages of one key at
    a time, or twice `held`, the capacity of all workers, if that is more: a single job must be able
    to keep all workers busy (tests/benchmarks/capacity). `url_places`: the photos by URL that all
    workers fetch at a time. `served`: the models that workers serve; all others share one limit, or
    a key could fill the memory of Redis by naming many models.
    """
    windows = dict(_windows(jobs, ahead=ahead, held=held, served=served))
    room = _express_room(jobs, held)
    lane: dict[uuid.UUID, int] = {}
    for job in sorted(jobs, key=_waits_for_nobody):
        lane[job.job_id] = min(job.express_left, room[job.api_key_id])
        room[job.api_key_id] -= lane[job.job_id]
    most_out = {job.job_id: _most_out(job, lane[job.job_id]) for job in jobs if job.has_urls}
    urls = url_rooms(jobs, url_places, most_out)
    given: list[Share] = []
    for job in jobs:
        express = lane[job.job_id]
        most = max(windows.get(job.job_id, 0), express)
        stalled = job.only_urls and not urls.get(job.job_id)
        if job.queued and most and not stalled:
            last = min(EXPRESS_IMAGES, job.total) - (job.express_left - express)
            given.append(Share(job.job_id, most, last, urls.get(job.job_id)))
    return given


class NewcomerShares:
    """Shares of jobs that have just been submitted, beside open jobs that were read a moment ago:
    with 10,000 open jobs, `shares` takes 85 ms, too long for each submission. They are never larger
    than those that `shares` gives, but the express images of one moment; the reconciler soon adds
    the rest. Thread-safe.
    """

    def __init__(
        self,
        jobs: Sequence[OpenJob],
        *,
        ahead: int,
        held: int,
        url_places: int,
        served: Collection[str] = (),
    ) -> None:
        self._served = frozenset(served)
        self._urls = NewcomerUrls(jobs, url_places)
        self._ahead = ahead
        self._held = held
        self._jobs: Counter[tuple[str | None, uuid.UUID]] = Counter()
        """Open jobs by queue and key."""
        self._keys: Counter[str | None] = Counter()
        """Keys by queue."""
        self._lock = threading.Lock()
        for job in jobs:
            if job.queued:
                self._count(job)
        self._room = _express_room(jobs, held)
        for job in jobs:
            self._room[job.api_key_id] -= min(job.express_left, self._room[job.api_key_id])

    def share(self, job: OpenJob) -> Share:
        """The share of a job that nobody has published."""
        with self._lock:
            self._count(job)
            queue = _queue_of(job, self._served)
            place = queue, job.api_key_id
            most = max(MAX_OUT, 2 * self._held) // self._keys[queue]
            window = max(1, min(most, max(self._ahead, 2 * self._held)))
            room = self._room.setdefault(job.api_key_id, self._room_of_new_key())
            express = min(job.express_left, room)
            self._room[job.api_key_id] -= express
            ahead = min(window // self._jobs[place], job.unsettled)
            urls = self._urls.take(job, _most_out(job, express)) if job.has_urls else None
        last = min(EXPRESS_IMAGES, job.total) - (job.express_left - express)
        return Share(job.job_id, max(ahead, express), last, urls)

    def _count(self, job: OpenJob) -> None:
        place = _queue_of(job, self._served), job.api_key_id
        self._keys[place[0]] += not self._jobs[place]
        self._jobs[place] += 1

    def _room_of_new_key(self) -> int:
        if not self._held:
            return EXPRESS_IMAGES
        others = len(self._room)
        return max(FEWEST_EXPRESS, (self._held if others else 2 * self._held) // (others + 1))


def _queue_of(job: OpenJob, served: Collection[str]) -> str | None:
    """The queue whose length counts for the job: its model's, or `UNSERVED`."""
    return job.model if job.model is None or job.model in served else UNSERVED


def _windows(
    jobs: Sequence[OpenJob], *, ahead: int, held: int, served: Collection[str]
) -> Iterator[tuple[uuid.UUID, int]]:
    """The number of messages that each job may have out; small jobs leave their unused part to
    large ones.
    """
    queues: defaultdict[str | None, defaultdict[uuid.UUID, list[OpenJob]]]
    queues = defaultdict(lambda: defaultdict(list))
    for job in jobs:
        if job.queued:
            queues[_queue_of(job, served)][job.api_key_id].append(job)
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


def _most_out(job: OpenJob, express: int) -> int:
    """The images that a job may have on its way if so many of its first ones may go."""
    first = 0 if job.of_clip else EXPRESS_IMAGES  # segments are not among the first images
    return express + max(0, job.total - first)


def _waits_for_nobody(job: OpenJob) -> bool:
    """A person waits for a version, so it comes before the key's other jobs."""
    return not job.makes_version


def _unsettled(job: OpenJob) -> int:
    return job.unsettled


def _express_room(jobs: Sequence[OpenJob], held: int) -> Counter[uuid.UUID]:
    """The number of images that each key may have in the express lane: its part of the workers'
    capacity, or twice that if nothing else is waiting.
    """
    keys = {job.api_key_id for job in jobs}
    others = any(job.unsettled > job.express_left for job in jobs)
    part = (held if others else 2 * held) // max(1, len(keys)) if held else EXPRESS_IMAGES
    return Counter(dict.fromkeys(keys, max(FEWEST_EXPRESS, part)))
