"""The source of a job's photos in a request: lists of keys, uploads and URLs, a prefix, a manifest,
or a zip file.
"""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, FailFast, Field, StringConstraints, model_validator

STORABLE = r"^[^\x00]*$"
"""PostgreSQL cannot store zero bytes."""

Key = Annotated[str, StringConstraints(min_length=1, max_length=1_200, pattern=STORABLE)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=4_096, pattern=STORABLE)]
LeftOutReason = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=STORABLE)]
CustomId = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=STORABLE)]
GroupName = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=STORABLE)]
PhotoUrl = Annotated[
    str,
    StringConstraints(max_length=2_048, pattern=r"^\s*(?i:https?):[^\r\n]+$"),
    Field(description="An http:// or https:// address.", examples=["https://shop.example/a.jpg"]),
]


class Feed(StrEnum):
    """The layout of a list: which columns name the photo and the id (api.sources.feeds)."""

    PLAIN = "plain"
    GOOGLE = "google"
    SHOPIFY = "shopify"
    WOOCOMMERCE = "woocommerce"
    REPORT = "report"


class StopAtFirst(FailFast):
    """Refuse a list at its first error, because a million errors would all be kept in memory.
    Pydantic's own FailFast cannot be hashed, so a union cannot contain it.
    """

    def __hash__(self) -> int:
        return hash(self.fail_fast)


class _Row(BaseModel):
    """An image with its own id, name and options."""

    model_config = ConfigDict(extra="forbid")

    id: CustomId | None = Field(
        None, description="Your own id of the photo. It comes back as `custom_id`."
    )
    group: GroupName | None = Field(
        None, description="Photos with the same group get one common frame."
    )
    options: dict[str, Any] | None = Field(
        None, description="Options of this photo. They take precedence over the job's."
    )


class UploadRef(_Row):
    """A file that was uploaded to a URL of POST /v1/uploads."""

    upload: Key = Field(description="The handle that came with the URL.")
    name: Name = Field(description="Your own path of the file.")


class LeftOutRef(BaseModel):
    """A file beside the photos that you did not upload."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(description="Your own path of the file.")
    left_out: LeftOutReason = Field(
        description="Why. The file is an item that failed, so that the job's report names it.",
        examples=["It is a text"],
    )


class KeyRef(_Row):
    """An object in S3."""

    key: Key = Field(description="An S3 key, or s3://bucket/key.")


class UrlRef(_Row):
    """A photo on the web."""

    url: PhotoUrl


LISTS = ("keys", "uploads", "urls")
"""The fields of a source that list photos."""


class Source(BaseModel):
    """The source of the photos: exactly one of these fields."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "minProperties": 1,
            "examples": [
                {"keys": ["spring/shoe.jpg", "s3://photos/spring/bag.jpg"]},
                {"keys": [{"key": "spring/shoe.jpg", "id": "SKU-1", "options": {"crop": True}}]},
                {"prefix": "s3://photos/spring/"},
                {"manifest": "s3://photos/spring.csv"},
                {"zip": "s3://photos/spring.zip"},
                {"uploads": [{"upload": "uploads/0191/7f3a", "name": "spring/shoe.jpg"}]},
                {"urls": ["https://shop.example/shoe.jpg"]},
            ],
        },
    )

    keys: Annotated[list[Key | KeyRef], StopAtFirst()] | None = Field(
        None, description="S3 keys, or s3://bucket/key.", min_length=1
    )
    prefix: Key | None = Field(
        None, description="Everything under `s3://bucket/prefix`; listed in the background."
    )
    manifest: Key | None = Field(
        None,
        description="A list of photos, in S3 or uploaded: CSV with a header, JSONL, or a shop's "
        "feed. Each row names a photo in `key` or `url`. It may have an `id`, `options` that take "
        "precedence over the job's, and columns of your own.",
    )
    zip: Key | None = Field(
        None,
        description="A zip file of photos, in S3 or uploaded. An uploaded one is deleted when it "
        "is unpacked.",
    )
    uploads: Annotated[list[UploadRef | LeftOutRef], StopAtFirst()] | None = Field(
        None, description="Files that you sent to URLs of POST /v1/uploads.", min_length=1
    )
    urls: Annotated[list[PhotoUrl | UrlRef], StopAtFirst()] | None = Field(
        None, description="Public http(s) addresses; the worker fetches them.", min_length=1
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """The name of the given field."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    def rows(self) -> list[dict[str, Any]]:
        """The entries of a list as manifest rows."""
        if self.keys is not None:
            return [{"key": one} if isinstance(one, str) else _given(one) for one in self.keys]
        if self.urls is not None:
            return [{"url": one} if isinstance(one, str) else _given(one) for one in self.urls]
        return [_given(one) for one in self.uploads or ()]


def _given(row: BaseModel) -> dict[str, Any]:
    return row.model_dump(exclude_none=True)
