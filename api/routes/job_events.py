"""The progress of a job as Server-Sent Events (HTML Living Standard, 9.2).

Each event contains the whole job, and its id identifies that state. A client that reconnects with
the last id receives only what is new. Between two database queries a stream occupies neither a
thread nor a connection.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.http.auth import Caller
from api.resources import Resources
from api.routes.lookup import find_job
from api.schemas.responses import JobOut
from shared import job_store
from shared.errors import JobNotFoundError, MattingError, TooManyListenersError
from shared.models import Job

LOOK_EVERY_S = 1.0
HEARTBEAT_S = 15.0
"""A comment is sent when nothing happens, so that proxies do not close the connection."""

RECONNECT_MS = 2_000

MAX_LISTENERS = 500
"""Most streams per process; each costs one query per second."""
MAX_LISTENERS_OF_KEY = 100
"""Most streams per API key."""

_listening: Counter[uuid.UUID] = Counter()
"""Open streams by API key."""


def listen(
    resources: Resources, caller: Caller, job_id: uuid.UUID, seen: str | None
) -> "EventStream":
    """The events of a job after the state `seen`, until it has ended or was paused because too many
    images failed. Raises JobNotFoundError.
    """
    find_job(resources, caller, job_id)
    return EventStream(_follow(resources, caller, job_id, seen), api_key_id=caller.api_key_id)


class EventStream(StreamingResponse):
    """The response. It takes its place in the event loop, before the first byte: in the threads of
    the endpoints, streams that are opened at once would all find the last place free. Raises
    TooManyListenersError then.
    """

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncIterator[str], status_code: int = 200, *, api_key_id: uuid.UUID
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, status_code, headers)
        self._api_key_id = api_key_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        with _place_of(self._api_key_id):
            await super().__call__(scope, receive, send)


@contextmanager
def _place_of(api_key_id: uuid.UUID) -> Iterator[None]:
    if _listening.total() >= MAX_LISTENERS or _listening[api_key_id] >= MAX_LISTENERS_OF_KEY:
        raise TooManyListenersError
    _listening[api_key_id] += 1
    try:
        yield
    finally:
        _listening[api_key_id] -= 1
        if not _listening[api_key_id]:
            del _listening[api_key_id]  # remove keys without streams


async def _follow(
    resources: Resources, caller: Caller, job_id: uuid.UUID, seen: str | None
) -> AsyncIterator[str]:
    yield f"retry: {RECONNECT_MS}\n\n"
    quiet_s = 0.0
    while True:
        try:
            job = await run_in_threadpool(find_job, resources, caller, job_id)
        except JobNotFoundError:
            return  # the job was deleted
        except MattingError:  # the database is unavailable for now
            await asyncio.sleep(LOOK_EVERY_S)
            continue
        ended = job_store.is_at_rest(job)
        if _state(job) != seen or ended:
            seen, quiet_s = _state(job), 0.0
            yield _event("end" if ended else "progress", seen, job)
        elif quiet_s >= HEARTBEAT_S:
            quiet_s = 0.0
            yield ": still here\n\n"
        if ended:
            return
        await asyncio.sleep(LOOK_EVERY_S)
        quiet_s += LOOK_EVERY_S


def _state(job: Job) -> str:
    """An id that changes whenever a visible field changes."""
    settled = job.succeeded + job.failed + job.cancelled
    return f"{job.total}-{settled}-{job.running}-{job.status.value}"


def _event(kind: str, state: str, job: Job) -> str:
    return f"event: {kind}\nid: {state}\ndata: {JobOut.of(job).model_dump_json()}\n\n"
