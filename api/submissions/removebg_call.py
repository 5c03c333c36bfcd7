"""Reads a call of remove.bg's API: its fields, and its pictures as files on disk."""

import base64
import binascii
import tempfile
import uuid
from collections.abc import Iterator
from typing import IO

import pydantic_core
from anyio import to_thread
from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from api.http.guarded_route import media_type
from api.http.multipart import FilePart, Form, FormLimits, read_multipart
from api.http.urlencoded import read_urlencoded
from api.removebg.parameters import RemoveBgRequest
from api.resources import Resources
from api.sources.image_size import image_size
from api.sources.source_policy import photo_address
from api.submissions.forms import drop_byte_order_mark, has_more_values, read_whole
from api.submissions.intake import IncomingFile
from shared.clips import is_named_like_clip
from shared.errors import (
    EmptyFileError,
    FileTooLargeError,
    ForbiddenUrlError,
    InvalidOptionsError,
    MattingError,
    NotAnImageError,
    RequestError,
)
from shared.settings import Settings

ENCODED = "image_file_b64"
LIMITS = FormLimits(
    files=6,
    fields=40,
    spooled=frozenset({ENCODED, "image_file", "bg_image_file"}),
    texts=frozenset(RemoveBgRequest.model_fields) - {ENCODED},
)
MOST_VALUES = 1_000
"""Most values of a JSON body; unknown parameters are ignored."""

HEAD_BYTES = 64 * 1024
"""Bytes that contain the size of most photos."""

PIECE_BYTES = 1024**2
"""Bytes of Base64 decoded at a time; a multiple of 4."""

BLANKS = b" \t\r\n\v\f"

URL_SAFE = bytes.maketrans(b"-_", b"+/")
"""The two signs that Base64 for URLs writes differently (RFC 4648, section 5)."""


async def read_call(request: Request, resources: Resources) -> Form:
    """Read the fields and files of a body of any of the three kinds. Raises RequestError."""
    kind = media_type(request)
    if kind == "multipart/form-data":
        return await read_multipart(request, LIMITS)
    if kind not in ("application/json", "application/x-www-form-urlencoded"):
        raise RequestError(f"The body must be a form, multipart or JSON, not {kind or 'untyped'!r}")
    body = await read_whole(request)
    if kind == "application/json":
        return await to_thread.run_sync(_from_json, body, limiter=resources.parsing)
    return await run_in_threadpool(read_urlencoded, body, LIMITS)


def _from_json(body: bytearray) -> Form:
    if has_more_values(body, MOST_VALUES):
        raise RequestError("The JSON has too many values")
    drop_byte_order_mark(body)
    try:
        values = pydantic_core.from_json(body)
    except ValueError as error:
        raise RequestError("The body is not valid JSON") from error
    if not isinstance(values, dict):
        raise RequestError("The body must be a JSON object")
    encoded = values.pop(ENCODED, None)
    form = Form(fields=values)
    if encoded and isinstance(encoded, str):
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the form closes it
        form.own(file)
        for start in range(0, len(encoded), PIECE_BYTES):
            file.write(encoded[start : start + PIECE_BYTES].encode("utf-8", "replace"))
        file.seek(0)
        form.files.append(FilePart(ENCODED, "", file))
    return form


async def photo_of(
    asked: RemoveBgRequest, form: Form, resources: Resources, api_key_id: uuid.UUID
) -> IncomingFile:
    """The photo of the call. Raises RequestError, ImageError, TransientError."""
    sent, encoded = _not_empty(form, "image_file"), _not_empty(form, ENCODED)
    given = len(sent) + len(encoded) + bool(asked.image_url)
    if not given and form.named("image_file"):
        raise EmptyFileError
    if given != 1:
        raise InvalidOptionsError(
            "Give exactly one of image_file, image_file_b64, image_url",
            finer="multiple_sources" if given else "missing_source",
        )
    if sent:
        name = sent[0].name
        # Here it is a photo, whatever it is called.
        clip = not name or is_named_like_clip(name)
        photo = IncomingFile("photo" if clip else name, sent[0].stream)
    elif encoded:
        photo = IncomingFile("photo", _new_file(form))
        await run_in_threadpool(decode_base64, encoded[0].stream, photo.stream)
    else:
        photo = await _fetched(asked.image_url or "", form, resources, api_key_id)
    _check_size(photo, resources.settings)
    return photo


async def background_of(
    asked: RemoveBgRequest, form: Form, resources: Resources, api_key_id: uuid.UUID
) -> IncomingFile | None:
    """The background picture, if there is one. Raises RequestError, ImageError, TransientError."""
    sent = _not_empty(form, "bg_image_file")
    if len(sent) + bool(asked.bg_color) + bool(asked.bg_image_url) > 1:
        raise InvalidOptionsError(
            "Give one of bg_color, bg_image_file, bg_image_url", finer="multiple_bg_sources"
        )
    if sent:
        picture = IncomingFile(sent[0].name, sent[0].stream)
    elif asked.bg_image_url:
        try:
            picture = await _fetched(asked.bg_image_url, form, resources, api_key_id)
        except MattingError as error:
            refused = isinstance(error, ForbiddenUrlError)
            code = "invalid_bg_image_url" if refused else "failed_bg_download"
            raise InvalidOptionsError(f"bg_image_url: {error.detail}", finer=code) from error
    else:
        return None
    _check_size(picture, resources.settings)
    return picture


def _not_empty(form: Form, name: str) -> list[FilePart]:
    """The files of a field. An empty one counts as not given, beside another or alone."""
    files = [file for file in form.named(name) if file.stream.seek(0, 2)]
    for file in files:
        file.stream.seek(0)
    return files


def size_of(file: IncomingFile) -> tuple[int, int]:
    """Width and height; for most photos the first bytes are enough. Raises as `image_size`."""
    head = file.stream.read(HEAD_BYTES)
    try:
        return image_size(head)
    except NotAnImageError:
        if len(head) < HEAD_BYTES:
            raise
        return image_size(head + file.stream.read())
    finally:
        file.stream.seek(0)


def _check_size(file: IncomingFile, settings: Settings) -> None:
    size_bytes, limit = file.stream.seek(0, 2), settings.max_image_bytes
    file.stream.seek(0)
    if not size_bytes:
        raise EmptyFileError
    if size_bytes > limit:
        raise FileTooLargeError(f"The file has more than the limit of {limit:,} bytes")


async def _fetched(
    url: str, form: Form, resources: Resources, api_key_id: uuid.UUID
) -> IncomingFile:
    file, limit = _new_file(form), resources.settings.max_image_bytes
    address = photo_address(url)
    async with resources.fetch_turns.one_of(api_key_id):
        await to_thread.run_sync(
            resources.web.fetch, address, limit, file, limiter=resources.fetching
        )
    return IncomingFile("photo", file)


def _new_file(form: Form) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the form closes it
    form.own(file)
    return file


def decode_base64(encoded: IO[bytes], into: IO[bytes]) -> None:
    """Decode Base64, also that for URLs and without padding, ignoring blanks and the head of a data
    URL. Raises InvalidOptionsError.
    """
    try:
        for piece in _quartets(encoded):
            into.write(base64.b64decode(piece, validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidOptionsError(
            f"{ENCODED} is not valid Base64", finer=f"invalid_{ENCODED}"
        ) from error


def _quartets(encoded: IO[bytes]) -> Iterator[bytes]:
    """Pieces of whole groups of four characters. Padding is allowed in the last one only; raises
    ValueError.
    """
    head = encoded.read(HEAD_BYTES)
    rest = (head.partition(b",")[2] if head.startswith(b"data:") else head).translate(
        URL_SAFE, BLANKS
    )
    while chunk := encoded.read(PIECE_BYTES):
        rest += chunk.translate(URL_SAFE, BLANKS)
        whole = len(rest) - len(rest) % 4
        if b"=" in rest[: whole - 4]:
            raise ValueError
        piece, rest = rest[: whole - 4], rest[whole - 4 :]
        yield piece
    yield rest + b"=" * (-len(rest) % 4)
