"""Files of clips on a worker's disk: those of killed workers go, and their size is bounded."""

import errno
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from shared.errors import ClipNeedsRoomError
from shared.rendition import Rendition
from tests.clips import facts_of
from worker.video.encoders import encoder_for
from worker.video.folders import (
    PREFIX,
    BoundedFile,
    ClipFolder,
    bytes_of,
    check_room,
    remove_abandoned,
)
from worker.video.full_disk import is_disk_full


def test_folders_of_killed_workers_are_removed_and_those_in_use_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = ("dead", "unlocked", "fresh", "foreign")
    dead, unlocked, fresh, foreign = (tmp_path / f"{PREFIX}{name}" for name in names)
    for folder in (dead, fresh):
        folder.mkdir()
        (folder / ".lock").touch()
        (folder / "clip").write_bytes(b"film")
    foreign.mkdir()
    (foreign / "film.mp4").touch()
    unlocked.mkdir()
    an_hour_ago = time.time() - 3_600
    with ClipFolder() as mine:
        for folder in (dead, unlocked, foreign, mine.path):
            os.utime(folder, (an_hour_ago, an_hour_ago))
        assert remove_abandoned() == 2
        left = {folder.name for folder in tmp_path.iterdir()}
        assert left == {fresh.name, foreign.name, mine.path.name}
    assert not mine.path.exists()


def test_a_clip_that_takes_too_much_room_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("clip", "out/0.webm"):
        (tmp_path / name).write_bytes(bytes(1_000))
    used_bytes = bytes_of(tmp_path / "out", tmp_path / "clip", tmp_path / "none")
    check_room(used_bytes, 2_000)
    with pytest.raises(ClipNeedsRoomError):
        check_room(used_bytes, 1_999)


def test_a_file_that_is_fetched_takes_no_more_room_than_there_is(tmp_path: Path) -> None:
    with BoundedFile(tmp_path / "clip", 1_000) as into:
        into.write(bytes(400))
        into.write(bytes(400))
        with pytest.raises(ClipNeedsRoomError):
            into.write(bytes(400))
    assert bytes_of(tmp_path) == 800


def test_a_full_disk_while_an_output_is_written_is_told_apart() -> None:
    facts = facts_of(90, (64, 48), 25)
    rendition = Rendition.model_validate({"clip_format": "webm"})
    encoder = encoder_for(rendition, facts, 64, 48, Path("/dev/full"), 1)
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, 4), np.uint8)

    def write() -> None:
        for number in range(90):
            encoder.write(pixels, number)
        encoder.close()

    with pytest.raises(OSError, match=r"full|space left") as raised:
        write()
    assert is_disk_full(raised.value)
    assert not is_disk_full(OSError(errno.EACCES, "no"))
