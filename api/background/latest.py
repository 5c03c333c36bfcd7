"""The latest answer of a service: one thread asks at a time, all requests read it."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from shared.errors import MattingError

T = TypeVar("T")

PATIENCE_S = 1.0
"""How long a request waits for an answer in progress."""

STALE_S = 15.0
"""An older answer is not used."""


class Latest(Generic[T]):
    """Belongs to one event loop. A hanging service occupies one thread, however many requests ask,
    and delays each of them by one second.
    """

    def __init__(self, ask: Callable[[], T], away: type[MattingError]) -> None:
        """`ask` runs in a thread of its own; `away` is the error for a service that does not
        answer.
        """
        self._ask = ask
        self._away = away
        self._asking: asyncio.Future[T] | None = None
        self._answer: tuple[T, float] | None = None

    async def get(self) -> T:
        """The answer in progress, or to a new question; if it takes too long, the latest one.

        Raises what `ask` raises, or `away`.
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
            with suppress(RuntimeError):  # the loop has ended in the meantime
                loop.call_soon_threadsafe(settle, answer, error)

        threading.Thread(target=run, name="latest", daemon=True).start()
        return future

    def _answered(self, future: asyncio.Future[T]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._answer = future.result(), time.monotonic()
