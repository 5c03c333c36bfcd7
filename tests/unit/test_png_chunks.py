"""PNG files with very many texts."""

import struct
import zlib

from shared.png_chunks import MOST_UNPACKED, PNG_SIGNATURE, png_chunks, readable_png


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def test_a_bomb_of_packed_texts_is_left_out_and_the_rest_stays() -> None:
    header = chunk(b"IHDR", struct.pack(">II5B", 8, 8, 8, 0, 0, 0, 0))
    text = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(1_000_000)))
    exif = chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0\0\0\0\0")
    pixels = chunk(b"IDAT", zlib.compress(bytes(72))) + chunk(b"IEND", b"")
    found = readable_png(PNG_SIGNATURE + header + text * 200 + exif + pixels)
    kinds = [kind for kind, _, _ in png_chunks(found)]
    assert kinds == [b"IHDR", *[b"zTXt"] * MOST_UNPACKED, b"eXIf", b"IDAT", b"IEND"]
