"""Files of clips on a worker's disk: those of killed workers go, and their size is bounded."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from shared.errors import ClipNeedsRoomError
from worker.video.folders import PREFIX, ClipFolder, check_room, remove_abandoned


def test_folders_of_killed_workers_are_removed_and_those_in_use_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, fresh, foreign = (tmp_path / f"{PREFIX}{name}" for name in ("dead", "fresh", "foreign"))
    for folder in (dead, fresh):
        folder.mkdir()
        (folder / ".lock").touch()
        (folder / "clip").write_bytes(b"film")
    foreign.mkdir()
    an_hour_ago = time.time() - 3_600
    with ClipFolder() as mine:
        for folder in (dead, foreign, mine.path):
            os.utime(folder, (an_hour_ago, an_hour_ago))
        assert remove_abandoned() == 1
        left = {folder.name for folder in tmp_path.iterdir()}
        assert left == {fresh.name, foreign.name, mine.path.name}
    assert not mine.path.exists()


def test_a_clip_that_takes_too_much_room_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("clip", "out/0.webm"):
        (tmp_path / name).write_bytes(bytes(1_000))
    check_room([tmp_path], 2_000)
    with pytest.raises(ClipNeedsRoomError, match="1,999 bytes"):
        check_room([tmp_path], 1_999)
