"""How a job comes in: its source is checked, its files stored, and only then is it written."""

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

from api.auth import Caller
from api.parts import Parts
from api.schemas import JobRequest
from shared import job_store
from shared.errors import ForbiddenSourceError, MattingError, RequestTooLargeError
from shared.job_store import NewItem
from shared.models import Job, new_id
from shared.options import Options
from shared.storage import ObjectUrl
from shared.telemetry import get_logger

log = get_logger(__name__)

OWN_PREFIX = "jobs/"
"""Where inputs that came by multipart and all results lie: never a caller's source."""

UPLOADS_PREFIX = "uploads/"

UPLOAD_THREADS = 8


@dataclass(frozen=True)
class IncomingFile:
    """A file of a multipart body."""

    name: str
    stream: IO[bytes]


def submit_sources(parts: Parts, caller: Caller, request: JobRequest) -> Job:
    """Accept a job whose photos are in S3 already. Raises RequestError, TransientError."""
    check_backgrounds(parts, caller, request.options)
    source = request.source
    settings = parts.settings
    count = len(source.keys or source.uploads or ())
    if count > settings.max_keys_per_job:
        raise RequestTooLargeError(
            f"{count:,} photos in one request; the limit is {settings.max_keys_per_job:,}"
        )
    if source.prefix is not None:
        url = _readable(parts, source.prefix, prefix=True)
        return _write(parts, caller, request, {"kind": "prefix", "prefix": str(url)}, None)
    if source.uploads is not None:
        own = f"{UPLOADS_PREFIX}{caller.api_key_id}/"
        items = []
        for one in source.uploads:
            url = ObjectUrl.parse(one.upload, settings.s3_bucket)
            if url.bucket != settings.s3_bucket or not url.key.startswith(own):
                raise ForbiddenSourceError(f"{one.upload!r} is not an upload of this key")
            items.append(NewItem(name=plain_name(one.name), source=str(url)))
        return _write(parts, caller, request, {"kind": "uploads", "count": count}, items)
    assert source.keys is not None
    urls = [_readable(parts, key) for key in source.keys]
    items = [NewItem(name=plain_name(url.key), source=str(url)) for url in urls]
    return _write(parts, caller, request, {"kind": "keys", "count": count}, items)


def submit_files(
    parts: Parts,
    caller: Caller,
    files: Sequence[IncomingFile],
    *,
    options: Options,
    priority: int,
    metadata: dict[str, str],
) -> Job:
    """Accept a job whose photos came with the request: stored first, then written."""
    check_backgrounds(parts, caller, options)
    job_id = new_id()
    keys = [f"{OWN_PREFIX}{job_id}/inputs/{number:06d}" for number in range(1, len(files) + 1)]
    with ThreadPoolExecutor(UPLOAD_THREADS) as pool:
        # list(): the first error is raised here, before anything is written.
        list(pool.map(parts.storage.upload, keys, [file.stream for file in files]))
    items = [
        NewItem(name=plain_name(file.name), source=f"s3://{parts.storage.bucket}/{key}")
        for file, key in zip(files, keys, strict=True)
    ]

    def write() -> Job:
        with parts.database.transaction() as session:
            job = job_store.create_job(
                session,
                api_key_id=caller.api_key_id,
                options=options.model_dump(mode="json"),
                priority=priority,
                labels=dict(metadata),
                source={"kind": "files", "count": len(files)},
                job_id=job_id,
            )
            job_store.add_items(session, job.id, items)
            job_store.finish_expansion(session, job.id)
        return job

    return _publish(parts, write)


def check_backgrounds(parts: Parts, caller: Caller, options: Options) -> None:
    """The pictures that options put behind the subject must be the caller's to read: the key's own
    uploads, or what it may name as a source. Raises ForbiddenSourceError.
    """
    for text in options.background_images():
        url = ObjectUrl.parse(text, parts.settings.s3_bucket)
        own = url.key.startswith(f"{UPLOADS_PREFIX}{caller.api_key_id}/")
        if url.bucket != parts.settings.s3_bucket or not own:
            _readable(parts, text)


def plain_name(name: str) -> str:
    """A caller's path as a relative one that is safe to write below a folder on any system."""
    cleaned = "".join(char for char in name.replace("\\", "/") if ord(char) >= 32)
    segments = [part.strip() for part in cleaned.split("/")]
    kept = [part for part in segments if part not in ("", ".", "..") and not part.endswith(":")]
    return "/".join(kept) or "unnamed"


def _readable(parts: Parts, text: str, *, prefix: bool = False) -> ObjectUrl:
    """A key or a prefix that this caller may name. Raises ForbiddenSourceError."""
    url = ObjectUrl.parse(text, parts.settings.s3_bucket)
    if url.bucket not in parts.settings.readable_buckets:
        raise ForbiddenSourceError(f"The bucket {url.bucket!r} is not among the allowed ones")
    own = url.bucket == parts.settings.s3_bucket
    if own and any(
        url.key.startswith(mine) or (prefix and mine.startswith(url.key))
        for mine in (OWN_PREFIX, UPLOADS_PREFIX)
    ):
        raise ForbiddenSourceError(f"{text!r} would reach into the service's own files")
    return url


def _write(
    parts: Parts,
    caller: Caller,
    request: JobRequest,
    source: dict[str, Any],
    items: list[NewItem] | None,
) -> Job:
    """Write job and items in one transaction; `items` None: to be listed in the background."""

    def write() -> Job:
        with parts.database.transaction() as session:
            job = job_store.create_job(
                session,
                api_key_id=caller.api_key_id,
                options=request.options.model_dump(mode="json"),
                priority=request.priority,
                labels=dict(request.metadata),
                source=source,
            )
            if items is not None:
                job_store.add_items(session, job.id, items)
                job_store.finish_expansion(session, job.id)
        return job

    job = _publish(parts, write)
    if items is None:
        parts.expander.wake()
    return job


def _publish(parts: Parts, write: Callable[[], Job]) -> Job:
    """Commit, then send: a message never precedes its row. If Redis is away, the reconciler sends
    later: the job is accepted all the same.
    """
    job = write()
    log.info("job-accepted", job=str(job.id), images=job.total, source=job.source["kind"])
    try:
        parts.reconciler.publish_job(job.id)
    except MattingError as error:
        log.warning("publish-later", job=str(job.id), code=error.code, detail=error.detail)
    return job


def new_upload_key(caller: Caller) -> str:
    """A key that only this caller can name as a source."""
    return f"{UPLOADS_PREFIX}{caller.api_key_id}/{uuid.uuid4().hex}"
