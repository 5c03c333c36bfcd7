"""Files that customers send without meaning to, and some that are meant: made, not collected."""

import base64
import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import PIL.Image

ARITHMETIC_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIs"
    "IxwcKDcpLDAxNDQ0Hyc5PTgyPC4zNDL/2wBDAQkJCQwLDBgNDRgyIRwhMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIy"
    "MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjL/yQARCAAwAEADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIR"
    "AxEAPwDSqAkQOovfMTxID0pfVWndeo0ZTbV02vDRsJCsNEAFpMke7WgMaJ1SvVDe4GTAdQ2DHpD9b6VjDuChdMYf"
    "vc64yNST83MXf1NX3/EbL/0IVrqTctSsRyR95ThqTSOM1km6WumbRNT2TTdGWV//ANIdIeNOSz+r5zUNxzeBMRE4"
    "ET0Lntyj4aSJoAz9DUn5CZ56t0pkjOmRjvEayyAZzWN91978gxKiXFbrNmafdOIvXRpkWPtHe7u3/ErYD0tomkv9"
    "UWbE+hMBDSAK7dAPfCMp3nudp/ObdOSEQ0+QAzYj36DmyjNUoxOK33Xi1EARPtMurz2C75ONr/4B8bgojqEjRlwZ"
    "6xzGowl8PNjee/hFRVQywvofbGZzD1L+1RxV4SBLZASxYtql7bMXMUBwvk/AwBvmjkrKaPumiH56jkXfpkZDoN9U"
    "pvzenhkd6FWdCFtR7X5+yQD0Q0pxHMR92eZ2aIJFaS3HgzlDFyw23YpqhGIanF7/AHRnEFz1dojioP/Z"
)
"""A red disc before grey, 64 x 48, arithmetic-coded: no Python package writes these."""


def saved(image: PIL.Image.Image, kind: str, **arguments: object) -> bytes:
    """As a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **arguments)
    return buffer.getvalue()


def drawn(width: int = 96, height: int = 64) -> PIL.Image.Image:
    """A red disc before a grey wall with a little noise, so that files are cut in real data."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(5).integers(-6, 7, (height, width, 3))
    pixels = np.full((height, width, 3), (200, 202, 205)) + noise
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 3) ** 2
    pixels[inside] = (190, 40, 45)
    return PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def good() -> dict[str, bytes]:
    """What must be matted, by what is unusual about it."""
    image = drawn()
    files = {kind.lower(): saved(image, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")}
    files["progressive.jpg"] = saved(image, "JPEG", progressive=True)
    files["arithmetic.jpg"] = ARITHMETIC_JPEG
    files["cmyk.jpg"] = saved(image.convert("CMYK"), "JPEG")
    files["ycck.jpg"] = ycck()
    files["grey.jpg"] = saved(image.convert("L"), "JPEG")
    files["wrong-extension.png"] = saved(image, "JPEG")
    files["palette.png"] = saved(image.convert("P"), "PNG")
    files["grey-alpha.png"] = saved(image.convert("LA"), "PNG")
    files["bilevel.png"] = saved(image.convert("1"), "PNG")
    files["interlaced-16bit.png"] = sixteen_bit_png()
    files["1x1.png"] = saved(drawn(1, 1), "PNG")
    files["30000x100.jpg"] = saved(PIL.Image.new("RGB", (30_000, 100), "white"), "JPEG")
    files["100x30000.png"] = saved(PIL.Image.new("RGB", (100, 30_000), "white"), "PNG")
    for orientation in range(1, 9):
        exif = image.getexif()
        exif[0x0112] = orientation
        files[f"turned-{orientation}.jpg"] = saved(image, "JPEG", exif=exif)
    return files


def never_images() -> dict[str, bytes]:
    """What is no photo, whatever it is called."""
    frames = [drawn(16, 16), drawn(16, 17).resize((16, 16))]
    return {
        "page.jpg": b"<!doctype html><html><body>404</body></html>",
        "script.jpg": b"#!/bin/sh\nrm -rf /\n",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
        "moving.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "paper.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "post-script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "zeros.jpg": bytes(4_096),
        "archive.jpg": b"PK\x03\x04" + bytes(200),
    }


def cut(files: dict[str, bytes], every: int = 16) -> Iterator[tuple[str, bytes]]:
    """Each file, cut at `every` places from its first byte to the one before its last."""
    for name, data in files.items():
        for part in range(every):
            length = 1 + (len(data) - 2) * part // (every - 1)
            yield f"{name}@{length}", data[:length]


def mutated(files: dict[str, bytes], each: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Each file `each` times with bits turned, blocks overwritten, removed or sent twice."""
    rng = np.random.default_rng(seed)
    for name, data in files.items():
        for number in range(each):
            changed = bytearray(data)
            for _ in range(int(rng.integers(1, 6))):
                # Headers decide the most, and are short.
                reach = len(changed) if rng.random() < 0.5 else min(len(changed), 200)
                at, length = int(rng.integers(reach)), int(rng.integers(1, 24))
                action = rng.integers(4)
                if action == 0:
                    changed[at] ^= 1 << int(rng.integers(8))
                elif action == 1:
                    changed[at : at + length] = rng.bytes(len(changed[at : at + length]))
                elif action == 2 and len(changed) > 2 * length:
                    del changed[at : at + length]
                else:
                    changed[at:at] = changed[at : at + length]
            yield f"{name}~{number}", bytes(changed)


def ycck() -> bytes:
    """A four-channel JPEG whose Adobe marker says YCCK, as Photoshop writes them."""
    data = bytearray(saved(drawn().convert("CMYK"), "JPEG"))
    marker = data.find(b"Adobe")
    data[marker + 11] = 2
    return bytes(data)


def sixteen_bit_png() -> bytes:
    """A colour ramp of 16 bits a channel, [48, 64, 3], with no filter."""
    y, x = np.mgrid[:48, :64]
    pixels = np.stack([x * 1_000, y * 1_300, np.full_like(x, 30_000)], -1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return png(struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0), zlib.compress(rows))


def text_bomb() -> bytes:
    """A small PNG whose comment unpacks to 64 MiB."""
    comment = b"Comment\0\0" + zlib.compress(bytes(64 * 1024**2), 9)
    image = saved(drawn(), "PNG")
    return image[:33] + chunk(b"zTXt", comment) + image[33:]


def scan_bomb(width: int = 2_000, height: int = 2_000, scans: int = 3_000) -> bytes:
    """A progressive JPEG that repeats its last scan: each one goes over all its pixels again."""
    data = saved(PIL.Image.new("L", (width, height), 128), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def png(header: bytes, rows: bytes) -> bytes:
    """A PNG file of a header and packed rows."""
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, with its checksum."""
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
