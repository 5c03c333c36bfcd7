"""Builds photo files by hand: the drawn content, and the chunks of a PNG."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pillow_heif


def saved(image: PIL.Image.Image, kind: str, **arguments: object) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **arguments)
    return buffer.getvalue()


def heif(image: PIL.Image.Image, **arguments: object) -> bytes:
    """As a HEIC file; without loss by default."""
    buffer = io.BytesIO()
    arguments = {"quality": -1, "chroma": 444, "matrix_coefficients": 0} | arguments
    pillow_heif.from_pillow(image).save(buffer, **arguments)
    return buffer.getvalue()


def drawn(width: int = 96, height: int = 64) -> PIL.Image.Image:
    """A red disc on a grey wall. A little noise makes sure that cut files end within pixel data."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(5).integers(-6, 7, (height, width, 3))
    pixels = np.full((height, width, 3), (200, 202, 205)) + noise
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 3) ** 2
    pixels[inside] = (190, 40, 45)
    return PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def png(header: bytes, rows: bytes) -> bytes:
    """A PNG file from a header and compressed rows."""
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, with its checksum."""
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def run_length_bmp(image: PIL.Image.Image) -> bytes:
    """A BMP with 256 colours and run-length encoded rows, which Pillow can't write."""
    palette = image.convert("P", palette=PIL.Image.Palette.ADAPTIVE)
    width, height = palette.size
    rows = np.asarray(palette)[::-1]
    packed = b"".join(b"".join(bytes((1, index)) for index in row) + b"\0\0" for row in rows)
    packed += b"\0\1"
    colours = np.zeros((256, 4), np.uint8)
    known = np.frombuffer(bytes(palette.getpalette() or b""), np.uint8).reshape(-1, 3)
    colours[: len(known), :3] = known[:, ::-1]
    start = 14 + 40 + colours.nbytes
    header = struct.pack("<2sLHHL", b"BM", start + len(packed), 0, 0, start)
    header += struct.pack("<LllHHLLllLL", 40, width, height, 1, 8, 1, len(packed), 0, 0, 256, 0)
    return header + colours.tobytes() + packed
