"""Freezes a part: its connections stay open and it never answers."""

import asyncio
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

import httpx

from tests.faults.probing import Probing, share
from tests.faults.system import System
from tests.waiting import eventually

HEALTHY_S = 0.1
"""Limit for 19 of 20 answers of /healthz, on a machine with nothing else to do."""

BUSY = 5
"""An answer takes the API several turns of the scheduler. The limit is longer by so many of the
pauses by which a process is late that only sleeps.
"""

ALIVE_S = 3.0
"""Limit for every answer: Kubernetes restarts a container that takes longer."""

RECOVERY_S = 10
DEADLINE_S = 60
CROWD = 45
"""Requests to each of a few routes while the part is frozen: more than the API has threads."""


def freeze(system: System, pids: Sequence[int], luck: random.Random) -> float:
    """Stop these processes for a while, with more callers than threads.

    Returns the seconds until the system is ready and works again. Everything that was submitted in
    the meantime must be done.
    """
    key = uuid.uuid4().hex
    with Probing(system.api_url) as probing:
        crowd = threading.Thread(target=lambda: asyncio.run(_crowd(system, key)), daemon=True)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            crowd.start()
            time.sleep(luck.uniform(6, 12))
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        thawed = time.monotonic()
        _until_done(system, _submit(system, key))
        recovery_s = time.monotonic() - thawed
        crowd.join()
    print(probing.found)
    late_s = share(probing.found.pauses_s, 0.95)
    assert share(probing.found.answers_s, 0.95) <= HEALTHY_S + BUSY * late_s, str(probing.found)
    assert probing.found.answers_s[-1] <= ALIVE_S, str(probing.found)
    assert recovery_s <= RECOVERY_S, f"recovery took {recovery_s:.1f} s"
    return recovery_s


async def _crowd(system: System, key: str) -> None:
    headers = {"Authorization": f"Bearer {system.api_key}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=system.api_url, headers=headers, timeout=30, trust_env=False, limits=limits
    ) as client:
        asked = [
            client.get(path) for path in ("/metrics", "/readyz", "/v1/jobs") for _ in range(CROWD)
        ]
        asked.append(client.post("/v1/jobs", json=_body(), headers={"Idempotency-Key": key}))
        await asyncio.gather(*asked, return_exceptions=True)


def _body() -> dict[str, Any]:
    return {"source": {"keys": [f"in/{number:05}.jpg" for number in range(8)]}}


def _submit(system: System, key: str) -> str:
    """Submit a job like a careful client: repeated with the same key until it is accepted."""
    headers = {"Authorization": f"Bearer {system.api_key}", "Idempotency-Key": key}

    def accepted() -> str | None:
        try:
            answer = httpx.post(
                f"{system.api_url}/v1/jobs",
                json=_body(),
                headers=headers,
                timeout=DEADLINE_S,
                trust_env=False,
            )
        except httpx.TransportError:
            return None
        if answer.status_code == 202:
            return str(answer.json()["id"])
        assert answer.status_code >= 500, answer.text
        return None

    return eventually(accepted, "the job to be accepted", DEADLINE_S, every_s=0.2)


def _until_done(system: System, job_id: str) -> None:
    """Wait until the job is done and the API reports that it is ready."""
    headers = {"Authorization": f"Bearer {system.api_key}"}
    with httpx.Client(
        base_url=system.api_url, headers=headers, timeout=DEADLINE_S, trust_env=False
    ) as client:

        def done() -> dict[str, Any] | None:
            job, ready = client.get(f"/v1/jobs/{job_id}"), client.get("/readyz")
            finished = job.status_code == 200 and job.json()["status"] == "finished"
            return dict(job.json()) if ready.status_code == 200 and finished else None

        found = eventually(done, "the job's end and a ready API", DEADLINE_S, every_s=0.1)
        assert found["counts"]["succeeded"] == 8, found
