"""Child processes: started with a log file each, watched while they start, stopped in order.

A child dies with its parent (the kernel sees to it), so a killed `matting demo` leaves nothing.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import StackError

MAX_LOG_BYTES = 50 * 1024**2
"""About 80,000 images, of which a worker writes a line each."""

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent dies."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Process:
    """A child that runs, what it was started with, and where it writes."""

    name: str
    command: Sequence[str]
    log: Path
    folder: Path
    env: Mapping[str, str]
    popen: "subprocess.Popen[bytes]" = field(init=False)
    started: float = field(init=False)
    """Seconds of the monotonic clock."""
    wanted: bool = field(default=True, init=False)
    """Nobody has stopped it: when it ends, it ends by itself."""

    def __post_init__(self) -> None:
        """Start it."""
        self.start_again()

    def start_again(self) -> None:
        """A new child in its place."""
        try:
            with self.log.open("ab") as output, _interrupt_held():
                self.popen = subprocess.Popen(
                    list(self.command),
                    cwd=self.folder,
                    env=dict(self.env),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
        except KeyboardInterrupt:  # whoever would stop it does not know it yet
            self.popen.kill()
            self.popen.wait()
            raise
        self.started = time.monotonic()

    def keep_log_small(self, limit_bytes: int = MAX_LOG_BYTES) -> None:
        """Move a log beyond the limit to NAME.log.1, in place of what was there. The part goes on
        at the beginning of the same file; what it writes at that very moment may be missing.
        """
        with suppress(OSError):  # a full disk, or someone took it away: who watches must go on
            if self.log.stat().st_size > limit_bytes:
                shutil.copyfile(self.log, self.log.with_name(f"{self.log.name}.1"))
                os.truncate(self.log, 0)

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.popen.poll() is None

    def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL for what has not ended after `grace_s`."""
        self.wanted = False
        if self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(grace_s)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.popen.wait()

    def last_lines(self, count: int = 12) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-count:])


def start(
    name: str, command: Sequence[str], *, log: Path, folder: Path, env: Mapping[str, str]
) -> Process:
    """Start a child in a session of its own: Ctrl-C reaches the parent, which stops it in order."""
    return Process(name, command, log, folder, dict(env))


@contextmanager
def _interrupt_held() -> Iterator[None]:
    """Let Ctrl-C wait until a fork is over: raised in one of Python's own hooks around it, it would
    be printed and forgotten.
    """
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread
        yield
        return
    held: list[int] = []
    before = {
        number: signal.signal(number, lambda caught, _frame: held.append(caught))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_until(check: Callable[[], bool], process: Process, *, timeout_s: float) -> None:
    """Wait until `check` holds. Raises StackError when the process ends first, or time runs out."""
    deadline = time.monotonic() + timeout_s
    while True:
        if not process.alive():
            raise StackError(
                f"{process.name} ended with status {process.popen.returncode}. The end of "
                f"{process.log}:\n{process.last_lines()}\n"
            )
        if check():
            return
        if time.monotonic() > deadline:
            raise StackError(
                f"{process.name} was not ready after {timeout_s:.0f} s. The end of "
                f"{process.log}:\n{process.last_lines()}\n"
            )
        time.sleep(0.05)


def answers(port: int) -> bool:
    """Whether something listens on a loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def free_port() -> int:
    """A loopback port that nothing uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str) -> str:
    """A program that a wheel put beside this Python. Raises StackError when it is missing."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise StackError(
            f"{name} is not installed: run `make demo`, or pip install 'matting[local]'"
        )
    return os.fspath(path)
