"""An image on its way through the pipeline, and whom it meets there."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from numpy import float32
from numpy.typing import NDArray

from shared.errors import MattingError, WorkerMemoryError
from shared.options import Profile
from shared.telemetry import get_logger
from shared.tracing import StageSpan
from worker.imaging.arrays import Image
from worker.imaging.decoding import DecodedImage
from worker.imaging.finishing import FinishedFile
from worker.imaging.metadata import Metadata
from worker.imaging.prepared import PreparedImage
from worker.pipeline.work_items import Outcome, WorkItem

log = get_logger(__name__)

T = TypeVar("T")


class ObjectStore(Protocol):
    """Where photos come from and results go to."""

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """The object's bytes. Raises MattingError."""

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object of the own bucket. Raises MattingError."""


class BatchPredictor(Protocol):
    """What turns photos into alphas."""

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        """A photo as an input of the network."""

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[float32] | MattingError]:
        """An alpha or an error for each input, in their order."""


@dataclass(slots=True)
class InFlightImage:
    """An image on its way through the stages."""

    item: WorkItem
    outcome: Outcome
    of: int = 1
    """Images of its batch."""
    decoded: DecodedImage | None = None
    prepared: PreparedImage | None = None
    alpha: NDArray[float32] | None = None
    metadata: list[Metadata] = field(default_factory=list)
    pictures: dict[str, Image] = field(default_factory=dict)
    files: list[FinishedFile] = field(default_factory=list)

    @property
    def picture_urls(self) -> set[str]:
        """Of the pictures that its options put behind its subject."""
        return set(self.item.options.background_images())

    def stage(self, name: str, work: Callable[[], T]) -> T | None:
        """Do one stage of this image: its time is noted, its error is the image's own."""
        started, started_ns = time.perf_counter(), time.time_ns()
        try:
            return work()
        except Exception as error:
            self.fail(error, name)
        finally:
            spent_ms = (time.perf_counter() - started) * 1e3
            inner_ms = self.outcome.timings_ms.get("encode", 0) if name == "finish" else 0
            self.outcome.timings_ms[name] = spent_ms - inner_ms
            self.outcome.stages.append(StageSpan(name, started_ns, time.time_ns()))
        return None

    def fail(self, error: Exception, stage: str) -> None:
        """Note why this image has no result."""
        if isinstance(error, MattingError):
            self.outcome.error = error
        elif isinstance(error, MemoryError):
            self.outcome.error = WorkerMemoryError()
        else:
            log.error("image-crashed", item=self.item.item_id, stage=stage, exc_info=error)
            self.outcome.error = MattingError(f"The stage {stage} failed unexpectedly")
