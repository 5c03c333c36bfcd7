"""The shares of API keys in the workers' places for photos by URL.

A server may keep a photo's place for as long as a fetch may take. So keys share these places
equally, and some always stay free: another key's first URLs need not wait for anybody's.
"""

import heapq
import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from shared.job_store import OpenJob


def url_rooms(
    jobs: Sequence[OpenJob], places: int, most: Mapping[uuid.UUID, int]
) -> dict[uuid.UUID, int]:
    """How many more photos by URL each job that has such photos may send now. `places`: those of
    all workers. `most`: how many images each job may have on its way for other reasons.

    A key's room goes to those of its jobs that have the fewest on their way, oldest first.
    """
    window = key_window(jobs, places)
    own: defaultdict[uuid.UUID, list[OpenJob]] = defaultdict(list)
    for job in jobs:
        if job.has_urls:
            own[job.api_key_id].append(job)
    rooms: dict[uuid.UUID, int] = {}
    for mine in own.values():
        left = window - sum(job.urls_out for job in mine)
        caps = [min(job.queued, most[job.job_id] - job.urls_out) for job in mine]
        waiting = [(job.urls_out, place) for place, job in enumerate(mine) if caps[place] > 0]
        given = Counter[int]()
        heapq.heapify(waiting)
        while left > 0 and waiting:
            out, place = heapq.heappop(waiting)
            given[place] += 1
            left -= 1
            if given[place] < caps[place]:
                heapq.heappush(waiting, (out + 1, place))
        rooms |= {job.job_id: given[place] for place, job in enumerate(mine)}
    return rooms


def key_window(jobs: Sequence[OpenJob], places: int) -> int:
    """The number of photos by URL that each key may have on its way: together three quarters of the
    places, and at least one each.
    """
    keys = {job.api_key_id for job in jobs if job.has_urls}
    return max(1, places * 3 // 4 // max(1, len(keys)))


class NewcomerUrls:
    """The same for jobs that have just been submitted, beside open jobs that were read a moment
    ago; the reconciler soon adds the rest.
    """

    def __init__(self, jobs: Sequence[OpenJob], places: int) -> None:
        self._window = key_window(jobs, places)
        self._places = places
        self._left: dict[uuid.UUID, int] = {}
        for job in jobs:
            if job.has_urls:
                left = self._left.get(job.api_key_id, self._window)
                self._left[job.api_key_id] = max(0, left - job.unsettled)

    def take(self, job: OpenJob, most: int) -> int:
        """How many photos by URL the job may send at once, at most `most`."""
        if job.api_key_id not in self._left:
            self._window = max(1, self._places * 3 // 4 // (len(self._left) + 1))
            self._left[job.api_key_id] = self._window
        taken = min(job.queued, most, self._left[job.api_key_id])
        self._left[job.api_key_id] -= taken
        return taken
