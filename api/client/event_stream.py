"""Progress events of a job (Server-Sent Events), with reconnection after an interruption."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse

from api.client import calls
from api.client.responses import Job

SILENCE_TIMEOUT_S = 45.0
"""Read timeout. The service sends something every 15 s, so a longer silence means a dead
connection."""

RECONNECT_DELAY_S = 1.0
"""Delay before reconnecting, unless the service sends another one."""

MAX_FAILURES = 5
"""Number of consecutive interruptions without an event after which the last error is raised."""


async def follow_events(client: httpx.AsyncClient, job_id: str) -> AsyncIterator[Job]:
    """The job each time it changes, and last when it has ended. Raises ApiError, TransportError."""
    state = _StreamState()
    while not state.ended:
        try:
            async with aconnect_sse(client, "GET", **state.arguments(job_id)) as source:
                if source.response.is_error:
                    await source.response.aread()
                    raise calls.failure(source.response)
                async for event in source.aiter_sse():
                    if job := state.job(event):
                        yield job
            if not state.ended:
                state.connection_lost(None)
        except httpx.TransportError as error:
            state.connection_lost(error)
        if not state.ended:
            await asyncio.sleep(state.delay_s)


class _StreamState:
    """The state of an event stream across reconnections."""

    def __init__(self) -> None:
        self.ended = False
        self.delay_s = RECONNECT_DELAY_S
        self._last_event_id: str | None = None
        self._failures = 0

    def arguments(self, job_id: str) -> dict[str, Any]:
        """The request's arguments: the stream continues after the last event."""
        headers = {} if self._last_event_id is None else {"Last-Event-ID": self._last_event_id}
        return {
            "url": f"/v1/jobs/{job_id}/events",
            "headers": headers,
            "timeout": httpx.Timeout(SILENCE_TIMEOUT_S),
        }

    def job(self, event: ServerSentEvent) -> Job | None:
        """The job in an event; None for an event without data."""
        self._failures = 0
        if event.retry is not None:
            self.delay_s = event.retry / 1e3
        if not event.data:
            return None
        self._last_event_id = event.id or self._last_event_id
        self.ended = event.event == "end"
        return cast(Job, json.loads(event.data))

    def connection_lost(self, error: httpx.TransportError | None) -> None:
        """Count an interruption. Raises the error after too many of them."""
        self._failures += 1
        if self._failures > MAX_FAILURES:
            raise error or httpx.RemoteProtocolError("The event stream ended before the job")
