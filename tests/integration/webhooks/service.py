"""The service for webhook tests: an API process, its keys, finished jobs and their deliveries."""

import signal
import sys
from pathlib import Path
from typing import Any

import httpx

from deploy.stack.processes import Process, free_port, start, wait_until
from shared import job_store
from shared.database import Database
from tests.waiting import eventually


class Api:
    """An API process and its keys."""

    def __init__(self, folder: Path, env: dict[str, str], database: Database) -> None:
        self._folder, self._env, self._database = folder, env, database
        self.port = free_port()
        self.log = folder / "api.log"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "api.app:app", "--port", str(self.port)]
        command += ["--log-level", "warning", "--no-access-log"]
        self.process: Process = start(
            "api", command, log=self.log, folder=self._folder, env=self._env
        )
        wait_until(self._answers, self.process, timeout_s=180)

    def kill(self) -> None:
        self.process.popen.send_signal(signal.SIGKILL)
        self.process.popen.wait(180)

    def key(self) -> str:
        with self._database.transaction() as session:
            return job_store.create_api_key(session, "shop")[1]

    def caller(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key()}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz").status_code == 200
        except httpx.TransportError:
            return False


def registered(caller: httpx.Client, url: str, **more: Any) -> dict[str, Any]:
    answer = caller.post("/v1/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def finished_job(caller: httpx.Client) -> str:
    """A job that ends without a worker: the only row of its manifest names no image."""
    answer = caller.post(
        "/v1/jobs",
        files={"manifest": ("list.csv", b"key,sku\n,RED-40\n")},
        data={"metadata": '{"season":"spring"}'},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def cancelled_job(caller: httpx.Client, **more: Any) -> str:
    answer = caller.post("/v1/jobs", json={"source": {"keys": ["a.jpg"]}, **more})
    assert answer.status_code == 202, answer.text
    job_id = str(answer.json()["id"])
    assert caller.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    return job_id


def deliveries(caller: httpx.Client, **query: str) -> list[dict[str, Any]]:
    answer = caller.get("/v1/deliveries", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["deliveries"]
    return found


def settled(caller: httpx.Client, **query: str) -> dict[str, Any]:
    """The newest delivery, once it has succeeded or was given up."""

    def look() -> dict[str, Any] | None:
        found = deliveries(caller, **query)
        return found[0] if found and found[0]["status"] != "pending" else None

    return eventually(look, "the delivery to be settled")


def code_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["code"])
