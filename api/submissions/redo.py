"""Accepts a new version of an item's result: from a mended matte, or by other options."""

import tempfile
import uuid
from typing import Any

from pydantic import ValidationError

from api.http.auth import Caller
from api.resources import Resources
from api.schemas.requests import RedoRequest
from api.sources.destination_policy import check_destination
from api.sources.source_policy import SourcePolicy
from api.submissions.intake import discard, publish
from shared import job_store
from shared.database import now
from shared.errors import InvalidOptionsError
from shared.job_store import NewVersion
from shared.jobs import MadeBy
from shared.kept_files import matte_key
from shared.models import Item, new_id
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.published_results import mark
from shared.published_results import publish as publish_result
from shared.validation_words import describe_validation

SPOOLED_BYTES = 1024**2
"""Larger results wait on disk while they are copied."""


def redo(
    resources: Resources,
    caller: Caller,
    item: Item,
    job_options: dict[str, Any],
    request: RedoRequest,
) -> tuple[Item, dict[str, Any]]:
    """Let a network process a photo again; returns the item and its job's options.

    Raises RequestError, TransientError.
    """
    changes = {
        **(request.options or {}),
        **({"model": request.model} if request.model is not None else {}),
        **({"subject": request.subject} if request.subject is not None else {}),
    }
    try:
        options = Options.model_validate(item.options or job_options).overridden(changes)
    except ValidationError as error:
        raise InvalidOptionsError(describe_validation(error, Options)) from error
    SourcePolicy(resources.settings, caller.api_key_id, caller.sources).options(
        options, item.job_id
    )
    _check_destination(resources, caller, item)
    new = NewVersion(
        job_id=new_id(),
        item_id=new_id(),
        made_by=MadeBy.NETWORK,
        options=options.model_dump(mode="json"),
    )
    return _begin(resources, caller, item, new)


def mend(
    resources: Resources,
    caller: Caller,
    item: Item,
    job_options: dict[str, Any],
    matte: bytes | bytearray,
    instead_of: frozenset[int] | None,
) -> tuple[Item, dict[str, Any]]:
    """Store a matte, and let a worker render it with the item's options; returns the item and its
    job's options. `instead_of`: the versions whose matte the caller may have changed.

    Raises RequestError, TransientError.
    """
    job_id, item_id = new_id(), new_id()
    options = Options.model_validate(item.options or job_options)
    key = matte_key(options.output_keys(str(job_id), str(item_id))[0])
    new = NewVersion(
        job_id=job_id,
        item_id=item_id,
        made_by=MadeBy.BRUSH,
        matte_key=key,
        instead_of=instead_of,
    )
    try:
        resources.storage.put(key, matte, "image/png")
        return _begin(resources, caller, item, new)
    except BaseException:
        discard(resources, job_id)
        raise


def restore(
    resources: Resources, caller: Caller, item_id: uuid.UUID, number: int
) -> tuple[Item, dict[str, Any]]:
    """Let an item show an earlier version again, and write it to the job's destination; returns the
    item and its job's options. If writing fails, the same request writes again.

    Raises RequestError, DestinationRefusedError, TransientError.
    """
    with resources.database.transaction() as session:
        found = job_store.get_item(session, item_id, api_key_id=caller.api_key_id)
    if found is not None:
        _check_destination(resources, caller, found[0])
    with resources.database.transaction() as session:
        item, options = job_store.restore_version(
            session, item_id, number, api_key_id=caller.api_key_id
        )
        writer = mark(now(session), str(item.id))
    renditions = Options.model_validate(item.options or options).renditions
    for output, rendition in zip(item.outputs or (), renditions, strict=False):
        if output.get("destination"):
            place = ObjectUrl.parse(output["destination"], "")
            with tempfile.SpooledTemporaryFile(SPOOLED_BYTES) as file:
                for piece in resources.storage.stream(resources.storage.bucket, output["key"]):
                    file.write(piece)
                content_type = rendition.format.content_type
                publish_result(resources.storage, place, file, content_type, writer=writer)
    return item, options


def _check_destination(resources: Resources, caller: Caller, item: Item) -> None:
    """Raise ForbiddenDestinationError if the caller may not write to the job's destination now."""
    with resources.database.transaction() as session:
        job = job_store.load_job(session, item.job_id)
    if job is not None and job.destination is not None:
        check_destination(resources.settings, caller.writable_folders, job.destination)


def _begin(
    resources: Resources, caller: Caller, item: Item, new: NewVersion
) -> tuple[Item, dict[str, Any]]:
    with resources.database.transaction() as session:
        found = job_store.begin_version(
            session,
            item.id,
            new,
            api_key_id=caller.api_key_id,
            kept=resources.settings.versions_kept,
        )
    publish(resources, new.job_id)
    return found
