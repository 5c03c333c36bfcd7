"""Streaming upload of one large file in chunks, with progress. A failed attempt starts again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from httpx_retries import Retry

CHUNK_BYTES = 1024**2

IS_LAST_ATTEMPT = (False, False, False, True)
"""For each attempt, whether it is the last. The transport's retries can't restart a stream."""

NO_RETRY = Retry(total=0)


def put_arguments(path: Path) -> dict[str, Any]:
    """Arguments for the PUT request of a file: its length, and no retries by the transport.

    Raises OSError.
    """
    return {
        "headers": {"Content-Length": str(path.stat().st_size)},
        "extensions": {"retry": NO_RETRY},
    }


class UploadStream:
    """The chunks of one upload attempt; reports the sent bytes to `on_sent`."""

    def __init__(self, on_sent: Callable[[int], None]) -> None:
        self._on_sent = on_sent
        self._bytes = 0

    async def chunks(self, path: Path) -> AsyncIterator[bytes]:
        """The file's bytes. Raises OSError."""
        with await asyncio.to_thread(path.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
                self._note(len(chunk))

    def revert_progress(self) -> None:
        """Subtract the attempt's bytes from the progress, after it failed."""
        self._on_sent(-self._bytes)

    def _note(self, count: int) -> None:
        self._bytes += count
        self._on_sent(count)
