"""Reads a submission from a request: JSON that names a source, or multipart that contains it."""

import codecs
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError
from pydantic_core import from_json

from api.http.guarded_route import media_type
from api.http.limits import SMALL_BODY_BYTES
from api.http.multipart import FilePart, Form, FormLimits, read_multipart
from api.resources import Resources
from api.schemas.requests import JobFields, JobRequest, refuse_many_values, validate_job
from api.submissions.intake import IncomingFile, Submission, digest_of
from shared.errors import InvalidOptionsError, RequestError, RequestTooLargeError
from shared.settings import Settings
from shared.suggestions import did_you_mean
from shared.validation_words import describe_validation

MAX_KEY_CHARS = 255

MAX_FIELDS = 20
"""Most text fields of a multipart body."""

LONGEST_TEXT_BYTES = 64 * 1024
"""No text of a submission is nearly as long. Python reads, compares and shows a text in one step,
in which nobody else is served.
"""

QUOTE = re.compile(rb'(?<!\\)"')
"""The begin or end of a text. A backslash before it makes it part of the text."""

VALUES_PER_ROW = 8
"""JSON values allowed per photo that a request may name: key, id, options."""

ATTACHED = ("manifest", "zip")
"""The fields that contain a whole source in one file."""

FILE_FIELDS = frozenset({"files", *ATTACHED})
TEXT_FIELDS = frozenset(JobRequest.model_fields) - {"source"}

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
                        "description": "Or a manifest: CSV, JSONL, or a shop's feed.",
                    },
                    "feed": {"type": "string", "description": "The manifest's layout."},
                    "zip": {
                        "type": "string",
                        "format": "binary",
                        "description": "Or a zip file of photos.",
                    },
                    "options": {"type": "string", "description": "Options, as JSON."},
                    "destination": {
                        "type": "string",
                        "description": "Also write each result to a key of your own.",
                    },
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
"""The OpenAPI description of the request's body."""


@asynccontextmanager
async def read_submission(request: Request, resources: Resources) -> AsyncIterator[Submission]:
    """The submission; its files stay open until the `with` block ends.

    Raises RequestError or InvalidOptionsError.
    """
    settings = resources.settings
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= MAX_KEY_CHARS:
        raise RequestError(f"`Idempotency-Key` must have 1 to {MAX_KEY_CHARS} characters")
    kind = media_type(request)
    if kind == "application/json":
        body = await read_whole(request)
        # One large body at a time, because parsing needs many times its size for a moment.
        limiter = resources.parsing if len(body) > SMALL_BODY_BYTES else None
        submission = await to_thread.run_sync(_from_json, body, key, settings, limiter=limiter)
        del body
        yield submission
    elif kind == "multipart/form-data":
        limits = FormLimits(
            files=settings.max_files_per_request,
            fields=MAX_FIELDS,
            spooled=FILE_FIELDS,
            texts=TEXT_FIELDS,
        )
        with await read_multipart(request, limits) as form:
            yield await run_in_threadpool(_from_form, form, key)
    else:
        raise RequestError(
            f"The body must be JSON or multipart, not {kind or 'untyped'!r}. For JSON send the "
            "header `Content-Type: application/json` (curl: `--json` instead of `-d`)"
        )


async def read_whole(request: Request) -> bytearray:
    """Read a body into memory. Raises what `receive` raises."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    return body


def drop_byte_order_mark(body: bytearray) -> None:
    """Remove UTF-8's mark in place: `removeprefix` would copy a body of many megabytes."""
    if body.startswith(codecs.BOM_UTF8):
        del body[: len(codecs.BOM_UTF8)]


def _from_json(body: bytearray, key: str | None, settings: Settings) -> Submission:
    """Raises InvalidOptionsError, RequestTooLargeError."""
    most = VALUES_PER_ROW * settings.max_keys_per_job
    if has_more_values(body, most):
        raise RequestTooLargeError(
            f"The JSON has more than {most:,} values; put long lists into a manifest"
        )
    if has_long_text(body):
        raise RequestTooLargeError(f"A text in the JSON has more than {LONGEST_TEXT_BYTES:,} bytes")
    drop_byte_order_mark(body)
    if not body.strip():
        raise InvalidOptionsError("The body is empty: send a JSON object with a `source`")
    try:
        values = from_json(body, allow_inf_nan=False, cache_strings="none")
        request = validate_job(values)
    except ValidationError as error:
        raise InvalidOptionsError(describe_validation(error, JobRequest)) from error
    except ValueError as error:
        raise InvalidOptionsError(f"The body is not valid JSON: {error}") from error
    return Submission(
        request=request, source=request.source, key=key, sha256=digest_of(iter([body]))
    )


def has_more_values(json_body: bytes | bytearray, most: int) -> bool:
    """Whether JSON has more values than `limit`, checked before it is parsed: each value takes some
    hundred bytes. It counts separators, also those within texts.
    """
    return sum(json_body.count(sign) for sign in (b",", b"[", b"{")) > most


def has_long_text(json_body: bytes | bytearray) -> bool:
    """Whether a text, or what is between two texts, is too long, checked before it is parsed."""
    starts = range(0, len(json_body) - LONGEST_TEXT_BYTES, LONGEST_TEXT_BYTES)
    return any(QUOTE.search(json_body, at, at + LONGEST_TEXT_BYTES) is None for at in starts)


def _from_form(form: Form, key: str | None) -> Submission:
    files = [_incoming(file) for file in form.named("files")]
    attached = [(name, _incoming(file)) for name in ATTACHED for file in form.named(name)]
    if unknown := {file.field for file in form.files} - FILE_FIELDS:
        name = min(unknown)
        raise RequestError(f"Unknown part `{name}`. {did_you_mean(name, FILE_FIELDS)}")
    if bool(files) + len(attached) != 1:
        raise RequestError(
            "Send photos as parts named `files`, or one part named `manifest` or `zip`"
        )
    every = [*files, *(file for _, file in attached)]
    request = _request(form.fields)
    if request.feed is not None and (not attached or attached[0][0] != "manifest"):
        raise RequestError("`feed` describes a manifest, but the request has none")
    return Submission(
        request=request,
        key=key,
        sha256=digest_of(_content(form.fields, every)) if key is not None else "",
        files=files,
        attached=attached[0] if attached else None,
    )


def _incoming(file: FilePart) -> IncomingFile:
    return IncomingFile(file.name or "unnamed", file.stream)


def _content(fields: dict[str, str], files: list[IncomingFile]) -> Iterator[bytes]:
    yield json.dumps(fields, sort_keys=True).encode()
    for file in files:
        yield file.name.encode()
        while chunk := file.stream.read(READ_BYTES):
            yield chunk
        file.stream.seek(0)


def _request(fields: dict[str, str]) -> JobFields:
    """Read the text fields. Raises InvalidOptionsError."""
    values: dict[str, Any] = {}
    for name, text in fields.items():
        if not text.strip():  # an empty field is one that was not given
            continue
        try:
            values[name] = json.loads(text) if name in JSON_FIELDS else text
        except (ValueError, RecursionError) as error:
            raise InvalidOptionsError(
                f'`{name}` must be JSON, such as {{"format": "png"}}: {error}'
            ) from error
    refuse_many_values(values)
    try:
        return JobFields.model_validate(values)
    except ValidationError as error:
        raise InvalidOptionsError(describe_validation(error, JobFields)) from error
