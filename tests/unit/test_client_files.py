"""Local files that the Python client submits, and what it says when nothing answers."""

import asyncio
from pathlib import Path

import httpx
import pytest
from httpx_retries import RetryTransport

from api.client import connection
from api.client.uploading import normalise_files


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


async def _refused(*_: object) -> httpx.Response:
    raise httpx.ConnectError("All connection attempts failed")


def test_a_service_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryTransport, "handle_async_request", _refused)
    transport = connection._transport()
    request = httpx.Request("GET", "http://127.0.0.1:8000/v1/jobs")
    with pytest.raises(httpx.ConnectError, match=r"http://127\.0\.0\.1:8000 can't be reached"):
        asyncio.run(transport.handle_async_request(request))
