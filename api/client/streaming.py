"""One large file on its way to the storage: in chunks, counted, and from the beginning again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from httpx_retries import Retry

CHUNK_BYTES = 1024**2

LAST_OF_TRIES = (False, False, False, True)
"""Of each try, whether it is the last: a stream that broke can't be taken up by the transport."""

ONCE = Retry(total=0)


def streamed(path: Path) -> dict[str, Any]:
    """What a PUT of the file needs beside its chunks: an object's length is told beforehand.

    Raises OSError.
    """
    return {
        "headers": {"Content-Length": str(path.stat().st_size)},
        "extensions": {"retry": ONCE},
    }


class UploadStream:
    """The chunks of one try, told to `on_sent` as they go."""

    def __init__(self, on_sent: Callable[[int], None]) -> None:
        self._on_sent = on_sent
        self._bytes = 0

    async def chunks(self, path: Path) -> AsyncIterator[bytes]:
        """The file's bytes. Raises OSError."""
        with await asyncio.to_thread(path.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
                self._note(len(chunk))

    def take_back(self) -> None:
        """The try failed: nothing of it has gone."""
        self._on_sent(-self._bytes)

    def _note(self, count: int) -> None:
        self._bytes += count
        self._on_sent(count)
