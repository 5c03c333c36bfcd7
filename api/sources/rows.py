"""Converts rows of a manifest, or entries of a request's list, to items."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from api.sources.feeds import BadRow
from api.sources.source_policy import SourcePolicy, name_of_url, photo_address, plain_name
from shared.database_text import without_unstorable_text
from shared.errors import BadManifestRowError, InvalidOptionsError, LeftOutError, MattingError
from shared.job_store import NewItem
from shared.options import OF_JOB_ONLY, Options
from shared.validation_words import describe_validation

OPTION_PREFIX = "options."
"""The CSV column `options.format` is the option `format`."""

MAX_LABELS_BYTES = 16 * 1024
"""Largest size of the caller's own columns, as JSON."""

MAX_LABEL_VALUES = 2_000
"""Most values in these columns, including nested ones: 16 KiB of brackets need thirty times as much
memory, in each page of a report.
"""

MAX_LABEL_DEPTH = 32
"""Most lists and objects within each other in these columns. Answers hold at most 250."""

MAX_ID_CHARS = 256
MAX_GROUP_CHARS = 512

Row = Mapping[str, Any]


class RowReader:
    """Converts the rows of one job to items."""

    def __init__(self, policy: SourcePolicy, options: Options) -> None:
        """`options`: those of the job."""
        self._policy = policy
        self._options = options

    def item(self, row: Row, number: int) -> NewItem:
        """The item of a row; an invalid row gives an item with an error. `number` counts from 1."""
        try:
            return self._item(row)
        except MattingError as error:
            named = str(row.get("key") or row.get("url") or row.get("name") or f"row {number}")
            return NewItem(
                name=plain_name(named)[:1_024],
                source=f"row:{number}",
                custom_id=_text(row.get("id")),
                # A file that the client sent or left out has no columns of the caller's own.
                labels=None if row.keys() & {"upload", "left_out"} else _labels(row, strict=False),
                error=error,
            )

    def _item(self, row: Row) -> NewItem:
        if isinstance(row, BadRow):
            raise BadManifestRowError(row.problem)
        if (reason := row.get("left_out")) and row.keys() == {"name", "left_out"}:
            raise LeftOutError(str(reason))
        key, url, upload = row.get("key") or None, row.get("url") or None, row.get("upload") or None
        if (key is None) + (url is None) + (upload is None) != 2:
            raise BadManifestRowError
        if not isinstance(key or url or upload, str):
            raise BadManifestRowError("Its `key` or `url` is not a text")
        if not str(key or url or upload).strip():
            raise BadManifestRowError
        if url is not None:
            source = photo_address(str(url))
            name = name_of_url(source)
        elif upload is not None:
            source = str(self._policy.upload(str(upload)))
            name = plain_name(str(row.get("name") or "unnamed"))
        else:
            place = self._policy.object_or_upload(str(key))
            source, name = str(place), plain_name(place.key)
        return NewItem(
            name=name[:1_024],
            source=source,
            custom_id=_text(row.get("id")),
            options=self._own_options(row),
            labels=None if upload is not None else _labels(row),
            group=_group(row),
        )

    def _own_options(self, row: Row) -> dict[str, Any] | None:
        if len(row) == 1:  # only a key
            return None
        changes = _object(row.get("options"))
        for name, value in row.items():
            if name.startswith(OPTION_PREFIX) and value not in (None, ""):
                changes[name.removeprefix(OPTION_PREFIX)] = _value(value)
        if not changes:
            return None
        if of_job := sorted(changes.keys() & set(OF_JOB_ONLY)):
            raise InvalidOptionsError(f"`{of_job[0]}` is an option of the whole job")
        try:
            options = self._options.overridden(changes)
        except ValidationError as error:
            raise InvalidOptionsError(describe_validation(error, Options)) from error
        self._policy.options(options)
        return options.model_dump(mode="json")


def _group(row: Row) -> str | None:
    """The name of the photo's group, as a relative path: the turntable's file lies in it."""
    given = row.get("group")
    if given is None or not str(given).strip():
        return None
    if not isinstance(given, str | int | float):
        raise BadManifestRowError("Its `group` is no text")
    return plain_name(str(given).strip())[:MAX_GROUP_CHARS]


def _labels(row: Row, *, strict: bool = True) -> dict[str, Any] | None:
    """The caller's own columns. Raises BadManifestRowError if they are too long; if not `strict`,
    it returns none instead.
    """
    if len(row) == 1:
        return None
    own = {
        name: value
        for name, value in row.items()
        if name not in ("key", "url", "id", "options")
        and not name.startswith(OPTION_PREFIX)
        and value is not None
    }
    problem = _problem_of(own)
    if problem and strict:
        raise BadManifestRowError(f"Its own columns {problem}")
    return None if problem else own or None


def _problem_of(own: dict[str, Any]) -> str | None:
    if _is_deep(own, MAX_LABEL_DEPTH):
        return f"have more than {MAX_LABEL_DEPTH} lists within each other"
    try:
        labels = json.dumps(own, ensure_ascii=False, allow_nan=False)
    except ValueError:  # 1e400 is valid JSON, and read as infinity
        return "hold a number that is too large"
    if len(labels.encode("utf-8", "ignore")) > MAX_LABELS_BYTES:
        return f"have more than {MAX_LABELS_BYTES:,} bytes"
    if sum(labels.count(sign) for sign in ",[{") > MAX_LABEL_VALUES:
        return f"have more than {MAX_LABEL_VALUES:,} values"
    if labels != without_unstorable_text(labels) or "\\u0000" in labels:
        return "hold zero bytes or halves of characters, which no database stores"
    return None


def _is_deep(value: Any, most: int) -> bool:
    """Whether more than `most` lists and objects lie within each other."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return most == 0 or any(_is_deep(one, most - 1) for one in inner)


def _object(value: Any) -> dict[str, Any]:
    """Options as an object, or as JSON text in a CSV cell. Raises InvalidOptionsError."""
    if value in (None, ""):
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidOptionsError(f"`options` is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidOptionsError("`options` is not an object")
    return dict(value)


def _value(text: Any) -> Any:
    """The value of a CSV cell: numbers, booleans, lists and objects as JSON, everything else as
    text.
    """
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _text(value: Any) -> str | None:
    return None if value in (None, "") else without_unstorable_text(str(value))[:MAX_ID_CHARS]
