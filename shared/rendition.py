"""How one output picture is to look: format, background, frame, shadow, colours, name.

Geometry, in this order: the subject's box is found; `crop` takes it with `crop_margin`, otherwise
the whole photo counts; `canvas` is the frame that it is put into; `scale` sizes the subject against
that frame; `position` places it; `max_side_px` and `max_megapixels` shrink what came out. Pixels
are only invented where `enlarge` says so.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from shared.result_names import check_template

MAX_SIDE_PX = 10_000
"""Of a canvas: the most that any of the marketplaces takes."""

MAX_RATIO = 100


class Output(StrEnum):
    """What the result shows."""

    CUTOUT = "cutout"
    """The subject, on a transparent or coloured background."""
    ALPHA = "alpha"
    """The matte alone: 8-bit grey, white is the subject."""
    BOTH = "both"
    """The cut-out, and the matte beside it as `<name>-alpha.png`."""


class Format(StrEnum):
    """How the result is encoded."""

    PNG = "png"
    WEBP = "webp"
    JPEG = "jpeg"
    AVIF = "avif"
    ZIP = "zip"
    """`color.jpg`, straight colours, and `alpha.png` in one archive: a tenth of a PNG's bytes."""

    @property
    def extension(self) -> str:
        """The file name's extension, with no dot."""
        return "jpg" if self is Format.JPEG else self.value

    @property
    def max_side_px(self) -> int:
        """The longest side that its encoder writes and usual decoders read."""
        return _MAX_SIDES_PX[self]

    @property
    def content_type(self) -> str:
        """The media type of the object."""
        return "application/zip" if self is Format.ZIP else f"image/{self.value}"


_MAX_SIDES_PX = {
    Format.PNG: 1_000_000,  # libpng's PNG_USER_WIDTH_MAX
    Format.WEBP: 16_383,  # its header has 14 bits (RFC 9649)
    Format.JPEG: 65_500,  # libjpeg's JPEG_MAX_DIMENSION; the format itself has 65,535
    Format.AVIF: 32_768,  # libavif writes 65,536, and reads no more than this by default
    Format.ZIP: 65_500,  # of color.jpg, the smaller one of its two
}


class Foreground(StrEnum):
    """Where the colours of half-transparent pixels come from."""

    ESTIMATE = "estimate"
    """Estimated at the edge, so that nothing of the old background shines through."""
    KEEP = "keep"
    """The photo's own colours."""


class ColourProfile(StrEnum):
    """What becomes of a photo's ICC profile."""

    SRGB = "srgb"
    """Converted, wide gamut and CMYK included: looks right where profiles are ignored."""
    KEEP = "keep"
    """An RGB photo's pixels and its profile stay as they are; the profile is embedded again."""


class ExifField(StrEnum):
    """EXIF that may be kept. Positions (GPS), serial numbers and makers' notes never are."""

    DESCRIPTION = "description"
    ARTIST = "artist"
    COPYRIGHT = "copyright"
    TAKEN_AT = "taken_at"
    CAMERA = "camera"


HexColour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$", examples=["#ffffff"])]


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gradient(_Value):
    """Two colours, blended in a straight line."""

    gradient: tuple[HexColour, HexColour] = Field(description="From, to.")
    angle_deg: float = Field(180, ge=0, lt=360, description="As in CSS: 0 up, 90 right, 180 down.")


class BackgroundImage(_Value):
    """A picture behind the subject, enlarged or shrunk until it covers the frame."""

    image: str = Field(
        pattern=r"^s3://[^/]+/.+", max_length=1_200, description="`s3://bucket/key` of a picture."
    )


class ShadowKind(StrEnum):
    """What kind of light is imitated."""

    DROP = "drop"
    """A soft copy of the outline, moved: the subject floats above the page."""
    CONTACT = "contact"
    """A dark, flat ellipse under the lowest part: the subject stands on something."""


class Shadow(_Value):
    """A shadow drawn from the matte. Lengths are shares of the subject's longer side."""

    kind: ShadowKind = ShadowKind.DROP
    opacity: float = Field(0.35, ge=0, le=1)
    blur: float = Field(0.03, ge=0, le=0.5, description="Standard deviation.")
    dx: float = Field(0.0, ge=-0.5, le=0.5, description="To the right; drop shadows only.")
    dy: float = Field(0.02, ge=-0.5, le=0.5, description="Down; drop shadows only.")


def _background(value: Any) -> Any:
    """A bare `s3://…` is an image."""
    if isinstance(value, str) and value.startswith("s3://"):
        return {"image": value}
    return value


def _shadow(value: Any) -> Any:
    """A bare kind takes that kind's usual form."""
    return {"kind": value} if isinstance(value, str) else value


def _scale(value: Any) -> Any:
    """`"80%"` is 0.8; `"original"` is none."""
    if value == "original":
        return None
    if isinstance(value, str) and value.endswith("%"):
        return float(value[:-1]) / 100
    return value


Background = Annotated[HexColour | Gradient | BackgroundImage, BeforeValidator(_background)]

_LENGTH = r"\d{1,5}(\.\d+)?(px|%)"
Margin = Annotated[
    str,
    Field(pattern=rf"^({_LENGTH}|0)( ({_LENGTH}|0)){{0,3}}$", examples=["30px", "10%", "5% 20px"]),
]


def _canvas(text: str) -> str:
    """Refuse frames that no picture has."""
    if "x" in text:
        if not all(0 < int(side) <= MAX_SIDE_PX for side in text.split("x")):
            raise ValueError(f"has sides of 1 to {MAX_SIDE_PX} pixels")
    else:
        across, down = map(float, text.split(":"))
        if not across or not down or max(across / down, down / across) > MAX_RATIO:
            raise ValueError(f"is no longer than {MAX_RATIO} times its width, nor wider")
    return text


Canvas = Annotated[
    str,
    Field(pattern=r"^(\d{1,5}x\d{1,5}|\d{1,4}(\.\d+)?:\d{1,4}(\.\d+)?)$", examples=["2000x2000"]),
    AfterValidator(_canvas),
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


class Rendition(_Value):
    """One output picture. Every field can be left out."""

    output: Output = Field(Output.CUTOUT, description="The cut-out, the matte alone, or both.")
    format: Format = Field(
        Format.PNG,
        description="JPEG has no transparency: it needs a background. AVIF where the worker's "
        "Pillow has it. ZIP holds `color.jpg` and `alpha.png`.",
    )
    quality: int = Field(90, ge=1, le=100, description="Of JPEG, WebP and AVIF.")
    max_bytes: int | None = Field(
        None, ge=10_000, description="JPEG, WebP, AVIF: the quality is lowered until it fits."
    )
    background: Background | None = Field(
        None,
        description="`#rrggbb`, `s3://bucket/key` of a picture, or "
        '`{"gradient": ["#ffffff", "#dddddd"]}`; none leaves it transparent.',
    )
    foreground: Foreground = Field(
        Foreground.ESTIMATE, description="Clean the colours of the edge, or keep the photo's."
    )
    crop: bool = Field(False, description="Cut to the subject's box.")
    crop_margin: Margin = Field(
        "0",
        description="Around that box, `px` of the photo or `%` of the box: one value, two "
        "(vertical, horizontal) or four (top, right, bottom, left).",
    )
    canvas: Canvas | None = Field(
        None, description="The frame: `WIDTHxHEIGHT` in pixels, or a ratio as `1:1.44`."
    )
    scale: Annotated[float | None, BeforeValidator(_scale)] = Field(
        None,
        ge=0.05,
        le=1,
        description="The subject's box against the frame, 0.05–1 or `80%`; centres it unless "
        "`position` says otherwise. None or `original` leaves its size.",
    )
    position: Position | None = Field(
        None,
        description="Of the subject in the frame: `center`, `original`, or `X% Y%` where 0% "
        "touches the left or upper side and 100% the other.",
    )
    enlarge: bool = Field(False, description="Allow a subject larger than it is in the photo.")
    max_side_px: int | None = Field(None, ge=16, le=MAX_SIDE_PX, description="Shrink to this.")
    max_megapixels: float | None = Field(None, gt=0, le=100, description="Shrink to this.")
    shadow: Annotated[Shadow | None, BeforeValidator(_shadow)] = Field(
        None, description="`drop`, `contact`, or an object with their values."
    )
    dpi: Annotated[int, Field(ge=1, le=10_000)] | Literal["keep"] | None = Field(
        None, description="Written into the file: a number, or `keep` for the photo's own."
    )
    exif: tuple[ExifField, ...] = Field(
        (), description="EXIF to keep. All other is removed, GPS always."
    )
    name: NameTemplate | None = Field(
        None,
        description="The file's name: `{stem}`, `{folder}`, `{path}` (folder and stem), `{ext}`, "
        "`{width}`, `{height}`. None: the photo's own with the format's extension.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        alone = self.output is Output.ALPHA
        if self.format is Format.JPEG and not alone and self.background is None:
            raise ValueError("JPEG has no transparency: give `background`, or use png or webp")
        if self.format is Format.ZIP and (self.output is not Output.CUTOUT or self.background):
            raise ValueError("a zip holds colour and matte: no `background`, no other `output`")
        if self.format is Format.ZIP and self.shadow:
            raise ValueError("a zip holds the photo's own colours: no `shadow`")
        if self.max_bytes and self.format in (Format.PNG, Format.ZIP):
            raise ValueError("`max_bytes` is for jpeg, webp and avif: png and zip lose nothing")
        if self.position is not None and self.position.startswith("original") and self.crop:
            raise ValueError("`position: original` and `crop` contradict each other")
        if self.name is not None:
            check_template(self.name)
        return self

    @property
    def changes_frame(self) -> bool:
        """Whether the picture is not simply as large as the photo."""
        return not self.only_shrinks or bool(self.max_side_px or self.max_megapixels)

    @property
    def only_shrinks(self) -> bool:
        """Whether it shows all that the photo shows, smaller perhaps."""
        return not (self.crop or self.canvas or self.scale or self.position)

    @property
    def is_plain(self) -> bool:
        """Whether the picture keeps the photo's frame and gets no shadow: the fast way."""
        return not self.changes_frame and self.shadow is None
