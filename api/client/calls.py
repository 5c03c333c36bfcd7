"""What can be asked of the service, as data: both clients send it, each in its own way."""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import httpx
from httpx_retries import Retry

TRANSFERS = 8
"""Files sent or fetched at a time."""

STATUSES = (429, 500, 502, 503, 504)
RETRY = Retry(total=5, backoff_factor=0.2, status_forcelist=STATUSES)
"""For methods that may be sent twice (GET, PUT): a store that is busy, a service that restarts.
Waits 0.2, 0.4, 0.8, 1.6 s with jitter, or what `Retry-After` asks for."""
RETRY_ALL = Retry(
    total=5,
    backoff_factor=0.2,
    status_forcelist=STATUSES,
    allowed_methods=("GET", "POST", "PATCH", "DELETE"),
)
"""For our own service: what a POST changes comes out the same when it is sent again, and a
submission carries its `Idempotency-Key`."""

ENDED = ("finished", "cancelled")

Verb = Literal["cancel", "pause", "resume", "retry"]


class ApiError(Exception):
    """The service refused a request."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} [{code}]")
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """One request to the service."""

    method: str = "GET"
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """What httpx's `request` takes."""
        return {
            "method": self.method,
            "url": self.path,
            "params": dict(self.query),
            "headers": dict(self.headers),
            "extensions": {"retry": RETRY_ALL},
            **({"json": self.body} if self.body is not None else {}),
        }


class JobWebhook(TypedDict, total=False):
    """Who is told what happens to the job: `url` and `secret`, at least."""

    url: str
    secret: str
    events: Sequence[str]
    progress_percent: int


class JobSettings(TypedDict, total=False):
    """How a job is to be done: the fields of `POST /v1/jobs` but for the source."""

    options: Mapping[str, Any]
    priority: int
    metadata: Mapping[str, str]
    webhook: JobWebhook
    failure_share: float
    failure_after: int


def submit(
    source: Mapping[str, Any],
    settings: JobSettings,
    *,
    idempotency_key: str | None = None,
    dry_run: bool = False,
) -> ApiCall:
    """Submit a job. A key makes the same submission, sent again, the same job."""
    key = idempotency_key or str(uuid.uuid4())
    return ApiCall(
        method="POST",
        path="/v1/jobs",
        query={"dry_run": "true"} if dry_run else {},
        body={"source": dict(source), **settings},
        headers={"Idempotency-Key": key},
    )


def bound_key(name: str, *content: object) -> str:
    """An idempotency key for this content under a name: other content has another."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    return f"{name}-{digest.hexdigest()[:32]}"


def reserve_uploads(count: int) -> ApiCall:
    """Ask for URLs to send files to."""
    return ApiCall(method="POST", path="/v1/uploads", body={"count": count})


def find_job(job_id: str) -> ApiCall:
    """The job as it stands."""
    return ApiCall(path=f"/v1/jobs/{job_id}")


def change_job(job_id: str, verb: Verb) -> ApiCall:
    """Do something to a job."""
    return ApiCall(method="POST", path=f"/v1/jobs/{job_id}/{verb}")


def delete_job(job_id: str) -> ApiCall:
    """Delete a job with its results."""
    return ApiCall(method="DELETE", path=f"/v1/jobs/{job_id}")


def report(job_id: str, kind: str) -> ApiCall:
    """What became of every image, as `csv` or `jsonl`."""
    return ApiCall(path=f"/v1/jobs/{job_id}/report.{kind}")


def jobs_page(cursor: str | None) -> ApiCall:
    """A page of the jobs, newest first."""
    return ApiCall(path="/v1/jobs", query=given(cursor=cursor))


def items_page(job_id: str, cursor: str | None, status: str | None, review: str | None) -> ApiCall:
    """A page of a job's images."""
    query = given(limit="1000", status=status, review=review, cursor=cursor)
    return ApiCall(path=f"/v1/jobs/{job_id}/items", query=query)


def has_ended(job: Mapping[str, Any]) -> bool:
    """Whether nothing more will happen in a job by itself; so it is with one that was paused
    because too many images failed.
    """
    stopped = job["status"] == "paused" and job["error"] is not None
    return (job["status"] in ENDED or stopped) and not job["counts"]["running"]


def decoded(answer: httpx.Response) -> Any:
    """What the service answered. Raises ApiError when it is an error, or comes from no service of
    this kind.
    """
    if answer.is_error:
        raise failure(answer)
    try:
        return answer.json() if answer.content else {}
    except ValueError as error:
        raise ApiError(answer.status_code, "unexpected-answer", answer.text[:200]) from error


def failure(answer: httpx.Response) -> ApiError:
    """The error that an answer of the service is."""
    try:
        problem = answer.json()
        return ApiError(
            answer.status_code, problem["code"], f"{problem['detail']} {problem['remedy']}"
        )
    except (ValueError, KeyError, TypeError):
        return ApiError(answer.status_code, "unexpected-answer", answer.text[:200])


def transfer_failure(answer: httpx.Response, code: str, what: object) -> ApiError:
    """The error that an answer of the storage is."""
    return ApiError(answer.status_code, code, f"{what}: {answer.text[:200]}")


def given(**values: str | None) -> dict[str, str]:
    """The parameters of a query that have a value."""
    return {name: value for name, value in values.items() if value is not None}
