"""The parameters of remove.bg's API, converted to options."""

import re
from typing import Annotated, Any, Literal

from PIL import ImageColor
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shared.errors import InvalidOptionsError
from shared.options import Options
from shared.rendition import Format, Output

MEGAPIXELS = {"preview": 0.25, "small": 0.25, "regular": 0.25, "medium": 1.5, "hd": 4.0}
"""Megapixels of the sizes with a limit; the others return the photo's own size."""

NAME = "{stem}.{ext}"

_EDGE = re.compile(r"^(\d+(?:\.\d+)?)(px|%)?$")


def _absent(value: object) -> object:
    """Treat an empty string as not given, as clients mean it."""
    return None if value == "" else value


Text = Annotated[str | None, BeforeValidator(_absent)]
Address = Annotated[Annotated[str, Field(max_length=2_048)] | None, BeforeValidator(_absent)]


class RemoveBgRequest(BaseModel):
    """The parameters of remove.bg's API. Exactly one source: `image_file`, `image_file_b64`,
    `image_url`. Unknown parameters are ignored, as remove.bg does.
    """

    model_config = ConfigDict(extra="ignore")

    image_file_b64: Text = Field(None, description="The photo in Base64.")
    image_url: Address = Field(None, description="A public http(s) address of the photo.")
    size: Annotated[
        Literal["preview", "small", "regular", "medium", "hd", "4k", "full", "50MP", "auto"],
        BeforeValidator(lambda value: value or "preview"),
    ] = Field(
        "preview",
        description="Up to 0.25, 1.5 or 4 megapixels; other values keep the size.",
    )
    type: Text = Field(
        None, description="Accepted and returned as X-Type; one network handles all types."
    )
    type_level: Text = Field(None, description="`none`: the answer has no X-Type.")
    format: Annotated[
        Literal["auto", "png", "jpg", "zip", "webp"],
        BeforeValidator(lambda value: value or "auto"),
    ] = Field("auto", description="auto: PNG, or JPEG if the background is opaque.")
    roi: Text = Field(
        None, description="`x1 y1 x2 y2`, each in px or %. The subject is searched only there."
    )
    crop: bool = False
    crop_margin: Text = Field(None, description="One, two or four values such as `30px` or `10%`.")
    scale: Text = Field(None, description="`original`, or 10% to 100% of the picture.")
    position: Text = Field(None, description="`original`, `center`, `x%` or `x% y%`.")
    channels: Annotated[
        Literal["rgba", "alpha"], BeforeValidator(lambda value: value or "rgba")
    ] = Field("rgba", description="alpha: the matte alone.")
    add_shadow: bool = False
    shadow_type: Text = Field(None, description="`drop`; every other value gives a contact shadow.")
    shadow_opacity: Annotated[float | None, BeforeValidator(_absent)] = Field(None, ge=0, le=100)
    semitransparency: bool = Field(
        True, description="false: no half-transparent regions except the edge."
    )
    bg_color: Annotated[Annotated[str, Field(max_length=40)] | None, BeforeValidator(_absent)] = (
        Field(None, description="`81d4fa`, `fff`, or the name of a CSS colour.")
    )
    bg_image_url: Address = Field(None, description="URL of a background picture.")


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
        values["roi"] = _roi(request.roi, sides_px)
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
