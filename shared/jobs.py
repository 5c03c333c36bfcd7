"""What an item and a job can be, and how they may change (standard library only)."""

from enum import StrEnum


class ItemStatus(StrEnum):
    """The life of one image."""

    QUEUED = "queued"
    """Accepted: waits for a worker, or for its next try."""
    RUNNING = "running"
    """Claimed by a worker, until its lease ends."""
    SUCCEEDED = "succeeded"
    """Its result lies in the storage."""
    FAILED = "failed"
    """It has no result; the error's code and sentence say why."""
    CANCELLED = "cancelled"
    """Its job was cancelled before it was done."""


class JobStatus(StrEnum):
    """The life of a job."""

    ACCEPTED = "accepted"
    """Stored; none of its images has been taken up yet."""
    RUNNING = "running"
    """At least one image was taken up, or its source is still being listed."""
    PAUSED = "paused"
    """Held, by the caller or because too many images failed: what waits goes on when resumed."""
    FINISHED = "finished"
    """Every image is settled; the counts tell how many of each."""
    CANCELLED = "cancelled"
    """Stopped by the caller: what was not done by then will not be."""


class PendingChange(StrEnum):
    """What was asked for a whole job and its images follow in pages."""

    CANCEL = "cancel"
    """The images that wait become cancelled; the job and its counters say so already."""
    RETRY = "retry"
    """The images that failed go back to the queue; the counters move with them."""


class Reason(StrEnum):
    """Why a person should look at a result before it is published."""

    EMPTY = "empty"
    """Next to nothing was found."""
    FULL = "full"
    """Next to everything was taken for the subject."""
    CUT = "cut"
    """The photo's frame cuts through the subject."""
    PARTS = "parts"
    """Many parts that do not touch."""
    SOFT = "soft"
    """Much of it is half transparent."""
    LOW_CONTRAST = "low-contrast"
    """Along much of the edge, subject and background have nearly one colour."""
    UNSURE = "unsure"
    """The mirrored photo gives another matte."""
    BLURRED = "blurred"
    """The photo is out of focus."""
    SMALL = "small"
    """The photo has few pixels."""


class Verdict(StrEnum):
    """What a reviewer said."""

    ACCEPT = "accept"
    """Fit to be published."""
    REJECT = "reject"
    """Not fit."""


class Scope(StrEnum):
    """What an API key may do."""

    SUBMIT = "submit"
    """Submit, change and delete its own jobs."""
    READ = "read"
    """Look at its own jobs and their results."""
    ADMIN = "admin"
    """Both, and see what every key used."""


ITEM_TRANSITIONS: dict[ItemStatus, frozenset[ItemStatus]] = {
    ItemStatus.QUEUED: frozenset({ItemStatus.RUNNING, ItemStatus.CANCELLED, ItemStatus.FAILED}),
    ItemStatus.RUNNING: frozenset(
        {ItemStatus.SUCCEEDED, ItemStatus.FAILED, ItemStatus.CANCELLED, ItemStatus.QUEUED}
    ),
    ItemStatus.SUCCEEDED: frozenset(),
    ItemStatus.FAILED: frozenset({ItemStatus.QUEUED}),
    ItemStatus.CANCELLED: frozenset(),
}
"""From each status, the ones that may follow. RUNNING → QUEUED is a lease that ended or an error
worth another try; QUEUED → FAILED is the last try used up; FAILED → QUEUED a caller's retry."""

SETTLED: frozenset[ItemStatus] = frozenset(
    {ItemStatus.SUCCEEDED, ItemStatus.FAILED, ItemStatus.CANCELLED}
)
"""The statuses in which nothing more happens by itself."""

ALONE_DEATHS = 2
"""An image whose workers died this often is tried alone from then on, so that it takes no other
along and its last try tells who is to blame. From the first death on it is decoded in a process of
its own."""

ENDED: frozenset[JobStatus] = frozenset({JobStatus.FINISHED, JobStatus.CANCELLED})
"""The statuses in which a job has come to its end."""

HELD: frozenset[JobStatus] = ENDED | {JobStatus.PAUSED}
"""The statuses in which no image of a job is taken up."""

STAGES: tuple[str, ...] = ("fetch", "decode", "predict", "finish", "encode", "store", "record")
"""The stages of an image in the worker, in order: the names in timings, metrics and reports."""
