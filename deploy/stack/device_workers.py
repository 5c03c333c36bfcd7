"""One worker process for each device of a machine, and their probes and metrics on one port.

The workers write to the parent's output. One that ends is started again, alone: the others go on.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deploy.stack.ports import LOOPBACK
from shared.errors import SetupError
from shared.settings import Settings
from shared.telemetry import get_logger
from worker.inference.device_count import count_gpus

log = get_logger(__name__)

ALL = "all"
CHECK_INTERVAL_S = 0.2
MIN_RESTART_DELAY_S = 0.5
MAX_RESTART_DELAY_S = 60.0
STABLE_AFTER_S = 300.0
"""A worker that ran this long is started again after MIN_RESTART_DELAY_S."""


def devices_of(settings: Settings) -> list[str]:
    """The device of each worker. Raises SetupError if there is none."""
    if settings.devices is None:
        return [settings.device]
    if settings.devices != ALL:
        return [one.strip() for one in settings.devices.split(",")]
    if found := count_gpus():
        return [f"gpu:{number}" for number in range(found)]
    raise SetupError(
        "MATTING_DEVICES=all, but no GPU can be seen (nvidia-smi -L lists them): give this "
        "container GPUs, or set MATTING_DEVICES=cpu"
    )


@dataclass
class DeviceWorker:
    """One worker and its child process."""

    device: str
    port: int
    """Where its probes and metrics are, on loopback."""
    command: Sequence[str]
    env: Mapping[str, str]
    child: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    due: float = 0.0
    """When to start it next, in seconds of the monotonic clock."""
    delay_s: float = field(default=MIN_RESTART_DELAY_S)

    @property
    def name(self) -> str:
        """The device and the port: a device may have several workers."""
        return f"{self.device}@{self.port}"

    @property
    def url(self) -> str:
        """The beginning of its probes' URLs."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start the child."""
        self.child = subprocess.Popen(list(self.command), env=dict(self.env))
        self.started = time.monotonic()

    def restart_if_ended(self) -> None:
        """Start the child again when it has ended and its delay is over."""
        now = time.monotonic()
        if self.child is not None and (status := self.child.poll()) is not None:
            if now - self.started > STABLE_AFTER_S:
                self.delay_s = MIN_RESTART_DELAY_S
            log.error("device-worker-ended", device=self.device, status=status, wait_s=self.delay_s)
            self.child = None
            self._wait_longer(now)
        if self.child is None and now >= self.due:
            try:
                self.start()
            except (OSError, subprocess.SubprocessError) as error:  # no memory for a process
                log.error(
                    "device-worker-not-started",
                    device=self.device,
                    detail=str(error),
                    wait_s=self.delay_s,
                )
                self._wait_longer(now)

    def _wait_longer(self, now: float) -> None:
        self.due = now + self.delay_s
        self.delay_s = min(2 * self.delay_s, MAX_RESTART_DELAY_S)


def workers_of(
    settings: Settings, devices: Sequence[str], command: Sequence[str]
) -> list[DeviceWorker]:
    """A worker for each device. They share the CPU cores, unless the environment sets the threads,
    and listen on the ports after MATTING_WORKER_METRICS_PORT.
    """
    first = (settings.worker_metrics_port or 9100) + 1
    cores = str(max(1, len(os.sched_getaffinity(0)) // len(devices)))
    shares = {"MATTING_CPU_THREADS": cores, "MATTING_CODEC_THREADS": cores}
    return [
        DeviceWorker(
            device=device,
            port=first + index,
            command=[*command, "-n", f"worker-{index + 1}@%h"],
            env={
                **shares,
                **os.environ,
                "MATTING_DEVICE": device,
                "MATTING_DEVICES": "",
                "MATTING_WORKER_METRICS_PORT": str(first + index),
            },
        )
        for index, device in enumerate(devices)
    ]


def run_until_stopped(workers: Sequence[DeviceWorker]) -> None:
    """Run the workers until SIGTERM or SIGINT. Then they finish their batches."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(CHECK_INTERVAL_S):
        for worker in workers:
            worker.restart_if_ended()
    children = [worker.child for worker in workers if worker.child is not None]
    for child in children:
        child.send_signal(signal.SIGTERM)
    for child in children:
        child.wait()
