"""Errors as `application/problem+json` (RFC 9457), with a stable `code` and a remedy."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.removebg import answers as removebg_answers
from shared.errors import (
    InvalidOptionsError,
    MattingError,
    NotFoundError,
    RateLimitError,
    RequestError,
    ScopeError,
    UnauthorizedError,
)
from shared.telemetry import get_logger
from shared.validation_words import describe_findings

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """The error of a request."""

    type: str = Field(
        "about:blank", description="As in RFC 9457. Use `code` to distinguish problems."
    )
    title: str = Field(examples=["There is no job with this id, or it belongs to another key."])
    status: int = Field(examples=[404])
    code: str = Field(examples=["job-not-found"], description="Stable: programs can rely on it.")
    detail: str = Field(examples=["There is no job 0191..."])
    remedy: str = Field(examples=["Check the id and the API key."])


def responses(*errors: type[MattingError]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of the errors that an endpoint may return."""
    texts: dict[int, list[str]] = {}
    every: tuple[type[MattingError], ...] = (*errors, UnauthorizedError, ScopeError, RateLimitError)
    for error in every:
        texts.setdefault(error.http_status, []).append(f"`{error.code}`: {_sentence(error)}")
    return {
        status: {
            "description": "  \n".join(lines),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, lines in sorted(texts.items())
    }


def install(app: FastAPI) -> None:
    """Render every error that leaves an endpoint, in one place."""
    app.add_exception_handler(MattingError, _matting_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


def render(error: MattingError, path: str = "", *, remedy: str | None = None) -> JSONResponse:
    """The response for an error, in the shape that the clients of this path expect. `remedy`: one
    that fits better than that of the error's kind.
    """
    if path.startswith(removebg_answers.PATH):
        return removebg_answers.render_error(error)
    problem = Problem(
        type="about:blank",
        title=_sentence(type(error)),
        status=error.http_status,
        code=error.code,
        detail=error.detail,
        remedy=remedy or error.remedy,
    )
    headers = {}
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    elif error.http_status in (
        429,
        503,
    ):  # for an exceeded rate api.http.headers has the exact value
        headers["Retry-After"] = removebg_answers.RETRY_AFTER_S
    return JSONResponse(
        problem.model_dump(), error.http_status, headers=headers, media_type=MEDIA_TYPE
    )


def _sentence(error: type[MattingError]) -> str:
    return " ".join((error.__doc__ or "").split("\n\n")[0].split())


async def _matting_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MattingError)
    if error.http_status >= 500:
        log.warning("request-failed", code=error.code, detail=error.detail)
    return render(error, request.url.path)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    findings = [{**one, "loc": one["loc"][1:]} for one in error.errors()]  # body, query, path
    text = describe_findings(findings, _body_model(request))
    return render(InvalidOptionsError(text), request.url.path, remedy=remedy_for(error.errors()))


def remedy_for(errors: Sequence[Any]) -> str | None:
    """What to do about refused input that is not an option: by where it was and what is wrong."""
    if any(one["type"] == "json_invalid" for one in errors):
        return "Send valid JSON in UTF-8, with `Content-Type: application/json`."
    places = {one["loc"][0] for one in errors if one["loc"]}
    if places == {"path"}:
        return "Use an id that the service gave you, unchanged: `GET /v1/jobs` lists the jobs."
    if len(places) == 1 and places <= _PLACES.keys():
        return f"Correct the {_PLACES[places.pop()]}; /docs says what each may be."
    fields = {one["loc"][1] for one in errors if len(one["loc"]) > 1}
    if places == {"body"} and "options" not in fields:
        return "Correct the body; /docs shows every field of it."
    return None


_PLACES = {"query": "parameter behind the `?`", "header": "header", "cookie": "cookie"}


def _body_model(request: Request) -> type[BaseModel] | None:
    """The model of the body that the request's endpoint takes."""
    field = getattr(request.scope.get("route"), "body_field", None)
    model = field.field_info.annotation if field is not None else None
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    kind = NotFoundError if error.status_code == 404 else RequestError
    answer = render(kind(str(error.detail)), request.url.path)
    compatible = request.url.path.startswith(removebg_answers.PATH)
    if error.status_code == 404 and not compatible:
        return _no_such_address(request)
    if compatible or error.status_code == answer.status_code:
        answer.status_code = error.status_code
        return answer
    content = Problem(
        type="about:blank",
        title=str(error.detail),
        status=error.status_code,
        code=kind.code,
        detail=str(error.detail),
        remedy=kind.remedy,
    )
    return JSONResponse(
        content.model_dump(), error.status_code, headers=error.headers, media_type=MEDIA_TYPE
    )


def _no_such_address(request: Request) -> JSONResponse:
    """No route has this path. A missing job or item has an error of its own."""
    path = request.url.path[:MOST_PATH_CHARS]
    near = get_close_matches(path, request.app.openapi()["paths"], n=1)
    hint = f". Did you mean {near[0]}?" if near else ""
    content = Problem(
        type="about:blank",
        title="There is no such address.",
        status=404,
        code=NotFoundError.code,
        detail=f"There is no address {path}{hint}",
        remedy="See /docs for all addresses.",
    )
    return JSONResponse(content.model_dump(), 404, media_type=MEDIA_TYPE)


MOST_PATH_CHARS = 100
"""Of an unknown address: comparing takes time."""


async def _gone(_request: Request, _error: Exception) -> Response:
    """A caller that disconnected within its body reads no response; this is not an error of the
    service.
    """
    return Response(status_code=400)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("request-crashed", path=request.url.path, exc_info=error)
    return render(MattingError(), request.url.path)
