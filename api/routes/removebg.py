"""/v1.0: remove.bg's API, for its clients and plug-ins: one photo in, its cut-out out, now."""

import base64
import binascii
import io
import uuid
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import UploadFile

from api.http.auth import CallerDep
from api.removebg.answers import BODY, ERRORS, PICTURES, RemoveBgResult, failed, render_result
from api.removebg.parameters import RemoveBgRequest, options_of
from api.resources import Resources, ResourcesDep
from api.schemas.requests import JobRequest
from api.schemas.validation import describe_validation
from api.sources.image_size import image_size
from api.sources.source_policy import attached_key, web_address
from api.submissions.intake import IncomingFile, Submission, submit
from shared import job_store
from shared.errors import (
    AnswerTimeoutError,
    EmptyFileError,
    FileTooLargeError,
    InvalidOptionsError,
    NoForegroundError,
    RequestError,
)
from shared.jobs import ItemStatus, Reason
from shared.models import Job, new_id
from shared.options import Options

router = APIRouter(prefix="/v1.0", tags=["removebg"])

PRIORITY = 9

MAX_FIELDS = 40
FILES = ("image_file", "bg_image_file")
TYPES = ("person", "product", "animal", "car", "graphics", "transportation")
UNLIMITED = 1_000_000
"""Credits of a key with no quota."""
MAX_RESULT_BYTES = 1024**3


@router.post(
    "/removebg",
    response_class=Response,
    responses={
        200: {
            "description": "The picture; JSON where `Accept` says so.",
            "model": RemoveBgResult,
            "content": {kind: {} for kind in PICTURES},
        },
        **ERRORS,
    },
    openapi_extra={"requestBody": BODY},
)
async def remove_background(
    request: Request, resources: ResourcesDep, caller: CallerDep
) -> Response:
    """Cut out one photo and wait for it."""
    job_id = new_id()
    try:
        fields, files = await _read(request, resources)
        asked = RemoveBgRequest.model_validate(fields)
        photo, name = await _photo(asked, files, resources)
        await run_in_threadpool(image_size, photo)  # what is no image is told before it is queued
        behind = await _background(asked, files, resources, job_id)
        options = options_of(asked, photo, behind)
    except ValidationError as error:
        [first, *_] = error.errors()
        raise InvalidOptionsError(
            describe_validation(error.errors()),
            finer=f"invalid_{first['loc'][0] if first['loc'] else 'parameter'}",
        ) from error
    finally:
        await request.close()  # the form's files
    body = JobRequest(source=None, options=options, priority=PRIORITY, metadata={"via": "removebg"})
    file = IncomingFile(name, io.BytesIO(photo))
    submission = Submission(request=body, files=[file], job_id=job_id)
    job, _ = await run_in_threadpool(submit, resources, caller, submission)
    if not await resources.waiting.until_ended(job.id, resources.settings.removebg_timeout_s):
        raise AnswerTimeoutError(f"It goes on: look at /v1/jobs/{job.id}", job_id=str(job.id))
    answer = await run_in_threadpool(_result, resources, job, options, _wants_json(request))
    if asked.type_level != "none":
        answer.headers["X-Type"] = asked.type if asked.type in TYPES else "other"
    answer.headers["X-Job-Id"] = str(job.id)
    return answer


class Account(BaseModel):
    """What remove.bg's account has that clients look at."""

    data: dict[str, Any] = Field(
        examples=[
            {
                "attributes": {
                    "credits": {"total": 200, "subscription": 200, "payg": 0, "enterprise": 0},
                    "api": {"free_calls": 0, "sizes": "all"},
                }
            }
        ]
    )


@router.get("/account", responses=ERRORS)
def get_account(resources: ResourcesDep, caller: CallerDep) -> Account:
    """What is left of the key's month, as credits."""
    with resources.database.transaction() as session:
        left = job_store.images_left(session, caller.api_key_id)
    credits = UNLIMITED if left is None else left
    kinds = {"total": credits, "subscription": credits, "payg": 0, "enterprise": 0}
    return Account(
        data={"attributes": {"credits": kinds, "api": {"free_calls": 0, "sizes": "all"}}}
    )


async def _read(
    request: Request, resources: Resources
) -> tuple[dict[str, Any], dict[str, UploadFile]]:
    """The text fields and the files of any of the three kinds of bodies."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            values = await request.json()
        except (ValueError, RecursionError) as error:
            raise RequestError("The body is no JSON") from error
        if not isinstance(values, dict):
            raise RequestError("The body must be a JSON object")
        return values, {}
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise RequestError(f"The body must be a form, multipart or JSON, not {kind or 'untyped'!r}")
    form = await request.form(
        max_files=len(FILES), max_fields=MAX_FIELDS, max_part_size=resources.settings.max_json_bytes
    )
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    files = {name: value for name, value in form.items() if isinstance(value, UploadFile)}
    return fields, files


async def _photo(
    asked: RemoveBgRequest, files: dict[str, UploadFile], resources: Resources
) -> tuple[bytes, str]:
    """The photo's bytes and name. Raises RequestError, ImageError, TransientError."""
    file = files.get("image_file")
    given = (file is not None) + bool(asked.image_file_b64) + bool(asked.image_url)
    if given != 1:
        raise InvalidOptionsError(
            "Give exactly one of image_file, image_file_b64, image_url",
            finer="multiple_sources" if given else "missing_source",
        )
    limit = resources.settings.max_image_bytes
    name = "photo"
    if file is not None:
        photo, name = await file.read(limit + 1), file.filename or name
    elif asked.image_file_b64:
        photo = _decoded(asked.image_file_b64)
    else:
        photo = await _fetched(resources, asked.image_url or "")
    if not photo:
        raise EmptyFileError
    if len(photo) > limit:
        raise FileTooLargeError(f"The file has more than the limit of {limit:,} bytes")
    return photo, name


def _decoded(text: str) -> bytes:
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidOptionsError(
            "image_file_b64: this is no Base64", finer="invalid_image_file_b64"
        ) from error


async def _fetched(resources: Resources, url: str) -> bytes:
    limit = resources.settings.max_image_bytes
    return await to_thread.run_sync(
        resources.web.get, web_address(url), limit, limiter=resources.fetching
    )


async def _background(
    asked: RemoveBgRequest, files: dict[str, UploadFile], resources: Resources, job_id: uuid.UUID
) -> str | None:
    """The picture to put behind, stored: its `s3://` URL."""
    file = files.get("bg_image_file")
    if (file is not None) + bool(asked.bg_color) + bool(asked.bg_image_url) > 1:
        raise InvalidOptionsError(
            "Give one of bg_color, bg_image_file, bg_image_url", finer="multiple_bg_sources"
        )
    if file is not None:
        picture = await file.read(resources.settings.max_image_bytes + 1)
    elif asked.bg_image_url:
        picture = await _fetched(resources, asked.bg_image_url)
    else:
        return None
    if len(picture) > resources.settings.max_image_bytes:
        raise FileTooLargeError
    await run_in_threadpool(image_size, picture)
    key = attached_key(job_id, "background")
    await run_in_threadpool(resources.storage.upload, key, io.BytesIO(picture))
    return f"s3://{resources.storage.bucket}/{key}"


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


def _result(resources: Resources, job: Job, options: Options, as_json: bool) -> Response:
    """The answer of a job that has ended. Raises MattingError."""
    with resources.database.transaction() as session:
        found = job_store.list_items(session, job.id, status=None, after=0, limit=1)
    if not found or found[0].status is not ItemStatus.SUCCEEDED:
        code = found[0].error_code if found else None
        raise failed(code, found[0].error_detail if found else None)
    [item] = found
    if Reason.EMPTY in (item.review_reasons or []):
        raise NoForegroundError
    assert item.result_key is not None
    data = resources.storage.get(resources.storage.bucket, item.result_key, MAX_RESULT_BYTES)
    output = (item.outputs or [{"width": item.width, "height": item.height}])[0]
    return render_result(data, output, kind=options.format.content_type, as_json=as_json)
