"""Accepts a submission: checks its source, stores its files, then writes the job."""

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Any, TypeVar

from api.http.auth import Caller
from api.resources import Resources
from api.schemas.requests import JobFields
from api.schemas.sources import Source
from api.sources.destination_policy import check_destination
from api.sources.listing import rows_as_file
from api.sources.rows import RowReader
from api.sources.source_policy import (
    OWN_PREFIX,
    UPLOADS_PREFIX,
    SourcePolicy,
    attached_key,
    plain_name,
    webhook_address,
)
from api.submissions.checked_names import CheckedNames
from shared import job_store
from shared.destination import fixed_folder, given_placeholders, refuse_unknown
from shared.errors import (
    ConflictError,
    DestinationMissingError,
    LeftOutError,
    MattingError,
    RequestTooLargeError,
)
from shared.job_store import NewItem
from shared.models import Job, new_id
from shared.result_names import OF_ROW
from shared.telemetry import get_logger
from shared.tracing import trace_job

log = get_logger(__name__)

T = TypeVar("T")

UPLOAD_THREADS = 8

INLINE_ROWS = 1_000
"""Up to this many images are written with the job. Longer lists are stored as a file and listed in
the background.
"""


@dataclass(frozen=True)
class IncomingFile:
    """A file of a multipart body."""

    name: str
    stream: IO[bytes]


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A request to submit a job."""

    request: JobFields
    source: Source | None = None
    """None: the files that came with the request are the source."""
    key: str | None = None
    """The Idempotency-Key."""
    sha256: str = ""
    """SHA-256 of the submission."""
    files: Sequence[IncomingFile] = ()
    attached: tuple[str, IncomingFile] | None = None
    """`manifest` or `zip`, and the file."""
    background: IncomingFile | None = None
    """A background picture; the options name it by `attached_key`."""
    job_id: uuid.UUID = field(default_factory=new_id)


def submit(resources: Resources, caller: Caller, submission: Submission) -> tuple[Job, bool]:
    """Accept a job. Returns it, and whether it existed already for this idempotency key.

    Raises RequestError, TransientError.
    """
    if earlier := _earlier(resources, caller, submission):
        return earlier, True
    request = submission.request
    policy = SourcePolicy(resources.settings, caller.api_key_id, caller.sources)
    policy.options(request.options, submission.job_id)
    check_naming(resources, caller, submission)
    if request.webhook is not None:
        webhook_address(request.webhook.url, resources.settings)
    _check_quota(resources, caller, len(submission.files) or 1)
    try:
        job, items = _store_and_write(resources, caller, policy, submission)
    except BaseException as error:
        discard(resources, submission.job_id)
        if not isinstance(error, _Repeated):
            raise
        if earlier := _earlier(resources, caller, submission):
            return earlier, True
        raise ConflictError("The job with this Idempotency-Key has just been deleted") from error
    trace_job(job.id, job.total)
    log.info("job-accepted", job=str(job.id), images=job.total, source=job.source["kind"])
    publish(resources, job.id)
    if items is None:
        resources.expander.wake()
    return job, False


class _Repeated(Exception):
    """The same submission came twice at the same time, and the other one was first."""


def check_naming(resources: Resources, caller: Caller, submission: Submission) -> None:
    """Check the destination, and the placeholders of a source without columns.

    Raises ForbiddenDestinationError, DestinationMissingError, UnknownPlaceholderError,
    StorageError.
    """
    request = submission.request
    needed = given_placeholders(request.destination, request.options)
    if _has_ids(submission):
        needed.discard(OF_ROW)
    if not _is_manifest(submission):  # the expander knows its columns
        refuse_unknown(needed, ())
    if request.destination is not None:
        check_destination(resources.settings, caller.writable_folders, request.destination)
        bucket = fixed_folder(request.destination).bucket
        if not resources.storage.has_bucket(bucket):
            raise DestinationMissingError(f"There is no bucket {bucket}")


def _is_manifest(submission: Submission) -> bool:
    if submission.source is None:
        return submission.attached is not None and submission.attached[0] == "manifest"
    return submission.source.kind == "manifest"


def _has_ids(submission: Submission) -> bool:
    """Whether the photos may have ids of the caller's own."""
    if submission.source is None:
        return _is_manifest(submission)
    return submission.source.kind not in ("prefix", "zip")


def _earlier(resources: Resources, caller: Caller, submission: Submission) -> Job | None:
    if submission.key is None:
        return None
    with resources.database.transaction() as session:
        return job_store.find_submission(
            session,
            api_key_id=caller.api_key_id,
            key=submission.key,
            sha256=submission.sha256,
        )


def _check_quota(resources: Resources, caller: Caller, images: int) -> None:
    """Raise QuotaExceededError before anything is stored in vain. The quota is checked again when
    the images are written.
    """
    with resources.database.transaction() as session:
        job_store.take_from_quota(session, caller.api_key_id, images)


def _store_and_write(
    resources: Resources, caller: Caller, policy: SourcePolicy, submission: Submission
) -> tuple[Job, list[NewItem] | None]:
    """Write the job, and its items unless they are listed in the background. Raises _Repeated."""
    if submission.background is not None:
        key = attached_key(submission.job_id, "background")
        resources.storage.upload(key, submission.background.stream)
    if submission.files:
        source, items = _store_files(resources, submission)
    elif submission.attached is not None:
        source, items = _store_attached(resources, submission)
    else:
        assert submission.source is not None
        source, items = _find_source(resources, caller, policy, submission.source, submission)
    return _write(resources, caller, submission, source, items), items


def discard(resources: Resources, job_id: uuid.UUID) -> None:
    """Delete the objects of a job that was not created; the sweeper finds what cannot be deleted
    now. If writing the job failed, it may exist nevertheless, because only the database's answer
    may be lost.
    """
    try:
        with resources.database.transaction() as session:
            if job_store.load_job(session, job_id) is not None:
                return
        resources.storage.delete_many(list(resources.storage.list_keys(f"{OWN_PREFIX}{job_id}/")))
    except MattingError as error:
        log.warning("objects-left", job=str(job_id), code=error.code, detail=error.detail)


def _find_source(
    resources: Resources,
    caller: Caller,
    policy: SourcePolicy,
    source: Source,
    submission: Submission,
) -> tuple[dict[str, Any], list[NewItem] | None]:
    """The stored form of the source, and its items; None: they are listed in the background."""
    if source.prefix is not None:
        return {"kind": "prefix", "prefix": str(policy.prefix(source.prefix))}, None
    if source.manifest is not None:
        place = str(policy.object_or_upload(source.manifest))
        return {"kind": "manifest", "object": place, **_layout(submission)}, None
    if source.zip is not None:
        return {"kind": "zip", "object": str(policy.object_or_upload(source.zip))}, None
    kind, rows = source.kind, source.rows()
    limit = resources.settings.max_keys_per_job
    if len(rows) > limit:
        raise RequestTooLargeError(f"{len(rows):,} photos in one request; the limit is {limit:,}")
    kept = {"kind": kind, "count": len(rows)}
    reader = RowReader(policy, submission.request.options)
    names = CheckedNames(submission.request)
    items = []
    photos: set[int] = set()
    """Hashes, because sources may have a kilobyte each."""
    for number, row in enumerate(rows, 1):
        item = reader.item(row, number)
        if item.error is not None and not isinstance(item.error, LeftOutError):
            raise item.error  # here the caller still gets the error
        if item.error is None:
            photos.add(hash(item.source))
            names.add(item, number)
        if number <= INLINE_ROWS:
            items.append(item)
    if len(rows) <= INLINE_ROWS:
        return kept, items
    _check_quota(resources, caller, len(photos))
    key = f"{OWN_PREFIX}{submission.job_id}/source.jsonl"
    with rows_as_file(iter(rows)) as file:
        resources.storage.upload(key, file)
    return {**kept, "object": f"s3://{resources.storage.bucket}/{key}"}, None


def _store_files(
    resources: Resources, submission: Submission
) -> tuple[dict[str, Any], list[NewItem] | None]:
    """Store the photos of a multipart body."""
    files = submission.files
    names = CheckedNames(submission.request)
    prefix = f"{OWN_PREFIX}{submission.job_id}/inputs/"
    keys = [f"{prefix}{number:06d}" for number in range(1, len(files) + 1)]
    items = [
        NewItem(name=plain_name(file.name), source=f"s3://{resources.storage.bucket}/{key}")
        for file, key in zip(files, keys, strict=True)
    ]
    for number, item in enumerate(items, 1):
        names.add(item, number)
    with ThreadPoolExecutor(UPLOAD_THREADS) as pool:
        # list() raises the first error here, before anything is written.
        list(pool.map(resources.storage.upload, keys, [file.stream for file in files]))
    return {"kind": "files", "count": len(files)}, items


def _store_attached(resources: Resources, submission: Submission) -> tuple[dict[str, Any], None]:
    """Store the manifest or zip file of a multipart body."""
    assert submission.attached is not None
    kind, file = submission.attached
    key = attached_key(submission.job_id, kind)
    resources.storage.upload(key, file.stream)
    place = f"s3://{resources.storage.bucket}/{key}"
    layout = _layout(submission) if kind == "manifest" else {}
    return {"kind": kind, "object": place, "name": plain_name(file.name), **layout}, None


def _layout(submission: Submission) -> dict[str, Any]:
    feed = submission.request.feed
    return {} if feed is None else {"feed": feed.value}


def _write(
    resources: Resources,
    caller: Caller,
    submission: Submission,
    source: dict[str, Any],
    items: list[NewItem] | None,
) -> Job:
    """Write job, items and idempotency key in one transaction. Raises _Repeated."""
    request, settings = submission.request, resources.settings
    with resources.database.transaction() as session:
        job = job_store.create_job(
            session,
            api_key_id=caller.api_key_id,
            options=request.options.model_dump(mode="json"),
            priority=request.priority,
            labels=dict(request.metadata),
            source=source,
            failure_share=_given(request.failure_share, settings.failure_share),
            failure_after=_given(request.failure_after, settings.failure_after),
            destination=request.destination,
            job_id=submission.job_id,
        )
        if submission.key is not None and not job_store.remember_submission(
            session,
            job.id,
            api_key_id=caller.api_key_id,
            key=submission.key,
            sha256=submission.sha256,
        ):
            raise _Repeated
        if request.webhook is not None:
            job_store.create_webhook(
                session,
                api_key_id=caller.api_key_id,
                job_id=job.id,
                **request.webhook.model_dump(),
            )
        if items is not None:
            job_store.add_items(session, job.id, items)
            job_store.finish_expansion(session, job.id)
    return job


def publish(resources: Resources, job_id: uuid.UUID) -> None:
    """Publish after the commit, so that no message precedes its row. If Redis is unavailable, the
    job is accepted and the reconciler publishes later.
    """
    try:
        resources.reconciler.publish_now(job_id)
    except MattingError as error:
        log.warning("publish-postponed", job=str(job_id), code=error.code, detail=error.detail)


def digest_of(chunks: Iterator[bytes | bytearray]) -> str:
    """SHA-256 of a submission. Each part is preceded by its length, so that parts cannot be
    confused.
    """
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(len(chunk).to_bytes(8, "big"))
        digest.update(chunk)
    return digest.hexdigest()


def new_upload_key(caller: Caller) -> str:
    """A key that only this caller can use as a source."""
    return f"{UPLOADS_PREFIX}{caller.api_key_id}/{uuid.uuid4().hex}"


def _given(value: T | None, default: T) -> T:
    return default if value is None else value
