"""Shows an earlier version of an item's result again, also in the job's destination."""

import tempfile
import uuid
from typing import Any

from api.http.auth import Caller
from api.resources import Resources
from api.sources.destination_policy import check_destination
from shared import job_store
from shared.database import now
from shared.jobs import ItemKind
from shared.models import Item
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.published_results import mark, publish

SPOOLED_BYTES = 1024**2
"""Larger results wait on disk while they are copied."""


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
        check_destination_of(resources, caller, found[0].job_id)
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
                content_type = rendition.content_type(clip=item.kind is ItemKind.CLIP)
                publish(resources.storage, place, file, content_type, writer=writer)
    return item, options


def check_destination_of(resources: Resources, caller: Caller, job_id: uuid.UUID) -> None:
    """Raise ForbiddenDestinationError if the caller may not write to the job's destination now."""
    with resources.database.transaction() as session:
        job = job_store.load_job(session, job_id)
    if job is not None and job.destination is not None:
        check_destination(resources.settings, caller.writable_folders, job.destination)
