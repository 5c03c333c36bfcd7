"""A child process that ends this process when its threads no longer get the interpreter lock (GIL).

Native code that never releases the lock blocks all threads, the watchdog's too, so only another
process can notice. The child counts its own waits instead of reading a clock, and leaves out those
at whose end this process is stopped. So nothing ends after SIGSTOP, or when the machine was
suspended or the container frozen. A timer in this process, as faulthandler has, counts all of that.

A container's first process (PID 1) is ended, too. Of signals from inside the container, Linux gives
it only those that it handles, and it cannot handle SIGKILL. So this process handles `ENDING`.
"""

import ctypes
import faulthandler
import os
import select
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

ENDING = signal.SIGRTMIN + 3
"""The signal at which this process writes the stacks of all threads and exits. Its number is the
exit status: 37.
"""

DYING_S = 60.0
"""Time for writing the stacks of all threads."""


class LockWatch:
    """The child. Call `beat` far more often than every `limit_s`, and `stop` at the end. For one
    thread at a time.
    """

    def __init__(self, limit_s: float, tick_s: float) -> None:
        """The child looks every `tick_s`. The first `beat` starts it."""
        _exit_at_signal()
        self._arguments = [str(os.getpid()), str(limit_s), str(tick_s)]
        self._child: subprocess.Popen[bytes] | None = None

    def beat(self) -> None:
        """Tell the child that this thread runs. Starts a child if there is none any more."""
        if self._child is None:
            self._child = self._started()
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(b".")  # of a child that is stopped, the pipe may be full
        except BrokenPipeError:
            self.stop()

    def stop(self) -> None:
        """End the child."""
        if self._child is not None:
            assert self._child.stdin is not None
            self._child.stdin.close()
            self._child.kill()  # somebody may have stopped it; it has nothing to finish
            self._child.wait()
            self._child = None

    def _started(self) -> "subprocess.Popen[bytes]":
        # By its path and without other packages: it starts at once and takes little memory.
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            bufsize=0,
            env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
        )
        assert child.stdin is not None
        os.set_blocking(child.stdin.fileno(), False)
        return child


@cache
def _exit_at_signal() -> None:
    """Let this process exit at `ENDING`. A handler in Python would wait for the interpreter lock,
    so there are two native ones: faulthandler's writes the stacks and then calls `_exit`.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    libc.signal(ENDING, ctypes.cast(libc._exit, ctypes.c_void_p))
    faulthandler.register(ENDING, sys.__stderr__ or sys.stderr, chain=True)


def watch(parent: int, limit_s: float, tick_s: float) -> None:
    """The child process: read beats from standard input until it closes; end the parent after
    `limit_s` without one.
    """
    silent_s = 0.0
    while os.getppid() == parent:
        ready, _, _ = select.select([0], [], [], tick_s)
        if ready:
            if not os.read(0, 4_096):
                return
            silent_s = 0.0
        elif not _is_stopped(parent):
            silent_s += tick_s
        if silent_s > limit_s:
            _say(
                f"No thread of process {parent} got the interpreter lock for {limit_s:g} s: "
                "native code does not release it. The process is told to exit."
            )
            os.kill(parent, ENDING)
            ready, _, _ = select.select([0], [], [], DYING_S)
            if not ready:
                _say(f"Process {parent} does not exit. It gets SIGKILL.")
                os.kill(parent, signal.SIGKILL)
            return


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _is_stopped(process: int) -> bool:
    """Whether a process is stopped by a signal or a debugger; Linux, see proc(5)."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # it has ended, or there is no such file system
        return False
    return state in "Tt"


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # it ends when the parent does
        signal.signal(number, signal.SIG_IGN)
    watch(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
