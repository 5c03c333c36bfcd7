"""What goes into the pipeline and what comes out: one image to be done, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.errors import MattingError
from shared.jobs import Reason
from shared.options import ExtraOutput, Options
from shared.tracing import StageSpan


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One file to write: how it looks, and its object key."""

    rendition: Options | ExtraOutput
    key: str


def requested_outputs(options: Options, keys: Sequence[str]) -> tuple[RequestedOutput, ...]:
    """The outputs of these options, with their object keys in the order of `options.renditions`."""
    return tuple(
        RequestedOutput(rendition, key)
        for rendition, key in zip(options.renditions, keys, strict=True)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """One image to be done."""

    item_id: str
    bucket: str
    key: str
    options: Options
    outputs: tuple[RequestedOutput, ...]
    """The files to write, the main one first."""
    name: str = ""
    """The path that the caller knows the photo by: names are made from it."""
    suspect: bool = False
    """To be decoded in a process of its own."""
    tenant: str = ""
    """Whose photo it is: the id of the caller's key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOutput:
    """One file that an image became."""

    name: str
    key: str
    width: int
    height: int
    bytes: int
    unmet: tuple[str, ...]
    """The marketplace's rules that it fails."""
    subject: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom of the subject's box in this picture, in pixels."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of one image."""

    item_id: str
    error: MattingError | None = None
    width: int = 0
    height: int = 0
    """Of the upright original; 0 if it was never decoded."""
    input_bytes: int = 0
    output_bytes: int = 0
    """Of the main result."""
    outputs: tuple[StoredOutput, ...] = ()
    """The main one first; empty when there is none."""
    review: tuple[Reason, ...] = ()
    """Why a person should look at it."""
    fingerprint: str | None = None
    """What the result follows from, photo and options; none: it is not to be used again."""
    reused: bool = False
    """The result was copied from an earlier one."""
    stages: list[StageSpan] = field(default_factory=list)
    """When each ran, for its trace."""
    timings_ms: dict[str, float] = field(default_factory=dict)
