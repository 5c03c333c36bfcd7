"""URLs of results, reports and zip files: who holds one can fetch the file until it expires."""

import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from fastapi import Query, Request

from api.http.auth import Caller
from api.http.own_address import own_address
from api.job_links import PARAMETER
from api.resources import Resources
from api.schemas.responses import JobOut, JobUrls, ResultLinks
from shared.jobs import ItemStatus
from shared.models import Item

MAX_JOB_NAME_CHARS = 80
NOT_IN_FILE_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f]')
"""What Windows refuses in the name of a file."""

Include = Annotated[
    Literal["urls"] | None,
    Query(
        description="`urls`: add presigned URLs of the results, and when they expire. Anyone who "
        "holds such a URL can fetch the file."
    ),
]

Access = Annotated[
    str | None,
    Query(
        alias=PARAMETER,
        description="Part of the addresses in a job's `urls`; it stands for the API key.",
    ),
]


def links_of(resources: Resources, item: Item) -> ResultLinks | None:
    """The URLs of an image's results; None if it has none. Needs no request to the storage."""
    if item.status is not ItemStatus.SUCCEEDED or item.result_key is None:
        return None
    ttl_s = resources.settings.result_url_ttl_s
    expire_at = _expiry(ttl_s)
    files = [
        resources.storage.presign_get(key, ttl_s=ttl_s, filename=name) for key, name in _files(item)
    ]
    return ResultLinks(main=files[0], outputs=files[1:], expire_at=expire_at)


def add_job_urls(resources: Resources, caller: Caller, request: Request, job: JobOut) -> JobOut:
    """Add the URLs of a job's files."""
    service = own_address(request)
    path = f"/v1/jobs/{job.id}"
    csv, jsonl, archive = (
        service + resources.job_links.link(f"{path}/{name}", caller.api_key_id)
        for name in ("report.csv", "report.jsonl", "archive.zip")
    )
    job.urls = JobUrls(report_csv=csv, report_jsonl=jsonl, archive=archive)
    job.urls_expire_at = _expiry(resources.job_links.lifetime_s)
    return job


def _expiry(lifetime_s: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=lifetime_s)


def result_filename(item: Item) -> str:
    """The file name under which a browser saves the result."""
    assert item.result_key is not None
    stem = PurePosixPath(item.name).stem or "result"
    return stem + PurePosixPath(item.result_key).suffix


def _files(item: Item) -> Iterator[tuple[str, str]]:
    """Key and file name of the result and of each output."""
    assert item.result_key is not None
    yield item.result_key, result_filename(item)
    for output in item.outputs or []:
        yield output["key"], PurePosixPath(output["name"]).name


def job_filename(job_id: uuid.UUID, metadata: Mapping[str, Any]) -> str:
    """What the files of a whole job are called, without an extension: its name in `metadata` and
    the end of its id; the whole id, if it has no name.
    """
    name = str(metadata.get("name") or "").strip(" .")[:MAX_JOB_NAME_CHARS]
    name = NOT_IN_FILE_NAMES.sub("_", name)
    return f"{name} {job_id.hex[-8:]}" if name else str(job_id)
