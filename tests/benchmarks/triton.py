"""What a Triton server costs and brings: python -m tests.benchmarks.triton.

The real server from the wheel nvidia-pytriton runs beside the clients, on CPUs.

- Overhead: the tiny and the built-in network on one thread, one photo at a time, in this process,
  on the server over loopback, and on the server with shared memory. CPU time is counted on both
  sides.
- Sharing: 1, 2 and 4 client processes share a model that takes a set time for each execution of at
  most 8 images, as a device does. So batches must be full to reach what it allows.
"""

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

from deploy.triton.repository import export
from shared.options import Profile
from shared.settings import Settings
from tests.benchmarks import tiny
from tests.benchmarks.report import report
from tests.triton import Triton, timed_model, why_no_triton
from worker.inference.catalog import BUNDLES
from worker.inference.predictor import Predictor, load_predictor

EXECUTION_MS, PER_EXECUTION = 60.0, 8
"""The set time of an execution, and the most images in it: 133 images/s."""

CLIENTS = (1, 2, 4)
IN_FLIGHT, BATCH = 3, 32
"""Batches that a worker has in flight, and images in each, as by default on a device."""

ROUNDS = 5
IMAGES = {"tiny": 40, "builtin": 8}
"""Photos of a round."""


def _settings(model: Path, **changed: Any) -> Settings:
    return Settings.model_validate(
        {"model": str(model), "log_level": "ERROR", "cpu_threads": 1, **changed}
    )


def _on(url: str, *, shared: bool) -> dict[str, Any]:
    return {"device": "triton", "triton_url": url, "triton_shared_memory": shared}


def _server_cpu_s(server: Triton) -> float:
    """CPU time of the server and of its models' processes, in s."""
    ticks = 0
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if server.process.popen.pid in (int(path.name), int(fields[1])):
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _round(predictor: Predictor, server: Triton, count: int) -> dict[str, float]:
    """Milliseconds per photo: until its alpha is there, CPU time here, CPU time of the server."""
    photo = np.random.default_rng(1).integers(0, 256, (1_000, 1_000, 3), np.uint8)
    prepared = predictor.prepare(photo, Profile.FAST)
    waits = []
    here, there = time.process_time(), _server_cpu_s(server)
    for _ in range(count):
        started = time.perf_counter()
        [alpha] = predictor.predict_many([prepared])
        waits.append(time.perf_counter() - started)
        assert isinstance(alpha, np.ndarray), alpha
    return {
        "ms": 1e3 * statistics.median(waits),
        "cpu_ms_here": 1e3 * (time.process_time() - here) / count,
        "cpu_ms_server": 1e3 * (_server_cpu_s(server) - there) / count,
    }


def overhead(server: Triton, model: Path) -> dict[str, Any]:
    """Compare the direct predictor with the server, in rounds that follow each other."""
    ways = {
        "direct": load_predictor(_settings(model)),
        "loopback": load_predictor(_settings(model, **_on(server.url, shared=False))),
        "shared memory": load_predictor(_settings(model, **_on(server.url, shared=True))),
    }
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, predictor in ways.items():
            rounds[way].append(_round(predictor, server, IMAGES[model.name]))
    for predictor in ways.values():
        predictor.close()
    return {
        way: {name: round(statistics.median(one[name] for one in found), 2) for name in found[0]}
        for way, found in rounds.items()
    }


def _client(url: str, model: Path, ready: Barrier, seconds: float, done: Any) -> None:
    """A worker's share of the work: batches of prepared photos, some in flight."""
    predictor = load_predictor(_settings(model, **_on(url, shared=True)))
    photos = [
        predictor.prepare(np.full((300 + 20 * number, 400, 3), 90, np.uint8), Profile.FAST)
        for number in range(BATCH)
    ]
    predictor.predict_many(photos)
    ready.wait()
    began = time.perf_counter()

    def work() -> int:
        count = 0
        while time.perf_counter() < began + seconds:
            count += sum(isinstance(one, np.ndarray) for one in predictor.predict_many(photos))
        return count

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        counts = [pool.submit(work) for _ in range(IN_FLIGHT)]
        total = sum(one.result() for one in counts)
    done.put((total, time.perf_counter() - began))
    predictor.close()


def sharing(server: Triton, model: Path, clients: int, seconds: float) -> dict[str, Any]:
    """Images/s of this many client processes together, and the batches that the server made."""
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Barrier(clients), spawn.Queue()
    before = server.batches(model.name)
    processes = [
        spawn.Process(target=_client, args=(server.url, model, ready, seconds, done))
        for _ in range(clients)
    ]
    for process in processes:
        process.start()
    rate = sum(count / took_s for count, took_s in (done.get() for _ in processes))
    for process in processes:
        process.join()
    batches = {
        size: count - before.get(size, 0) for size, count in server.batches(model.name).items()
    }
    executions = sum(batches.values())
    allowed = 1e3 * PER_EXECUTION / EXECUTION_MS
    return {
        "images_per_s": round(rate, 1),
        "device_allows": round(allowed, 1),
        "ratio": round(rate / allowed, 3),
        "images_per_execution": round(
            sum(size * count for size, count in batches.items()) / executions, 2
        ),
    }


def main() -> None:
    """Headline: the lowest share of what the device allows, of 1, 2 and 4 clients."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=8)
    seconds = parser.parse_args().seconds
    reason = why_no_triton()
    if reason is not None:
        raise SystemExit(f"The real Triton server is missing: {reason}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        small = tiny.export(folder / "tiny")
        timed = shutil.copytree(small, folder / "timed")
        builtin = BUNDLES / "builtin"
        repository = folder / "repository"
        for model in (small, builtin):
            export(repository, _settings(model), "cpu")
        timed_model(repository, timed, ms=EXECUTION_MS)
        env = {"MATTING_CPU_THREADS": "1"}
        server = Triton(folder, repository, "tiny", "builtin", "timed", env=env)
        try:
            costs = {model.name: overhead(server, model) for model in (small, builtin)}
            print(costs, flush=True)
            shares = {}
            for count in CLIENTS:
                shares[str(count)] = sharing(server, timed, count, seconds)
                print(count, shares[str(count)], flush=True)
        finally:
            server.stop()
    ratios = [row["ratio"] for row in shares.values()]
    report(
        "triton",
        min(ratios),
        target=">= 0.9",
        unit="throughput / what the device allows",
        details={"overhead": costs, "sharing": shares},
    )


if __name__ == "__main__":
    main()
