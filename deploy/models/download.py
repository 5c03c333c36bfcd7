"""Fetches a file over HTTP, and goes on where it broke off."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx

from shared.errors import ModelDownloadError

TRIES = 5

OnBytes = Callable[[int, int], None]
"""Hears of progress: bytes that are here, bytes in all (0: not known)."""


def download(url: str, partial: Path, on_bytes: OnBytes) -> None:
    """All of the URL into `partial`; a break is gone on from, now and at the next call."""
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        for attempt in range(1, TRIES + 1):
            try:
                _continue(client, url, partial, on_bytes)
                return
            except httpx.TransportError as error:
                if attempt == TRIES:
                    raise ModelDownloadError(f"{url} broke off {TRIES} times: {error}") from error
                time.sleep(0.2 * 2**attempt)


def _continue(client: httpx.Client, url: str, partial: Path, on_bytes: OnBytes) -> None:
    """Ask for what is missing. `If-Range` brings the whole file when it is another one by now."""
    have = partial.stat().st_size if partial.exists() else 0
    mark = _mark(partial)
    headers = {"Accept-Encoding": "identity"}
    if have and mark.exists():
        headers |= {"Range": f"bytes={have}-", "If-Range": mark.read_text()}
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink()
            raise httpx.ReadError("there is nothing after what is here: beginning again")
        if answer.status_code >= 500:
            raise httpx.ReadError(f"status {answer.status_code}")
        if answer.status_code not in (200, 206):
            raise ModelDownloadError(f"{url} answers {answer.status_code}")
        goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
        here = have if goes_on else 0
        total = here + int(answer.headers.get("Content-Length", 0))
        tag = answer.headers.get("ETag", "")
        if not goes_on:
            mark.unlink(missing_ok=True)
            if tag.startswith('"'):  # a weak one does not vouch for bytes
                mark.write_text(tag)
        with partial.open("ab" if goes_on else "wb") as file:
            for chunk in answer.iter_raw():
                file.write(chunk)
                here += len(chunk)
                on_bytes(here, total)


def _mark(partial: Path) -> Path:
    return partial.with_suffix(".etag")


def forget(partial: Path) -> None:
    """Remove what a download left."""
    partial.unlink(missing_ok=True)
    _mark(partial).unlink(missing_ok=True)
