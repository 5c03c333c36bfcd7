"""What a customer may ask of a cut-out: one type for API, message, database and worker.

Every field has a default that suits bulk work; unknown fields are refused, so that a typing error
is a 422 and not 40,000 wrong pictures.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from shared.marketplaces import Market
from shared.presets import PRESETS, Preset
from shared.rendition import (
    Background,
    BackgroundImage,
    ColourProfile,
    ExifField,
    Foreground,
    Format,
    Gradient,
    HexColour,
    NameTemplate,
    Output,
    Rendition,
    Shadow,
    ShadowKind,
)

__all__ = [
    "Background",
    "BackgroundImage",
    "ColourProfile",
    "ExifField",
    "ExtraOutput",
    "Foreground",
    "Format",
    "Gradient",
    "HexColour",
    "Options",
    "Output",
    "Preset",
    "Profile",
    "Rendition",
    "Shadow",
    "ShadowKind",
]

MAX_EXTRA_OUTPUTS = 8


class Profile(StrEnum):
    """How a photo is brought to the network's size."""

    FAST = "fast"
    """Into one of a few warmed shapes: the one for bulk."""
    EXACT = "exact"
    """As the model's deploy.yaml says, step by step: equal to PaddleSeg's own script."""


def _expanded(data: Any) -> Any:
    """The preset's options under those that are given one by one; a dump expands to itself."""
    if not isinstance(data, dict) or data.get("preset") not in list(PRESETS):
        return data
    return {**PRESETS[Preset(data["preset"])], **data}


class ExtraOutput(Rendition):
    """One more picture from the same matte."""

    name: NameTemplate = Field(
        description="The file's name, e.g. `{path}-white.{ext}`; see the job's `name`."
    )
    market: Market | None = Field(None, description="Check it against this marketplace's rules.")

    @model_validator(mode="after")
    def _one_picture(self) -> Self:
        if self.output is Output.BOTH:
            raise ValueError("an extra output is one picture: `cutout` or `alpha`")
        return self


Edge = Annotated[float, Field(ge=0, le=100)]


class Options(Rendition):
    """The options of a job, or of one image."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"format": "png"},
                {"preset": "amazon"},
                {"format": "jpeg", "background": "#ffffff", "crop": True, "crop_margin": "5%"},
            ]
        },
    )

    preset: Preset | None = Field(
        None, description="A named set of options (GET /v1/presets); what you give besides wins."
    )
    model: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="One of the models that this service offers; none: its default.",
    )
    profile: Profile = Field(Profile.FAST, description="`exact` follows the model's deploy.yaml.")
    refine: bool = Field(True, description="Refine the matte's edge at the photo's full size.")
    colour_profile: ColourProfile = Field(
        ColourProfile.SRGB, description="Convert to sRGB, or keep the photo's ICC profile."
    )
    roi: tuple[float, float, float, float] | None = Field(
        None,
        description="Left, top, right, bottom, as shares of the photo: only there is a subject.",
    )
    black_point: float = Field(
        0,
        ge=0,
        le=0.5,
        description="Alphas below it become clear, those above are stretched: removes haze.",
    )
    erode_px: float = Field(
        0, ge=-50, le=50, description="Pixels of the photo taken off the edge; below 0: added."
    )
    feather_px: Edge = Field(0, description="Pixels of the photo over which the edge fades.")
    edge_reach: float | None = Field(
        None,
        ge=0,
        le=0.5,
        description="How far beyond the subject (alpha 0.5) its edge may still show, as a share of "
        "the subject's longer side; all else becomes clear, haze and specks too.",
    )
    threshold: float | None = Field(
        None, gt=0, lt=1, description="A hard edge at this alpha: no half-transparent pixels."
    )
    market: Market | None = Field(
        None, description="Check the result against this marketplace's rules, and report them."
    )
    extra_outputs: tuple[ExtraOutput, ...] = Field(
        (), max_length=MAX_EXTRA_OUTPUTS, description="More pictures from the same matte."
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, data: Any) -> Any:
        return _expanded(data)

    @model_validator(mode="after")
    def _roi_has_an_inside(self) -> Self:
        if self.roi is not None:
            left, top, right, bottom = self.roi
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise ValueError("`roi` is left, top, right, bottom with 0 <= left < right <= 1")
        return self

    def overridden(self, changes: dict[str, Any]) -> "Options":
        """These options with an image's own over them; a preset among those counts in full.

        Raises pydantic.ValidationError.
        """
        return Options.model_validate({**self.model_dump(mode="json"), **_expanded(changes)})

    @property
    def extras(self) -> tuple[ExtraOutput, ...]:
        """The outputs beside the main one; `both` adds the matte in the main one's frame."""
        if self.output is not Output.BOTH:
            return self.extra_outputs
        frame = self.model_dump(include=set(_FRAME))
        beside = ExtraOutput(name="{path}-alpha.{ext}", output=Output.ALPHA, **frame)
        return (beside, *self.extra_outputs)

    def background_images(self) -> Iterator[str]:
        """The `s3://` URLs that the outputs name: whoever submits must be allowed to read them."""
        for one in (self, *self.extra_outputs):
            if isinstance(one.background, BackgroundImage):
                yield one.background.image

    @property
    def renditions(self) -> tuple["Options | ExtraOutput", ...]:
        """All outputs, the main one first."""
        return (self, *self.extras)

    def output_keys(self, job_id: str, item_id: str) -> list[str]:
        """The object key of each of `renditions`. Keys follow from the item, so a second run
        overwrites the same objects.
        """
        folder = f"jobs/{job_id}/results/{item_id}"
        extras = [
            f"{folder}/{number}.{extra.format.extension}"
            for number, extra in enumerate(self.extras, 1)
        ]
        return [f"{folder}.{self.format.extension}", *extras]


_FRAME = (
    "crop",
    "crop_margin",
    "canvas",
    "scale",
    "position",
    "enlarge",
    "max_side_px",
    "max_megapixels",
)
