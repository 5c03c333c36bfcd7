"""The file formats of a clip's result."""

from enum import StrEnum


class ClipFormat(StrEnum):
    """The file format of a clip's result."""

    WEBM = "webm"
    """VP9 with an alpha channel."""
    PRORES = "prores"
    """ProRes 4444 in a MOV, with an alpha channel: for editing programs."""
    MP4 = "mp4"
    """H.264 on a background, or of the matte alone."""
    STACKED = "stacked"
    """H.264, twice as high: colours above, matte below. A few lines of WebGL show it anywhere."""
    WEBP = "webp"
    """An animated picture with an alpha channel, without sound."""
    FRAMES = "frames"
    """A zip of PNG files and `frames.json` with the time of each."""

    @property
    def extension(self) -> str:
        """The file name's extension, with no dot."""
        return _EXTENSIONS.get(self, self.value)

    @property
    def content_type(self) -> str:
        """The media type of the file."""
        return _CONTENT_TYPES[self]

    @property
    def has_sound(self) -> bool:
        """Whether the format can hold the sound of a clip."""
        return self not in (ClipFormat.WEBP, ClipFormat.FRAMES)

    @property
    def max_side_px(self) -> int:
        """The longest side, in pixels, that the encoder can write."""
        return _MAX_SIDES_PX[self]


_EXTENSIONS = {ClipFormat.PRORES: "mov", ClipFormat.STACKED: "mp4", ClipFormat.FRAMES: "zip"}
_CONTENT_TYPES = {
    ClipFormat.WEBM: "video/webm",
    ClipFormat.PRORES: "video/quicktime",
    ClipFormat.MP4: "video/mp4",
    ClipFormat.STACKED: "video/mp4",
    ClipFormat.WEBP: "image/webp",
    ClipFormat.FRAMES: "application/zip",
}
_MAX_SIDES_PX = {
    ClipFormat.WEBM: 16_383,
    ClipFormat.PRORES: 8_192,
    ClipFormat.MP4: 8_192,  # H.264, level 6.2
    ClipFormat.STACKED: 4_096,  # one half of an H.264 picture
    ClipFormat.WEBP: 16_383,  # its header has 14 bits (RFC 9649)
    ClipFormat.FRAMES: 65_500,
}
