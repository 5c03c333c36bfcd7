"""What a part of the system answered last: asked by one thread at a time, read by everybody."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from shared.errors import MattingError

T = TypeVar("T")

PATIENCE_S = 1.0
"""How long who wants to know waits for an answer that is under way."""

STALE_S = 15.0
"""An older answer counts for none."""


class Latest(Generic[T]):
    """Of one event loop. A part that hangs costs one thread, however many want to know, and each of
    them a second.
    """

    def __init__(self, ask: Callable[[], T], away: type[MattingError]) -> None:
        """`ask` runs in a thread of its own; `away` is what a part that does not answer means."""
        self._ask = ask
        self._away = away
        self._asking: asyncio.Future[T] | None = None
        self._answer: tuple[T, float] | None = None

    async def get(self) -> T:
        """Its answer to a question that is under way or put now; if that takes long, its last one.

        Raises what `ask` does, or `away`.
        """
        if self._asking is None or self._asking.done():
            self._asking = self._begin()
        asking = self._asking
        await asyncio.wait([asking], timeout=PATIENCE_S)
        if asking.done():
            return asking.result()
        if self._answer is None or time.monotonic() - self._answer[1] > STALE_S:
            raise self._away("It has not answered for a while")
        return self._answer[0]

    def _begin(self) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        future.add_done_callback(self._answered)

        def settle(answer: T | None, error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(answer)  # type: ignore[arg-type]  # None only with an error

        def run() -> None:
            answer: T | None = None
            error: Exception | None = None
            try:
                answer = self._ask()
            except Exception as raised:
                error = raised
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, answer, error)

        threading.Thread(target=run, name="latest", daemon=True).start()
        return future

    def _answered(self, future: asyncio.Future[T]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._answer = future.result(), time.monotonic()
