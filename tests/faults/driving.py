"""Runs a job, injects faults at random moments, and checks the result."""

import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from shared.jobs import ENDED
from shared.models import Job
from tests.faults.checks import Finding, check, photo
from tests.faults.faults import Fault
from tests.faults.system import System
from tests.waiting import eventually

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


def submit(system: System, keys: Sequence[str], group_size: int | None = None) -> uuid.UUID:
    """Submit a job like a careful client: with an idempotency key, repeated until it is
    accepted. `group_size`: photos of each group, of which a turntable is made; None: no groups.
    """
    headers = {"Authorization": f"Bearer {system.api_key}", "Idempotency-Key": uuid.uuid4().hex}
    body: dict[str, Any] = {"source": {"keys": list(keys)}}
    if group_size is not None:
        rows = [{"key": key, "group": f"{n // group_size}"} for n, key in enumerate(keys)]
        body = {"source": {"keys": rows}, "options": {"turntable": True}}

    def accepted() -> uuid.UUID | None:
        try:
            answer = httpx.post(
                f"{system.api_url}/v1/jobs", json=body, headers=headers, timeout=30, trust_env=False
            )
        except httpx.TransportError:
            return None
        if answer.status_code == 202:
            return uuid.UUID(answer.json()["id"])
        assert answer.status_code >= 500, answer.text
        return None

    return eventually(accepted, "the job to be accepted", every_s=0.2)


def settled(system: System, job_id: uuid.UUID) -> tuple[int, bool]:
    """How many images are settled, and whether the job has ended, with all pages of its change."""
    with system.database.transaction() as session:
        job = session.get_one(Job, job_id)
        over = job.status in ENDED and not job.running and job.pending_change is None
        return job.succeeded + job.failed + job.cancelled, over


def run_trial(
    system: System,
    fault: Fault,
    keys: Sequence[str],
    *,
    injections: int,
    luck: random.Random,
    group_size: int | None = None,
) -> Trial:
    """Run a job of these keys with at most this many faults, spread over it. Waits for its end.
    `group_size`: as for `submit`.
    """
    started = time.monotonic()
    job_id = submit(system, keys, group_size)
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
        check(system, job_id, len(keys) + (len(keys) // group_size if group_size else 0)),
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
    now, _ = settled(system, job_id)
    moment = now + luck.uniform(0, 0.9 * (total - now) / left)

    def reached() -> tuple[int, bool] | None:
        now, over = settled(system, job_id)
        return (now, over) if over or now >= moment else None

    return eventually(reached, "the job to continue", JOB_DEADLINE_S)


def until_progress(system: System, job_id: uuid.UUID, before: int) -> float:
    """Seconds until more images are settled than before the fault."""
    started = time.monotonic()

    def progressed() -> bool:
        now, over = settled(system, job_id)
        return over or now > before

    eventually(progressed, "progress after the fault", every_s=0.05)
    return time.monotonic() - started


def wait_for_end(system: System, job_id: uuid.UUID) -> None:
    """Wait until every image is settled."""
    eventually(lambda: settled(system, job_id)[1], "the job's end", JOB_DEADLINE_S, every_s=0.1)
