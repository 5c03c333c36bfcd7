"""Child processes that decode suspects, while they crash or hang."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from shared.errors import ImageTimeoutError, NotAnImageError, PoisonousImageError
from shared.settings import Settings
from tests import bad_photos
from tests.faults.poison import MARKED, poisonous
from worker.imaging.decoding import decode
from worker.imaging.quarantine import DecodeRequest, Quarantine
from worker.video.quarantine import ClipProcess


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return poisonous(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def children() -> Iterator[Quarantine]:
    quarantine = Quarantine(Settings(image_timeout_s=60, max_image_pixels=4_000_000))
    yield quarantine
    quarantine.close()


@pytest.fixture
def quarantine(
    children: Quarantine, site: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Quarantine:
    for name, value in site.items():
        monkeypatch.setenv(name, value)
    return children


def test_the_child_gives_the_same_pixels_and_sizes_as_the_worker(
    quarantine: Quarantine, jpeg: bytes
) -> None:
    for data, request in (
        (jpeg, DecodeRequest()),
        (jpeg, DecodeRequest(min_side_px=100)),
        (bad_photos.good()["ycck.jpg"], DecodeRequest()),
        (bad_photos.good()["clear.png"], DecodeRequest()),
    ):
        here = decode(data, Settings(), min_side_px=request.min_side_px, keep_profile=False)
        found = quarantine.decode(data, request)
        np.testing.assert_array_equal(found.image, here.image)
        assert (found.width, found.height) == (here.width, here.height)
        if found.alpha is not None or here.alpha is not None:
            np.testing.assert_array_equal(found.alpha, here.alpha)


def test_a_crash_fails_its_photo_and_the_next_one_is_decoded(
    quarantine: Quarantine, jpeg: bytes
) -> None:
    for _ in range(2):
        with pytest.raises(PoisonousImageError, match="SIGSEGV"):
            quarantine.decode(jpeg + MARKED["crash"], DecodeRequest())
        assert quarantine.decode(jpeg, DecodeRequest()).width == 400


@pytest.mark.parametrize("how", ["hang", "hang-locked"])
@pytest.mark.usefixtures("quarantine")
def test_a_hang_ends_at_the_limit(jpeg: bytes, how: str) -> None:
    with closing(Quarantine(Settings(image_timeout_s=4))) as quarantine:
        began = time.monotonic()
        with pytest.raises(ImageTimeoutError):
            quarantine.decode(jpeg + MARKED[how], DecodeRequest())
        assert time.monotonic() - began >= 4, "the photo never ends by itself"
        assert quarantine.decode(jpeg, DecodeRequest()).width == 400


def test_memory_beyond_the_limit_fails_the_photo_and_the_worker_continues(
    quarantine: Quarantine, jpeg: bytes
) -> None:
    with pytest.raises(PoisonousImageError, match="memory"):
        quarantine.decode(jpeg + MARKED["swell"], DecodeRequest())
    assert quarantine.decode(jpeg, DecodeRequest()).width == 400


def test_image_errors_come_back_unchanged(quarantine: Quarantine) -> None:
    with pytest.raises(NotAnImageError):
        quarantine.decode(b"<html>", DecodeRequest())


HALF_AN_ANSWER = """#!/bin/sh
echo ready
read -r asked
echo '{"shape": [9, 9, 3], "width": 9, "height": 9}'
printf 'pixels'
kill -KILL $$
"""


STOPS_ITS_PARENT = """#!/bin/sh
echo ready
read -r asked
kill -STOP $PPID
sleep 6
kill -CONT $PPID
sleep 1
echo '{"code": "truncated-image", "detail": "answered"}'
"""

ASKING = """
import subprocess
import sys
from shared.errors import MattingError
from shared.settings import Settings
from worker.imaging.quarantine import DecodeRequest, Quarantine
sys.executable = sys.argv[1]
quarantine = Quarantine(Settings(image_timeout_s=4))
try:
    quarantine.decode(b"photo", DecodeRequest())
except MattingError as error:
    print(error.code)
quarantine.close()
"""


def test_a_photo_does_not_time_out_while_the_worker_is_stopped(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(STOPS_ITS_PARENT)
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", ASKING, str(program)],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    assert done.stdout == "truncated-image\n"


def test_a_crash_in_the_middle_of_an_answer_fails_its_photo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jpeg: bytes
) -> None:
    program = tmp_path / "python"
    program.write_text(HALF_AN_ANSWER)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with (
        closing(Quarantine(Settings())) as quarantine,
        pytest.raises(PoisonousImageError, match="SIGKILL"),
    ):
        quarantine.decode(jpeg, DecodeRequest())


def test_children_get_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets = ("DATABASE_URL", "MATTING_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "X")
    for name in secrets:
        monkeypatch.setenv(name, "secret-of-the-worker")
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"")
    photos = Quarantine(Settings())
    with closing(photos), ClipProcess(clip, Settings()) as clips:
        with pytest.raises(NotAnImageError):
            photos.decode(b"no photo", DecodeRequest())
        child = photos._idle.get_nowait()
        photos._idle.put(child)
        for pid in (child._popen.pid, clips.pid):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"PATH=" in environment
            assert b"secret-of-the-worker" not in environment
