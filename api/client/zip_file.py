"""The zip file of a job, written to disk; an interrupted transfer goes on where it stopped."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx

from api.client.calls import ApiError

TRIES = 5
WAIT_S = 0.5
"""Wait after the first try; each further one is twice as long."""

Ask = Callable[[Mapping[str, str]], AbstractAsyncContextManager[httpx.Response]]
"""Asks for the archive, or the part of it that these headers name. Raises ApiError."""


async def write_zip(ask: Ask, path: Path, on_bytes: Callable[[int], None]) -> None:
    """Write the archive to `path`, where it appears when it is complete.

    What an earlier call has written lies beside it, in a file whose name holds the archive's ETag.
    Raises ApiError, TransportError, OSError.
    """
    for attempt in range(TRIES):
        try:
            await _transfer(ask, path, on_bytes)
        except ApiError as error:
            begun = _earlier(path)
            too_much = error.status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE
            if not too_much or begun is None or attempt == TRIES - 1:
                raise
            begun[0].unlink(missing_ok=True)  # it holds all bytes, or too many
        except httpx.TransportError:
            if attempt == TRIES - 1 or _earlier(path) is None:
                raise
            await asyncio.sleep(WAIT_S * 2**attempt)
        else:
            return


def _earlier(path: Path) -> tuple[Path, str] | None:
    """An unfinished file and the ETag of its archive."""
    for partial in path.parent.glob(f".{_escaped(path.name)}.*.part"):
        name = partial.name.removeprefix(f".{path.name}.").removesuffix(".part")
        if re.fullmatch(r"[0-9a-f]{32}", name) and partial.is_file():
            return partial, f'"{name}"'
    return None


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


async def _transfer(ask: Ask, path: Path, on_bytes: Callable[[int], None]) -> None:
    begun = await asyncio.to_thread(_earlier, path)
    headers = {}
    if begun is not None:
        headers = {"Range": f"bytes={begun[0].stat().st_size}-", "If-Range": begun[1]}
    async with ask(headers) as answer:
        goes_on = begun is not None and answer.status_code == httpx.codes.PARTIAL_CONTENT
        etag = re.fullmatch(r'"([0-9a-f]{32})"', answer.headers.get("etag", ""))
        if begun is not None and goes_on:
            partial = begun[0]
        else:
            if begun is not None:
                begun[0].unlink(missing_ok=True)
            kept = etag.group(1) if etag else f"{os.getpid()}"
            partial = path.with_name(f".{path.name}.{kept}.part")
        try:
            await _write(answer.aiter_bytes(), partial, goes_on, on_bytes)
            partial.replace(path)
        finally:
            if etag is None:  # it cannot be continued
                partial.unlink(missing_ok=True)


async def _write(
    chunks: AsyncIterator[bytes], partial: Path, goes_on: bool, on_bytes: Callable[[int], None]
) -> None:
    with await asyncio.to_thread(partial.open, "r+b" if goes_on else "wb") as file:
        written = file.seek(0, os.SEEK_END)
        on_bytes(written)
        try:
            async for chunk in chunks:
                written += await asyncio.to_thread(file.write, chunk)
                on_bytes(len(chunk))
        except BaseException:
            on_bytes(-written)  # the next try counts it again
            raise
