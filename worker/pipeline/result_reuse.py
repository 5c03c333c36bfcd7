"""The same photo twice: found by its content, copied in the storage instead of computed again.

A fingerprint is made of the caller's key, the photo's bytes, the options and the model, so it can
only ever meet results of the same caller. What lies behind options that name a picture may change
under the same name: such images are computed each time.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

from shared import job_store
from shared.database import Database
from shared.errors import MattingError
from shared.job_store import EarlierResult
from shared.jobs import Reason
from shared.options import Options
from shared.result_names import file_name
from shared.storage import Storage
from shared.telemetry import get_logger
from worker.pipeline.work_items import Outcome, StoredOutput, WorkItem

log = get_logger(__name__)

RESULT_VERSION = 3
"""To be raised when the same photo and options give other pixels than before."""


class EarlierResults(Protocol):
    """Where a pipeline looks for what was computed before."""

    def fingerprint(self, tenant: str, data: bytes, options: Options) -> str | None:
        """What the result follows from; None: it must be computed."""

    def find_many(
        self, wanted: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], EarlierResult]:
        """By tenant and fingerprint. Raises DatabaseError."""

    def copy(self, source_key: str, key: str) -> None:
        """Copy an object within the storage. Raises MattingError."""


class ResultReuse:
    """PastResults in the database and the storage."""

    def __init__(self, database: Database, storage: Storage, model: str) -> None:
        """`model`: its fingerprint."""
        self._database = database
        self._storage = storage
        self._model = model

    def fingerprint(self, tenant: str, data: bytes, options: Options) -> str | None:
        """SHA-256 over all that the result follows from."""
        if any(options.background_images()):
            return None
        asked = json.dumps(options.model_dump(mode="json", exclude={"preset"}), sort_keys=True)
        digest = hashlib.sha256(f"{RESULT_VERSION}\n{tenant}\n{self._model}\n{asked}\n".encode())
        digest.update(data)
        return digest.hexdigest()

    def find_many(
        self, wanted: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], EarlierResult]:
        """The newest result for each."""
        if not wanted:
            return {}
        places = {(uuid.UUID(tenant), mark): (tenant, mark) for tenant, mark in wanted}
        with self._database.transaction() as session:
            found = job_store.find_earlier_results(session, list(places))
        return {places[place]: result for place, result in found.items()}

    def copy(self, source_key: str, key: str) -> None:
        """Within the own bucket; no byte passes through here."""
        self._storage.copy(source_key, key)


def stored_again(past: EarlierResult, item: WorkItem) -> tuple[StoredOutput, ...]:
    """An earlier image's files under this one's keys and names."""
    before = past.outputs or [
        {"width": past.width, "height": past.height, "bytes": past.output_bytes, "unmet": []}
    ]
    return tuple(
        StoredOutput(
            name=file_name(
                output.rendition.name,
                item.name,
                output.rendition.format.extension,
                old["width"],
                old["height"],
            ),
            key=output.key,
            width=old["width"],
            height=old["height"],
            bytes=old["bytes"],
            unmet=tuple(old["unmet"]),
            subject=tuple(old["subject"]) if old.get("subject") else None,
        )
        for output, old in zip(item.outputs, before, strict=False)
    )


def copy_again(
    past: EarlierResults, found: EarlierResult, item: WorkItem, outcome: Outcome
) -> None:
    """Copy an earlier image's files, and note all that is recorded of an image: it may never be
    decoded. Where a file or the photo's size is gone, the image is computed.
    """
    if not (found.width and found.height):
        return
    started = time.perf_counter()
    outputs = stored_again(found, item)
    try:
        sources = [found.result_key, *(one["key"] for one in (found.outputs or [])[1:])]
        for source, output in zip(sources, outputs, strict=True):
            past.copy(source, output.key)
    except (MattingError, ValueError) as error:
        log.info("reuse-gone", item=item.item_id, detail=str(error))
        return
    outcome.outputs, outcome.reused = outputs, True
    outcome.width, outcome.height = found.width, found.height
    outcome.review = tuple(Reason(reason) for reason in found.review_reasons)
    outcome.output_bytes = found.output_bytes
    outcome.timings_ms["store"] = (time.perf_counter() - started) * 1e3
