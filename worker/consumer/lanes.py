"""Requests that wait to become batches: those of the storage's photos, and those of photos by URL.

What a batch of the storage needs is a thread; all its images are done when it is. A photo by URL
may take as long as its server likes, so each such photo has a place of its own: those that hang
keep none of another's, and none of the storage's.
"""

from typing import Any

from shared.queue import EXPRESS_STEP


class Lane:
    """One kind's requests. For the consumer's loop thread alone."""

    def __init__(self, *, size: int, places: int, place_per_request: bool) -> None:
        """`size`: requests of a full batch. `places`: how many batches may be in flight, or, with
        `place_per_request`, how many requests.
        """
        self._size = size
        self._places = self._free = places
        self._place_per_request = place_per_request
        self._waiting: list[Any] = []
        self.due = False
        """Whether the oldest that waits has waited long enough for a batch that is not full."""
        self.timer: Any = None

    @property
    def waits(self) -> bool:
        """Whether there is one that is in no batch yet."""
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether as many requests wait or are in flight as there are places for requests."""
        return self._place_per_request and len(self._waiting) >= self._free

    def add(self, request: Any) -> None:
        """Take a request (Celery's)."""
        self._waiting.append(request)

    def next_batch(self) -> list[Any]:
        """What is to be run now; nothing while there is no place, or while a batch that is not full
        may still grow: sent small, it comes back small, since as many messages are let in as are
        acknowledged (seen: 1.5 of 8 images a batch for a whole job).

        Somebody may wait for what is express: it goes first, and alone, since a batch takes as long
        as all of its images.
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
        """A batch has ended, or a request with a place of its own."""
        self._free += 1


def is_express(request: Any) -> bool:
    """Whether it overtakes all others."""
    return bool(request.delivery_info["priority"] == EXPRESS_STEP)
