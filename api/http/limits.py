"""Limits of request bodies: their size, their speed, and the memory that all of them use."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from starlette.types import Message, Receive

from api.budgets import MemoryShare
from shared.errors import RequestTooLargeError, SlowRequestError
from shared.settings import Settings

MIN_BYTES_PER_S = 1_000
"""A body that arrives more slowly than this on average is refused."""

SMALL_BODY_BYTES = 64 * 1024
"""The limit of routes that set none: a few fields of JSON. Such bodies do not count for the shared
memory.
"""

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])
SettingsBytes = Callable[[Settings], int]


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The limits of one route."""

    memory_bytes: SettingsBytes = lambda _: SMALL_BODY_BYTES
    """Limit of JSON and forms, which are held in memory."""
    multipart_bytes: SettingsBytes = lambda _: SMALL_BODY_BYTES
    """Limit of multipart bodies, which are written to disk as they arrive."""


def takes(limits: BodyLimits) -> Callable[[Endpoint], Endpoint]:
    """Set the limits of an endpoint. Use it below the decorator of the route."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.body_limits = limits  # type: ignore[attr-defined]
        return endpoint

    return mark


def limits_of(endpoint: Callable[..., object]) -> BodyLimits:
    """The limits of an endpoint."""
    return getattr(endpoint, "body_limits", BodyLimits())


class MeasuredBody:
    """A request body whose bytes are counted as they arrive."""

    def __init__(
        self, receive: Receive, *, limit_bytes: int, timeout_s: float, memory: MemoryShare | None
    ) -> None:
        """`memory`: the shared budget that the body uses; None: it goes to disk."""
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._timeout_s = timeout_s
        self._memory = memory
        self._received_bytes = 0
        self._waited_s = 0.0
        self._ended = False

    def announce(self, content_length: str | None) -> None:
        """Refuse a body at once if its declared size is too large or finds no memory.

        Raises RequestTooLargeError, BusyError, TooManyCallsError.
        """
        said = content_length or "0"
        if not said.isdecimal() or int(said) > self._limit_bytes:
            raise self._too_large()
        self._hold(int(said))

    async def receive(self) -> Message:
        """The `receive` of ASGI. Raises as `announce`, and SlowRequestError."""
        if self._ended:  # after the body only a disconnect can arrive, which may take any time
            return await self._receive()
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), self._timeout_s)
        except TimeoutError as error:
            raise SlowRequestError(
                f"No more of the body arrived for {self._timeout_s:.0f} s"
            ) from error
        self._waited_s += time.monotonic() - began
        self._received_bytes += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        patience_s = self._timeout_s + self._received_bytes / MIN_BYTES_PER_S
        if not self._ended and self._waited_s > patience_s:
            raise SlowRequestError(f"The body arrived at less than {MIN_BYTES_PER_S:,} bytes/s")
        if self._received_bytes > self._limit_bytes:
            raise self._too_large()
        self._hold(self._received_bytes)
        return message

    def _hold(self, size_bytes: int) -> None:
        if self._memory is not None and size_bytes > SMALL_BODY_BYTES:
            self._memory.hold(size_bytes)

    def _too_large(self) -> RequestTooLargeError:
        return RequestTooLargeError(f"The limit is {self._limit_bytes:,} bytes")
