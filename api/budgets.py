"""What all requests of a process may hold together: memory for bodies, and calls that wait."""

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import BusyError, TooManyCallsError


class MemoryBudget:
    """Bytes that the requests of one event loop hold together. One request always fits, whatever
    it takes: its own limits bound it.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._taken_bytes = 0

    def take(self, size_bytes: int, *, own_bytes: int = 0) -> None:
        """Take more for a request that has `own_bytes` already. Raises BusyError."""
        others_bytes = self._taken_bytes - own_bytes
        if others_bytes and self._taken_bytes + size_bytes > self._limit_bytes:
            raise BusyError("Other requests fill the memory that there is for bodies")
        self._taken_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """What a request took, when it has ended."""
        self._taken_bytes -= size_bytes


class OpenCalls:
    """Calls of one kind that one event loop has open; no key has more than half of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Counter[uuid.UUID] = Counter()

    @contextmanager
    def one_of(self, api_key_id: uuid.UUID) -> Iterator[None]:
        """While the block runs. Raises BusyError, TooManyCallsError."""
        if self._open.get(api_key_id, 0) >= self._limit // 2:
            raise TooManyCallsError(f"The API key has {self._limit // 2} calls open")
        if self._open.total() >= self._limit:
            raise BusyError(f"{self._limit} calls are open")
        self._open[api_key_id] += 1
        try:
            yield
        finally:
            self._open[api_key_id] -= 1
            if not self._open[api_key_id]:
                del self._open[api_key_id]  # keys come and go
