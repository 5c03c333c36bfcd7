"""The zip file of a job is made in pieces: large results, missing ones, and limits."""

import uuid
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from api.routes import job_archive
from api.routes.job_archive import (
    MAX_ARCHIVES,
    MAX_IMAGES,
    MISSING,
    PIECE_BYTES,
    Wanted,
    archive,
)
from shared.errors import BusyError, RequestTooLargeError, TooManyCallsError
from shared.storage import Storage


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
        for piece in job_archive._zipped(resources, files, None):
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
    key = uuid.uuid4()
    caller: Any = SimpleNamespace(api_key_id=key)
    resources: Any = None
    job: Any = SimpleNamespace(total=MAX_IMAGES + 1)
    with pytest.raises(RequestTooLargeError, match="include=urls"):
        archive(resources, caller, job, None, Wanted())
    job.total = 1
    monkeypatch.setitem(job_archive._sending, key, MAX_ARCHIVES // 2)
    with pytest.raises(TooManyCallsError):
        archive(resources, caller, job, None, Wanted())
    monkeypatch.setitem(job_archive._sending, uuid.uuid4(), MAX_ARCHIVES)
    with pytest.raises(BusyError):
        archive(resources, caller, job, None, Wanted())
