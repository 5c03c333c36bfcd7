"""An image in the pipeline, and the interfaces of the parts that process it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Protocol, TypeVar

from numpy import float32
from numpy.typing import NDArray

from shared.errors import DiskFullError, MattingError, WorkerMemoryError
from shared.object_url import ObjectUrl
from shared.options import Profile
from shared.telemetry import get_logger
from shared.tracing import StageSpan
from worker.imaging.arrays import Image
from worker.imaging.decoding import DecodedImage
from worker.imaging.finishing import FinishedFile
from worker.imaging.kept_files import KeptFiles
from worker.imaging.matte_metrics import MatteMetrics
from worker.imaging.metadata import Metadata
from worker.imaging.prepared import PreparedImage
from worker.pipeline.work_items import Outcome, WorkItem
from worker.video.full_disk import is_disk_full

log = get_logger(__name__)

T = TypeVar("T")


WEB = ""
"""The `bucket` of photos whose key is a URL."""


class ObjectStore(Protocol):
    """The store that photos are read from and results are written to."""

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        """The object's bytes. Raises MattingError."""

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object to the service's bucket. Raises MattingError."""


class Publisher(Protocol):
    """What writes results to the destination of a job."""

    def publish(
        self, place: ObjectUrl, data: bytes | IO[bytes], content_type: str, *, writer: str
    ) -> None:
        """Write a result, unless a later claim did. Raises MattingError."""


class BatchPredictor(Protocol):
    """The predictor: it computes alphas from photos."""

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        """Prepare a photo as a network input."""

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[float32] | MattingError]:
        """An alpha or an error for each input, in the same order."""


@dataclass(slots=True)
class InFlightImage:
    """An image and all its data between the stages of the pipeline."""

    item: WorkItem
    outcome: Outcome
    of: int = 1
    """Number of images in its batch."""
    decoded: DecodedImage | None = None
    prepared: PreparedImage | None = None
    alpha: NDArray[float32] | None = None
    metrics: MatteMetrics | None = None
    """What was measured in the alpha."""
    fit: float = 1.0
    """The share of the points of the option `subject` that the alpha agrees with."""
    handover: bytes | None = None
    """The first model's matte as a file: one that is to be judged, or one for another worker."""
    given_matte: bytes | None = None
    """The file of a finished matte, which makes a network unnecessary."""
    group_matte: bytes | None = None
    """The file of the matte that the first pass stored: grey PNG of the decoded photo's size."""
    photo_crc32: int = 0
    """Of the photo's file."""
    matte: Image | None = None
    """The same, decoded: [H, W] uint8 of the photo's size."""
    metadata: list[Metadata] = field(default_factory=list)
    pictures: dict[str, Image] = field(default_factory=dict)
    files: list[FinishedFile] = field(default_factory=list)
    kept: KeptFiles | None = None
    goes_on: Callable[[], None] = lambda: None
    """Restarts the time limit of its batch."""

    @property
    def picture_urls(self) -> set[str]:
        """The URLs of the background pictures in its options."""
        return set(self.item.options.background_images())

    def stage(self, name: str, work: Callable[[], T]) -> T | None:
        """Run one stage of this image: record its time, and turn an exception into the image's
        error.
        """
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
        """Set the error of this image. It is kept until the batch is recorded; the frames in which
        it was raised hold pixels and go at once.
        """
        found = as_matting_error(error, self.item.item_id, stage)
        found.__traceback__ = found.__cause__ = found.__context__ = None
        self.outcome.error = found


def as_matting_error(error: Exception, item_id: str, stage: str) -> MattingError:
    """The error of an image for any exception. One that nobody expects is logged."""
    if isinstance(error, MattingError):
        return error
    if isinstance(error, MemoryError):
        return WorkerMemoryError()
    if is_disk_full(error):
        return DiskFullError("The disk of the worker is full")
    log.error("image-crashed", item=item_id, stage=stage, exc_info=error)
    return MattingError(f"The stage {stage} failed unexpectedly")
