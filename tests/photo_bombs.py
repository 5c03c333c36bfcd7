"""Makes small files that need very much memory or time to decode."""

import struct
import zlib

import PIL.Image

from tests.photo_files import chunk, drawn, png, saved

MANY = 200_000


def bombs() -> dict[str, tuple[bytes, str]]:
    """All bombs by name, each with the error code that it must fail with, or `succeeded`."""
    plain = saved(drawn(), "PNG")
    jpeg = saved(drawn(), "JPEG")
    last = bytearray(plain)
    last[33:37] = b"\xfe\x02\x42\x35"
    return {
        **_large(),
        "scans.jpg": (scan_bomb(), "too-costly"),
        "padding.jpg": (jpeg[:2] + b"\xff" * 2 * MANY + jpeg[2:], "too-costly"),
        "rubbish.jpg": (jpeg[:20] + b"\0" * 2 * MANY + jpeg[20:], "too-costly"),
        "comments.jpg": (jpeg[:2] + b"\xff\xfe\0\2" * MANY + jpeg[2:], "too-costly"),
        "comments-behind.jpg": (jpeg[:-2] + (b"\xff\xfe\0\2" * MANY) + jpeg[-2:], "succeeded"),
        "chunks.png": (plain[:33] + chunk(b"abCd", b"") * MANY + plain[33:], "too-costly"),
        "chunks-behind.png": (plain[:-12] + chunk(b"abCd", b"") * MANY + plain[-12:], "too-costly"),
        "text.png": (plain[:33] + _comment(1) + plain[33:], "succeeded"),
        "text-behind.png": (plain[:-12] + _comment(8) + plain[-12:], "succeeded"),
        "profile.png": (profile_bomb(), "succeeded"),
        "chunk-of-4-gb.png": (bytes(last), "truncated-image"),
        "tags.tiff": (b"II*\0" + struct.pack("<IH", 8, 65_535) + bytes(65_535), "truncated-image"),
        "strips.tiff": (
            tiff({273: (4, MANY, 8), 279: (4, MANY, 8)}, bytes(4 * MANY)),
            "too-costly",
        ),
        "tile.tiff": (tile_bomb(), "too-costly"),
        "circle.tiff": (circular_tiff(), "succeeded"),
        "nothing.png": (png(bytes(8) + bytes((8, 2, 0, 0, 0)), b""), "truncated-image"),
    }


def _large() -> dict[str, tuple[bytes, str]]:
    """Headers that declare more pixels than are allowed."""
    large = struct.pack(">II", 40_000, 40_000)
    jpeg = bytearray(saved(drawn(), "JPEG"))
    frame = jpeg.find(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_535, 65_535)
    bmp = bytearray(saved(drawn(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    tiff = bytearray(saved(drawn(), "TIFF"))
    for tag in (256, 257):  # width and height
        entry = tiff.find(struct.pack("<HHI", tag, 4, 1))
        tiff[entry + 8 : entry + 12] = struct.pack("<I", 60_000)
    webp = bytearray(saved(drawn().convert("RGBA"), "WEBP"))
    canvas = webp.find(b"VP8X")
    webp[canvas + 12 : canvas + 18] = b"\xff\x3f\x00" * 2 if canvas > 0 else b""
    largest = png(b"\x7f\xff\xff\xff" * 2 + bytes((16, 6, 0, 0, 0)), b"")
    return {
        "large.png": (png(large + bytes((1, 0, 0, 0, 0)), b""), "too-many-pixels"),
        "largest.png": (largest, "too-many-pixels"),
        "large.jpg": (bytes(jpeg), "too-many-pixels"),
        "large.bmp": (bytes(bmp), "too-many-pixels"),
        "large.tiff": (bytes(tiff), "too-many-pixels"),
        "large-canvas.webp": (bytes(webp), "not-an-image"),
    }


def _comment(times: int) -> bytes:
    """PNG comments that unpack to 16 MiB, or to just below libpng's limit."""
    size = 16 * 1024**2 if times == 1 else 7_900_000
    text = zlib.compress(bytes(size), 9)
    return b"".join(chunk(b"zTXt", b"%d\0\0" % number + text) for number in range(times))


def profile_bomb() -> bytes:
    """A small PNG whose colour profile unpacks to 16 MiB."""
    profile = b"icc\0\0" + zlib.compress(bytes(16 * 1024**2), 9)
    image = saved(drawn(), "PNG")
    return image[:33] + chunk(b"iCCP", profile) + image[33:]


def tiff(fields: dict[int, tuple[int, int, int]], body: bytes) -> bytes:
    """A grey TIFF of 64 x 64 pixels.

    The given fields (type, count, value) replace or extend its own. The body follows them.
    """
    own = {256: (3, 1, 64), 257: (3, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    own |= {277: (3, 1, 1), 278: (4, 1, 1)} | fields
    entries = (
        struct.pack("<HHII", tag, kind, count, value)
        for tag, (kind, count, value) in sorted(own.items())
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(own)) + b"".join(entries)
    return head + bytes(4) + body


def tile_bomb(side: int = 8_192) -> bytes:
    """A TIFF of 64 x 64 pixels whose only tile unpacks to 64 MB."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    place = 8 + 2 + 12 * 11 + 4
    fields = {259: (3, 1, 8), 322: (4, 1, side), 323: (4, 1, side)}
    return tiff(fields | {324: (4, 1, place), 325: (4, 1, len(data))}, data)


def circular_tiff() -> bytes:
    """A TIFF whose list of pictures points back to the first one."""
    data = bytearray(saved(drawn(), "TIFF"))
    (first,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[first : first + 2])
    after = first + 2 + 12 * count
    data[after : after + 4] = struct.pack("<I", first)
    return bytes(data)


def scan_bomb(width: int = 2_000, height: int = 2_000, scans: int = 3_000) -> bytes:
    """A progressive JPEG that repeats its last scan. Each scan processes all pixels again."""
    data = saved(PIL.Image.new("L", (width, height), 128), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"
