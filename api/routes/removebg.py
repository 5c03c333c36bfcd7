"""/v1.0: remove.bg's API for its clients and plug-ins: one photo in, its cut-out out."""

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field, ValidationError

from api.http.auth import Caller, CallerDep
from api.http.guarded_route import GuardedRoute
from api.http.limits import BodyLimits, takes
from api.removebg.accept import wants_json
from api.removebg.answers import BODY, ERRORS, PICTURES, RemoveBgResult, failed, render_result
from api.removebg.parameters import RemoveBgRequest, options_of
from api.resources import Resources, ResourcesDep
from api.schemas.requests import JobFields
from api.sources.source_policy import attached_key
from api.submissions.intake import Submission, submit
from api.submissions.removebg_call import background_of, photo_of, read_call, size_of
from shared import job_store
from shared.errors import AnswerTimeoutError, InvalidOptionsError, NoForegroundError
from shared.jobs import ItemStatus, Reason
from shared.models import Job, new_id
from shared.options import Options
from shared.validation_words import describe_validation

router = APIRouter(route_class=GuardedRoute, prefix="/v1.0", tags=["removebg"])

PRIORITY = 9

UNLIMITED = 1_000_000
"""The credits shown for a key without a quota."""


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
@takes(
    BodyLimits(
        memory_bytes=lambda settings: settings.max_json_bytes,
        # Base64 of a photo, and perhaps of a background.
        multipart_bytes=lambda settings: min(
            settings.max_request_bytes, settings.max_json_bytes + settings.max_image_bytes
        ),
    )
)
async def remove_background(
    request: Request, resources: ResourcesDep, caller: CallerDep
) -> Response:
    """Cut out one photo and wait for the result."""
    with resources.removebg_calls.one_of(caller.api_key_id):
        asked, job, options = await _submitted(request, resources, caller)
        # From here on the photo is no longer held in memory.
        if not await resources.waiting.until_ended(job.id, resources.settings.removebg_timeout_s):
            raise AnswerTimeoutError(
                f"The photo is still being processed: see /v1/jobs/{job.id}", job_id=str(job.id)
            )
        as_json = wants_json(request.headers.getlist("accept"), options.format.content_type)
        answer = await run_in_threadpool(_result, resources, job, options, as_json)
    if asked.shown_type is not None:
        answer.headers["X-Type"] = asked.shown_type
    answer.headers["X-Job-Id"] = str(job.id)
    return answer


async def _submitted(
    request: Request, resources: Resources, caller: Caller
) -> tuple[RemoveBgRequest, Job, Options]:
    """Submit the call as a job. The photo is on disk until it is stored."""
    job_id = new_id()
    with await read_call(request, resources) as form:
        try:
            asked = RemoveBgRequest.model_validate(form.fields)
            photo = await photo_of(asked, form, resources, caller.api_key_id)
            size = await to_thread.run_sync(size_of, photo, limiter=resources.reading)
            picture = await background_of(asked, form, resources, caller.api_key_id)
            behind = None
            if picture is not None:
                await to_thread.run_sync(size_of, picture, limiter=resources.reading)
                behind = f"s3://{resources.storage.bucket}/{attached_key(job_id, 'background')}"
            options = options_of(asked, size, behind)
        except ValidationError as error:
            [first, *_] = error.errors()
            raise InvalidOptionsError(
                describe_validation(error, RemoveBgRequest),
                finer=f"invalid_{first['loc'][0] if first['loc'] else 'parameter'}",
            ) from error
        body = JobFields(options=options, priority=PRIORITY, metadata={"via": "removebg"})
        submission = Submission(request=body, files=[photo], background=picture, job_id=job_id)
        job, _ = await run_in_threadpool(submit, resources, caller, submission)
    return asked, job, options


class Account(BaseModel):
    """The part of remove.bg's account that clients read."""

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
    """The rest of the monthly quota, as credits."""
    with resources.database.transaction() as session:
        left = job_store.images_left(session, caller.api_key_id)
    credits = UNLIMITED if left is None else left
    kinds = {"total": credits, "subscription": credits, "payg": 0, "enterprise": 0}
    return Account(
        data={"attributes": {"credits": kinds, "api": {"free_calls": 0, "sizes": "all"}}}
    )


def _result(resources: Resources, job: Job, options: Options, as_json: bool) -> Response:
    """The response for a job that has ended. Raises MattingError."""
    with resources.database.transaction() as session:
        found = job_store.list_items(session, job.id, status=None, after=0, limit=1)
    if not found or found[0].status is not ItemStatus.SUCCEEDED:
        code = found[0].error_code if found else None
        raise failed(code, found[0].error_detail if found else None)
    [item] = found
    if Reason.EMPTY in (item.review_reasons or []):
        raise NoForegroundError
    assert item.result_key is not None
    size, data = resources.storage.open(resources.storage.bucket, item.result_key)
    output = (item.outputs or [{"width": item.width, "height": item.height}])[0]
    kind = options.format.content_type
    return render_result(data, size, output, kind=kind, as_json=as_json)
