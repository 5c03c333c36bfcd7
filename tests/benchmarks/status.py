"""How fast the API answers while it publishes: python -m tests.benchmarks.status.

`GET /v1/jobs/{id}` at 50 to 100 requests a second, first while nothing else runs, then while the
same API process publishes and others record, as fast as they can. The API has a core to
itself, and the others share the rest, so that the figure is not that of missing cores. Nothing else
should run on the machine.
"""

import argparse
import http.client
import multiprocessing
import os
import secrets
import statistics
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any

from deploy.stack.processes import answers, free_port, start, wait_until
from shared import job_store
from shared.database import Database
from shared.models import Job
from tests.benchmarks.publishing import Machine, cpu_of, record, servers, submit
from tests.benchmarks.report import report

QUIET_S, SLICE_S = 5.0, 0.5
LAST = 0.9
"""Measured until this share of the images is recorded: an API without work is the other phase."""
MOST_REQUESTS = 2_000
PAUSE_S = 0.01
API = (
    "uvicorn api.app:app --http api.http.connections:HeaderTimeoutProtocol --host 127.0.0.1 "
    "--log-level warning --no-access-log --port"
)


def ask(port: int, secret: str, jobs: Sequence[uuid.UUID], seconds: float) -> list[float]:
    """Ask for the state of one job after the other; returns the times, in ms."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        path = f"/v1/jobs/{jobs[len(took) % len(jobs)]}"
        connection.request("GET", path, headers={"Authorization": f"Bearer {secret}"})
        response = connection.getresponse()
        response.read()
        took.append((time.perf_counter() - began) * 1e3)
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status}")
        time.sleep(PAUSE_S)
    connection.close()
    return took


def summary(took: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and longest time, in ms."""
    ordered = sorted(took)
    return {
        "requests": len(ordered),
        "median_ms": round(statistics.median(ordered), 1),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 1),
        "max_ms": round(ordered[-1], 1),
    }


def environment(machine: Machine) -> dict[str, str]:
    """The API's settings. It needs no storage for this."""
    return {
        **os.environ,
        "MATTING_DATABASE_URL": machine.settings.database_url,
        "MATTING_REDIS_URL": machine.settings.redis_url,
        "MATTING_S3_ENDPOINT_URL": "http://127.0.0.1:9",
        "MATTING_S3_BUCKET": "none",
        "MATTING_REQUESTS_PER_MIN": "100000",
        "MATTING_PUBLISH_AHEAD": str(machine.settings.publish_ahead),
        "MATTING_LOG_LEVEL": "ERROR",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
    }


def measured(machine: Machine, images: int, recording: int) -> dict[str, Any]:
    """Both phases, the second with this many processes that record."""
    own, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or [own])  # for the processes that are started later, too
    for pid in (machine.redis_pid, machine.postgresql_pid):
        os.sched_setaffinity(pid, others or [own])
    database = Database(machine.settings.database_url, process="api")
    with database.transaction() as session:
        key, secret = job_store.create_api_key(session, "status")
    port = free_port()
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    api = start(
        "api",
        ["taskset", "-c", str(own), sys.executable, "-m", *API.split(), str(port)],
        log=machine.folder / "api.log",
        folder=machine.folder,
        env=environment(machine) | {"PYTHONPATH": path},
    )
    wait_until(lambda: answers(port), api, timeout_s=60)
    jobs = submit(database, 0, [key.id])
    ask(port, secret, jobs, 1.0)
    quiet = summary(ask(port, secret, jobs, QUIET_S))
    jobs = submit(database, images, [key.id])
    spawn = multiprocessing.get_context("spawn")
    running = [
        spawn.Process(target=record, args=(machine.settings, images)) for _ in range(recording)
    ]
    for process in running:
        process.start()
    while not _recorded(database, jobs):
        time.sleep(PAUSE_S)
    before, began, cpu_s = _recorded(database, jobs), time.perf_counter(), cpu_of(api.popen.pid)
    took: list[float] = []
    while (now := _recorded(database, jobs)) < LAST * images and len(took) < MOST_REQUESTS:
        took += ask(port, secret, jobs, SLICE_S)
    if not took:
        raise SystemExit(f"{images} images are too few")
    took_s = time.perf_counter() - began
    loaded = summary(took)
    loaded["recorded_per_s"] = round((now - before) / took_s)
    loaded["cores_of_api"] = round((cpu_of(api.popen.pid) - cpu_s) / took_s, 2)
    for process in running:
        process.terminate()
        process.join()
    api.stop(10)
    database.close()
    os.sched_setaffinity(0, {own, *others})
    return {"quiet": quiet, "loaded": loaded}


def _recorded(database: Database, jobs: Sequence[uuid.UUID]) -> int:
    with database.transaction() as session:
        return sum(session.get_one(Job, job).succeeded for job in jobs)


def main() -> None:
    """Headline: the 99th percentile beside publishing and recording."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=24_000)
    parser.add_argument("--recorders", type=int, default=2)
    chosen = parser.parse_args()
    with servers() as machine:
        found = measured(machine, chosen.images, chosen.recorders)
    report("status", found["loaded"]["p99_ms"], target="<= 10", unit="ms", details=found)


if __name__ == "__main__":
    main()
