"""The requests of the service's API as data, their retries, and decoding of the responses."""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import httpx
from httpx_retries import Retry

MAX_PARALLEL_TRANSFERS = 8
"""Number of files that are uploaded or downloaded at a time."""

RETRIED_STATUSES = (429, 500, 502, 503, 504)
LOST_CONNECTIONS = (
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.CloseError,
    httpx.RemoteProtocolError,
)
"""The request may have arrived. One that could not be connected is the transport's to repeat."""

RETRY = Retry(
    total=5,
    backoff_factor=0.2,
    status_forcelist=RETRIED_STATUSES,
    retry_on_exceptions=LOST_CONNECTIONS,
)
"""Retries of idempotent methods (GET, PUT) on a busy storage or a restarting service. Waits 0.2,
0.4, 0.8, 1.6 s with jitter, or as `Retry-After` says."""
RETRY_API = Retry(
    total=5,
    backoff_factor=0.2,
    status_forcelist=RETRIED_STATUSES,
    retry_on_exceptions=LOST_CONNECTIONS,
    allowed_methods=("GET", "POST", "PATCH", "DELETE"),
)
"""Retries of requests to the service. POST is safe to repeat: a submission carries an
`Idempotency-Key`, and other requests have the same effect when sent again."""

OUTAGE_S = 120.0
"""How long `wait` asks a service again that has answered before and answers no more: it is started
anew, or upgraded, and its job goes on."""

ENDED_STATUSES = ("finished", "cancelled")

Verb = Literal["cancel", "pause", "resume"]


def _sentences(detail: str, remedy: str) -> str:
    """What happened and what to do, in one line."""
    return f"{detail if detail.endswith('?') else detail.rstrip('.') + '.'} {remedy}"


class ApiError(Exception):
    """The service or its storage answered a request with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} [{code}]")
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """One request to the service."""

    method: str = "GET"
    path: str
    query: Mapping[str, str | list[str]] = field(default_factory=dict)
    body: Any = None
    """Sent as JSON."""
    content: bytes | None = None
    """Sent as it is."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """The arguments for httpx's `request`."""
        return {
            "method": self.method,
            "url": self.path,
            "params": dict(self.query),
            "headers": dict(self.headers),
            "extensions": {"retry": RETRY_API},
            **({"json": self.body} if self.body is not None else {}),
            **({"content": self.content} if self.content is not None else {}),
        }


class JobWebhook(TypedDict, total=False):
    """A webhook for one job. `url` and `secret` are required."""

    url: str
    secret: str
    events: Sequence[str]
    progress_percent: int


class JobSettings(TypedDict, total=False):
    """The fields of `POST /v1/jobs` except the source."""

    options: Mapping[str, Any]
    destination: str
    feed: str
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
    """Submit a job. Repeating a submission with the same key returns the same job."""
    key = idempotency_key or str(uuid.uuid4())
    return ApiCall(
        method="POST",
        path="/v1/jobs",
        query={"dry_run": "true"} if dry_run else {},
        body={"source": dict(source), **settings},
        headers={"Idempotency-Key": key},
    )


def idempotency_key_for(name: str, *content: object) -> str:
    """An idempotency key from a name and a hash of the content."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    return f"{name}-{digest.hexdigest()[:32]}"


def reserve_uploads(count: int) -> ApiCall:
    """Request presigned URLs for uploads."""
    return ApiCall(method="POST", path="/v1/uploads", body={"count": count})


def find_job(job_id: str, include: str | None = None) -> ApiCall:
    """Read a job; `include`: `urls` for the addresses of its files."""
    return ApiCall(path=f"/v1/jobs/{job_id}", query=without_none(include=include))


def change_job(job_id: str, verb: Verb) -> ApiCall:
    """Cancel, pause or resume a job."""
    return ApiCall(method="POST", path=f"/v1/jobs/{job_id}/{verb}")


class RetrySettings(TypedDict, total=False):
    """What a retry does beside trying the failed images again."""

    include: Literal["rejected"] | None
    """`rejected`: make rejected images again too; what follows is about them."""
    options: Mapping[str, Any]
    """Options to change; the others stay those of each image."""
    model: str | None
    second_model: str | None


def retry_job(job_id: str, retry: RetrySettings) -> ApiCall:
    """Try failed images again, and make rejected ones again."""
    options = dict(retry.get("options") or {})
    body = {
        **({"options": options} if options else {}),
        **without_none(model=retry.get("model"), second_model=retry.get("second_model")),
    }
    return ApiCall(
        method="POST",
        path=f"/v1/jobs/{job_id}/retry",
        query=without_none(include=retry.get("include")),
        body=body or None,
    )


def delete_job(job_id: str) -> ApiCall:
    """Delete a job with its results."""
    return ApiCall(method="DELETE", path=f"/v1/jobs/{job_id}")


def report(job_id: str, kind: str) -> ApiCall:
    """Read the report of a job, as `csv` or `jsonl`."""
    return ApiCall(path=f"/v1/jobs/{job_id}/report.{kind}")


def review(item_id: str, verdict: str | None, note: str | None) -> ApiCall:
    """Store a reviewer's verdict."""
    body = {"verdict": verdict, "note": note}
    return ApiCall(method="POST", path=f"/v1/items/{item_id}/review", body=body)


ArchiveReview = Literal["accepted", "unflagged", "flagged", "pending", "rejected"]


def archive(job_id: str, review: ArchiveReview | None, headers: Mapping[str, str]) -> ApiCall:
    """Read all results of a job as one zip file; `headers` may name a range of it."""
    return ApiCall(
        path=f"/v1/jobs/{job_id}/archive.zip", query=without_none(review=review), headers=headers
    )


def jobs_page(cursor: str | None, metadata: Mapping[str, str]) -> ApiCall:
    """Read a page of jobs, newest first."""
    query: dict[str, str | list[str]] = dict(without_none(cursor=cursor))
    if metadata:
        query["metadata"] = [f"{name}={value}" for name, value in metadata.items()]
    return ApiCall(path="/v1/jobs", query=query)


class ItemFilter(TypedDict, total=False):
    """Which images of a job, and what about them."""

    status: str | None
    review: str | None
    """`flagged`, `pending`, `accepted` or `rejected`."""
    custom_id: str | None
    """The id that you gave an image."""
    search: str | None
    """Part of the name or of the `custom_id`, in any case; or the whole id."""
    reason: str | None
    """A reason for which images are marked for review."""
    unmet_rules: Literal["true"] | None
    """Only images that do not meet the rules of their marketplace."""
    include: Literal["urls"] | None
    """`urls`: with presigned URLs of the results."""


def find_items_page(custom_id: str, cursor: str | None) -> ApiCall:
    """Read a page of the images of all jobs that have an id of yours."""
    return ApiCall(path="/v1/items", query=without_none(custom_id=custom_id, cursor=cursor))


def items_page(job_id: str, cursor: str | None, wanted: ItemFilter) -> ApiCall:
    """Read a page of a job's images."""
    query = without_none(limit="1000", cursor=cursor, **wanted)
    return ApiCall(path=f"/v1/jobs/{job_id}/items", query=query)


def has_ended(job: Mapping[str, Any]) -> bool:
    """Whether a job has ended, or was paused because too many images failed."""
    stopped = job["status"] == "paused" and job["error"] is not None
    return (job["status"] in ENDED_STATUSES or stopped) and not job["counts"]["running"]


def may_pass(error: Exception) -> bool:
    """Whether an error is one of the service's state, not of the request."""
    if isinstance(error, ApiError):
        return error.status in RETRIED_STATUSES
    return isinstance(error, httpx.TransportError)


def decode_answer(answer: httpx.Response) -> Any:
    """Decode a response of the service. Raises ApiError for an error or a response without JSON."""
    if answer.is_error:
        raise failure(answer)
    try:
        return answer.json() if answer.content else {}
    except ValueError as error:
        raise ApiError(answer.status_code, "unexpected-answer", answer.text[:200]) from error


def failure(answer: httpx.Response) -> ApiError:
    """Convert an error response of the service to an ApiError."""
    try:
        problem = answer.json()
        return ApiError(
            answer.status_code,
            problem["code"],
            _sentences(problem["detail"], problem["remedy"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(answer.status_code, "unexpected-answer", answer.text[:200])


def transfer_failure(answer: httpx.Response, code: str, what: object) -> ApiError:
    """Convert an error response of the storage to an ApiError."""
    return ApiError(answer.status_code, code, f"{what}: {answer.text[:200]}")


def without_none(**values: str | None) -> dict[str, str]:
    """Query parameters without those that are None."""
    return {name: value for name, value in values.items() if value is not None}
