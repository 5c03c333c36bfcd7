"""No child outlives the process that started it."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.waiting import eventually, is_dead

PARENT = """
import signal, sys, time
from pathlib import Path
from deploy.stack.processes import start
folder = Path(sys.argv[1])
child = start(
    "child",
    ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"],
    log=folder / "log",
    folder=folder,
    env={"PATH": "/usr/bin:/bin"},
    dies_by=signal.SIGKILL,
)
print(child.popen.pid, flush=True)
time.sleep(1000)
"""

LATE = """
import signal
from shared.parent_death import end_with_parent
end_with_parent(signal.SIGTERM, parent=-1)
print("goes on")
"""


def test_a_child_that_ignores_sigterm_dies_with_its_parent_if_asked(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().strip())
        eventually(lambda: "ready" in (tmp_path / "log").read_text(), "the child")
        assert child.exists()
        parent.kill()
    eventually(lambda: is_dead(child), "the end of the child")


def test_a_child_whose_parent_is_dead_already_ends_at_once() -> None:
    ended = subprocess.run([sys.executable, "-c", LATE], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, b"")
