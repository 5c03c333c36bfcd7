"""The supervisor restarts processes that crash or are killed. It leaves stopped ones alone."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack.processes import Process, start
from deploy.stack.supervisor import Supervisor
from tests.waiting import eventually

DEADLINE_S = 20


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def parts() -> list[Process]:
    return []


@pytest.fixture
def supervisor(parts: list[Process], told: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(parts, told.append)
    supervisor.start()
    yield supervisor
    supervisor.pause()
    for part in parts:
        part.stop(5)
    supervisor.close()


def run(folder: Path, code: str) -> Process:
    command = [sys.executable, "-c", code]
    return start("part", command, log=folder / "part.log", folder=folder, env={})


@pytest.mark.usefixtures("supervisor")
def test_a_killed_process_is_restarted(
    parts: list[Process], told: list[str], tmp_path: Path
) -> None:
    parts.append(run(tmp_path, "import time; time.sleep(1000)"))
    first = parts[0].popen
    first.kill()
    eventually(lambda: parts[0].popen is not first and parts[0].alive(), "a new one")
    assert told == [told[0]], "said once"
    assert "part ended with status -9" in told[0]
    assert str(tmp_path / "part.log") in told[0]


@pytest.mark.usefixtures("supervisor")
def test_a_process_that_keeps_ending_is_restarted_less_and_less_often(
    parts: list[Process], told: list[str], tmp_path: Path
) -> None:
    parts.append(run(tmp_path, "print('alas', flush=True); exit(3)"))
    eventually(lambda: len(told) >= 3, "three ends")
    waits = [float(line.split(" s; log")[0].rpartition(" ")[2]) for line in told[:3]]
    assert waits == [0.5, 1.0, 2.0]
    assert (tmp_path / "part.log").read_text() == "alas\n" * len(told)


@pytest.mark.usefixtures("supervisor")
def test_a_process_that_cannot_be_started_is_tried_again(
    parts: list[Process], told: list[str], tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.symlink_to("/bin/sleep")
    part = start("part", [str(program), "1000"], log=tmp_path / "log", folder=tmp_path, env={})
    program.unlink()
    first = part.popen
    parts.append(part)
    first.kill()
    eventually(lambda: any("can't be started" in line for line in told), "a failed start")
    program.symlink_to("/bin/sleep")
    eventually(lambda: part.popen is not first and part.alive(), "a new one")


def test_a_stopped_process_stays_stopped(
    supervisor: Supervisor, parts: list[Process], told: list[str], tmp_path: Path
) -> None:
    parts += [run(tmp_path, "import time; time.sleep(1000)") for _ in range(2)]
    stopped, killed = parts
    killed.name = "other"
    stopped.stop(5)
    ended = killed.popen
    ended.kill()
    eventually(lambda: killed.popen is not ended, "a whole round")
    assert not stopped.alive()
    assert len(told) == 1
    supervisor.pause()
    killed.popen.kill()
    killed.popen.wait(180)
    supervisor.close()
    assert not killed.alive()


def test_a_large_log_is_rotated_and_the_process_keeps_writing(tmp_path: Path) -> None:
    part = run(tmp_path, "for line in range(10**9): print(line, flush=True)")
    eventually(lambda: part.log.stat().st_size > 100_000, "lines")
    part.rotate_log(limit_bytes=100_000)
    moved = (tmp_path / "part.log.1").read_text()
    assert moved.startswith("0\n1\n2\n")
    assert len(moved) > 100_000
    eventually(lambda: part.log.stat().st_size > 1_000, "more lines")
    part.stop(5)
    lines = part.log.read_bytes().split(b"\n")
    assert b"\0" not in lines[1], "no hole before what came next"
    assert int(lines[1]) >= len(moved.split("\n")) - 2, "later ones"
    (tmp_path / "part.log").unlink()
    part.rotate_log()  # nothing happens
