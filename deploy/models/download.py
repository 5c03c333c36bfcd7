"""Download of a file over HTTP, with resume after an interruption."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx

from shared.errors import ModelDownloadError

MAX_ATTEMPTS = 5

OnProgress = Callable[[int, int], None]
"""Progress callback: received bytes and total bytes (0 if unknown)."""


def download(url: str, partial: Path, on_progress: OnProgress) -> None:
    """Download a URL to `partial`. Interrupted downloads are resumed, also by a later call.

    Raises ModelDownloadError.
    """
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                _resume_download(client, url, partial, on_progress)
                return
            except httpx.TransportError as error:
                if attempt == MAX_ATTEMPTS:
                    raise ModelDownloadError(
                        f"The download of {url} failed {MAX_ATTEMPTS} times: {error}"
                    ) from error
                time.sleep(0.2 * 2**attempt)


def _resume_download(
    client: httpx.Client, url: str, partial: Path, on_progress: OnProgress
) -> None:
    """Request the missing bytes. `If-Range` returns the whole file if it changed meanwhile."""
    have = partial.stat().st_size if partial.exists() else 0
    etag_file = _etag_file(partial)
    headers = {"Accept-Encoding": "identity"}
    if have and etag_file.exists():
        headers |= {"Range": f"bytes={have}-", "If-Range": etag_file.read_text()}
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink()
            raise httpx.ReadError("the partial file is longer than the remote one; starting again")
        if answer.status_code >= 500:
            raise httpx.ReadError(f"status {answer.status_code}")
        if answer.status_code not in (200, 206):
            raise ModelDownloadError(f"{url} answers {answer.status_code}")
        resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
        here = have if resumed else 0
        total = here + int(answer.headers.get("Content-Length", 0))
        tag = answer.headers.get("ETag", "")
        if not resumed:
            etag_file.unlink(missing_ok=True)
            if tag.startswith('"'):  # a weak ETag does not guarantee identical bytes
                etag_file.write_text(tag)
        with partial.open("ab" if resumed else "wb") as file:
            for chunk in answer.iter_raw():
                file.write(chunk)
                here += len(chunk)
                on_progress(here, total)


def _etag_file(partial: Path) -> Path:
    return partial.with_suffix(".etag")


def remove_partial(partial: Path) -> None:
    """Remove a partial file and its stored ETag."""
    partial.unlink(missing_ok=True)
    _etag_file(partial).unlink(missing_ok=True)
