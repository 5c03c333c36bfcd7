"""Accepts a new version of an item's result: from a mended matte, or by other options."""

from typing import Any

from pydantic import ValidationError

from api.http.auth import Caller
from api.resources import Resources
from api.schemas.requests import RedoRequest
from api.sources.source_policy import SourcePolicy
from api.submissions.intake import discard, publish
from shared import job_store
from shared.errors import InvalidOptionsError
from shared.job_store import NewVersion
from shared.jobs import MadeBy
from shared.kept_files import matte_key
from shared.models import Item, new_id
from shared.options import Options
from shared.validation_words import describe_validation


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
