"""Looks up resources by id; those of other API keys count as missing."""

import uuid
from typing import Any

from api.http.auth import Caller
from api.resources import Resources
from api.schemas.responses import from_cursor
from shared import job_store
from shared.errors import InvalidCursorError, ItemNotFoundError, JobNotFoundError
from shared.models import Item, Job


def find_job(resources: Resources, caller: Caller, job_id: uuid.UUID) -> Job:
    """A job of the caller. Raises JobNotFoundError."""
    with resources.database.query() as session:
        job = job_store.get_job(session, job_id, api_key_id=caller.api_key_id)
    if job is None:
        raise JobNotFoundError(f"There is no job {job_id}")
    return job


def find_item(
    resources: Resources, caller: Caller, item_id: uuid.UUID
) -> tuple[Item, dict[str, Any]]:
    """An item of the caller, and its job's options. Raises ItemNotFoundError."""
    with resources.database.query() as session:
        found = job_store.get_item(session, item_id, api_key_id=caller.api_key_id)
    if found is None:
        raise ItemNotFoundError(f"There is no item {item_id}")
    return found


def uuid_cursor(cursor: str) -> uuid.UUID:
    """A cursor that is an id. Raises InvalidCursorError."""
    try:
        return uuid.UUID(from_cursor(cursor))
    except ValueError as error:
        raise InvalidCursorError from error


def position_cursor(cursor: str) -> int:
    """A cursor that is a position. Raises InvalidCursorError."""
    try:
        position = int(from_cursor(cursor))
    except ValueError as error:
        raise InvalidCursorError from error
    if not 0 <= position < 2**31:
        raise InvalidCursorError
    return position
