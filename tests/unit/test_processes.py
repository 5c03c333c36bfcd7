"""Starting child processes while Ctrl-C arrives."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, signal, sys
from pathlib import Path
from deploy.stack.processes import start

signal.signal(signal.SIGINT, signal.default_int_handler)
# In the hooks around a fork: an exception raised in one of them is printed and forgotten.
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
folder = Path(sys.argv[1])
try:
    start("sleeper", ["sleep", "60"], log=folder / "log", folder=folder, env=dict(os.environ))
except KeyboardInterrupt:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("stopped, and no child is left")
"""


def test_ctrl_c_in_the_middle_of_a_fork_is_not_lost(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert done.stdout == "stopped, and no child is left\n", done.stderr
    assert done.stderr == ""
