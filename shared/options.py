"""The options of a job or an image: one type for the API, the database and the worker.

Every field has a default for bulk work. Unknown fields are refused, so a typing error is a 422 and
not 40,000 wrong pictures.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from shared.marketplaces import Market
from shared.presets import PRESETS, Preset
from shared.rendition import ColourProfile, ExifField, Foreground, Format, Output, Rendition
from shared.rendition_values import (
    Background,
    BackgroundImage,
    HexColour,
    LinearGradient,
    NameTemplate,
    Shadow,
    ShadowKind,
)
from shared.subject import Subject

__all__ = [
    "Background",
    "BackgroundImage",
    "ColourProfile",
    "CutOff",
    "ExifField",
    "ExtraOutput",
    "Foreground",
    "Format",
    "GroupBy",
    "HexColour",
    "LinearGradient",
    "Options",
    "Output",
    "Preset",
    "Profile",
    "Rendition",
    "Shadow",
    "ShadowKind",
    "SourceAlpha",
]

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Allowed model names: they become part of queue names and paths."""

MAX_EXTRA_OUTPUTS = 8


class GroupBy(StrEnum):
    """Which photos of a job belong together."""

    FOLDER = "folder"
    """Those in the same folder."""


class Profile(StrEnum):
    """How a photo is resized for the network."""

    FAST = "fast"
    """To one of a few warmed-up input shapes: for bulk work."""
    EXACT = "exact"
    """By the steps in the model's deploy.yaml: the same result as PaddleSeg's own script."""


class CutOff(StrEnum):
    """What becomes of a clip that is cut off or damaged."""

    REFUSE = "refuse"
    """It fails."""
    KEEP = "keep"
    """The frames before the damage are cut out."""


class SourceAlpha(StrEnum):
    """What the transparency of a photo means that has some already."""

    LIMIT = "limit"
    """What is transparent stays so: a cut-out that is cut out again keeps its edge."""
    IGNORE = "ignore"
    """The photo is taken as if it stood on white."""


def _expanded(data: Any) -> Any:
    """Merge the preset's options under the given ones. A dumped `Options` stays the same."""
    if not isinstance(data, dict) or data.get("preset") not in list(PRESETS):
        return data
    return {**PRESETS[Preset(data["preset"])], **data}


class ExtraOutput(Rendition):
    """One more picture from the same matte."""

    name: NameTemplate = Field(
        description="The file's name, e.g. `{path}-white.{ext}`; see the job's `name`."
    )

    @model_validator(mode="after")
    def _one_picture(self) -> Self:
        if self.output is Output.BOTH:
            raise ValueError("`output` of an extra output must be `cutout` or `alpha`")
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
        None, description="A named set of options (GET /v1/presets). Options that you also set win."
    )
    model: str | None = Field(
        None,
        pattern=f"^{MODEL_NAME.pattern}$",
        description="One of the models that the service offers. Default: MATTING_MODEL.",
    )
    second_model: str | None = Field(
        None,
        pattern=f"^{MODEL_NAME.pattern}$",
        description="The model that mattes the photo again if the first result is doubtful, or "
        "`none`; the better result is kept. Default: MATTING_SECOND_MODEL, if `model` is not set. "
        "Clips have none.",
    )
    profile: Profile = Field(
        Profile.FAST, description="`exact` follows the steps in the model's deploy.yaml."
    )
    source_alpha: SourceAlpha = Field(
        SourceAlpha.LIMIT,
        description="Of a photo that is transparent in places: `limit` keeps them at least as "
        "transparent, `ignore` takes the photo as if it stood on white.",
    )
    keep_alpha: bool = Field(
        False,
        description="For photos that are cut out already: their own transparency is the matte, and "
        "no network changes it. Options of the matte have no effect then. A photo without "
        "transparency is cut out as usual.",
    )
    refine: bool = Field(True, description="Refine the edge of the matte at full resolution.")
    colour_profile: ColourProfile = Field(
        ColourProfile.SRGB,
        description="Convert to sRGB, or keep the ICC profile of an RGB photo. Its `background` is "
        "converted to that profile.",
    )
    subject: Subject | None = Field(
        None,
        description="Which subject is meant, if there are several: a box around it, or points on "
        "it and on others.",
    )
    roi: tuple[float, float, float, float] | None = Field(
        None,
        description="Left, top, right, bottom as fractions of the photo; outside becomes "
        "transparent.",
    )
    black_point: float = Field(
        0,
        ge=0,
        le=0.5,
        description="Alpha values below it become 0 and the rest is stretched: removes haze.",
    )
    erode_px: float = Field(
        0,
        ge=-50,
        le=50,
        description="Pixels (of the photo) to remove from the edge; negative values add pixels.",
    )
    feather_px: Edge = Field(0, description="Pixels (of the photo) over which the edge fades out.")
    edge_reach: float | None = Field(
        None,
        ge=0,
        le=0.5,
        description="How far beyond the outline (alpha 0.5) the matte may reach, as a fraction of "
        "the subject's longer side. Everything farther out becomes transparent.",
    )
    threshold: float | None = Field(
        None, gt=0, lt=1, description="Make a hard edge at this alpha: no semi-transparent pixels."
    )
    clip_audio: bool = Field(True, description="Keep the sound of a clip.")
    clip_steady: bool = Field(
        True, description="Smooth a clip's matte along the motion, where the network is unsure."
    )
    clip_cut_off: CutOff = Field(
        CutOff.REFUSE,
        description="Of a clip that is cut off or damaged: `refuse` it, or `keep` the frames "
        "before the damage.",
    )
    market: Market | None = Field(
        None, description="Check the result against this marketplace's rules and report violations."
    )
    group_by: GroupBy | None = Field(
        None,
        description="Photos that get one common frame: `folder` takes those in the same folder. "
        "Rows of a list name their `group` instead. Of the job only.",
    )
    turntable: bool = Field(
        False,
        description="Also make an animation of each group: WebP, MP4, and a JSON for 360° viewers. "
        "It needs `format` png, webp or jpeg. Of the job only.",
    )
    extra_outputs: tuple[ExtraOutput, ...] = Field(
        (), max_length=MAX_EXTRA_OUTPUTS, description="More files made from the same matte."
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, data: Any) -> Any:
        return _expanded(data)

    @model_validator(mode="after")
    def _one_meaning_of_alpha(self) -> Self:
        if self.keep_alpha and self.source_alpha is SourceAlpha.IGNORE:
            raise ValueError(
                "`source_alpha: ignore` drops what `keep_alpha` keeps: give one of them"
            )
        return self

    @model_validator(mode="after")
    def _turntable_of_pictures(self) -> Self:
        if self.turntable and self.format not in TURNTABLE_FORMATS:
            raise ValueError("`turntable` needs `format` png, webp or jpeg")
        if self.turntable:
            self.of_turntable()
        return self

    @model_validator(mode="after")
    def _roi_has_an_inside(self) -> Self:
        if self.roi is not None:
            left, top, right, bottom = self.roi
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise ValueError(
                    "`roi` must be left, top, right, bottom with 0 <= left < right <= 1"
                )
        return self

    def overridden(self, changes: dict[str, Any]) -> "Options":
        """These options, overridden by those of one image; a preset in `changes` is expanded first.

        Raises pydantic.ValidationError.
        """
        return Options.model_validate({**self.model_dump(mode="json"), **_expanded(changes)})

    @property
    def extras(self) -> tuple[ExtraOutput, ...]:
        """The outputs besides the main one. `both` adds the matte in the same frame."""
        if self.output is not Output.BOTH:
            return self.extra_outputs
        frame = self.model_dump(include=set(_FRAME))
        beside = ExtraOutput(name="{path}-alpha.{ext}", output=Output.ALPHA, **frame)
        return (beside, *self.extra_outputs)

    def of_turntable(self) -> "Options":
        """The options that the main file of a group's turntable goes by: WebP, and nothing beside
        it. Raises pydantic.ValidationError.
        """
        changes: dict[str, Any] = {
            "turntable": False,
            "group_by": None,
            "format": Format.WEBP,
            "clip_format": None,
            "output": Output.CUTOUT,
            "extra_outputs": [],
            "name": None,
            "market": None,
            "max_bytes": None,
            "preset": None,
        }
        return Options.model_validate({**self.model_dump(mode="json"), **changes})

    def background_images(self) -> Iterator[str]:
        """The `s3://` URLs of background images: the key of the caller must be able to
        read them.
        """
        for one in (self, *self.extra_outputs):
            if isinstance(one.background, BackgroundImage):
                yield one.background.image

    @property
    def renditions(self) -> tuple["Options | ExtraOutput", ...]:
        """All outputs, the main one first."""
        return (self, *self.extras)

    def output_keys(self, job_id: str, item_id: str, *, clip: bool = False) -> list[str]:
        """The object key of each of `renditions`, as a photo or as a `clip`. Keys follow from the
        item, so a second run overwrites the same objects.
        """
        folder = f"jobs/{job_id}/results/{item_id}"
        extras = [
            f"{folder}/{number}.{extra.extension(clip=clip)}"
            for number, extra in enumerate(self.extras, 1)
        ]
        return [f"{folder}.{self.extension(clip=clip)}", *extras]


TURNTABLE_FORMATS = (Format.PNG, Format.WEBP, Format.JPEG)
"""Formats of results that a turntable is made from."""

OF_JOB_ONLY = ("group_by", "turntable")
"""Options that a single image can't have."""

_FRAME = (
    "crop",
    "crop_margin",
    "canvas",
    "padding",
    "snap",
    "scale",
    "position",
    "enlarge",
    "max_side_px",
    "max_megapixels",
)
