"""Runs a job, injects faults at random moments, and checks the result."""

import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from shared.jobs import ENDED
from shared.models import Job
from tests.faults.checks import Finding, check, photo
from tests.faults.faults import Fault
from tests.faults.system import System

JOB_DEADLINE_S = 300


@dataclass
class Trial:
    """One job and its faults."""

    fault: str
    finding: Finding
    injections: int
    recovery_s: list[float] = field(default_factory=list)
    seconds: float = 0.0


def put_photos(system: System, count: int) -> list[str]:
    """Store the photos once. Returns their keys."""
    keys = [f"in/{number:05}.jpg" for number in range(count)]
    for number, key in enumerate(keys):
        system.storage.put(key, photo(number), "image/jpeg")
    return keys


def submit(system: System, keys: Sequence[str]) -> uuid.UUID:
    """Submit a job like a careful client: with an idempotency key, repeated until it is
    accepted.
    """
    headers = {"Authorization": f"Bearer {system.api_key}", "Idempotency-Key": uuid.uuid4().hex}
    body = {"source": {"keys": list(keys)}}
    deadline = time.monotonic() + 60
    while True:
        try:
            answer = httpx.post(
                f"{system.api_url}/v1/jobs", json=body, headers=headers, timeout=30, trust_env=False
            )
            if answer.status_code == 202:
                return uuid.UUID(answer.json()["id"])
            assert answer.status_code >= 500, answer.text
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "the job was not accepted"
        time.sleep(0.2)


def settled(system: System, job_id: uuid.UUID) -> tuple[int, bool]:
    """How many images are settled, and whether the job has ended."""
    with system.database.transaction() as session:
        job = session.get_one(Job, job_id)
        over = job.status in ENDED and not job.running
        return job.succeeded + job.failed + job.cancelled, over


def run_trial(
    system: System, fault: Fault, keys: Sequence[str], *, injections: int, luck: random.Random
) -> Trial:
    """Run a job of these keys with at most this many faults, spread over it. Waits for its end."""
    started = time.monotonic()
    job_id = submit(system, keys)
    recovery_s: list[float] = []
    done = 0
    while done < injections:
        before, over = _at_a_random_moment(system, job_id, len(keys), injections - done, luck)
        if over:
            break
        took = fault.inject(system, luck)
        done += 1
        recovery_s.append(took if took is not None else until_progress(system, job_id, before))
    wait_for_end(system, job_id)
    return Trial(
        fault.name,
        check(system, job_id, len(keys)),
        done,
        recovery_s,
        time.monotonic() - started,
    )


def _at_a_random_moment(
    system: System, job_id: uuid.UUID, total: int, left: int, luck: random.Random
) -> tuple[int, bool]:
    """Wait for a random moment that leaves enough images for the remaining faults. Returns the
    number of settled images.
    """
    now, over = settled(system, job_id)
    moment = now + luck.uniform(0, 0.9 * (total - now) / left)
    deadline = time.monotonic() + JOB_DEADLINE_S
    while now < moment and not over:
        assert time.monotonic() < deadline, "the job stands still"
        time.sleep(0.02)
        now, over = settled(system, job_id)
    return now, over


def until_progress(system: System, job_id: uuid.UUID, before: int) -> float:
    """Seconds until more images are settled than before the fault."""
    started = time.monotonic()
    while time.monotonic() - started < 60:
        now, over = settled(system, job_id)
        if over or now > before:
            return time.monotonic() - started
        time.sleep(0.05)
    raise AssertionError("no progress for 60 s after the fault")


def wait_for_end(system: System, job_id: uuid.UUID) -> None:
    """Wait until every image is settled."""
    deadline = time.monotonic() + JOB_DEADLINE_S
    while not settled(system, job_id)[1]:
        assert time.monotonic() < deadline, f"the job did not end in {JOB_DEADLINE_S} s"
        time.sleep(0.1)
