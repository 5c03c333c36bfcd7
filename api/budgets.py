"""Budgets that the requests of one process share: memory for bodies, open calls, and turns."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from shared.errors import BusyError, TooManyCallsError


class MemoryBudget:
    """Memory that the requests of one event loop share; one key gets at most half of it. A request
    that is the only one at all, or of its key, always fits, because its own limits bound it.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes: Counter[uuid.UUID] = Counter()

    @contextmanager
    def share_of(self, api_key_id: uuid.UUID) -> Iterator["MemoryShare"]:
        """Reserve memory for a request of this key until the block ends."""
        share = MemoryShare(self, api_key_id)
        try:
            yield share
        finally:
            self._held_bytes[api_key_id] -= share.held_bytes
            if not self._held_bytes[api_key_id]:
                del self._held_bytes[api_key_id]  # keys without requests are removed

    def grow(self, share: "MemoryShare", size_bytes: int) -> None:
        """Reserve this much for a request. Raises BusyError, TooManyCallsError."""
        more_bytes = size_bytes - share.held_bytes
        keys_bytes = self._held_bytes[share.api_key_id]
        if keys_bytes > share.held_bytes and keys_bytes + more_bytes > self._limit_bytes // 2:
            raise TooManyCallsError("The API key's other requests use up its share of the memory")
        all_bytes = self._held_bytes.total()
        if all_bytes > share.held_bytes and all_bytes + more_bytes > self._limit_bytes:
            raise BusyError("Other requests use up the memory for bodies")
        self._held_bytes[share.api_key_id] += more_bytes
        share.held_bytes = size_bytes


class MemoryShare:
    """The memory that one request holds."""

    def __init__(self, budget: MemoryBudget, api_key_id: uuid.UUID) -> None:
        self.api_key_id = api_key_id
        self.held_bytes = 0
        self._budget = budget

    def hold(self, size_bytes: int) -> None:
        """Hold at least this much. Raises BusyError, TooManyCallsError."""
        if size_bytes > self.held_bytes:
            self._budget.grow(self, size_bytes)


class OpenCalls:
    """Open calls of one kind in one event loop. One key has at most half of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Counter[uuid.UUID] = Counter()

    @contextmanager
    def one_of(self, api_key_id: uuid.UUID) -> Iterator[None]:
        """Count a call while the block runs. Raises BusyError, TooManyCallsError."""
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
                del self._open[api_key_id]  # keys without calls are removed


class KeyTurns:
    """Lets few requests of one key do something at a time; others of that key wait, and those of
    other keys don't. For one event loop.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._turns: dict[uuid.UUID, asyncio.Semaphore] = {}
        self._asking: Counter[uuid.UUID] = Counter()
        """Requests that have a turn or wait for one."""

    @asynccontextmanager
    async def one_of(self, api_key_id: uuid.UUID) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the block ends."""
        turns = self._turns.setdefault(api_key_id, asyncio.Semaphore(self._most))
        self._asking[api_key_id] += 1
        try:
            async with turns:
                yield
        finally:
            self._asking[api_key_id] -= 1
            if not self._asking[api_key_id]:  # keys without requests are removed
                del self._asking[api_key_id], self._turns[api_key_id]
