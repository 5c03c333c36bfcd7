"""The bodies of responses."""

import base64
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, computed_field

from shared.errors import ERRORS, InvalidCursorError, MattingError
from shared.jobs import STAGES, ItemKind, ItemStatus, JobStatus, MadeBy, Verdict
from shared.models import Item, Job
from shared.options import Options


class Counts(BaseModel):
    """Numbers of images by status; they add up to `total`."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int


class ReviewCounts(BaseModel):
    """Numbers of images marked for review, and of reviewers' verdicts."""

    needs_review: int = Field(description="Succeeded images with review marks.")
    accepted: int
    rejected: int


class ErrorOut(BaseModel):
    """Why something failed."""

    code: str = Field(examples=["truncated-image"])
    detail: str


class ErrorWithRemedy(ErrorOut):
    """Why something failed, and what to do."""

    @computed_field(description="What to do.")  # type: ignore[prop-decorator]  # pydantic's own way
    @property
    def remedy(self) -> str:
        """What to do; it follows from the code."""
        return ERRORS.get(self.code, MattingError).remedy


class JobUrls(BaseModel):
    """Complete addresses of a job's files on this service. They need no key."""

    report_csv: str
    report_jsonl: str
    archive: str = Field(description="All results but rejected ones, as one zip file.")


class JobOut(BaseModel):
    """The present state of a job."""

    id: uuid.UUID
    status: JobStatus
    counts: Counts
    review: ReviewCounts
    reused: int = Field(description="Images whose result was copied from an earlier job.")
    progress: float = Field(description="Share of the images that have ended, 0..1.", ge=0, le=1)
    listing: bool = Field(description="The source is still being listed: `total` grows.")
    images_per_s: float | None = Field(description="Mean rate since the first image started.")
    estimated_s_left: float | None
    timings_ms: dict[str, float] = Field(description="Mean time of a succeeded image, by stage.")
    megapixels: float
    input_bytes: int
    output_bytes: int
    options: Options
    priority: int
    metadata: dict[str, Any]
    source: dict[str, Any]
    destination: str | None = Field(description="The template of the keys of your own.")
    error: ErrorWithRemedy | None = Field(
        description="Why the source could not be listed completely, or why the job was paused."
    )
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    urls: JobUrls | None = Field(
        None,
        description="With `include=urls`. Anyone who holds one can fetch the file until "
        "`urls_expire_at`.",
    )
    urls_expire_at: datetime | None = None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Make it from a database row."""
        settled = job.succeeded + job.failed + job.cancelled
        done = job.succeeded + job.failed
        rate = None
        if done and job.started_at and job.progressed_at:
            rate = done / max(1e-3, (job.progressed_at - job.started_at).total_seconds())
        left = job.queued + job.running
        return cls(
            id=job.id,
            status=job.status,
            counts=Counts(
                total=job.total,
                queued=job.queued,
                running=job.running,
                succeeded=job.succeeded,
                failed=job.failed,
                cancelled=job.cancelled,
            ),
            review=ReviewCounts(
                needs_review=job.needs_review, accepted=job.accepted, rejected=job.rejected
            ),
            reused=job.reused,
            progress=settled / job.total if job.total else float(job.expanded_at is not None),
            listing=job.expanded_at is None,
            images_per_s=round(rate, 3) if rate else None,
            estimated_s_left=round(left / rate, 1) if rate else None,
            timings_ms={
                stage: round(getattr(job, f"{stage}_ms") / max(1, job.succeeded), 3)
                for stage in STAGES
            },
            megapixels=round(job.pixels / 1e6, 3),
            input_bytes=job.input_bytes,
            output_bytes=job.output_bytes,
            options=Options.model_validate(job.options),
            priority=job.priority,
            metadata=job.labels,
            source=job.source,
            destination=job.destination,
            error=ErrorWithRemedy(code=job.error_code, detail=job.error_detail or "")
            if job.error_code
            else None,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


class RetriedJob(JobOut):
    """A job after a retry."""

    retried: int = Field(
        0,
        description="Failed images that are tried again. Rows and entries that could not be read "
        "are not, and neither are rejected images: they have a result.",
    )
    redone: int = Field(
        0, description="With `include=rejected`: rejected images of which a new version is made."
    )
    rejected_left: int = Field(
        0,
        description="Rejected images beyond the 1,000 that one request makes again; send it again "
        "for them. Counted up to 1,000.",
    )


class Estimate(BaseModel):
    """The expected size and duration of a job."""

    images: int
    at_least: bool = Field(description="true: there are more images than were counted.")
    megapixels: float | None = Field(description="From a sample of the photos in S3.")
    sampled: int = Field(description="Number of photos in that sample.")
    images_per_s: float | None = Field(
        description="Rate of the recent jobs; null: there were none."
    )
    seconds: float | None = Field(description="Duration at that rate, if no other job waits.")


class OutputOut(BaseModel):
    """A file made from an image."""

    name: str = Field(examples=["shoes/red-white.jpg"])
    url: str = Field(description="Address that redirects to the file.")
    width: int
    height: int
    bytes: int
    destination: str | None = Field(
        None, description="The `s3://bucket/key` of yours that it was also written to."
    )
    unmet: list[str] = Field(
        description="The marketplace's rules, or `max_bytes`, that it fails, and by how much."
    )
    file_url: str | None = Field(
        None, description="With `include=urls`: presigned, valid until the item's `urls_expire_at`."
    )


@dataclass(frozen=True, slots=True)
class ResultLinks:
    """The URLs of one image's results."""

    main: str | None
    outputs: list[str]
    """Of each entry of the item's `outputs`."""
    expire_at: datetime


class RedoOut(BaseModel):
    """A version of a result that is being made, or that failed."""

    number: int = Field(description="The number that the version has.")
    made_by: MadeBy
    status: Literal["waiting", "failed"]
    error: ErrorWithRemedy | None = Field(description="Why it failed; the earlier result stays.")

    @classmethod
    def of(cls, item: Item) -> "RedoOut | None":
        """Make it from a database row."""
        redo = item.redo
        if redo is None:
            return None
        return cls(
            number=redo["number"],
            made_by=redo["made_by"],
            status=redo["status"],
            error=ErrorWithRemedy(code=redo["code"], detail=redo["detail"])
            if "code" in redo
            else None,
        )


def main_extension(item: Item, options: Options) -> str:
    """The extension of the main file."""
    if item.kind is ItemKind.CLIP:
        return options.effective_clip_format.extension
    return options.format.extension


class DoubtOut(BaseModel):
    """A span of a clip that a person should check."""

    start_s: float
    end_s: float
    reason: str = Field(examples=["unsure"], description="As in `review_reasons`.")


class ClipOut(BaseModel):
    """The length of a clip, and how far it has come."""

    seconds: float
    frames: int
    frames_done: int = Field(description="Frames whose mattes are made.")
    whole: bool = Field(description="false: it was cut off, and the whole frames were done.")
    doubts: list[DoubtOut] = Field(description="When a person should look; known at the end.")
    strip: dict[str, Any] | None = Field(
        description="How the scrubbing strip is laid out, which is its `photo-thumbnail`."
    )
    without_effect: list[str] = Field(
        description="Options that were given and that clips don't have; known at the end.",
        examples=[["max_bytes"]],
    )

    @classmethod
    def of(cls, item: Item) -> "ClipOut | None":
        """Make it from a database row; None: it is no clip, or has not begun."""
        clip = item.clip
        if clip is None:
            return None
        return cls(
            seconds=clip["seconds"],
            frames=clip["frames"],
            frames_done=clip.get("frames_done", clip["frames"]),
            whole=clip.get("whole", True),
            doubts=[DoubtOut(**one) for one in clip.get("doubts", [])],
            strip=clip.get("strip"),
            without_effect=clip.get("without_effect", []),
        )


class ItemOut(BaseModel):
    """An image of a job."""

    id: uuid.UUID
    job_id: uuid.UUID
    position: int = Field(description="Its place in the source, from 1; lists are in this order.")
    name: str
    source: str
    kind: ItemKind = Field(
        description="A photo, a clip, or the turntable that the service made of a group."
    )
    group: str | None = Field(description="The photos of a group have one common frame.")
    custom_id: str | None = Field(description="Your own id of the photo.")
    labels: dict[str, Any] | None = Field(description="Your own columns of the manifest.")
    status: ItemStatus
    attempts: int
    error: ErrorWithRemedy | None
    width: int | None
    height: int | None
    input_bytes: int | None
    output_bytes: int | None
    timings_ms: dict[str, float] | None
    result: str | None = Field(description="Redirects to the result; null until there is one.")
    result_format: str = Field(examples=["png"], description="The result's extension.")
    outputs: list[OutputOut] = Field(
        description="All files, the main one first. Empty if the options ask for one file without "
        "`name` and `market`, and the job has no `destination`: that one is `result`."
    )
    clip: ClipOut | None = Field(description="Of a clip that has begun.")
    needs_review: bool
    review_reasons: list[str] = Field(examples=[["soft", "unsure"]])
    model: str | None = Field(
        examples=["builtin"],
        description="The model that made the matte: the first or the second one.",
    )
    verdict: Verdict | None
    verdict_note: str | None
    reused: bool = Field(description="Copied from an earlier result of the same photo.")
    version: int = Field(description="The version that is shown; 1 is the first result.")
    redo: RedoOut | None = Field(
        description="The version that is being made, or the last one, if that failed."
    )
    finished_at: datetime | None
    result_url: str | None = Field(
        None,
        description="With `include=urls`: presigned. Anyone who holds it can fetch the result "
        "until `urls_expire_at`.",
    )
    urls_expire_at: datetime | None = None

    @classmethod
    def of(cls, item: Item, options: dict[str, Any], links: ResultLinks | None = None) -> "ItemOut":
        """Make it from a database row; `options`: those of its job."""
        return cls(
            id=item.id,
            job_id=item.job_id,
            position=item.position,
            name=item.name,
            source=item.place,
            kind=item.kind,
            group=item.group_name,
            custom_id=item.custom_id,
            labels=item.labels,
            status=item.status,
            attempts=item.attempts,
            error=ErrorWithRemedy(code=item.error_code, detail=item.error_detail or "")
            if item.error_code
            else None,
            width=item.width,
            height=item.height,
            input_bytes=item.input_bytes,
            output_bytes=item.output_bytes,
            timings_ms=item.timings_ms,
            result=f"/v1/items/{item.id}/result" if item.status is ItemStatus.SUCCEEDED else None,
            result_format=main_extension(item, Options.model_validate(item.options or options)),
            outputs=[
                OutputOut(
                    name=one["name"],
                    url=f"/v1/items/{item.id}/outputs/{index}",
                    width=one["width"],
                    height=one["height"],
                    bytes=one["bytes"],
                    destination=one.get("destination"),
                    unmet=one["unmet"],
                    file_url=links.outputs[index] if links else None,
                )
                for index, one in enumerate(item.outputs or [])
            ],
            clip=ClipOut.of(item),
            needs_review=item.needs_review,
            review_reasons=item.review_reasons or [],
            model=item.matte_model,
            verdict=item.verdict,
            verdict_note=item.verdict_note,
            reused=item.reused,
            version=item.version,
            redo=RedoOut.of(item),
            finished_at=item.finished_at,
            result_url=links.main if links else None,
            urls_expire_at=links.expire_at if links else None,
        )


class JobPage(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobOut]
    next_cursor: str | None = Field(
        description="Pass it as `cursor` to get the next page; null on the last page."
    )


class ItemPage(BaseModel):
    """Items in the order of their source."""

    items: list[ItemOut]
    next_cursor: str | None = Field(
        description="Pass it as `cursor` to get the next page; null on the last page."
    )


class UploadOut(BaseModel):
    """Where to upload one file with PUT."""

    upload: str = Field(description="Name it in the job's `source.uploads`.")
    url: str


class UploadsOut(BaseModel):
    """One upload URL per file."""

    uploads: list[UploadOut]


class Health(BaseModel):
    """The API process is alive."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether a job submitted now would be processed."""

    ready: bool
    checks: dict[str, str] = Field(description="For each part `ok` or its problem.")
    workers: list[dict[str, Any]] = Field(description="The warm predictors.")


def to_cursor(value: object) -> str:
    """An opaque cursor for a position."""
    return base64.urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def from_cursor(cursor: str) -> str:
    """The position in a cursor. Raises InvalidCursorError."""
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError as error:
        raise InvalidCursorError from error
