"""The zip file of a job is made in pieces: large results, missing ones, and limits."""

import threading
import uuid
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from anyio import create_task_group, run, sleep, to_thread

from api.closed_stream import ClosedStream
from api.routes import job_archive
from api.routes.archive_places import MAX_ARCHIVES, take_place
from api.routes.job_archive import MAX_IMAGES, Wanted, archive
from api.routes.streamed_zip import MISSING, PIECE_BYTES, zipped
from shared.errors import BusyError, RequestTooLargeError, ResultNotReadyError, TooManyCallsError
from shared.storage import Storage
from tests.waiting import eventually


def test_large_results_pass_in_pieces_and_missing_ones_are_listed(
    storage: Storage, tmp_path: Path
) -> None:
    large = bytes(range(256)) * (2 * PIECE_BYTES // 256) + b"end"
    files = [(f"jobs/zip/{number}.png", f"a/{number}.png") for number in range(12)]
    for key, _ in files[1:]:
        storage.put(key, large, "image/png")
    resources: Any = SimpleNamespace(storage=storage)
    longest = 0
    with (tmp_path / "all.zip").open("wb") as file:
        for piece in zipped(resources, files, None):
            longest = max(longest, len(piece))
            file.write(piece)
    assert longest < 2 * PIECE_BYTES
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        assert packed.testzip() is None
        assert packed.namelist() == [*(name for _, name in files[1:]), MISSING]
        assert packed.read("a/7.png") == large
        assert packed.read(MISSING) == b"a/0.png\n"
    storage.delete_many([key for key, _ in files])


def test_archives_at_a_time_and_their_images_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    caller: Any = SimpleNamespace(api_key_id=uuid.uuid4())
    other = uuid.uuid4()
    nothing: Any = None
    job: Any = SimpleNamespace(
        total=MAX_IMAGES + 1, finished_at=datetime.now(UTC), created_at=datetime.now(UTC)
    )
    with pytest.raises(RequestTooLargeError, match="include=urls"):
        archive(nothing, caller, job, None, Wanted())
    job.total = 1
    file = job_archive._File("k", "n.png", 10, 1)
    monkeypatch.setattr(job_archive, "_files", lambda *_: [file])
    made = [archive(nothing, caller, job, None, Wanted()) for _ in range(MAX_ARCHIVES // 2)]
    with pytest.raises(TooManyCallsError):  # none of them has sent a byte yet
        archive(nothing, caller, job, None, Wanted())
    held = [take_place(other) for _ in range(MAX_ARCHIVES // 2)]
    with pytest.raises(BusyError):
        archive(nothing, caller, job, None, Wanted())
    for let_go in (*(one.close for one in made), *held, *held):  # twice does no harm
        let_go()
    monkeypatch.setattr(job_archive, "_files", lambda *_: [])
    for _ in range(MAX_ARCHIVES):  # a refused one keeps no place
        with pytest.raises(ResultNotReadyError):
            archive(nothing, caller, job, None, Wanted())


def test_a_caller_who_goes_away_from_a_hanging_storage_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The event loop goes on: health checks are answered."""
    go_on, reading = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def part(_bucket: str, key: str, _start: int, size: int) -> bytes:
        if int(key) > 2:
            reading.set()
            in_time.append(go_on.wait(180))
        return bytes(size)

    resources: Any = SimpleNamespace(storage=SimpleNamespace(bucket="b", part=part))
    files = [job_archive._File(str(n), f"{n}.png", 3 * 2**20, 1) for n in range(40)]
    monkeypatch.setattr(job_archive, "_files", lambda *_: files)
    job: Any = SimpleNamespace(total=1, finished_at=datetime.now(UTC), created_at=datetime.now(UTC))
    caller: Any = SimpleNamespace(api_key_id=uuid.uuid4())
    made = archive(resources, caller, job, None, Wanted())
    answer = ClosedStream(made.pieces, close=made.close)
    del made
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        await to_thread.run_sync(reading.wait)
        return {"type": "http.disconnect"}

    async def ask() -> None:
        scope: Any = {"type": "http", "asgi": {"spec_version": "2.3"}}
        async with create_task_group() as group:
            group.start_soon(answer, scope, receive, send)
            await to_thread.run_sync(reading.wait)
            for _ in range(50):
                await sleep(0.01)
            go_on.set()

    run(ask)
    eventually(lambda: in_time, "the readers that hung")
    assert all(in_time), "the loop went on meanwhile"
    assert sent[0]["status"] == 200
    for _ in range(MAX_ARCHIVES // 2):  # its place is free
        archive(resources, caller, job, None, Wanted())
