"""A job's progress as the service tells it: Server-Sent Events, taken up again after a break."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse

from api.client import calls
from api.client.answers import Job

QUIET_S = 45.0
"""The service sends something every 15 s; a connection that is silent for longer is gone."""

PAUSE_S = 1.0
"""Before listening again, unless the service asks for another pause."""

BREAKS = 5
"""Breaks in a row, with nothing heard between them, after which the last error is raised."""


async def listen(client: httpx.AsyncClient, job_id: str) -> AsyncIterator[Job]:
    """The job each time it changes, and last when it has ended. Raises ApiError, TransportError."""
    listener = _Listener()
    while not listener.ended:
        try:
            async with aconnect_sse(client, "GET", **listener.arguments(job_id)) as source:
                if source.response.is_error:
                    await source.response.aread()
                    raise calls.failure(source.response)
                async for event in source.aiter_sse():
                    if job := listener.job(event):
                        yield job
            if not listener.ended:
                listener.broke(None)
        except httpx.TransportError as error:
            listener.broke(error)
        if not listener.ended:
            await asyncio.sleep(listener.pause_s)


class _Listener:
    """How far it has heard."""

    def __init__(self) -> None:
        self.ended = False
        self.pause_s = PAUSE_S
        self._last: str | None = None
        self._breaks = 0

    def arguments(self, job_id: str) -> dict[str, Any]:
        """Of the request: from the last event on."""
        headers = {} if self._last is None else {"Last-Event-ID": self._last}
        return {
            "url": f"/v1/jobs/{job_id}/events",
            "headers": headers,
            "timeout": httpx.Timeout(QUIET_S),
        }

    def job(self, event: ServerSentEvent) -> Job | None:
        """The job that an event carries."""
        self._breaks = 0
        if event.retry is not None:
            self.pause_s = event.retry / 1e3
        if not event.data:
            return None
        self._last = event.id or self._last
        self.ended = event.event == "end"
        return cast(Job, json.loads(event.data))

    def broke(self, error: httpx.TransportError | None) -> None:
        """Raise the error when there were too many."""
        self._breaks += 1
        if self._breaks > BREAKS:
            raise error or httpx.RemoteProtocolError("The events end before the job does")
