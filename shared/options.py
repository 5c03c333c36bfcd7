"""What a customer may ask of a cut-out: one type for API, message, database and worker.

Every field has a default that suits bulk work; unknown fields are refused, so that a typing error
is a 422 and not 40,000 wrong pictures.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Output(StrEnum):
    """What the result shows."""

    CUTOUT = "cutout"
    """The subject, on a transparent or coloured background."""
    ALPHA = "alpha"
    """The matte alone: 8-bit grey, white is the subject."""


class Format(StrEnum):
    """How the result is encoded."""

    PNG = "png"
    WEBP = "webp"
    JPEG = "jpeg"

    @property
    def extension(self) -> str:
        """The file name's extension, with no dot."""
        return "jpg" if self is Format.JPEG else self.value

    @property
    def content_type(self) -> str:
        """The media type of the object."""
        return f"image/{self.value}"


class Profile(StrEnum):
    """How a photo is brought to the network's size."""

    FAST = "fast"
    """Into one of a few warmed shapes: the one for bulk."""
    EXACT = "exact"
    """As the model's deploy.yaml says, step by step: equal to PaddleSeg's own script."""


class Foreground(StrEnum):
    """Where the colours of half-transparent pixels come from."""

    ESTIMATE = "estimate"
    """Estimated at the edge, so that nothing of the old background shines through."""
    KEEP = "keep"
    """The photo's own colours."""


HexColour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class Options(BaseModel):
    """The options of a job, or of one image."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [{"format": "png"}, {"format": "jpeg", "background": "#ffffff"}]
        },
    )

    output: Output = Field(Output.CUTOUT, description="The cut-out, or the matte alone.")
    format: Format = Field(
        Format.PNG, description="JPEG has no transparency: it needs a background."
    )
    quality: int = Field(90, ge=1, le=100, description="Of JPEG and WebP.")
    background: HexColour | None = Field(
        None, description="`#rrggbb` behind the subject; none leaves it transparent."
    )
    foreground: Foreground = Field(
        Foreground.ESTIMATE, description="Clean the colours of the edge, or keep the photo's."
    )
    profile: Profile = Field(Profile.FAST, description="`exact` follows the model's deploy.yaml.")

    @model_validator(mode="after")
    def _jpeg_needs_a_background(self) -> Self:
        if self.format is Format.JPEG and self.output is Output.CUTOUT and self.background is None:
            raise ValueError("JPEG has no transparency: give `background`, or use png or webp")
        return self

    def result_key(self, job_id: str, item_id: str) -> str:
        """The result's object key: it follows from the item; a second run writes the same."""
        return f"jobs/{job_id}/results/{item_id}.{self.format.extension}"
