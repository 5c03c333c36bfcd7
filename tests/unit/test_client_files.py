"""Local files that the Python client submits, and what it says when nothing answers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from api.client import calls, connection, zip_file
from api.client.calls import ApiError
from api.client.uploading import normalise_files
from api.client.zip_file import TRIES, write_zip
from deploy.stack.processes import free_port


def test_absolute_paths_become_names_that_differ() -> None:
    files = [Path("/home/ann/a/shoe.jpg"), Path("/home/ann/b/shoe.jpg")]
    assert [one.name for one in normalise_files(files)] == ["a/shoe.jpg", "b/shoe.jpg"]
    assert [one.name for one in normalise_files(files[:1])] == ["shoe.jpg"]
    assert [one.name for one in normalise_files(["photos/shoe.jpg"])] == ["photos/shoe.jpg"]
    assert [one.name for one in normalise_files([(files[0], "x.jpg")])] == ["x.jpg"]


def test_one_path_is_one_file_and_none_is_refused() -> None:
    assert [one.name for one in normalise_files("photo.jpg")] == ["photo.jpg"]
    assert [one.name for one in normalise_files(Path("/a/photo.jpg"))] == ["photo.jpg"]
    with pytest.raises(ValueError, match="no files"):
        normalise_files([])


def test_a_service_that_is_away_is_named_after_one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_RETRIES", 0)
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    address = f"http://127.0.0.1:{free_port()}"
    transport = connection._transport()
    request = httpx.Request("GET", f"{address}/v1/jobs", extensions={"retry": calls.RETRY_API})
    with pytest.raises(httpx.ConnectError, match=f"{address} can't be reached"):
        asyncio.run(transport.handle_async_request(request))
    assert waits == [], "the rounds of the transport below are the only ones"


def test_an_archive_that_fails_at_its_last_try_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks at the end each time; then the service says that nothing is left."""
    monkeypatch.setattr(zip_file, "WAIT_S", 0)
    (tmp_path / f".job.zip.{'a' * 32}.part").write_bytes(b"all of it")
    asked: list[Mapping[str, str]] = []

    @asynccontextmanager
    async def ask(headers: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        asked.append(headers)
        if len(asked) < TRIES:
            raise httpx.ReadError("broken")
        if asked:
            raise ApiError(416, "range-not-satisfiable", "The archive has 9 bytes")
        yield httpx.Response(200)

    with pytest.raises(ApiError):
        asyncio.run(write_zip(ask, tmp_path / "job.zip", lambda _count: None))
    assert len(asked) == TRIES
    assert not (tmp_path / "job.zip").exists()
