"""Child processes that decode suspects, and the watchdog, while processes crash, hang or stop."""

import os
import signal
import subprocess
import sys
import threading
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
from tests.waiting import eventually
from worker.concurrency.watchdog import Watchdog
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


def test_the_watchdog_reports_each_hang_once() -> None:
    watchdog, named = Watchdog(0.2), list[tuple[str | float | None, ...]]()
    found = threading.Event()

    def hear(*stuck: str | float | None) -> None:
        named.append(stuck)
        found.set()

    watchdog.start(hear)
    try:
        with watchdog.watching("quick", "decode"):
            pass
        with watchdog.watching("slow", "finish"):
            assert found.wait(180)
            with watchdog.watching("another", "decode"):
                pass
    finally:
        watchdog.stop()
    assert named == [("slow", "finish", 0.2)]


LOCKED = """
import ctypes
from worker.concurrency import watchdog
watchdog.GIL_HELD_GRACE_S = 0.5
one = watchdog.Watchdog(0.5)
one.start(print)
with one.watching("item", "decode"):
    ctypes.PyDLL(None).pause()
"""


def test_a_process_that_never_releases_the_interpreter_lock_is_ended() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOCKED], capture_output=True, timeout=180, check=False
    )
    assert ended.returncode == -signal.SIGABRT
    assert b"interpreter lock for 1 s" in ended.stderr
    assert b"Fatal Python error: Aborted" in ended.stderr, "and where each thread was"


STOPPED = """
import os, sys, time
from worker.concurrency import watchdog
watchdog.GIL_HELD_GRACE_S = 2
one = watchdog.Watchdog(2)
one.start(lambda *_: os._exit(1))
with one.watching("item", "decode") as turned:
    print("!", flush=True)
    sys.stdin.readline()
    turned()
    seen_s = one._clock_s
    while one._clock_s < seen_s + 1:
        time.sleep(0.01)
"""


def test_nothing_is_blamed_or_ended_after_the_process_was_stopped() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"!\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(6)  # the fault: longer than both limits
        process.send_signal(signal.SIGCONT)
        process.communicate(b"\n", timeout=240)
    assert process.returncode == 0


BEATING = """
import sys
from worker.concurrency.lock_watch import LockWatch
one = LockWatch(60, 0.1)
one.beat()
print(one._child.pid, flush=True)
while sys.stdin.readline() == "beat\\n":
    one.beat()
    print(one._child.pid if one._child else 0, flush=True)
"""


def test_the_watching_child_is_replaced_when_it_dies_and_ends_with_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BEATING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = process.stdin, process.stdout
        first = int(told.readline())
        os.kill(first, signal.SIGKILL)

        def another() -> int:
            asked.write("beat\n")
            asked.flush()
            found = int(told.readline())
            return found if found != first else 0

        second = Path("/proc", str(eventually(another, "another child")))
        eventually(second.exists, "the child to be there")
        process.kill()
    eventually(lambda: not second.exists() or _is_zombie(second), "the end of the child")


def _is_zombie(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


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
