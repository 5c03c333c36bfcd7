"""What docs/operate.md promises for a database that is restored to an earlier moment."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from api.client import ApiError, MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.acceptance.conftest import QUICK
from tests.waiting import eventually


def test_work_since_the_backup_is_repeated_and_nothing_is_lost(
    tmp_path: Path, jpeg: bytes, tiny_model: Path
) -> None:
    env = QUICK | {"MATTING_MODEL": str(tiny_model)}
    photos = []
    for number in range(60):
        photos.append(tmp_path / f"{number}.jpg")
        photos[-1].write_bytes(jpeg)
    data, backup = tmp_path / "stack", tmp_path / "backup.db"
    live = data / "matting.db"
    with (
        Stack(data, env=env) as stack,
        MattingClient(stack.address.api_url, stack.secrets.api_key) as client,
    ):
        with closing(Storage(stack.settings)) as storage:
            storage.put("shop/x.jpg", jpeg, "image/jpeg")
        before = client.submit_files(photos)["id"]
        eventually(lambda: client.job(before)["counts"]["succeeded"], "the first image")
        with closing(sqlite3.connect(live)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        assert client.wait(before)["counts"]["succeeded"] == 60
        after = client.submit({"keys": ["shop/x.jpg"]}, idempotency_key="once")["id"]
        client.wait(after)
    for name in ("", "-wal", "-shm"):
        live.with_name(live.name + name).unlink(missing_ok=True)
    shutil.copy(backup, live)
    with (
        Stack(data, env=env) as stack,
        MattingClient(stack.address.api_url, stack.secrets.api_key) as client,
    ):
        assert client.job(before)["counts"]["succeeded"] < 60, "the backup was taken on the way"
        assert client.wait(before)["counts"]["succeeded"] == 60
        assert len(list(client.items(before, status="succeeded"))) == 60
        with pytest.raises(ApiError, match="job-not-found"):
            client.job(after)
        again = client.submit({"keys": ["shop/x.jpg"]}, idempotency_key="once")["id"]
        assert client.wait(again)["counts"]["succeeded"] == 1
