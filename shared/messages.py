"""The message of one image: what crosses the queue, and its priority."""

import uuid
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidMessageError

PRIORITY_STEPS = (0, 1, 4, 7)
"""Redis keeps one list per step and drains the first one first. The first step is the express lane;
the callers' priorities 9 to 6, 5 to 3 and 2 to 0 share the others."""

EXPRESS_STEP = PRIORITY_STEPS[0]

MESSAGE_VERSION = "1"
"""Raise it when workers of the version before can no longer read a message. New fields need no new
version: they are ignored."""

VERSION_MESSAGE_VERSION = "2"
"""That of messages of jobs that make a version of a result (shared.job_store.versions), which
earlier workers would process like any other."""

DESTINATION_MESSAGE_VERSION = "3"
"""That of messages of jobs with a destination, to which earlier workers would write nothing."""

PASSES_MESSAGE_VERSION = "4"
"""That of messages of items that are claimed several times, photos in groups: earlier workers would
process them like any other."""

CLIP_MESSAGE_VERSION = "5"
"""That of messages of clips and their segments: earlier workers would take segments for clips."""

READ_VERSIONS = (
    MESSAGE_VERSION,
    VERSION_MESSAGE_VERSION,
    DESTINATION_MESSAGE_VERSION,
    PASSES_MESSAGE_VERSION,
    CLIP_MESSAGE_VERSION,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of one image. It holds ids, never pixels; Flower shows `job` and `file`."""

    item_id: uuid.UUID
    job_id: uuid.UUID
    name: str
    priority: int
    """The caller's priority, 0 to 9; 9 is the most urgent."""
    express: bool = False
    """Whether it precedes all other messages, whatever their priority."""
    model: str | None = None
    """The model, and so the queue; None: the default queue."""
    by_url: bool = False
    """Whether the photo comes from a URL."""
    makes_version: bool = False
    """Whether it makes a version of an earlier image's result."""
    has_destination: bool = False
    """Whether the result is also written to a key of the caller's own."""
    in_passes: bool = False
    """Whether it belongs to a group or is a turntable."""
    of_clip: bool = False
    """Whether it is a clip, or a segment of one."""
    attempts: int = 0
    """Attempts of the item when the message was made. It is not sent: it identifies the message
    when it is recorded as published."""

    @property
    def step(self) -> int:
        """Redis' priority; 0 is drained first."""
        return EXPRESS_STEP if self.express else max(1, 9 - self.priority)

    def kwargs(self) -> dict[str, str]:
        """The arguments of the task, as JSON. Flower shows their beginning, so the file
        is first.
        """
        ids = {"job": str(self.job_id), "item": str(self.item_id)}
        version = VERSION_MESSAGE_VERSION if self.makes_version else MESSAGE_VERSION
        if self.has_destination:
            version = DESTINATION_MESSAGE_VERSION
        if self.in_passes:
            version = PASSES_MESSAGE_VERSION
        if self.of_clip:
            version = CLIP_MESSAGE_VERSION
        return {"file": self.name, **ids, "v": version}


def is_of_clip(kwargs: dict[str, Any]) -> bool:
    """Whether a message is of a clip or a segment of one."""
    return kwargs.get("v") == CLIP_MESSAGE_VERSION


def parse_message(kwargs: dict[str, Any]) -> tuple[uuid.UUID, uuid.UUID]:
    """The ids of the item and the job in a message; unknown fields are ignored.

    Raises InvalidMessageError, also for a message of another version: its image stays queued in the
    database and is published again until a worker of that version takes it.
    """
    version = kwargs.get("v", MESSAGE_VERSION)  # messages of older versions have none
    if version not in READ_VERSIONS:
        raise InvalidMessageError(
            f"The message has version {version!r}, this worker reads {', '.join(READ_VERSIONS)}"
        )
    try:
        return uuid.UUID(kwargs["item"]), uuid.UUID(kwargs["job"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidMessageError from error
