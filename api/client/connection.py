"""What both clients are made of: the connections, one request, pages, files behind a redirect."""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

import httpx
from httpx_retries import RetryTransport

from api.client import calls
from api.client.answers import Answer
from api.client.calls import RETRY, ApiCall

Page = Callable[[str | None], ApiCall]
"""The request for the page at a cursor."""


class Connection:
    """To the service and to its storage. Thread-safe; a context manager."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 60) -> None:
        """`url`: the service's address; `api_key`: what `matting keys create` printed."""
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=timeout_s,
            transport=_transport(),
        )
        self.identity = hashlib.sha256(f"{url} {api_key}".encode()).hexdigest()
        """Tells services and keys apart, and gives neither away."""
        # Presigned URLs carry their own signature: the key must not go there.
        self._storage = httpx.Client(timeout=timeout_s, transport=_transport())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._storage.close()

    def ask(self, call: ApiCall) -> Answer:
        """Send what has no method of its own. Raises ApiError."""
        answer: Answer = calls.decoded(self._http.request(**call.arguments()))
        return answer

    def pages(self, page: Page, field: str) -> Iterator[Any]:
        """Everything of a list that comes in pages. Raises ApiError."""
        cursor: str | None = None
        while True:
            answer = self.ask(page(cursor))
            yield from answer[field]
            cursor = answer["next_cursor"]
            if cursor is None:
                return

    def content(self, path: str) -> bytes:
        """The file that an address of an item leads to: `result`, an output's `url`, the source.

        Raises ApiError.
        """
        redirect = self._http.get(path)
        if redirect.status_code != 307:
            raise calls.failure(redirect)
        answer = self._storage.get(redirect.headers["location"])
        if answer.is_error:
            raise calls.transfer_failure(answer, "download-failed", path)
        return answer.content


class AsyncConnection:
    """The same for asyncio, for one event loop; an asynchronous context manager."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 60) -> None:
        """`url`: the service's address; `api_key`: what `matting keys create` printed."""
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=timeout_s,
            transport=_async_transport(),
        )
        self._storage = httpx.AsyncClient(timeout=timeout_s, transport=_async_transport())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        await self._storage.aclose()

    async def ask(self, call: ApiCall) -> Answer:
        """Send what has no method of its own. Raises ApiError."""
        answer: Answer = calls.decoded(await self._http.request(**call.arguments()))
        return answer

    async def pages(self, page: Page, field: str) -> AsyncIterator[Any]:
        """Everything of a list that comes in pages. Raises ApiError."""
        cursor: str | None = None
        while True:
            answer = await self.ask(page(cursor))
            for one in answer[field]:
                yield one
            cursor = answer["next_cursor"]
            if cursor is None:
                return

    async def content(self, path: str) -> bytes:
        """The file that an address of an item leads to: `result`, an output's `url`, the source.

        Raises ApiError.
        """
        redirect = await self._http.get(path)
        if redirect.status_code != 307:
            raise calls.failure(redirect)
        answer = await self._storage.get(redirect.headers["location"])
        if answer.is_error:
            raise calls.transfer_failure(answer, "download-failed", path)
        return answer.content


def _transport() -> RetryTransport:
    # A connection that could not be made is tried again whatever the method: nothing was sent.
    return RetryTransport(transport=httpx.HTTPTransport(retries=3), retry=RETRY)


def _async_transport() -> RetryTransport:
    return RetryTransport(transport=httpx.AsyncHTTPTransport(retries=3), retry=RETRY)
