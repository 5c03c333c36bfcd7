"""Types of the service's responses; the fields are those of api/schemas/responses.py."""

from typing import Any, TypedDict

Answer = dict[str, Any]
"""A response without a specific type."""


class Counts(TypedDict):
    """The number of images in each state."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int


class ReviewCounts(TypedDict):
    """The number of images that need a review, and of reviewers' verdicts."""

    needs_review: int
    accepted: int
    rejected: int


class Problem(TypedDict):
    """The error of a job or an image."""

    code: str
    detail: str
    remedy: str


class JobUrls(TypedDict):
    """Addresses of a job's files, to be read without a key."""

    report_csv: str
    report_jsonl: str
    archive: str


class Job(TypedDict):
    """The present state of a job."""

    id: str
    status: str
    counts: Counts
    review: ReviewCounts
    reused: int
    progress: float
    listing: bool
    images_per_s: float | None
    estimated_s_left: float | None
    timings_ms: dict[str, float]
    megapixels: float
    input_bytes: int
    output_bytes: int
    options: dict[str, Any]
    priority: int
    metadata: dict[str, Any]
    source: dict[str, Any]
    destination: str | None
    """The template of the keys of your own."""
    error: Problem | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    urls: JobUrls | None
    urls_expire_at: str | None


class RetriedJob(Job):
    """A job after a retry."""

    retried: int
    """Failed images that are tried again."""
    redone: int
    """Rejected images of which a new version is made."""
    rejected_left: int
    """Rejected images that another request must name, counted up to 1,000."""


class WatchCounts(TypedDict):
    """Numbers of objects under a watched prefix."""

    objects: int
    submitted: int
    left_out: int


class Watch(TypedDict):
    """A watched prefix."""

    id: str
    prefix: str
    status: str
    """`active`, `paused` or `failing`."""
    error: Problem | None
    counts: WatchCounts
    requests_per_hour: float
    last_job_id: str | None
    jobs: str
    options: dict[str, Any]
    destination: str | None
    priority: int
    metadata: dict[str, Any]
    every_s: int
    existing: bool
    ascending: bool
    created_at: str
    last_look_at: str | None
    next_look_at: str | None


class StoredFile(TypedDict):
    """One result file of an image."""

    name: str
    url: str
    width: int
    height: int
    bytes: int
    destination: str | None
    """The `s3://bucket/key` of yours that it was also written to."""
    unmet: list[str]
    file_url: str | None


class NamedItem(TypedDict):
    """The fields that determine the file names of an image's results."""

    name: str
    result_format: str
    outputs: list[StoredFile]


class Redo(TypedDict):
    """A version of a result that is being made, or that failed."""

    number: int
    made_by: str
    status: str
    error: Problem | None


class Item(NamedItem):
    """One image of a job."""

    id: str
    job_id: str
    position: int
    """Its place in the source, from 1."""
    source: str
    kind: str
    """`photo`, `clip`, or `turntable`: what the service made of a group."""
    group: str | None
    custom_id: str | None
    labels: dict[str, Any] | None
    status: str
    attempts: int
    error: Problem | None
    width: int | None
    height: int | None
    input_bytes: int | None
    output_bytes: int | None
    timings_ms: dict[str, float] | None
    result: str | None
    clip: dict[str, Any] | None
    """Of a clip that has begun: `seconds`, `frames`, `frames_done`, `whole`, `doubts`, `strip`,
    `without_effect`."""
    needs_review: bool
    review_reasons: list[str]
    model: str | None
    verdict: str | None
    verdict_note: str | None
    reused: bool
    version: int
    redo: Redo | None
    finished_at: str | None
    result_url: str | None
    urls_expire_at: str | None


class Version(TypedDict):
    """One version of an image's result."""

    number: int
    shown: bool
    made_by: str
    model: str | None
    api_key: str | None
    status: str
    error: Problem | None
    options: dict[str, Any]
    needs_review: bool
    output_bytes: int | None
    created_at: str
    finished_at: str | None


class Webhook(TypedDict):
    """A registered webhook."""

    id: str
    url: str
    job_id: str | None
    events: list[str]
    progress_percent: int | None
    enabled: bool
    disabled_reason: str | None
    disabled_at: str | None
    old_secret_until: str | None
    last_delivered_at: str | None
    quiet_until: str | None
    created_at: str


class MadeWebhook(Webhook):
    """A new webhook, or one with a new secret."""

    secret: str


class Attempt(TypedDict):
    """One delivery attempt."""

    at: str
    outcome: str
    http_status: int | None
    detail: str
    duration_ms: float


class Delivery(TypedDict):
    """The delivery of one event to one webhook."""

    id: str
    webhook_id: str
    job_id: str | None
    event: str
    status: str
    attempts: int
    log: list[Attempt]
    payload: dict[str, Any]
    next_attempt_at: str | None
    created_at: str
    settled_at: str | None
