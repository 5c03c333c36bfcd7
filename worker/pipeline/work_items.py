"""Input and output of the pipeline: an image to process, and its outcome."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.clips import ClipSegment, ClipState, ClipWork
from shared.errors import MattingError
from shared.groups import GroupWork, Measured, TurntableWork
from shared.jobs import Reason
from shared.object_url import ObjectUrl
from shared.options import ExtraOutput, Options
from shared.result_names import UNNAMED, NamedPhoto
from shared.tracing import StageSpan


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """A file to write: its rendition and its object key."""

    rendition: Options | ExtraOutput
    key: str
    destination: ObjectUrl | None = None
    """Where it is also written."""

    @property
    def place(self) -> str | None:
        """The same as text."""
        return None if self.destination is None else str(self.destination)


def requested_outputs(
    options: Options, keys: Sequence[str], places: Sequence[ObjectUrl] = ()
) -> tuple[RequestedOutput, ...]:
    """The outputs of these options, with their object keys in the order of `options.renditions`.
    `places`: where they are also written, in the same order; empty: nowhere.
    """
    also: Sequence[ObjectUrl | None] = places or [None] * len(keys)
    return tuple(
        RequestedOutput(rendition, key, place)
        for rendition, key, place in zip(options.renditions, keys, also, strict=True)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """An image to process."""

    item_id: str
    bucket: str
    key: str
    options: Options
    outputs: tuple[RequestedOutput, ...]
    """The files to write, the main one first."""
    photo: NamedPhoto = UNNAMED
    """What results are named after."""
    writer: str = ""
    """The mark of this claim on what is written to a destination."""
    forwarded_to: str | None = None
    """The second model, if the first result is there already and is doubtful."""
    handover_key: str = ""
    """The object with the first model's matte, which the second model's worker reads."""
    group: GroupWork | TurntableWork | ClipWork | None = None
    """What is due for its group or clip; None: it is a photo by itself."""
    group_matte_key: str = ""
    """The object with the matte of the first pass, from which the second one renders."""
    suspect: bool = False
    """Decode it in a child process."""
    matte_key: str | None = None
    """The object key of a finished matte, to use instead of a network's."""
    tenant: str = ""
    """The id of the caller's API key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOutput:
    """A file that was written."""

    name: str
    key: str
    width: int
    height: int
    bytes: int
    unmet: tuple[str, ...]
    """The marketplace rules that it violates, or `max_bytes`."""
    destination: str | None = None
    """The `s3://bucket/key` that it was also written to."""
    subject: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom of the subject's box in this file, in pixels."""
    crc32: int | None = None
    """Of its bytes, as zip files need it (ISO 3309); None: an earlier version wrote it."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The outcome of an image."""

    item_id: str
    error: MattingError | None = None
    width: int = 0
    height: int = 0
    """Size of the upright photo; 0 if it was never decoded."""
    input_bytes: int = 0
    output_bytes: int = 0
    """Size of the main file."""
    outputs: tuple[StoredOutput, ...] = ()
    """The written files, the main one first; empty if the image failed."""
    review: tuple[Reason, ...] = ()
    """Why a person should check the result."""
    forward_to: str | None = None
    """The second model, which another worker serves: there are no outputs yet."""
    clip: ClipState | None = None
    """How far the clip has come; None: it has ended, or it is none."""
    cut: tuple[ClipSegment, ...] = ()
    """The segments into which the clip was cut: it waits for their mattes."""
    interrupted: bool = False
    """This worker does not end it: it stops, or the image is none of its (then `error` says why).
    The item goes back to the queue, as if it had not been claimed.
    """
    is_matted: bool = False
    """The mattes of a segment are stored: there is no result."""
    is_photo: bool = False
    """The file is called like a clip and is a photo: it is to be processed as one."""
    clip_result: dict[str, Any] | None = None
    """What is known of a clip that is done."""
    measured: Measured | None = None
    """What the first pass found: there are no outputs until the group's frame is known."""
    model: str | None = None
    """The model that made the matte; None: there is no matte."""
    fingerprint: str | None = None
    """Hash of photo, options and model; None: do not reuse the result."""
    reused: bool = False
    """The result was copied from an earlier one."""
    after_record: Callable[[], None] | None = None
    """Removes what nobody needs any more once the outcome is recorded."""
    stages: list[StageSpan] = field(default_factory=list)
    """The time span of each stage, for the trace."""
    timings_ms: dict[str, float] = field(default_factory=dict)
