"""Responses in remove.bg's format: pictures with their headers, and errors."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from api.closed_stream import ClosedStream
from shared.errors import AnswerTimeoutError, InvalidOptionsError, MattingError, error_of
from shared.storage_stream import ObjectStream

PATH = "/v1.0/"
"""Below this path errors have remove.bg's shape."""

RETRY_AFTER_S = "5"

CODES = {
    "unauthorized": (403, "auth_failed"),
    "scope-missing": (403, "auth_failed"),
    "quota-exceeded": (402, "insufficient_credits"),
    "rate-limited": (429, "rate_limit_exceeded"),
    "too-many-calls": (429, "rate_limit_exceeded"),
    "empty-file": (400, "missing_source"),
    "not-an-image": (400, "invalid_file_type"),
    "camera-raw": (400, "invalid_file_type"),
    "unsupported-image": (400, "invalid_file_type"),
    "truncated-image": (400, "invalid_file_type"),
    "too-many-pixels": (400, "resolution_too_high"),
    "file-too-large": (400, "file_too_large"),
    "request-too-large": (413, "file_too_large"),
    "forbidden-url": (400, "invalid_image_url"),
    "source-not-found": (400, "failed_image_download"),
    "source-denied": (400, "failed_image_download"),
    "url-not-fetched": (400, "failed_image_download"),
    "no-foreground": (400, "unknown_foreground"),
}
"""Status and code by this service's code. All others stay, except that a 422 becomes the 400 that
clients expect.
"""

PICTURES = ("image/png", "image/jpeg", "image/webp", "application/zip")


class RemoveBgError(BaseModel):
    """One error."""

    title: str
    code: str
    detail: str


class RemoveBgErrors(BaseModel):
    """An error response in remove.bg's shape."""

    errors: list[RemoveBgError]


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": RemoveBgErrors, "description": text}
    for status, text in {
        400: "Parameters or the photo can't be used; or no foreground was found.",
        402: "No images are left to this key this month.",
        403: "The API key is unknown, or may not do this.",
        408: "The body came too slowly.",
        413: "The body is too large.",
        415: "The body is compressed.",
        429: "Too many requests, or too many calls open at a time.",
        500: "Something went wrong inside the service.",
        503: "A part of the service does not answer, or as many calls are open as it can serve.",
        504: "Not done in time; `X-Job-Id` names the job, which continues.",
    }.items()
}

_SCHEMA = {"$ref": "#/components/schemas/RemoveBgRequest"}
_FILES = {name: {"type": "string", "format": "binary"} for name in ("image_file", "bg_image_file")}
BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {"allOf": [_SCHEMA, {"type": "object", "properties": _FILES}]}
        },
        "application/x-www-form-urlencoded": {"schema": _SCHEMA},
        "application/json": {"schema": _SCHEMA},
    },
}
"""The OpenAPI description of the request's body."""


class ResultData(BaseModel):
    """The result as JSON."""

    result_b64: str = Field(description="The picture, in Base64.")
    foreground_top: int | None
    foreground_left: int | None
    foreground_width: int | None
    foreground_height: int | None


class RemoveBgResult(BaseModel):
    """The response with a result as JSON."""

    data: ResultData


def render_error(error: MattingError) -> JSONResponse:
    """The response for an error. Many clients show only its title."""
    status, code = CODES.get(error.code, (error.http_status, error.code))
    if isinstance(error, InvalidOptionsError) and error.finer:
        code = error.finer
    body = {"errors": [{"title": error.detail, "code": code, "detail": error.message}]}
    headers = {"Retry-After": RETRY_AFTER_S} if status in (429, 503) else {}
    if isinstance(error, AnswerTimeoutError) and error.job_id:
        headers |= {"Location": f"/v1/jobs/{error.job_id}", "X-Job-Id": error.job_id}
    return JSONResponse(body, 400 if status == 422 else status, headers=headers)


def failed(code: str | None, detail: str | None) -> MattingError:
    """The error of a failed image, from its record, whose detail ends with the remedy."""
    remedy = error_of(code, None).remedy
    return error_of(code, (detail or "").removesuffix(remedy).rstrip())


def render_result(
    data: ObjectStream, size_bytes: int, output: dict[str, Any], *, kind: str, as_json: bool
) -> Response:
    """The response with a picture, streamed from the storage. `output`: its size and its subject's
    box; `kind`: media type.
    """
    headers = {
        "X-Width": str(output["width"]),
        "X-Height": str(output["height"]),
        "X-Credits-Charged": "1",
    }
    place: dict[str, int | None] = dict.fromkeys(("top", "left", "width", "height"))
    if box := output.get("subject"):
        left, top, right, bottom = box
        place = {"top": top, "left": left, "width": right - left, "height": bottom - top}
        headers |= {f"X-Foreground-{name.title()}": str(value) for name, value in place.items()}
    if as_json:
        told = json.dumps({f"foreground_{name}": value for name, value in place.items()})
        pieces = _in_json(data, told)
        return ClosedStream(
            pieces, headers=headers, media_type="application/json", close=data.close
        )
    headers["Content-Length"] = str(size_bytes)
    return ClosedStream(data, headers=headers, media_type=kind, close=data.close)


def _in_json(data: Iterator[bytes], told: str) -> Iterator[bytes]:
    """Stream a JSON object: the picture as Base64, and the members of the JSON object `told`."""
    yield b'{"data":{"result_b64":"'
    rest = b""
    for chunk in data:
        rest += chunk
        whole = len(rest) - len(rest) % 3
        yield base64.b64encode(rest[:whole])
        rest = rest[whole:]
    yield base64.b64encode(rest)
    yield f'",{told.removeprefix("{")}}}'.encode()
