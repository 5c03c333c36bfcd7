"""What reaches standard error while an engine is built."""

import os
import subprocess
import sys

import pytest

from worker.inference.paddle_noise import without_noise


def test_the_passes_lines_are_dropped_and_all_others_arrive(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with without_noise():
        os.write(2, b"\x1b[37m---    marked 181 operators to bfloat16 \x1b[0m\n")
        os.write(2, b"a line of another thread\n")
        subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('a child\\n')"])
        os.write(2, b"half a line")
    os.write(2, b", after it\n")
    assert capfd.readouterr().err == "a line of another thread\na child\nhalf a line, after it\n"


def test_a_child_that_lives_on_holds_nobody_up() -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with without_noise():
        child = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert child.poll() is None
    child.communicate(b"")
    assert child.returncode == 0


def test_an_error_leaves_standard_error_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), without_noise():
        raise ValueError("broken")
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "later\n"
