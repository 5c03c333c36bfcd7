"""Freezes a part: its connections stay open and it never answers."""

import asyncio
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from tests.faults.system import System
from tests.waiting import eventually

HEALTHY_S = 0.1
"""Limit for 19 of 20 answers of /healthz. On a busy machine any process waits now and then."""

ALIVE_S = 3.0
"""Limit for every answer: Kubernetes restarts a container that takes longer."""

PROBE_EVERY_S = 0.05
RECOVERY_S = 10
DEADLINE_S = 60
CROWD = 45
"""Requests to each of a few routes while the part is frozen: more than the API has threads."""


class Probing:
    """Asks /healthz all the time on its own connection, like a kubelet."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/healthz"
        self.took_s: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=DEADLINE_S) as client:
            while not self._stopping.wait(PROBE_EVERY_S):
                began = time.monotonic()
                client.get(self._url).raise_for_status()
                self.took_s.append(time.monotonic() - began)


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
    took_s = sorted(probing.took_s)
    usual, worst = took_s[len(took_s) * 19 // 20], took_s[-1]
    print(f"/healthz: 95 % within {usual * 1e3:.0f} ms, all within {worst * 1e3:.0f} ms")
    assert usual <= HEALTHY_S
    assert worst <= ALIVE_S
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
