"""Bounds what a request's body may hold, how slowly it may come, and what all hold together."""

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
"""A body that drips in more slowly than this, all in all, is cut off."""

SMALL_BODY_BYTES = 64 * 1024
"""The limit of routes that name none: a few fields of JSON. Such bodies count for nothing."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])
SettingsBytes = Callable[[Settings], int]


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What one route takes."""

    memory_bytes: SettingsBytes = lambda _: SMALL_BODY_BYTES
    """Of JSON and forms, which are held in memory."""
    multipart_bytes: SettingsBytes = lambda _: SMALL_BODY_BYTES
    """Of multipart, which is written to disk as it comes."""


def takes(limits: BodyLimits) -> Callable[[Endpoint], Endpoint]:
    """Give an endpoint limits of its own; below the decorator that makes it a route."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.body_limits = limits  # type: ignore[attr-defined]
        return endpoint

    return mark


def limits_of(endpoint: Callable[..., object]) -> BodyLimits:
    """What an endpoint takes."""
    return getattr(endpoint, "body_limits", BodyLimits())


class MeasuredBody:
    """A request's body, counted as it comes."""

    def __init__(
        self, receive: Receive, *, limit_bytes: int, timeout_s: float, memory: MemoryShare | None
    ) -> None:
        """`memory`: what the body is held in; None: it goes to disk."""
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._timeout_s = timeout_s
        self._memory = memory
        self._received_bytes = 0
        self._waited_s = 0.0
        self._ended = False

    def announce(self, content_length: str | None) -> None:
        """Refuse at once what says that it is too large, or finds no room.

        Raises RequestTooLargeError, BusyError, TooManyCallsError.
        """
        said = content_length or "0"
        if not said.isdecimal() or int(said) > self._limit_bytes:
            raise self._too_large()
        self._hold(int(said))

    async def receive(self) -> Message:
        """ASGI's. Raises as `announce`, and SlowRequestError."""
        if self._ended:  # what comes now is the client going away: that may take its time
            return await self._receive()
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), self._timeout_s)
        except TimeoutError as error:
            raise SlowRequestError(
                f"No more of the body came for {self._timeout_s:.0f} s"
            ) from error
        self._waited_s += time.monotonic() - began
        self._received_bytes += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        patience_s = self._timeout_s + self._received_bytes / MIN_BYTES_PER_S
        if not self._ended and self._waited_s > patience_s:
            raise SlowRequestError(f"The body came at less than {MIN_BYTES_PER_S:,} bytes/s")
        if self._received_bytes > self._limit_bytes:
            raise self._too_large()
        self._hold(self._received_bytes)
        return message

    def _hold(self, size_bytes: int) -> None:
        if self._memory is not None and size_bytes > SMALL_BODY_BYTES:
            self._memory.hold(size_bytes)

    def _too_large(self) -> RequestTooLargeError:
        return RequestTooLargeError(f"The limit is {self._limit_bytes:,} bytes")
