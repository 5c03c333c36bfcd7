"""Reuses the result of a photo that was processed before: it is copied in the storage.

A fingerprint covers the caller's key, the photo's bytes, the options and the model, so results of
another caller never match. Images with background pictures are always computed, because a picture
may change under the same name.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from shared import job_store
from shared.database import Database
from shared.errors import MattingError
from shared.job_store import EarlierResult
from shared.jobs import Reason
from shared.kept_files import matte_key, output_with_matte, thumbnails_key
from shared.options import Options
from shared.result_names import file_name
from shared.settings import Settings
from shared.storage import Storage
from shared.telemetry import get_logger
from worker.pipeline.work_items import Outcome, StoredOutput, WorkItem

log = get_logger(__name__)

RESULT_VERSION = 4
"""Raise it when the same photo and options produce other pixels than before."""


class EarlierResults(Protocol):
    """The interface with which a pipeline finds earlier results."""

    def fingerprint(self, tenant: str, data: bytes, options: Options) -> str | None:
        """A hash of everything that determines the result; None: always compute it."""

    def find_many(
        self, wanted: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], EarlierResult]:
        """Earlier results by tenant and fingerprint. Raises DatabaseError."""

    def copy(self, source_key: str, key: str) -> None:
        """Copy an object within the storage. Raises MattingError."""


class ResultReuse:
    """Earlier results in the database and the storage."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        model: str,
        second: Callable[[Options], str] = lambda _: "",
    ) -> None:
        """`model`: the fingerprint of the model. `second`: the fingerprint of the second model that
        photos with these options have; empty: they have none.
        """
        self._database = database
        self._storage = storage
        self._model = model
        self._second = second

    def fingerprint(self, tenant: str, data: bytes, options: Options) -> str | None:
        """SHA-256 of everything that determines the result."""
        if any(options.background_images()):
            return None
        # Neither a preset's name nor a file's name changes a pixel.
        unseen: dict[str, Any] = {
            "preset": True,
            "name": True,
            "extra_outputs": {"__all__": {"name"}},
        }
        asked = json.dumps(options.model_dump(mode="json", exclude=unseen), sort_keys=True)
        models = f"{self._model} {self._second(options)}"
        digest = hashlib.sha256(f"{RESULT_VERSION}\n{tenant}\n{models}\n{asked}\n".encode())
        digest.update(data)
        return digest.hexdigest()

    def find_many(
        self, wanted: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], EarlierResult]:
        """The newest result for each tenant and fingerprint."""
        if not wanted:
            return {}
        places = {(uuid.UUID(tenant), mark): (tenant, mark) for tenant, mark in wanted}
        with self._database.transaction() as session:
            found = job_store.find_earlier_results(session, list(places))
        return {places[place]: result for place, result in found.items()}

    def copy(self, source_key: str, key: str) -> None:
        """Copy an object within the service's bucket, inside the storage."""
        self._storage.copy(source_key, key)


def stored_again(past: EarlierResult, item: WorkItem) -> tuple[StoredOutput, ...]:
    """An earlier image's files, under the keys and names of this image."""
    before = past.outputs or [
        {
            "width": past.width,
            "height": past.height,
            "bytes": past.output_bytes,
            "unmet": [],
            "crc32": past.crc32,
        }
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
            crc32=old.get("crc32"),
        )
        for output, old in zip(item.outputs, before, strict=False)
    )


def result_of(outcome: Outcome) -> EarlierResult | None:
    """The result of an image that was just stored; None: it has none."""
    if outcome.error is not None or not outcome.outputs:
        return None
    return EarlierResult(
        result_key=outcome.outputs[0].key,
        outputs=[asdict(one) for one in outcome.outputs],
        review_reasons=[reason.value for reason in outcome.review],
        width=outcome.width,
        height=outcome.height,
        output_bytes=outcome.output_bytes,
        matte_model=outcome.model,
        crc32=outcome.outputs[0].crc32,
    )


def copy_again(
    past: EarlierResults,
    found: EarlierResult,
    item: WorkItem,
    outcome: Outcome,
    settings: Settings,
) -> None:
    """Copy the files of an earlier image and those beside them, and fill in the whole outcome,
    because the photo may never be decoded. If a file or the photo's size is missing, the image is
    computed.
    """
    if not (found.width and found.height):
        return
    started = time.perf_counter()
    outputs = stored_again(found, item)
    try:
        sources = [found.result_key, *(one["key"] for one in (found.outputs or [])[1:])]
        for source, output in zip(sources, outputs, strict=True):
            past.copy(source, output.key)
        kept = [thumbnails_key] * settings.thumbnails
        if settings.keep_mattes and output_with_matte(item.options) is None:
            kept.append(matte_key)
        for key_of in kept:
            past.copy(key_of(found.result_key), key_of(outputs[0].key))
    except (MattingError, ValueError) as error:
        log.info("reusable-result-missing", item=item.item_id, detail=str(error))
        return
    outcome.outputs, outcome.reused = outputs, True
    outcome.width, outcome.height = found.width, found.height
    outcome.review = tuple(Reason(reason) for reason in found.review_reasons)
    outcome.model = found.matte_model
    outcome.output_bytes = found.output_bytes
    outcome.timings_ms["store"] = (time.perf_counter() - started) * 1e3
