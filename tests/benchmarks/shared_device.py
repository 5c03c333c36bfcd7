"""How many processes feed one fast device: python -m tests.benchmarks.shared_device.

A simulated device of 2, 5 and 10 ms an image, shared by 1 to 8 processes that each run the worker's
pipeline on photos of 1 MP. It serves one batch at a time and needs no core, like a GPU. `cores`
computes the same for machines with more cores than this one has.
"""

import argparse
import multiprocessing
import os
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Lock
from typing import Any

import cv2

from shared.options import Options
from shared.settings import Settings
from tests.benchmarks.feeding import MemoryStore, feed, items
from tests.benchmarks.photos import files
from tests.benchmarks.report import report
from tests.benchmarks.virtual_device import VirtualDevice
from worker.pipeline.pipeline import Pipeline

DEVICE_MS = (10.0, 5.0, 2.0)
PROCESSES = (1, 2, 4, 8)
PHOTOS = 20


def work(
    ms: float,
    images: int,
    codecs: int,
    megapixels: float,
    lock: Lock,
    ready: Barrier,
    done: "Queue[tuple[float, float]]",
) -> None:
    """One process: feeds its pipeline, and tells the seconds and CPU-seconds."""
    cv2.setNumThreads(1)
    settings = Settings(batch_size=16, codec_threads=codecs, log_level="ERROR")
    photos = files(None, count=PHOTOS, megapixels=megapixels)
    pipeline = Pipeline(VirtualDevice(ms, lock), MemoryStore(photos), settings)
    feed(pipeline, settings, items(0, 2 * PHOTOS, Options()))
    ready.wait()
    cpu_s = time.process_time()
    took_s = feed(pipeline, settings, items(0, images, Options()))
    done.put((took_s, time.process_time() - cpu_s))
    pipeline.close()


def shared(ms: float, processes: int, seconds: float, megapixels: float) -> dict[str, Any]:
    """Images/s of this many processes on one device, as a share of what it allows."""
    spawn = multiprocessing.get_context("spawn")
    cores = len(os.sched_getaffinity(0))
    images = max(64, round(min(1e3 / ms, 40 * cores) * seconds / processes))
    lock, ready, done = spawn.Lock(), spawn.Barrier(processes), spawn.Queue()
    codecs = max(2, cores // processes)
    arguments = ms, images, codecs, megapixels, lock, ready, done
    running = [spawn.Process(target=work, args=arguments) for _ in range(processes)]
    for process in running:
        process.start()
    told = [done.get(timeout=600) for _ in running]
    for process in running:
        process.join()
    rate = sum(images / took_s for took_s, _ in told)
    return {
        "images_per_s": round(rate, 1),
        "device_busy": round(rate * ms / 1e3, 3),
        "cpu_ms_per_image": round(sum(cpu for _, cpu in told) / (images * processes) * 1e3, 1),
    }


def main() -> None:
    """Headline: the share of its time in which the fastest device computes, at best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--megapixels", type=float, default=1.0)
    chosen = parser.parse_args()
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for ms in DEVICE_MS:
        row = rows.setdefault(f"{ms} ms", {})
        for processes in PROCESSES:
            row[str(processes)] = shared(ms, processes, chosen.seconds, chosen.megapixels)
            print(ms, processes, row[str(processes)], flush=True)
    best = max(one["device_busy"] for one in rows[f"{DEVICE_MS[-1]} ms"].values())
    report("shared_device", best, target=None, unit="device busy", details={"devices": rows})


if __name__ == "__main__":
    main()
