"""The states of items and jobs, and the transitions between them (standard library only)."""

from collections.abc import Iterable
from enum import StrEnum


class ItemStatus(StrEnum):
    """The life of one image."""

    QUEUED = "queued"
    """Waiting for a worker, or for the next attempt."""
    RUNNING = "running"
    """Claimed by a worker that holds a lease on it."""
    SUCCEEDED = "succeeded"
    """The result is in the storage."""
    FAILED = "failed"
    """There is no result; the item's error says why."""
    CANCELLED = "cancelled"
    """The job was cancelled before the image was processed."""


class JobStatus(StrEnum):
    """The life of a job."""

    ACCEPTED = "accepted"
    """Stored; no image has been claimed yet."""
    RUNNING = "running"
    """At least one image was claimed, or the source is still being listed."""
    PAUSED = "paused"
    """Paused by the caller or because too many images failed; waiting images start when resumed."""
    FINISHED = "finished"
    """Every image has succeeded, failed or been cancelled."""
    CANCELLED = "cancelled"
    """Cancelled by the caller: images that have not started are skipped."""


class PendingChange(StrEnum):
    """A requested change of a whole job whose images follow in pages."""

    CANCEL = "cancel"
    """The waiting images become cancelled. The job and its counters show it already."""
    RETRY = "retry"
    """The failed images go back to the queue. The counters follow page by page."""


class Reason(StrEnum):
    """Why a person should check a result before publishing it."""

    EMPTY = "empty"
    """The matte is almost empty."""
    FULL = "full"
    """The matte covers almost the whole photo."""
    CUT = "cut"
    """The photo's frame cuts the subject off."""
    PARTS = "parts"
    """The matte has many separate parts."""
    SOFT = "soft"
    """Large areas are semi-transparent."""
    LOW_CONTRAST = "low-contrast"
    """Along much of the edge, subject and background have nearly the same colour."""
    UNSURE = "unsure"
    """The mirrored photo or the second model gives a different matte, a hole shows neither the
    background nor the subject, or a point of the option `subject` is not met.
    """
    BLURRED = "blurred"
    """The photo is out of focus."""
    SMALL = "small"
    """The photo has few pixels, or is so long that the network sees few of them."""
    OUTSIDE = "outside"
    """The subject does not fit into the common frame of its group."""
    INCOMPLETE = "incomplete"
    """A photo of the group has no result, so the turntable lacks it."""
    REDONE = "redone"
    """A person rejected the result before this one. The database sets it, no worker."""


def known_reasons(names: Iterable[str]) -> tuple[Reason, ...]:
    """The review marks that this version knows; a newer worker may have set others."""
    known = {reason.value: reason for reason in Reason}
    return tuple(known[name] for name in names if name in known)


class ItemKind(StrEnum):
    """What an item is."""

    PHOTO = "photo"
    """One photo of the source."""
    CLIP = "clip"
    """A clip of the source. It is claimed once for each of its segments (shared.clips)."""
    TURNTABLE = "turntable"
    """The animation of a group's results. The service adds it; it counts for no quota."""


class Verdict(StrEnum):
    """A reviewer's verdict."""

    ACCEPT = "accept"
    """The result can be published."""
    REJECT = "reject"
    """The result must not be published."""


class MadeBy(StrEnum):
    """How a version of a result was made."""

    NETWORK = "network"
    """A network found the subject: the first version, or a redo."""
    BRUSH = "brush"
    """A person changed the matte."""


class Scope(StrEnum):
    """What an API key may do."""

    SUBMIT = "submit"
    """Submit, change and delete its own jobs."""
    READ = "read"
    """Read its own jobs and their results."""
    ADMIN = "admin"
    """Both, and read the usage of every key."""


ITEM_TRANSITIONS: dict[ItemStatus, frozenset[ItemStatus]] = {
    ItemStatus.QUEUED: frozenset({ItemStatus.RUNNING, ItemStatus.CANCELLED, ItemStatus.FAILED}),
    ItemStatus.RUNNING: frozenset(
        {ItemStatus.SUCCEEDED, ItemStatus.FAILED, ItemStatus.CANCELLED, ItemStatus.QUEUED}
    ),
    ItemStatus.SUCCEEDED: frozenset({ItemStatus.QUEUED}),
    ItemStatus.FAILED: frozenset({ItemStatus.QUEUED}),
    ItemStatus.CANCELLED: frozenset(),
}
"""The statuses that may follow each status. RUNNING → QUEUED: the lease expired, the error is
retried, or another worker serves the second model. QUEUED → FAILED: no attempts are left. FAILED →
QUEUED: the caller retries the job. SUCCEEDED → QUEUED: a turntable whose photos are retried."""

SETTLED: frozenset[ItemStatus] = frozenset(
    {ItemStatus.SUCCEEDED, ItemStatus.FAILED, ItemStatus.CANCELLED}
)
"""The final statuses of an item; only a retry by the caller changes them."""

ALONE_DEATHS = 2
"""An image during which this many worker processes died must run alone from then on: it cannot take
other images down with it, and one more death proves that it is the cause. After the first death it
is decoded in a child process (quarantine)."""

ENDED: frozenset[JobStatus] = frozenset({JobStatus.FINISHED, JobStatus.CANCELLED})
"""The final statuses of a job."""

HELD: frozenset[JobStatus] = ENDED | {JobStatus.PAUSED}
"""The statuses in which no image of the job is claimed."""

STAGES: tuple[str, ...] = ("fetch", "decode", "predict", "finish", "encode", "store", "record")
"""The stages of an image in the worker, in order. Timings, metrics and reports use these names."""

EXPRESS_IMAGES = 8
"""The first images of a job precede all remaining images of other jobs: a small job does not wait
for a backlog, whatever its priority, and a large job shows its first results at once
(shared.shares).
"""
