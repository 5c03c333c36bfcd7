"""Connections to the service and its storage: one request, pages, files behind a redirect."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Self

import httpx
from httpx_retries import RetryTransport

from api.client import calls
from api.client.calls import RETRY, ApiCall
from api.client.responses import Answer

PIECE_BYTES = 1024**2
"""Bytes of a download that are written at a time."""

CONNECT_TIMEOUT_S = 5.0
CONNECT_RETRIES = 5
"""httpx waits 0, 0.5, 1, 2 and 4 s between them: a service that restarts is back by then."""

Page = Callable[[str | None], ApiCall]
"""The request for the page at a cursor."""


class AsyncConnection:
    """HTTP connections to the service and its storage, for one event loop.

    Use it as an asynchronous context manager.
    """

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 60) -> None:
        """`url`: the service's address; `api_key`: what `matting keys create` printed."""
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=_timeout(timeout_s),
            transport=_transport(),
        )
        self.identity = hashlib.sha256(f"{url} {api_key}".encode()).hexdigest()
        """Distinguishes services and keys, and reveals neither."""
        # Presigned URLs carry their own signature; the storage must not receive the API key.
        self._storage = httpx.AsyncClient(timeout=_timeout(timeout_s), transport=_transport())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        await self._storage.aclose()

    async def ask(self, call: ApiCall) -> Answer:
        """Send a request that has no method of its own. Raises ApiError."""
        answer: Answer = calls.decode_answer(await self._http.request(**call.arguments()))
        return answer

    async def pages(self, page: Page, field: str) -> AsyncIterator[Any]:
        """Every entry of a list that comes in pages. Raises ApiError."""
        async for entries in self.page_lists(page, field):
            for entry in entries:
                yield entry

    async def page_lists(self, page: Page, field: str) -> AsyncIterator[list[Any]]:
        """The pages of a list. Raises ApiError."""
        cursor: str | None = None
        while True:
            answer = await self.ask(page(cursor))
            yield answer[field]
            cursor = answer["next_cursor"]
            if cursor is None:
                return

    async def content(self, path: str) -> bytes:
        """Download the file behind an item's address: its result, an output's `url`, its source.

        Raises ApiError.
        """
        return b"".join([piece async for piece in self.pieces(path)])

    async def pieces(self, path: str) -> AsyncGenerator[bytes]:
        """The same in pieces: a clip's result may be larger than the memory. Raises ApiError,
        TransportError.
        """
        redirect = await self._http.get(path)
        if redirect.status_code != 307:
            raise calls.failure(redirect)
        async with self._storage.stream("GET", redirect.headers["location"]) as answer:
            if answer.is_error:
                await answer.aread()
                raise calls.transfer_failure(answer, "download-failed", path)
            async for piece in answer.aiter_bytes(PIECE_BYTES):
                yield piece

    async def file(self, path: str) -> httpx.Response:
        """A file that the service sends itself. Raises ApiError."""
        answer = await self._http.get(path)
        if answer.is_error:
            raise calls.failure(answer)
        return answer


class _NamingTransport(RetryTransport):
    """Retries, and says in the end which address could not be reached."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises TransportError."""
        try:
            return await super().handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            address = f"{request.url.scheme}://{request.url.netloc.decode()}"
            why = str(error) or f"no answer to {CONNECT_RETRIES + 1} attempts"
            text = f"{address} can't be reached ({why}). Is it running, and is the address right?"
            raise httpx.ConnectError(text, request=request) from error


def _transport() -> RetryTransport:
    # Failed connection attempts are repeated for every method, because nothing was sent yet.
    connecting = httpx.AsyncHTTPTransport(retries=CONNECT_RETRIES)
    return _NamingTransport(transport=connecting, retry=RETRY)


def _timeout(timeout_s: float) -> httpx.Timeout:
    return httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
