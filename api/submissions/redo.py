"""Accepts new versions of items' results: from a mended matte, or by other options."""

import uuid
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from api.http.auth import Caller
from api.resources import Resources
from api.schemas.requests import RedoRequest
from api.sources.source_policy import SourcePolicy
from api.submissions.intake import discard, publish
from api.submissions.restore import check_destination_of
from shared import job_store
from shared.database import Session
from shared.errors import InvalidOptionsError
from shared.job_store import NewVersion
from shared.jobs import MadeBy
from shared.kept_files import matte_key
from shared.models import Item, new_id
from shared.options import OF_JOB_ONLY, Options
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
    options = _changed(
        _policy(resources, caller), item.job_id, item.options or job_options, changes
    )
    return _begin(resources, caller, item, _by_network(options))


def redo_rejected(
    resources: Resources,
    caller: Caller,
    session: Session,
    job_id: uuid.UUID,
    changes: Mapping[str, Any],
) -> tuple[list[uuid.UUID], int]:
    """Let a network process a job's rejected photos again, with these options changed. Returns the
    jobs that do it, to be published after the commit, and how many images are left.

    Raises RequestError.
    """
    policy = _policy(resources, caller)
    of_job: list[dict[str, Any]] = []

    def make(item: Item, job_options: dict[str, Any]) -> NewVersion:
        if item.options is None:  # most images have no options of their own
            if not of_job:
                of_job.append(_changed(policy, job_id, job_options, changes))
            return _by_network(of_job[0])
        try:
            return _by_network(_changed(policy, job_id, item.options, changes))
        except InvalidOptionsError as error:
            raise type(error)(f"{item.name}: {error.detail}") from error

    return job_store.redo_rejected(
        session,
        job_id,
        make,
        api_key_id=caller.api_key_id,
        kept=resources.settings.versions_kept,
    )


def _policy(resources: Resources, caller: Caller) -> SourcePolicy:
    return SourcePolicy(resources.settings, caller.api_key_id, caller.sources)


def _changed(
    policy: SourcePolicy, job_id: uuid.UUID, options: dict[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Options with changes, as they are stored. Raises InvalidOptionsError,
    ForbiddenSourceError.
    """
    before = Options.model_validate(options)
    try:
        changed = before.overridden(dict(changes))
    except ValidationError as error:
        raise InvalidOptionsError(describe_validation(error, Options)) from error
    for name in OF_JOB_ONLY:
        if getattr(changed, name) != getattr(before, name):
            raise InvalidOptionsError(f"`{name}` is an option of the whole job")
    policy.options(changed, job_id, redo=True)
    return changed.model_dump(mode="json")


def _by_network(options: dict[str, Any]) -> NewVersion:
    return NewVersion(job_id=new_id(), item_id=new_id(), made_by=MadeBy.NETWORK, options=options)


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
    check_destination_of(resources, caller, item.job_id)
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
