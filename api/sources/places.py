"""Which jobs may have their source open: few at a time, fairly among API keys."""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence

from shared.job_store import UnlistedJob

KEPT_S = 20.0
"""How long a job keeps its place at least while others wait, from its first page on."""


class Places:
    """The places of one kind of source. For one thread.

    A job keeps its place until it is listed. If others wait, it loses it after KEPT_S, but not
    before it has had pages for as long as it took to get ready: a list is read again up to the
    cursor, and a zip file is downloaded again. So at most half of the work is done twice.
    """

    def __init__(
        self,
        most: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        costly: bool = True,
    ) -> None:
        """`most`: how many jobs have a place; those of one key have at most half of them. `costly`:
        a job that has lost its place must read again what it has listed; else KEPT_S is 0.
        """
        self._most = most
        self._costly = costly
        self._most_of_key = max(1, most // 2)
        self._clock = clock
        self._since: dict[uuid.UUID, float] = {}
        """When each job got its place."""
        self._ready: dict[uuid.UUID, float] = {}
        """When its first page was recorded."""
        self._last: dict[uuid.UUID, float] = {}
        """When a waiting job lost its place, and when a key last got one."""

    def assign(self, jobs: Sequence[UnlistedJob]) -> set[uuid.UUID]:
        """The jobs that have a place now, of all that are not listed to the end."""
        keys = {job.id: job.api_key_id for job in jobs}
        for gone in self._since.keys() - keys.keys():
            self.leave(gone)
        known = keys.keys() | set(keys.values())
        self._last = {one: at for one, at in self._last.items() if one in known}
        held = Counter(keys[job_id] for job_id in self._since)
        waiting = [job for job in jobs if job.id not in self._since]
        waiting.sort(
            key=lambda job: (
                held[job.api_key_id],
                self._last.get(job.api_key_id, 0.0),
                self._last.get(job.id, 0.0),
            )
        )
        for job in waiting:
            of_key = held[job.api_key_id]
            if len(self._since) >= self._most or of_key >= self._most_of_key:
                givers = [
                    one
                    for one in self._kept_long_enough()
                    if keys[one] == job.api_key_id
                    or (of_key < self._most_of_key and held[keys[one]] > of_key)
                ]
                if not givers:
                    continue
                held[keys[givers[0]]] -= 1
                self.leave(givers[0])
            held[job.api_key_id] += 1
            self._since[job.id] = self._last[job.api_key_id] = self._clock()
        return set(self._since)

    def note_page(self, job_id: uuid.UUID) -> None:
        """A page of a job was recorded."""
        if job_id in self._since:
            self._ready.setdefault(job_id, self._clock())

    def leave(self, job_id: uuid.UUID) -> None:
        """Take a job's place from it; it waits behind the others of its key."""
        if self._since.pop(job_id, None) is not None:
            self._last[job_id] = self._clock()
        self._ready.pop(job_id, None)

    def _kept_long_enough(self) -> list[uuid.UUID]:
        """The jobs that lose their places to others, longest first."""
        moment, kept_s = self._clock(), KEPT_S if self._costly else 0.0
        return sorted(
            (
                job_id
                for job_id, ready in self._ready.items()
                if moment - ready >= max(kept_s, ready - self._since[job_id])
            ),
            key=self._ready.__getitem__,
        )
