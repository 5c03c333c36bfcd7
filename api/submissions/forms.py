"""Reads a submission from a request: JSON that names a source, or multipart that carries it."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from api.schemas.requests import JobRequest
from api.schemas.validation import describe_validation
from api.submissions.intake import IncomingFile, Submission, digest_of
from shared.errors import InvalidOptionsError, RequestError
from shared.settings import Settings

MAX_KEY_CHARS = 255

MAX_FIELDS = 20
"""Text parts of a multipart body."""

ATTACHED = ("manifest", "zip")
"""The parts that hold a whole source in one file."""

JSON_FIELDS = ("options", "metadata", "webhook")

READ_BYTES = 1024**2

BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "files": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "The photos themselves.",
                    },
                    "manifest": {
                        "type": "string",
                        "format": "binary",
                        "description": "Or a CSV or JSONL manifest.",
                    },
                    "zip": {
                        "type": "string",
                        "format": "binary",
                        "description": "Or a zip file of photos.",
                    },
                    "options": {"type": "string", "description": "Options, as JSON."},
                    "priority": {"type": "integer", "minimum": 0, "maximum": 9},
                    "metadata": {"type": "string", "description": "An object, as JSON."},
                    "webhook": {"type": "string", "description": "A JobWebhook, as JSON."},
                    "failure_share": {"type": "number", "minimum": 0, "maximum": 1},
                    "failure_after": {"type": "integer", "minimum": 1},
                },
            }
        },
    },
}
"""The request's body, as OpenAPI describes it."""


@asynccontextmanager
async def read_submission(request: Request, settings: Settings) -> AsyncIterator[Submission]:
    """What was submitted; its files are open until the block ends.

    Raises RequestError or InvalidOptionsError.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= MAX_KEY_CHARS:
        raise RequestError(f"An Idempotency-Key has 1 to {MAX_KEY_CHARS} characters")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        body = await request.body()
        yield Submission(request=_from_json(body), key=key, sha256=digest_of(iter([body])))
    elif kind == "multipart/form-data":
        form_of = request.form(max_files=settings.max_files_per_request, max_fields=MAX_FIELDS)
        async with form_of as form:
            yield _from_form(form, key)
    else:
        raise RequestError(f"The body must be JSON or multipart, not {kind or 'untyped'!r}")


def _from_json(body: bytes) -> JobRequest:
    try:
        request = JobRequest.model_validate_json(body)
    except ValidationError as error:
        raise InvalidOptionsError(describe_validation(error.errors())) from error
    if request.source is None:
        raise InvalidOptionsError("source: a job needs one")
    return request


def _from_form(form: FormData, key: str | None) -> Submission:
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    files = [_incoming(part) for part in form.getlist("files") if isinstance(part, UploadFile)]
    attached = [
        (name, _incoming(part))
        for name in ATTACHED
        for part in form.getlist(name)
        if isinstance(part, UploadFile)
    ]
    if bool(files) + len(attached) != 1:
        raise RequestError(
            "A multipart body has parts named `files`, or one named `manifest` or `zip`"
        )
    every = [*files, *(file for _, file in attached)]
    return Submission(
        request=_request(fields),
        key=key,
        sha256=digest_of(_content(fields, every)) if key is not None else "",
        files=files,
        attached=attached[0] if attached else None,
    )


def _incoming(part: UploadFile) -> IncomingFile:
    return IncomingFile(part.filename or "unnamed", part.file)


def _content(fields: dict[str, str], files: list[IncomingFile]) -> Iterator[bytes]:
    yield json.dumps(fields, sort_keys=True).encode()
    for file in files:
        yield file.name.encode()
        while chunk := file.stream.read(READ_BYTES):
            yield chunk
        file.stream.seek(0)


def _request(fields: dict[str, str]) -> JobRequest:
    """Read the text parts. Raises InvalidOptionsError."""
    try:
        values: dict[str, Any] = {
            name: json.loads(text) if name in JSON_FIELDS else text for name, text in fields.items()
        }
    except (ValueError, RecursionError) as error:
        raise InvalidOptionsError(f"`{'`, `'.join(JSON_FIELDS)}` are JSON: {error}") from error
    try:
        return JobRequest.model_validate({**values, "source": None})
    except ValidationError as error:
        raise InvalidOptionsError(describe_validation(error.errors())) from error
