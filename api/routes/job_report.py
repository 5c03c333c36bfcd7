"""The report of a job: one row per image, as CSV or JSON lines, streamed from the database."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from api.resources import Resources
from api.routes.pages import some_at_a_time
from api.routes.result_links import links_of
from api.schemas.report_columns import COLUMNS, URL_COLUMNS
from shared import job_store
from shared.clips import doubts_as_text
from shared.errors import JobNotFoundError
from shared.jobs import ItemStatus
from shared.models import Item, Job

NAMING_ROWS = 1_000
"""The first rows, whose own columns the CSV has."""

MAX_OWN_COLUMNS = 2_000
"""More of them are in the JSON lines alone: each row of the CSV has a cell for each."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of a cell that make spreadsheets read it as a formula, including the full-width
forms of East Asian keyboards (OWASP, CSV injection).
"""


def rows(resources: Resources, job: Job, *, urls: bool = False) -> Iterator[dict[str, Any]]:
    """One row per image, in the order of the source; the caller's own columns are under
    `labels`. `urls`: with presigned URLs of the results.
    """
    for item in items_of(resources, job):
        row = _row(item, resources.storage.bucket, job.options)
        yield row | _urls(resources, item) if urls else row


def items_of(resources: Resources, job: Job) -> Iterator[Item]:
    """All images of a job, in the order of their source. Raises JobNotFoundError if it was deleted
    meanwhile: some of them are missing, and the answer must not look complete.
    """

    def read(after: int, limit: int) -> Sequence[Item]:
        with resources.database.query() as session:
            return job_store.list_items(session, job.id, status=None, after=after, limit=limit)

    yield from some_at_a_time(read, lambda item: item.position, 0, 2**31)
    with resources.database.query() as session:
        if job_store.get_job(session, job.id, api_key_id=job.api_key_id) is None:
            raise JobNotFoundError(f"The job {job.id} was deleted meanwhile")


def json_lines(resources: Resources, job: Job, *, urls: bool = False) -> Iterator[str]:
    """The report as one JSON object per line."""
    for row in rows(resources, job, urls=urls):
        yield json.dumps(row, ensure_ascii=False) + "\n"


def csv_lines(resources: Resources, job: Job, *, urls: bool = False) -> Iterator[str]:
    """The report as CSV. The caller's own columns come last: those that occur in the first rows."""
    columns = (*COLUMNS, *(URL_COLUMNS if urls else ()))
    own = _own_columns(rows(resources, job))
    text = io.StringIO()
    text.write("\ufeff")  # without it Excel takes UTF-8 for the machine's own code page
    writer = csv.writer(text)
    writer.writerow([*columns, *(_safe(name) for name in own)])
    for row in rows(resources, job, urls=urls):
        cells = [row[name] for name in columns] + [row["labels"].get(name) for name in own]
        writer.writerow([_safe(cell) for cell in cells])
        if text.tell() > 64 * 1024:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _row(item: Item, bucket: str, of_job: Mapping[str, Any]) -> dict[str, Any]:
    done = item.status is ItemStatus.SUCCEEDED
    unmet = [rule for output in item.outputs or [] for rule in output["unmet"]]
    return {
        "id": str(item.id),
        "custom_id": item.custom_id,
        "name": item.name,
        "source": item.place,
        "kind": item.kind.value,
        "group": item.group_name,
        "seconds": (item.clip or {}).get("seconds"),
        "doubts": doubts_as_text((item.clip or {}).get("doubts", [])) or None,
        "status": item.status.value,
        "error_code": item.error_code,
        "error_detail": item.error_detail,
        "output_key": f"s3://{bucket}/{item.result_key}" if done else None,
        "output_url": f"/v1/items/{item.id}/result" if done else None,
        "outputs": [_output(item, index, bucket) for index in range(len(item.outputs or []))],
        "destination": item.outputs[0].get("destination") if item.outputs else None,
        "width": item.width,
        "height": item.height,
        "input_bytes": item.input_bytes,
        "output_bytes": item.output_bytes,
        "needs_review": item.needs_review,
        "review_reasons": item.review_reasons or [],
        "model": item.matte_model,
        "verdict": item.verdict.value if item.verdict else None,
        "unmet_rules": unmet,
        "reused": item.reused,
        "attempts": item.attempts,
        "total_ms": round(sum((item.timings_ms or {}).values()), 1) if item.timings_ms else None,
        "finished_at": item.finished_at.isoformat() if item.finished_at else None,
        "options": {
            name: value
            for name, value in (item.options or {}).items()
            if name not in of_job or of_job[name] != value
        },
        "labels": item.labels or {},
    }


def _output(item: Item, index: int, bucket: str) -> dict[str, Any]:
    """One of several files of an image."""
    output = (item.outputs or [])[index]
    return {
        "name": output["name"],
        "key": f"s3://{bucket}/{output['key']}",
        "url": f"/v1/items/{item.id}/outputs/{index}",
        "destination": output.get("destination"),
        "width": output["width"],
        "height": output["height"],
        "bytes": output["bytes"],
    }


def _urls(resources: Resources, item: Item) -> dict[str, Any]:
    links = links_of(resources, item)
    if links is None:
        return {"result_url": None, "output_urls": [], "urls_expire_at": None}
    return {
        "result_url": links.main,
        "output_urls": links.outputs,
        "urls_expire_at": links.expire_at.isoformat(),
    }


def _own_columns(found: Iterator[dict[str, Any]]) -> list[str]:
    own: dict[str, None] = {}
    for row in islice(found, NAMING_ROWS):
        for name in row["labels"]:
            if name != "group" and len(own) < MAX_OWN_COLUMNS:
                own[name] = None
    return list(own)


def _safe(cell: Any) -> Any:
    """A cell that no spreadsheet runs as a formula; lists become one text."""
    if isinstance(cell, list):
        cell = "; ".join(one["key"] if isinstance(one, dict) else str(one) for one in cell)
    if isinstance(cell, dict):
        cell = json.dumps(cell, ensure_ascii=False) if cell else None
    if isinstance(cell, str) and cell.startswith(FORMULA):
        return "'" + cell
    return cell
