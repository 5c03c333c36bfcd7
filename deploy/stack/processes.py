"""Child processes: starting them with a log file, waiting until they are ready, stopping them.

The kernel stops a child when its parent dies, so a killed `matting demo` leaves no processes.
"""

import os
import secrets
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
from shared.parent_death import end_with_parent

MAX_LOG_BYTES = 50 * 1024**2
"""Size at which a log is rotated. A worker writes one line per image: about 80,000 images."""

FIRST_PORT = 10_000
FIRST_EPHEMERAL_PORT = 32_768


@dataclass
class Process:
    """A child process with its command, environment and log file. Creating one starts it."""

    name: str
    command: Sequence[str]
    log: Path
    folder: Path
    env: Mapping[str, str]
    dies_by: signal.Signals = signal.SIGTERM
    """The signal that the kernel sends it when its parent dies."""
    popen: "subprocess.Popen[bytes]" = field(init=False)
    started: float = field(init=False)
    """Start time, in seconds of the monotonic clock."""
    should_run: bool = field(default=True, init=False)
    """False after `stop`. A process that ends while this is True ended unexpectedly."""
    _asked_to_stop: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Start the process."""
        self.restart()

    def restart(self) -> None:
        """Start a new child with the same command."""
        parent = os.getpid()
        child = None
        try:
            with _interrupt_held(), self.log.open("ab") as output:
                child = self.popen = subprocess.Popen(
                    list(self.command),
                    cwd=self.folder,
                    env=dict(self.env),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=lambda: end_with_parent(self.dies_by, parent),
                )
        except KeyboardInterrupt:  # no caller has the process yet, so nobody else can stop it
            if child is not None:
                child.kill()
                child.wait()
            raise
        self.started = time.monotonic()
        self._asked_to_stop = False

    def rotate_log(self, limit_bytes: int = MAX_LOG_BYTES) -> None:
        """Copy a log that exceeds the limit to NAME.log.1 and truncate it.

        The process keeps writing to the same file. Lines that it writes between copying and
        truncating are lost.
        """
        with suppress(OSError):  # full disk or deleted file: the supervisor must continue
            if self.log.stat().st_size > limit_bytes:
                shutil.copyfile(self.log, self.log.with_name(f"{self.log.name}.1"))
                os.truncate(self.log, 0)

    def alive(self) -> bool:
        """Whether the process is running."""
        return self.popen.poll() is None

    def ask_to_stop(self) -> None:
        """Send SIGTERM once, and don't wait: at a second one Celery drops its work."""
        self.should_run = False
        if self.alive() and not self._asked_to_stop:
            self._asked_to_stop = True
            self.popen.terminate()

    def stop(self, grace_s: float) -> None:
        """Send SIGTERM, then SIGKILL if the process has not ended after `grace_s`."""
        self.ask_to_stop()
        if self.alive():
            try:
                self.popen.wait(grace_s)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.popen.wait()

    def log_tail(self, count: int = 12) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-count:])


def start(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    folder: Path,
    env: Mapping[str, str],
    dies_by: signal.Signals = signal.SIGTERM,
) -> Process:
    """Start a child in its own session: Ctrl-C reaches only the parent, which stops the child.
    `dies_by`: see Process.
    """
    return Process(name, command, log, folder, dict(env), dies_by)


@contextmanager
def _interrupt_held() -> Iterator[None]:
    """Delay SIGINT and SIGTERM until the fork is over.

    Python prints and drops an exception that is raised in its own hooks around a fork.
    """
    if threading.current_thread() is not threading.main_thread():  # only it receives signals
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


def wait_until(
    check: Callable[[], bool], process: Process, *, timeout_s: float, poll_s: float = 0.05
) -> None:
    """Wait until `check` returns true. Raises StackError when the process ends or time runs out."""
    deadline = time.monotonic() + timeout_s
    while True:
        if not process.alive():
            raise StackError(
                f"{process.name} ended with status {process.popen.returncode}. The end of "
                f"{process.log}:\n{process.log_tail()}\n"
            )
        if check():
            return
        if time.monotonic() > deadline:
            raise StackError(
                f"{process.name} was not ready after {timeout_s:.0f} s. The end of "
                f"{process.log}:\n{process.log_tail()}\n"
            )
        time.sleep(poll_s)


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a port of this machine accepts connections."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def free_port(count: int = 1) -> int:
    """The first of `count` loopback ports in a row that are free at the moment.

    None of them is a port that the kernel gives to outgoing connections, which would take it while
    nobody listens: those begin at 32,768 on Linux and at 49,152 elsewhere (RFC 6335).
    """
    while True:
        first = secrets.choice(range(FIRST_PORT, FIRST_EPHEMERAL_PORT - count))
        if all(_is_free(first + index) for index in range(count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def program(name: str) -> str:
    """The path of a program that a wheel installed next to this Python.

    Raises StackError when it is missing.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise StackError(
            f"{name} is not installed: run `make demo`, or pip install 'matting[local]'"
        )
    return os.fspath(path)
