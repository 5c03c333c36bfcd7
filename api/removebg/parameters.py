"""The parameters of remove.bg's API, converted to options."""

import re
from typing import Annotated, Any, Literal

from PIL import ImageColor
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from shared.errors import InvalidOptionsError
from shared.options import Options
from shared.rendition import Format, Output
from shared.subject import MIN_BOX_SIDE

MEGAPIXELS = {"preview": 0.25, "small": 0.25, "regular": 0.25, "medium": 1.5, "hd": 4.0}
"""Megapixels of the sizes with a limit; the others return the photo's own size."""

NAME = "{stem}.{ext}"

_EDGE = re.compile(r"^(\d+(?:\.\d+)?)(px|%)?$")


TypeLevel = Literal["none", "1", "2", "latest"]

COARSE_TYPES = frozenset({"person", "product", "animal", "car"})
FINE_TYPES = COARSE_TYPES | {"car_interior", "car_part", "transportation", "graphics"}
"""The values of X-Type by `type_level`, besides `other`."""

_SPELLINGS = {"50mp": "50MP", "jpeg": "jpg"}


def _spelled(value: object) -> object:
    """A word of a list as remove.bg spells it, whatever its case; JSON may hold `2` as a number."""
    if not isinstance(value, str | int):
        return value
    word = str(value).lower()
    return _SPELLINGS.get(word, word)


Spelled = BeforeValidator(_spelled)
Address = Annotated[str, Field(max_length=2_048)]


class RemoveBgRequest(BaseModel):
    """The parameters of remove.bg's API. Exactly one source: `image_file`, `image_file_b64`,
    `image_url`. Unknown parameters are ignored, as remove.bg does. An empty parameter, or null, is
    one that was not given.
    """

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    image_file_b64: str | None = Field(None, description="The photo in Base64.")
    image_url: Address | None = Field(None, description="A public http(s) address of it.")
    size: Annotated[
        Literal["preview", "small", "regular", "medium", "hd", "4k", "full", "50MP", "auto"],
        Spelled,
    ] = Field("preview", description="0.25, 1.5 or 4 megapixels; the others: as large as it is.")
    type: str | None = Field(
        None, description="Taken and given back as X-Type; one network does all."
    )
    type_level: Annotated[TypeLevel, Spelled] = Field(
        "1", description="`none`: no X-Type in the answer; 2: finer types than 1."
    )
    format: Annotated[Literal["auto", "png", "jpg", "zip", "webp"], Spelled] = Field(
        "auto", description="auto: PNG, or JPEG where there is an opaque background."
    )
    roi: str | None = Field(
        None, description="`x1 y1 x2 y2`, each in px or %: only there is a subject."
    )
    crop: bool = False
    crop_margin: str | None = Field(None, description="`30px`, `10%`; one, two or four values.")
    scale: str | None = Field(None, description="`original`, or 10% to 100% of the picture.")
    position: str | None = Field(None, description="`original`, `center`, `x%` or `x% y%`.")
    channels: Annotated[Literal["rgba", "alpha"], Spelled] = Field(
        "rgba", description="alpha: the matte alone."
    )
    add_shadow: bool = False
    shadow_type: str | None = Field(None, description="`drop`; any other is one on the ground.")
    shadow_opacity: float | None = Field(None, ge=0, le=100)
    semitransparency: bool = Field(
        True, description="false: no half-transparent regions except the edge."
    )
    bg_color: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="`81d4fa`, `fff`, or a CSS colour's name."
    )
    bg_image_url: Address | None = Field(None, description="A picture to put behind.")

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = {name: one.strip() if isinstance(one, str) else one for name, one in data.items()}
        return {name: value for name, value in given.items() if value not in (None, "")}

    @property
    def shown_type(self) -> str | None:
        """The value of X-Type; None: the header is not sent."""
        if self.type_level == "none":
            return None
        asked = (self.type or "").lower()
        asked = "graphics" if asked == "graphic" else asked
        known = COARSE_TYPES if self.type_level == "1" else FINE_TYPES
        return asked if asked in known else "other"


def options_of(
    request: RemoveBgRequest, sides_px: tuple[int, int], background: str | None
) -> Options:
    """Convert to options. `sides_px`: the photo's width and height; `background`: `s3://` URL of
    the background picture.

    Raises pydantic.ValidationError, InvalidOptionsError.
    """
    alone = request.channels == "alpha"
    behind = background or (_colour(request.bg_color) if request.bg_color else None)
    if alone:
        behind = None
    kind = _format(request, opaque=behind is not None)
    if kind is Format.JPEG and behind is None and not alone:
        behind = "#ffffff"
    values: dict[str, Any] = {
        "format": kind,
        "output": Output.ALPHA if alone else Output.CUTOUT,
        "background": behind,
        "name": NAME,
        "max_megapixels": MEGAPIXELS.get(request.size),
        "crop": request.crop,
        "crop_margin": request.crop_margin or "0",
        "scale": request.scale,
    }
    if request.position and not (request.crop and request.position == "original"):
        values["position"] = request.position
    if request.roi:
        values["roi"] = roi = _roi(request.roi, sides_px)
        if min(roi[2] - roi[0], roi[3] - roi[1]) >= MIN_BOX_SIDE:
            values["subject"] = {"box": roi}
    if not request.semitransparency:
        values |= {"threshold": 0.5, "feather_px": 1}
    if (shadow := _shadow(request)) and kind is not Format.ZIP:
        values["shadow"] = shadow
    return Options.model_validate(values)


def _format(request: RemoveBgRequest, *, opaque: bool) -> Format:
    if request.format == "auto":
        return Format.JPEG if opaque else Format.PNG
    return Format.JPEG if request.format == "jpg" else Format(request.format)


def _colour(text: str) -> str | None:
    """The colour as `#rrggbb`; None for a fully transparent one."""
    hexadecimal = re.fullmatch(r"#?([0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})", text)
    try:
        found = ImageColor.getrgb(f"#{hexadecimal[1]}" if hexadecimal else text)
        bytes(found)  # Pillow takes rgb(300,0,0) as it is
    except ValueError as error:
        raise InvalidOptionsError(
            f"bg_color: {text!r} is no colour", finer="invalid_bg_color"
        ) from error
    if len(found) == 4 and found[3] == 0:
        return None
    if len(found) == 4 and found[3] != 255:
        raise InvalidOptionsError(
            "bg_color: half-transparent backgrounds are not supported", finer="invalid_bg_color"
        )
    return "#{:02x}{:02x}{:02x}".format(*found[:3])


def _roi(text: str, sides_px: tuple[int, int]) -> tuple[float, ...]:
    """The region as fractions of the photo."""
    parts = [_EDGE.match(part) for part in text.split()]
    if len(parts) != 4 or not all(parts):
        raise InvalidOptionsError("roi must be four values, each in px or %", finer="invalid_roi")
    shares = [
        float(part[1]) / (100 if part[2] == "%" else sides_px[index % 2])
        for index, part in enumerate(parts)
        if part
    ]
    return tuple(min(1.0, share) for share in shares)


def _shadow(request: RemoveBgRequest) -> dict[str, Any] | None:
    kind = (request.shadow_type or ("auto" if request.add_shadow else "none")).lower()
    if kind == "none":
        return None
    shadow: dict[str, Any] = {"kind": "drop" if kind == "drop" else "contact"}
    if request.shadow_opacity is not None:
        shadow["opacity"] = request.shadow_opacity / 100
    return shadow
