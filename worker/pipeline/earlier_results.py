"""What a pipeline needs of earlier results: how it finds them, and how it copies their files
instead of computing an image anew.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

from shared.earlier_result import EarlierResult
from shared.errors import MattingError
from shared.jobs import Reason
from shared.kept_files import matte_key, output_with_matte, thumbnails_key
from shared.options import Options
from shared.result_names import file_name
from shared.settings import Settings
from shared.telemetry import get_logger
from worker.pipeline.work_items import Outcome, StoredOutput, WorkItem

log = get_logger(__name__)


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
                item.photo,
                output.rendition.format.extension,
                old["width"],
                old["height"],
            ),
            key=output.key,
            destination=output.place,
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
        review = tuple(map(Reason, found.review_reasons))  # a newer worker may know more of them
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
    outcome.review = review
    outcome.model = found.matte_model
    outcome.output_bytes = found.output_bytes
    outcome.timings_ms["store"] = (time.perf_counter() - started) * 1e3
