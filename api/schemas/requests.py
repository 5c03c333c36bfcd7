"""The bodies of requests; a job's source is in api.schemas.sources."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from api.schemas.sources import LISTS, STORABLE, Feed, Source
from shared.destination import DestinationTemplate
from shared.errors import InvalidOptionsError
from shared.jobs import Verdict
from shared.options import Options
from shared.validation_words import describe_findings
from shared.webhooks import Event, secret_bytes

MAX_METADATA_KEYS = 50

MAX_METADATA_CHARS = 2_000
"""Longest metadata value; a list of jobs repeats the metadata of each."""

MetadataName = Annotated[str, StringConstraints(max_length=64, pattern=STORABLE)]
MetadataText = Annotated[str, StringConstraints(max_length=MAX_METADATA_CHARS, pattern=STORABLE)]
Url = Annotated[
    str,
    StringConstraints(max_length=2_048, pattern=r"^https?://[^\s]+$"),
    Field(description="An http:// or https:// address.", examples=["https://shop.example/a.jpg"]),
]


def _checked_secret(secret: str) -> str:
    secret_bytes(secret)
    return secret


Secret = Annotated[
    str,
    StringConstraints(max_length=128, pattern=r"^whsec_[A-Za-z0-9+/]+={0,2}$"),
    AfterValidator(_checked_secret),
    Field(
        description="`whsec_` and the base64 of 24 to 64 random bytes.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    ),
]

Ending = Literal[Event.JOB_FINISHED, Event.JOB_CANCELLED, Event.JOB_PAUSED]


def _endings() -> list[Ending]:
    return [Event.JOB_FINISHED, Event.JOB_CANCELLED, Event.JOB_PAUSED]


Events = Annotated[list[Ending], Field(min_length=1, max_length=3)]
ProgressPercent = Annotated[
    int,
    Field(
        ge=1,
        le=50,
        description="Also send `job.progress` each time this many more percent of the images have "
        "ended.",
    ),
]


class JobWebhook(BaseModel):
    """A webhook for this job only, in addition to the key's own webhooks."""

    model_config = ConfigDict(extra="forbid")

    url: Url
    secret: Secret
    events: Events = Field(default_factory=_endings)
    progress_percent: ProgressPercent | None = None


class WebhookRequest(BaseModel):
    """A webhook for all jobs of the key."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"url": "https://shop.example/matting", "progress_percent": 25}]
        },
    )

    url: Url
    secret: Secret | None = Field(
        None, description="Default: the service makes one, and shows it once."
    )
    events: Events = Field(default_factory=_endings)
    progress_percent: ProgressPercent | None = None


class WebhookChange(BaseModel):
    """The fields to change; omitted fields stay."""

    model_config = ConfigDict(extra="forbid")

    url: Url | None = None
    events: Events | None = None
    progress_percent: ProgressPercent | None = Field(
        None, description="null: send no progress any more."
    )
    enabled: bool | None = Field(
        None, description="false drops pending deliveries; true sends events from now on."
    )


class JobFields(BaseModel):
    """All fields of a bulk job except its source."""

    model_config = ConfigDict(extra="forbid")

    options: Options = Field(default_factory=Options)
    destination: DestinationTemplate | None = None
    priority: int = Field(5, ge=0, le=9, description="9 is the most urgent.")
    feed: Feed | None = Field(
        None, description="The layout of the manifest. Default: found from its header."
    )
    failure_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Pause the job when more than this share of its images failed, counted from "
        "the image number `failure_after` on; 1 never pauses. Default: the service's setting.",
    )
    failure_after: int | None = Field(
        None, ge=1, le=1_000_000_000, description="Default: the service's setting."
    )
    webhook: JobWebhook | None = Field(
        None, description="A webhook for this job only; /v1/webhooks has those for all your jobs."
    )
    metadata: dict[MetadataName, MetadataText] = Field(
        default_factory=dict,
        max_length=MAX_METADATA_KEYS,
        description="Your own names and values. They come back unchanged.",
        examples=[{"season": "spring"}],
    )


class JobRequest(JobFields):
    """A bulk job."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    # `matting up` puts photos there, so this works as it stands
                    "source": {"prefix": "s3://matting/samples/"},
                    "options": {"format": "png"},
                    "priority": 5,
                    "metadata": {"season": "spring"},
                }
            ]
        },
    )

    source: Source

    @model_validator(mode="after")
    def _a_feed_is_a_manifest(self) -> Self:
        if self.feed is not None and self.source.manifest is None:
            raise ValueError("`feed` describes a manifest, but this source is not one")
        return self


ROWS_AT_ONCE = 500
"""Rows validated in one call. Pydantic holds Python's lock for a whole call: with 100,000 rows all
other requests, and the probes, waited for a second.
"""

MOST_FIELDS = 1_000
"""No field of a body has more values, except a list of photos. Pydantic would look at each."""


def refuse_many_values(fields: Mapping[str, Any]) -> None:
    """Raise InvalidOptionsError for a field that has, with all that it contains, more values than
    any field but the source has.
    """
    for name, value in fields.items():
        if name != "source" and _has_many_values(value):
            raise InvalidOptionsError(f"`{name}` has more than {MOST_FIELDS:,} values")


def _has_many_values(value: Any) -> bool:
    open_, count = [value], 0
    while open_ and count <= MOST_FIELDS:
        one = open_.pop()
        if isinstance(one, dict | list):
            count += len(one)
            if count <= MOST_FIELDS:
                open_ += one.values() if isinstance(one, dict) else one
    return count > MOST_FIELDS


def validate_job(values: Any) -> JobRequest:
    """Validate a job's body, its rows in pieces. Raises ValidationError, or InvalidOptionsError for
    a row beyond the first piece.
    """
    fields = values if isinstance(values, dict) else {}
    source = fields.get("source")
    for one in (fields, source):
        if isinstance(one, dict) and len(one) > MOST_FIELDS:
            raise InvalidOptionsError(
                f"The request has {len(one):,} fields, and most of them are unknown"
            )
    refuse_many_values(fields)
    lists = source if isinstance(source, dict) else {}
    kind = next((name for name in LISTS if isinstance(lists.get(name), list)), "")
    rows = lists.get(kind, ())
    if len(rows) <= ROWS_AT_ONCE:
        return JobRequest.model_validate(values)
    some = {**lists, kind: rows[:ROWS_AT_ONCE]}
    request = JobRequest.model_validate({**values, "source": some})
    valid = getattr(request.source, kind)
    for start in range(ROWS_AT_ONCE, len(rows), ROWS_AT_ONCE):
        piece = {kind: rows[start : start + ROWS_AT_ONCE]}
        try:
            valid += getattr(Source.model_validate(piece), kind)
        except ValidationError as error:
            findings = _shifted(error, start)
            raise InvalidOptionsError(describe_findings(findings, JobRequest)) from error
    return request


def _shifted(error: ValidationError, rows: int) -> list[dict[str, Any]]:
    """The findings of a piece of the source, with the numbers that its rows have in the body."""
    return [
        {
            **found,
            "loc": ("source", found["loc"][0], int(found["loc"][1]) + rows, *found["loc"][2:]),
        }
        for found in error.errors(include_url=False)
    ]


class ReviewRequest(BaseModel):
    """A reviewer's verdict."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict | None = Field(
        description="`accept`, `reject`, or null to remove the verdict."
    )
    note: str | None = Field(None, max_length=2_000, pattern=STORABLE)


class RedoRequest(BaseModel):
    """How to process a photo again. What you leave out stays as it was."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"model": "isnet-general-use"}, {"options": {"edge_reach": 0.02}}]
        },
    )

    options: dict[str, Any] | None = Field(
        None, description="Options to change; the others stay those of the item."
    )
    model: str | None = Field(None, description="Another model; the same as `options.model`.")
    subject: dict[str, Any] | None = Field(
        None, description="Which subject is meant; the same as `options.subject`."
    )


class RetryRequest(BaseModel):
    """How to make rejected images again, with `include=rejected`. What you leave out stays as it
    was. Failed images are tried again with the options that they have.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"model": "isnet-general-use"}, {"options": {"roi": None}}]
        },
    )

    options: dict[str, Any] | None = Field(
        None, description="Options to change; the others stay those of each image."
    )
    model: str | None = Field(None, description="Another model; the same as `options.model`.")
    second_model: str | None = Field(
        None, description="Another second model; the same as `options.second_model`."
    )

    @property
    def changes(self) -> dict[str, Any]:
        """The options that change."""
        models = {"model": self.model, "second_model": self.second_model}
        given = {name: value for name, value in models.items() if value is not None}
        return {**(self.options or {}), **given}


class UploadsRequest(BaseModel):
    """The number of files to upload."""

    model_config = ConfigDict(extra="forbid")

    count: int = Field(ge=1, le=1_000)
