"""Starting child processes while Ctrl-C arrives."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys
from pathlib import Path
from deploy.stack.processes import start

signal.signal(signal.SIGINT, signal.default_int_handler)
interrupt = lambda *_: os.kill(os.getpid(), signal.SIGINT)
if sys.argv[2] == "fork":
    # In the hooks around a fork: an exception raised in one of them is printed and forgotten.
    os.register_at_fork(after_in_parent=interrupt)
else:
    sys.addaudithook(lambda event, args: event == "open" and "log" in str(args[0]) and interrupt())
folder = Path(sys.argv[1])
try:
    start("sleeper", ["sleep", "60"], log=folder / "log", folder=folder, env=dict(os.environ))
except KeyboardInterrupt:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("stopped, and no child is left")
"""


@pytest.mark.parametrize("when", ["fork", "opening of the log"])
def test_ctrl_c_in_the_middle_of_a_start_is_not_lost(tmp_path: Path, when: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), when],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert done.stdout == "stopped, and no child is left\n", done.stderr
    assert done.stderr == ""
