"""The values of options about the picture, as people write them: colours, backgrounds, shadows,
lengths, canvases.
"""

import re
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

from PIL import ImageColor
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MAX_SIDE_PX = 10_000
"""The longest side of a canvas: the largest that any of the marketplaces accepts."""

SIDES = f"each side of the canvas must have 1 to {MAX_SIDE_PX} pixels"

MAX_RATIO = 100


def _colour(value: Any) -> Any:
    """`#rrggbb` for a colour name of CSS or `#rgb`; anything else as it is."""
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"#[0-9a-fA-F]{3}", value):
        return "#" + "".join(2 * digit for digit in value[1:])
    if value.isascii() and value.isalpha() and value.lower() in ImageColor.colormap:
        red, green, blue = ImageColor.getrgb(value.lower())[:3]
        return f"#{red:02x}{green:02x}{blue:02x}"
    return value


_COLOUR = r"#[0-9a-fA-F]{6}|#[0-9a-fA-F]{3}|[A-Za-z]+"

HexColour = Annotated[
    str,
    Field(pattern=r"^#[0-9a-fA-F]{6}$"),
    BeforeValidator(
        _colour,
        json_schema_input_type=Annotated[
            str, Field(pattern=rf"^({_COLOUR})$", examples=["#ffffff", "#fff", "white"])
        ],
    ),
]
"""A colour, as `#rrggbb`. A caller may also write `#rgb` or one of CSS's 148 names."""


class Value(BaseModel):
    """A value that can't change, and has no unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LinearGradient(Value):
    """A linear gradient of two colours."""

    gradient: tuple[HexColour, HexColour] = Field(description="First and last colour.")
    angle_deg: float = Field(180, ge=0, lt=360, description="As in CSS: 0 up, 90 right, 180 down.")


class BackgroundImage(Value):
    """A picture behind the subject, scaled to cover the canvas."""

    image: str = Field(
        pattern=r"^s3://[^/]+/.+", max_length=1_200, description="`s3://bucket/key` of a picture."
    )


class ShadowKind(StrEnum):
    """The kind of shadow."""

    DROP = "drop"
    """A blurred, shifted copy of the outline: the subject floats above the page."""
    CONTACT = "contact"
    """A dark ellipse under the lowest part: the subject stands on a surface."""


class Shadow(Value):
    """A shadow made from the matte. Lengths are fractions of the subject's longer side."""

    kind: ShadowKind = Field(
        ShadowKind.DROP, description="A copy of the outline, or an ellipse on the ground."
    )
    opacity: float = Field(0.35, ge=0, le=1, description="1 is black where the shadow is darkest.")
    blur: float = Field(0.03, ge=0, le=0.5, description="Standard deviation of the blur.")
    dx: float = Field(0.0, ge=-0.5, le=0.5, description="Offset to the right; drop shadows only.")
    dy: float = Field(0.02, ge=-0.5, le=0.5, description="Offset down; drop shadows only.")


def _background(value: Any) -> Any:
    """Accept a bare `s3://…` URL as an image."""
    if isinstance(value, str) and value.startswith("s3://"):
        return {"image": value}
    return value


def _shadow(value: Any) -> Any:
    """Accept a bare kind; its other values are the defaults."""
    return {"kind": value} if isinstance(value, str) else value


def _scale(value: Any) -> Any:
    """Accept `"80%"` for 0.8 and `"original"` for None."""
    if value == "original":
        return None
    if isinstance(value, str) and re.fullmatch(_PERCENT, value):
        return float(value[:-1]) / 100
    return value


_PERCENT = r"\d{1,3}(\.\d+)?%"

Background = Annotated[
    HexColour | LinearGradient | BackgroundImage,
    BeforeValidator(
        _background,
        json_schema_input_type=Annotated[
            str,
            Field(
                pattern=rf"^({_COLOUR}|s3://[^/]+/.+)$",
                max_length=1_200,
                examples=["#ffffff", "#fff", "white", "s3://photos/backdrops/wood.jpg"],
            ),
        ]
        | LinearGradient
        | BackgroundImage,
    ),
]
AnyShadow = Annotated[
    Shadow | None,
    BeforeValidator(_shadow, json_schema_input_type=ShadowKind | Shadow | None),
]
Scale = Annotated[
    float | None,
    Field(ge=0.05, le=1),
    BeforeValidator(
        _scale,
        json_schema_input_type=Annotated[float, Field(ge=0.05, le=1)]
        | Annotated[str, Field(pattern=rf"^({_PERCENT}|original)$", examples=["80%", "original"])]
        | None,
    ),
]

_LENGTH = r"\d{1,5}(\.\d+)?(px|%)"
Margin = Annotated[
    str,
    Field(pattern=rf"^({_LENGTH}|0)( ({_LENGTH}|0)){{0,3}}$", examples=["30px", "10%", "5% 20px"]),
]


class Length(NamedTuple):
    """A length as it is written in a margin: pixels, or a share of something."""

    px: float = 0.0
    share: float = 0.0

    def of(self, whole: float) -> float:
        """The length in pixels."""
        return self.px + self.share * whole


def lengths(margin: str) -> tuple[Length, Length, Length, Length]:
    """Top, right, bottom and left of a `Margin`, in the order of CSS."""
    given = [
        Length(share=float(text[:-1]) / 100)
        if text.endswith("%")
        else Length(px=float(text.removesuffix("px")))
        for text in margin.split()
    ]
    top = given[0]
    right = given[1] if len(given) > 1 else top
    bottom = given[2] if len(given) > 2 else top
    left = given[3] if len(given) > 3 else right
    return top, right, bottom, left


def _canvas(text: str) -> str:
    """Refuse canvases that are too large or too long."""
    if "x" in text:
        if not all(0 < int(side) <= MAX_SIDE_PX for side in text.split("x")):
            raise ValueError(SIDES)
    else:
        across, down = map(float, text.split(":"))
        if not across or not down or max(across / down, down / across) > MAX_RATIO:
            raise ValueError(f"the ratio of the canvas must be at most {MAX_RATIO}:1")
    return text


def _many_digits(value: Any) -> Any:
    """Name the limit also for sides that the pattern has no room for."""
    is_size = isinstance(value, str) and re.fullmatch(r"\d+x\d+", value)
    if is_size and max(map(len, value.split("x"))) > len(str(MAX_SIDE_PX)):
        raise ValueError(SIDES)
    return value


Canvas = Annotated[
    str,
    Field(pattern=r"^(\d{1,5}x\d{1,5}|\d{1,4}(\.\d+)?:\d{1,4}(\.\d+)?)$", examples=["2000x2000"]),
    AfterValidator(_canvas),
    BeforeValidator(_many_digits),
]
Position = Annotated[
    str,
    Field(
        pattern=r"^(original|center|\d{1,3}(\.\d+)?%( \d{1,3}(\.\d+)?%)?)$",
        examples=["center", "50% 90%"],
    ),
]
NameTemplate = Annotated[
    str,
    Field(min_length=1, max_length=200, examples=["{stem}-white.{ext}", "thumbs/{path}.{ext}"]),
]
