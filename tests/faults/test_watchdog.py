"""The watchdog and its child, in processes that hang, stop or hold the interpreter lock."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.waiting import eventually
from worker.concurrency.lock_watch import ENDING
from worker.concurrency.watchdog import Watchdog


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


@pytest.mark.parametrize("process", ["an ordinary one", "the first of a container"])
def test_a_process_that_never_releases_the_interpreter_lock_is_ended(process: str) -> None:
    command = [sys.executable, "-c", LOCKED]
    if process == "the first of a container":  # from such a one Linux keeps SIGABRT and SIGKILL
        command = [*_first_process(), *command]
    ended = subprocess.run(command, capture_output=True, timeout=180, check=False)
    assert ended.returncode == ENDING
    assert b"interpreter lock for 1 s" in ended.stderr
    assert b"in <module>" in ended.stderr, "and where each thread was"


def _first_process() -> list[str]:
    """The words before a command that make it PID 1 of its own, as in a container without init."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    words = ["unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        tried = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1)")
    if tried.returncode:
        pytest.skip(f"this machine allows no PID namespace: {tried.stderr.strip()}")
    return words


CROWDED = """
import os, resource, signal, time
from worker.concurrency import watchdog
one = watchdog.Watchdog(0.4)
room = resource.getrlimit(resource.RLIMIT_NOFILE)

def limit(files):
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, room[1]))
    seen_s = one._clock_s
    while one._clock_s < seen_s + 1:
        time.sleep(0.01)

def end_child():
    for task in os.listdir("/proc/self/task"):
        for child in open(f"/proc/self/task/{task}/children").read().split():
            os.kill(int(child), signal.SIGKILL)

resource.setrlimit(resource.RLIMIT_NOFILE, (3, room[1]))
one.start(print)
limit(3)
limit(room[0])
end_child()
limit(3)
resource.setrlimit(resource.RLIMIT_NOFILE, room)
one.stop()
"""


def test_a_watching_child_that_cannot_be_started_is_logged_once_until_it_can() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CROWDED], capture_output=True, timeout=180, check=False, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("lock-watch-not-started") == 2, ended.stdout


def test_the_watchdog_stops_although_its_child_is_stopped() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BEATING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        os.kill(child, signal.SIGSTOP)
        try:
            process.communicate("stop\n", timeout=60)
        except subprocess.TimeoutExpired:
            os.kill(child, signal.SIGKILL)
            raise
    assert process.returncode == 0


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
one.stop()
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
