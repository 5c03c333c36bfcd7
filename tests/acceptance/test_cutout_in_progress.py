"""`matting cutout` while one photo takes long: the others are done, whatever happens to it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.command import matting
from tests.photo_files import drawn, saved
from tests.waiting import eventually

OTHERS = 5

CUT_OUT = """
import signal, sys
from pathlib import Path
from deploy.commands.cutout import cut_out_files
from deploy.local_photos import LocalPhotos
from shared.options import Options
from shared.settings import Settings
signal.signal(signal.SIGINT, signal.default_int_handler)
photos = LocalPhotos([(one, one.name) for one in sorted(Path(sys.argv[1]).iterdir())])
try:
    cut_out_files(photos, Path(sys.argv[2]), Options(), Settings(log_level="WARNING"))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def photos(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first photo is a pipe: whoever reads it waits until something is written into it."""
    monkeypatch.setenv("MATTING_MODEL", str(tiny_model))
    folder = tmp_path / "photos"
    folder.mkdir()
    os.mkfifo(folder / "0-slow.jpg")
    for number in range(1, 1 + OTHERS):
        (folder / f"{number}.jpg").write_bytes(saved(drawn(), "JPEG"))
    return folder


@contextmanager
def all_but_one_done(photos: Path, out: Path) -> "Iterator[tuple[subprocess.Popen[bytes], Path]]":
    """The process, and the file with what it says, once it has said that the others are done."""
    said = photos.parent / "said.txt"
    command = [sys.executable, "-c", CUT_OUT, str(photos), str(out)]
    with said.open("wb") as file, subprocess.Popen(command, stderr=file) as child:
        try:
            eventually(lambda: said.read_text().count("wrote ") == OTHERS, "the other photos")
            yield child, said
        finally:
            child.kill()


def test_results_that_are_done_are_kept_by_the_next_run_after_a_kill(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with all_but_one_done(photos, out):
        assert len(list(out.glob("*.png"))) == OTHERS
    (photos / "0-slow.jpg").unlink()
    (photos / "0-slow.jpg").write_bytes(saved(drawn(), "JPEG"))
    again = matting("cutout", str(photos), "--out", str(out))
    assert again.returncode == 0, again.stderr
    assert re.search(rf"^1 done: .*; {OTHERS} kept from before$", again.stderr, re.MULTILINE)


def test_ctrl_c_finishes_the_photo_in_progress_first(photos: Path, tmp_path: Path) -> None:
    with all_but_one_done(photos, tmp_path / "out") as (child, said):
        child.send_signal(signal.SIGINT)
        eventually(lambda: "stopping" in said.read_text(), "the answer")
        (photos / "0-slow.jpg").write_bytes(saved(drawn(), "JPEG"))
        assert child.wait(180) == 130
    assert (tmp_path / "out" / "0-slow.png").exists()
    assert "0-slow.png" in said.read_text()


def test_ctrl_c_again_stops_at_once(photos: Path, tmp_path: Path) -> None:
    with all_but_one_done(photos, tmp_path / "out") as (child, said):
        child.send_signal(signal.SIGINT)
        eventually(lambda: "stopping" in said.read_text(), "the answer")
        child.send_signal(signal.SIGINT)
        assert child.wait(180) == 130
    assert not list((tmp_path / "out").glob(".matting-*/")), "nothing unfinished is left"
