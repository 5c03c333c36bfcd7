"""The requests that wait to become batches: photos in the storage, and photos by URL.

A batch of photos in the storage needs one thread and ends as a whole. A photo by URL may take as
long as its server likes, so each has a place of its own: photos that hang block neither other URLs
nor the storage's batches.
"""

from typing import Any

from shared.queue import EXPRESS_STEP


class Lane:
    """The waiting requests of one kind. Only the event loop's thread uses it."""

    def __init__(self, *, size: int, places: int, place_per_request: bool) -> None:
        """`size`: requests in a full batch. `places`: how many batches may be in flight, or, with
        `place_per_request`, how many requests.
        """
        self._size = size
        self._places = self._free = places
        self._place_per_request = place_per_request
        self._waiting: list[Any] = []
        self.due = False
        """Whether the oldest waiting request has waited long enough for a batch that is not full.
        """
        self.timer: Any = None

    @property
    def waits(self) -> bool:
        """Whether a request waits that is in no batch yet."""
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether waiting requests and requests in flight use up all places."""
        return self._place_per_request and len(self._waiting) >= self._free

    def add(self, request: Any) -> None:
        """Add a Celery request."""
        self._waiting.append(request)

    def next_batch(self) -> list[Any]:
        """The next batch to run, or nothing while there is no free place or while a batch that is
        not full may still grow.

        A batch started too small stays small: the worker prefetches as many new messages as it
        acknowledges (measured: 1.5 of 8 images a batch for a whole job). An express request goes
        first and alone, because a batch takes as long as all its images.
        """
        most = min(self._size, self._free) if self._place_per_request else self._size
        grown = most == self._size and len(self._waiting) >= self._size
        if not self._free or not self._waiting or not (grown or self.due):
            return []
        express = [one for one in self._waiting if is_express(one)]
        taken = (express or self._waiting)[:most]
        self._waiting = [one for one in self._waiting if one not in taken]
        self._free -= len(taken) if self._place_per_request else 1
        self.due = False
        return taken

    def free_place(self) -> None:
        """Free a place: a batch, or a request with a place of its own, has ended."""
        self._free += 1


def is_express(request: Any) -> bool:
    """Whether the request has express priority."""
    return bool(request.delivery_info["priority"] == EXPRESS_STEP)
