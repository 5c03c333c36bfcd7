"""An image on its way through the pipeline, and whom it meets there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from numpy import float32
from numpy.typing import NDArray

from shared.errors import MattingError
from shared.options import Profile
from worker.imaging.arrays import Image
from worker.imaging.decoding import DecodedImage
from worker.imaging.finishing import FinishedFile
from worker.imaging.metadata import Metadata
from worker.imaging.prepared import PreparedImage
from worker.pipeline.work_items import Outcome, WorkItem


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
