"""The attacked API, its callers, and the required form of a refusal."""

from dataclasses import dataclass

import httpx

from deploy.stack.processes import Process
from shared.database import Database
from tests.waiting import eventually

PATIENCE_S = 3
HEADERS_S = 6
REMOVEBG_CALLS = 6
LIMITS = {
    "MATTING_MAX_JSON_BYTES": str(2 * 1024**2),
    "MATTING_MAX_REQUEST_BYTES": str(4 * 1024**2),
    "MATTING_MAX_FILES_PER_REQUEST": "10",
    "MATTING_BODY_TIMEOUT_S": str(PATIENCE_S),
    "MATTING_HEADERS_TIMEOUT_S": str(HEADERS_S),
    "MATTING_REMOVEBG_MAX_CALLS": str(REMOVEBG_CALLS),
    "MATTING_REMOVEBG_TIMEOUT_S": "3",
    "MATTING_SOURCE_BUCKETS": "photos",
    "MATTING_LOG_LEVEL": "WARNING",
}

ROOMY = {
    "MATTING_SOURCE_BUCKETS": "photos",
    "MATTING_LOG_LEVEL": "WARNING",
    "MATTING_REMOVEBG_TIMEOUT_S": "3",
}
"""The default limits of a user."""


@dataclass(frozen=True)
class Api:
    port: int
    key: str
    strangers_key: str
    process: Process
    database: Database

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def caller(self, key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        limits = httpx.Limits(keepalive_expiry=0.5)  # the server gets impatient on a busy machine
        return httpx.Client(
            base_url=self.url, headers=headers, trust_env=False, timeout=60, limits=limits
        )


def assert_refused(answer: httpx.Response, *statuses: int) -> None:
    """The answer must be a well-formed client error, and no crash."""
    assert answer.status_code in (statuses or range(400, 500)), answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json", answer.text[:500]
    assert answer.json()["code"]


def wait_for_items(owner: httpx.Client, job_id: str, count: int, *, timeout_s: float = 120) -> None:
    def listed() -> bool:
        return int(owner.get(f"/v1/jobs/{job_id}").json()["counts"]["total"]) >= count

    eventually(listed, "the source to be listed", timeout_s)
