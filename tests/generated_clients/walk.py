"""Uses the Python client that openapi-python-client makes of /openapi.json: submits, waits, lists,
fetches. Its last line is one JSON object.
"""

import json
import sys
import time
from http import HTTPStatus
from pathlib import Path

import httpx
from matting_api import AuthenticatedClient
from matting_api.api.items import get_result
from matting_api.api.jobs import get_job, list_items, list_jobs, submit_job
from matting_api.models import (
    Format,
    ItemPage,
    JobOut,
    JobPage,
    JobRequest,
    JobRequestMetadata,
    JobStatus,
    LinearGradient,
    Options,
    Problem,
    ShadowKind,
    Source,
    SubmitJobFilesBody,
)
from matting_api.types import File

TIME_LIMIT_S = 120


def walk(url: str, key: str, photo: Path) -> dict[str, object]:
    """Submit a photo by its key and another one as a file; fetch both results."""
    client = AuthenticatedClient(base_url=url, token=key)
    metadata = JobRequestMetadata()
    metadata["season"] = "spring"
    by_key = submit_job.sync(
        client=client,
        idempotency_key="walk-py",
        body=JobRequest(
            source=Source(keys=["s3://photos/walk.jpg"]),
            options=Options(
                format_=Format.WEBP,
                background=LinearGradient(gradient=["white", "#ddd"]),
                canvas="1:1",
                scale="80%",
                shadow=ShadowKind.DROP,
            ),
            metadata=metadata,
        ),
    )
    with photo.open("rb") as stream:
        file = File(payload=stream, file_name="attached.jpg", mime_type="image/jpeg")
        by_file = submit_job.sync(client=client, body=SubmitJobFilesBody(files=[file]))
    sizes: dict[str, int] = {}
    for job in (by_key, by_file):
        assert isinstance(job, JobOut), job
        ended = wait(client, job)
        assert ended.counts.succeeded == 1, ended
        items = list_items.sync(job.id, client=client)
        assert isinstance(items, ItemPage)
        for item in items.items:
            answer = get_result.sync_detailed(item.id, client=client)
            assert answer.status_code == HTTPStatus.TEMPORARY_REDIRECT
            sizes[item.name] = len(httpx.get(answer.headers["Location"]).content)
    assert isinstance(by_key, JobOut)
    assert by_key.options.scale == 0.8
    assert by_key.metadata["season"] == "spring"
    jobs = list_jobs.sync(client=client)
    assert isinstance(jobs, JobPage)
    refused = submit_job.sync(
        client=client, body=JobRequest(source=Source(keys=["s3://elsewhere/a.jpg"]))
    )
    assert isinstance(refused, Problem)
    return {"sizes": sizes, "jobs": len(jobs.jobs), "refused": refused.code}


def wait(client: AuthenticatedClient, job: JobOut) -> JobOut:
    """Ask until the job has ended."""
    deadline = time.monotonic() + TIME_LIMIT_S
    while time.monotonic() < deadline:
        now = get_job.sync(job.id, client=client)
        assert isinstance(now, JobOut), now
        if now.status in (JobStatus.FINISHED, JobStatus.CANCELLED):
            return now
        time.sleep(0.2)
    raise TimeoutError(job.id)


if __name__ == "__main__":
    print(json.dumps(walk(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
