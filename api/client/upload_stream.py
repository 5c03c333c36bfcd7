"""Upload of one file to the storage. A large one is sent in chunks, with progress; a failed attempt
starts again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
from httpx_retries import Retry

from api.client import calls

CHUNK_BYTES = 1024**2

WHOLE_BYTES = 16 * CHUNK_BYTES
"""Smaller files are read into memory, and the transport repeats their requests. Clips have up to
2 GiB.
"""

NO_RETRY = Retry(total=0)
"""For the transport, which can't restart a stream: `put_file` repeats it, by the same rules."""


async def put_file(
    storage: httpx.AsyncClient,
    url: str,
    path: Path,
    on_sent: Callable[[int], None] = lambda _bytes: None,
) -> None:
    """Send a file to a presigned URL; `on_sent` receives the number of bytes sent since the last
    call (negative when an attempt failed). Raises ApiError, TransportError, OSError.
    """
    size = (await asyncio.to_thread(path.stat)).st_size
    if size <= WHOLE_BYTES:
        answer = await storage.put(url, content=await asyncio.to_thread(path.read_bytes))
        if not answer.is_success:  # nor is it stored where a redirect points
            raise calls.transfer_failure(answer, "upload-failed", path)
        on_sent(size)
        return
    retry = calls.RETRY
    while True:
        sent = _Sent(on_sent)
        outcome: httpx.Response | httpx.TransportError
        try:
            outcome = answer = await storage.put(
                url,
                content=sent.chunks(path),
                headers={"Content-Length": str(size)},
                extensions={"retry": NO_RETRY},
            )
            if answer.is_success:
                return
            problem: Exception = calls.transfer_failure(answer, "upload-failed", path)
            again = retry.is_retryable_status_code(answer.status_code)
        except httpx.TransportError as error:
            outcome = problem = error
            again = retry.is_retryable_exception(error)
        if not again or retry.is_exhausted():
            raise problem
        sent.revert_progress()
        retry = retry.increment()
        await retry.asleep(outcome)


class _Sent:
    """The chunks of one upload attempt; reports the sent bytes to `on_sent`."""

    def __init__(self, on_sent: Callable[[int], None]) -> None:
        self._on_sent = on_sent
        self._bytes = 0

    async def chunks(self, path: Path) -> AsyncIterator[bytes]:
        """The file's bytes. Raises OSError."""
        with await asyncio.to_thread(path.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
                self._bytes += len(chunk)
                self._on_sent(len(chunk))

    def revert_progress(self) -> None:
        """Subtract the attempt's bytes from the progress, after it failed."""
        self._on_sent(-self._bytes)
