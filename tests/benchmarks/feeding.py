"""Feeds a pipeline like a worker: full batches, several in flight, with an S3 in memory."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from shared.options import Options
from shared.settings import Settings
from worker.pipeline.pipeline import Outcome, Pipeline, WorkItem
from worker.pipeline.work_items import requested_outputs


class MemoryStore:
    """An object storage in memory. It serves photos by number, and counts results without keeping
    them.
    """

    def __init__(self, photos: Sequence[bytes]) -> None:
        self._photos = photos
        self.stored = 0

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """Return the photo with this number, counted around the list."""
        return self._photos[int(key) % len(self._photos)]

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Count and drop a result."""
        self.stored += 1


def items(first: int, count: int, options: Options) -> list[WorkItem]:
    """Work items whose keys are numbers."""
    return [
        WorkItem(
            item_id=str(number),
            bucket="photos",
            key=str(number),
            options=options,
            outputs=requested_outputs(
                options, ["out", *(f"out/{n}" for n in range(len(options.extras)))]
            ),
        )
        for number in range(first, first + count)
    ]


def feed(pipeline: Pipeline, settings: Settings, work: Sequence[WorkItem]) -> float:
    """Process all items. Returns seconds. Raises the first error of an image, because no photo is
    bad.
    """
    size = settings.batch_size
    assert size is not None
    batches = [work[start : start + size] for start in range(0, len(work), size)]
    started = time.perf_counter()
    with ThreadPoolExecutor(settings.batches_in_flight) as drivers:
        outcomes: list[Outcome] = [
            o for done in drivers.map(pipeline.run_many, batches) for o in done
        ]
    elapsed_s = time.perf_counter() - started
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    return elapsed_s
