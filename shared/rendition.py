"""The look of one output picture: format, background, crop, canvas, shadow, colours, name.

The geometry is applied in this order: the worker finds the subject's bounding box; `crop` cuts to
that box plus `crop_margin`; `canvas` sets the size of the picture; `scale` or `padding` sizes
the subject relative to the canvas; `position` places it; `max_side_px` and `max_megapixels` shrink
the result. The subject is enlarged only if `enlarge` is set.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.clip_format import ClipFormat
from shared.marketplaces import Market
from shared.rendition_values import (
    MAX_SIDE_PX,
    AnyShadow,
    Background,
    Canvas,
    Margin,
    NameTemplate,
    Position,
    Scale,
    Value,
    lengths,
)
from shared.result_names import check_template


class Output(StrEnum):
    """What the result shows."""

    CUTOUT = "cutout"
    """The subject, on a transparent or coloured background."""
    ALPHA = "alpha"
    """The matte alone: 8-bit grey, white is the subject."""
    BOTH = "both"
    """The cut-out, and the matte beside it as `<name>-alpha.png`."""


class Format(StrEnum):
    """The file format of the result."""

    PNG = "png"
    WEBP = "webp"
    JPEG = "jpeg"
    AVIF = "avif"
    ZIP = "zip"
    """An archive of `color.jpg` (not premultiplied) and `alpha.png`: a tenth of a PNG's size."""
    PSD = "psd"
    """A Photoshop document: the cut-out with its matte as a mask, shadow, background, and the photo
    as a hidden layer below.
    """

    @property
    def extension(self) -> str:
        """The file name's extension, with no dot."""
        return "jpg" if self is Format.JPEG else self.value

    @property
    def max_side_px(self) -> int:
        """The longest side, in pixels, that its encoder can write and common decoders can read."""
        return _MAX_SIDES_PX[self]

    @property
    def content_type(self) -> str:
        """The media type of the object."""
        return _CONTENT_TYPES.get(self, f"image/{self.value}")


_CONTENT_TYPES = {
    Format.ZIP: "application/zip",
    Format.PSD: "image/vnd.adobe.photoshop",
}
_MAX_SIDES_PX = {
    Format.PNG: 1_000_000,  # libpng's PNG_USER_WIDTH_MAX
    Format.WEBP: 16_383,  # its header has 14 bits (RFC 9649)
    Format.JPEG: 65_500,  # libjpeg's JPEG_MAX_DIMENSION; the format itself has 65,535
    Format.AVIF: 32_768,  # libavif writes 65,536, and reads no more than this by default
    Format.ZIP: 65_500,  # of color.jpg, the smaller one of its two
    Format.PSD: 30_000,  # of version 1; larger ones are PSB files
}


class Foreground(StrEnum):
    """Where the colours of semi-transparent pixels come from."""

    ESTIMATE = "estimate"
    """Estimated at the edge, so that the old background does not show through."""
    KEEP = "keep"
    """The photo's own colours."""


class ColourProfile(StrEnum):
    """What happens to the ICC profile of a photo."""

    SRGB = "srgb"
    """Convert to sRGB (also wide gamut and CMYK): looks right in programs without profiles."""
    KEEP = "keep"
    """Keep the pixels of an RGB photo and embed its profile again."""


class ExifField(StrEnum):
    """EXIF fields that may be kept. GPS, serial numbers and maker notes are always removed."""

    DESCRIPTION = "description"
    ARTIST = "artist"
    COPYRIGHT = "copyright"
    TAKEN_AT = "taken_at"
    CAMERA = "camera"


class Rendition(Value):
    """The options of one output picture. Every field is optional."""

    output: Output = Field(Output.CUTOUT, description="The cut-out, the matte alone, or both.")
    format: Format = Field(
        Format.PNG,
        description="JPEG has no transparency, so it needs a `background`. AVIF needs Pillow "
        "with AVIF in the worker. ZIP contains `color.jpg` and `alpha.png`. PSD has layers: the "
        "cut-out with its matte as a mask, shadow, background, and the photo, hidden, below.",
    )
    clip_format: ClipFormat | None = Field(
        None,
        description="The format of a clip's result: `webm` (VP9 with transparency), `prores` (4444 "
        "in MOV, with transparency), `mp4` (H.264, needs a `background`), `stacked` (MP4 with the "
        "colours above the matte), `webp` (animated) or `frames` (a zip of PNG). Default: `mp4` "
        "with a `background`, else `webm`.",
    )
    quality: int = Field(
        90, ge=1, le=100, description="Encoder quality of JPEG, WebP, AVIF and of clips."
    )
    max_bytes: int | None = Field(
        None,
        ge=10_000,
        description="Largest file size. The worker lowers the quality until the file fits, down to "
        "20; `unmet` says so if it never does.",
    )
    background: Background | None = Field(
        None,
        description="`#rrggbb`, `#rgb`, a colour name of CSS, `s3://bucket/key` of a picture, or "
        '`{"gradient": ["#ffffff", "#dddddd"]}`; omit it for a transparent background.',
        examples=[
            "#ffffff",
            "white",
            "s3://photos/backdrops/wood.jpg",
            {"gradient": ["#ffffff", "#dddddd"], "angle_deg": 180},
            {"image": "s3://photos/backdrops/wood.jpg"},
        ],
    )
    foreground: Foreground = Field(
        Foreground.ESTIMATE,
        description="`estimate` cleans the edge colours; `keep` keeps the photo's.",
    )
    crop: bool = Field(False, description="Crop to the subject's bounding box.")
    crop_margin: Margin = Field(
        "0",
        description="Margin around the box, in `px` of the photo or `%` of the box: one value, two "
        "(vertical, horizontal) or four (top, right, bottom, left).",
    )
    canvas: Canvas | None = Field(
        None,
        description="Size of the picture: `WIDTHxHEIGHT` in pixels, or a ratio such as `1:1.44`.",
    )
    padding: Margin | None = Field(
        None,
        description="Free space between the sides of the `canvas` and the subject, in `px` or `%` "
        "of the canvas: one value, two (vertical, horizontal) or four (top, right, "
        "bottom, left). The subject fills what is left; not together with `scale`.",
    )
    snap: bool = Field(
        False,
        description="Keep a subject that a side of the photo cuts off at that side of the canvas, "
        "so that half a figure does not float.",
    )
    scale: Scale = Field(
        None,
        description="Size of the subject's box relative to the canvas, 0.05–1 or `80%`. Also "
        "centres the subject unless `position` is set. `original` keeps its size.",
        examples=[0.8, "80%", "original"],
    )
    position: Position | None = Field(
        None,
        description="Position of the subject on the canvas: `center`, `original`, or `X% Y%`; 0% "
        "is the left or top side, 100% the right or bottom side.",
    )
    enlarge: bool = Field(
        False,
        description="Allow enlarging the subject beyond its size in the photo. A `canvas` that is "
        "a ratio then grows to the smallest size that the `market` accepts.",
    )
    market: Market | None = Field(
        None, description="Check the file against this marketplace's rules."
    )
    max_side_px: int | None = Field(
        None, ge=16, le=MAX_SIDE_PX, description="Longest side of the result."
    )
    max_megapixels: float | None = Field(
        None, gt=0, le=100, description="Most megapixels of the result."
    )
    shadow: AnyShadow = Field(
        None,
        description="`drop`, `contact`, or an object with their values.",
        examples=["drop", {"kind": "contact", "opacity": 0.5}],
    )
    dpi: Annotated[int, Field(ge=1, le=10_000)] | Literal["keep"] | None = Field(
        None,
        description="Resolution written into the file: a number, or `keep` for the photo's.",
        examples=[300, "keep"],
    )
    exif: tuple[ExifField, ...] = Field(
        (), description="EXIF fields to keep. All others are removed; GPS always is."
    )
    name: NameTemplate | None = Field(
        None,
        description="The file's name, with [placeholders](#placeholders) such as `{stem}`, `{id}` "
        "or a manifest's column. Default: the photo's name with the extension of the format.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        alone = self.output is Output.ALPHA
        if self.format is Format.JPEG and not alone and self.background is None:
            raise ValueError(
                "JPEG has no transparency: set `background`, such as white, or use png or webp"
            )
        if self.clip_format is ClipFormat.MP4 and not alone and self.background is None:
            raise ValueError(
                "clip_format mp4 has no transparency: set `background`, or use webm, prores, "
                "stacked or webp"
            )
        if self.clip_format is ClipFormat.STACKED and (alone or self.background is not None):
            raise ValueError(
                "clip_format stacked holds a transparent cut-out: it allows no `background` and no "
                "`output: alpha`"
            )
        if self.format is Format.ZIP and (self.output is not Output.CUTOUT or self.background):
            raise ValueError("format zip allows no `background` and only `output: cutout`")
        if self.format is Format.ZIP and self.shadow:
            raise ValueError("format zip allows no `shadow`")
        if self.format is Format.PSD and alone:
            raise ValueError("format psd holds the cut-out: `output: alpha` needs another format")
        if self.max_bytes and self.format in (Format.PNG, Format.ZIP, Format.PSD):
            raise ValueError("`max_bytes` works with jpeg, webp and avif only")
        if self.position is not None and self.position.startswith("original") and self.crop:
            raise ValueError("`position: original` and `crop` cannot be combined")
        if self.padding is not None:
            self._check_padding()
        if self.name is not None:
            check_template(self.name)
        return self

    def _check_padding(self) -> None:
        if self.canvas is None:
            raise ValueError("`padding` needs a `canvas`")
        if self.scale is not None:
            raise ValueError("`padding` and `scale` both size the subject: give one of them")
        sides = lengths(self.padding or "0")
        given = self.canvas.split("x") if "x" in self.canvas else None
        for axis, pair in enumerate(((sides[3], sides[1]), (sides[0], sides[2]))):
            share = sum(one.share for one in pair)
            pixels = sum(one.px for one in pair)
            side = float(given[axis]) if given else None
            if share >= 1 or (side is not None and pixels + share * side >= side):
                raise ValueError("`padding` leaves no room for the subject")

    @property
    def effective_clip_format(self) -> ClipFormat:
        """The format of a clip's result."""
        opaque = self.background is not None or self.output is Output.ALPHA
        return self.clip_format or (ClipFormat.MP4 if opaque else ClipFormat.WEBM)

    def extension(self, *, clip: bool) -> str:
        """The file name's extension of a clip's result, or of a photo's, with no dot."""
        return self.effective_clip_format.extension if clip else self.format.extension

    def content_type(self, *, clip: bool) -> str:
        """The media type of a clip's result, or of a photo's."""
        return self.effective_clip_format.content_type if clip else self.format.content_type

    @property
    def changes_frame(self) -> bool:
        """Whether the result can differ in size or content from the photo's frame."""
        return not self.only_shrinks or bool(self.max_side_px or self.max_megapixels)

    @property
    def only_shrinks(self) -> bool:
        """Whether the result shows the whole photo, only shrunk."""
        return not (self.crop or self.canvas or self.scale or self.position)

    @property
    def is_plain(self) -> bool:
        """Whether the result keeps the photo's frame and has no shadow: the fast path."""
        return not self.changes_frame and self.shadow is None
