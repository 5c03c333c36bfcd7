"""How many cores a fast device wants, and how many processes: python -m tests.benchmarks.cores.

It measures what an image costs around the device, and for how much of that its thread holds the
interpreter's lock (the GIL). Two threads never hold it at the same time, so it limits a process
however many cores there are. The rest is computed: threads that compute in parallel, and queue for
the one lock.
"""

import argparse
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from shared.options import Options
from shared.settings import Settings
from tests.benchmarks.feeding import MemoryStore, feed, items
from tests.benchmarks.photos import files
from tests.benchmarks.report import report
from tests.benchmarks.virtual_device import VirtualDevice
from worker.pipeline.pipeline import Pipeline

DEVICE_MS = (2.0, 5.0, 10.0)
ENOUGH = 0.95
"""A device is fed if it is busy for this share of the time."""

MOST_CORES = 64
SAMPLES_PER_S = 400
PROFILER_START_S = 1.5
IMAGES = 300


def rate(threads: int, free_ms: float, locked_ms: float) -> float:
    """Images/s of so many threads, of which each needs `free_ms` of its own core and `locked_ms`
    of the one lock for an image.

    Mean value analysis of a closed network with one queue (Reiser and Lavenberg, 1980).
    """
    waiting = 0.0
    throughput = 0.0
    for customers in range(1, threads + 1):
        at_lock_ms = locked_ms * (1 + waiting)
        throughput = customers / (free_ms + at_lock_ms)
        waiting = throughput * at_lock_ms
    return throughput * 1e3


def cores_wanted(device_ms: float, free_ms: float, locked_ms: float, processes: int) -> int | None:
    """The fewest cores, shared out evenly, with which so many processes feed a device; None: no
    number is enough.
    """
    for each in range(1, MOST_CORES // processes + 1):
        if processes * rate(each, free_ms, locked_ms) >= ENOUGH * 1e3 / device_ms:
            return each * processes
    return None


def measured(megapixels: float) -> tuple[float, float]:
    """CPU-ms of an image around the device, and for how many ms of them the lock is held. Needs
    py-spy, which samples this process from outside.
    """
    settings = Settings(batch_size=8, log_level="ERROR")
    photos = files(None, count=20, megapixels=megapixels)
    pipeline = Pipeline(VirtualDevice(1), MemoryStore(photos), settings)
    feed(pipeline, settings, items(0, 16, Options()))
    with tempfile.TemporaryDirectory() as scratch:
        samples = Path(scratch) / "samples"
        command = ["py-spy", "record", "--gil", "--nonblocking", "--format", "raw"]
        command += ["--rate", str(SAMPLES_PER_S), "--duration", "600"]
        command += ["--output", str(samples), "--pid", str(os.getpid())]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as profiler:
            time.sleep(PROFILER_START_S)
            began_s = time.process_time()
            feed(pipeline, settings, items(0, IMAGES, Options()))
            cpu_ms = (time.process_time() - began_s) / IMAGES * 1e3
            profiler.send_signal(signal.SIGINT)
        held = sum(int(line.rpartition(" ")[2]) for line in samples.read_text().splitlines())
    pipeline.close()
    return cpu_ms, held / SAMPLES_PER_S / IMAGES * 1e3


def main() -> None:
    """Headline: images/s at which one process ends, however many cores it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, default=1.0)
    chosen = parser.parse_args()
    cpu_ms, locked_ms = measured(chosen.megapixels)
    free_ms = cpu_ms - locked_ms
    rows = []
    for device_ms in DEVICE_MS:
        wanted = {
            str(processes): cores_wanted(device_ms, free_ms, locked_ms, processes)
            for processes in (1, 2, 4, 8)
        }
        rows.append({"device_ms": device_ms, "cores_by_processes": wanted})
        print(rows[-1])
    report(
        "cores",
        1e3 / locked_ms,
        target=None,
        unit="images/s of one process at most",
        details={
            "cpu_ms": round(cpu_ms, 1),
            "locked_ms": round(locked_ms, 2),
            "one_process": {
                str(threads): round(rate(threads, free_ms, locked_ms))
                for threads in (1, 2, 4, 8, 16, 32)
            },
            "devices": rows,
        },
    )


if __name__ == "__main__":
    main()
