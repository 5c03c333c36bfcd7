"""Makes files that customers upload by mistake or on purpose: unusual, damaged and hostile ones."""

import base64
import pickle
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from tests.photo_bombs import bombs
from tests.photo_files import drawn, heif, png, run_length_bmp, saved
from tests.photo_matrix import psd

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
"""A red disc on grey, 64 x 48, arithmetic-coded. No Python package can write such a file."""


def good() -> dict[str, bytes]:
    """Valid photos that must succeed, by what is unusual about them."""
    image = drawn()
    files = {kind.lower(): saved(image, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")}
    files["progressive.jpg"] = saved(image, "JPEG", progressive=True)
    files["arithmetic.jpg"] = ARITHMETIC_JPEG
    files["cmyk.jpg"] = saved(image.convert("CMYK"), "JPEG")
    files["ycck.jpg"] = ycck(image)
    files["grey.jpg"] = saved(image.convert("L"), "JPEG")
    files["several.mpo"] = saved(image, "MPO", save_all=True, append_images=[image])
    files["moving.webp"] = saved(image, "WEBP", save_all=True, append_images=[drawn(96, 64)])
    files["palette.png"] = saved(image.convert("P"), "PNG")
    clear = image.convert("RGBA")
    clear.putalpha(PIL.Image.linear_gradient("L").resize(image.size))
    files["clear.png"] = saved(clear, "PNG")
    files["phone.heic"] = heif(image)
    pixels = np.asarray(image.resize((24, 16))).astype(np.int64)
    files["layers.psd"] = psd(pixels, 3, 8, has_alpha=False, packed_rows=True)
    files["modern.avif"] = saved(image, "AVIF")
    files["grey-alpha.png"] = saved(image.convert("LA"), "PNG")
    files["bilevel.png"] = saved(image.convert("1"), "PNG")
    ramp = np.linspace(0, 65_535, 96 * 64 * 3).reshape(64, 96, 3).astype(np.uint16)
    files["16bit.png"] = wide_png(ramp)
    files["lzw.tiff"] = saved(image, "TIFF", compression="tiff_lzw")
    files["jpeg.tiff"] = saved(image, "TIFF", compression="jpeg")
    files["float.tiff"] = saved(image.convert("F"), "TIFF")
    files["cmyk.tiff"] = saved(image.convert("CMYK"), "TIFF")
    files["runs.bmp"] = run_length_bmp(image)
    files["1x1.png"] = saved(drawn(1, 1), "PNG")
    files["30000x100.jpg"] = saved(PIL.Image.new("RGB", (30_000, 100), "white"), "JPEG")
    files["100x30000.png"] = saved(PIL.Image.new("RGB", (100, 30_000), "white"), "PNG")
    for orientation in range(1, 9):
        files[f"turned-{orientation}.jpg"] = turned(orientation)
    return files


def turned(orientation: int) -> bytes:
    """A photo with this EXIF orientation."""
    image = drawn()
    exif = image.getexif()
    exif[0x0112] = orientation
    return saved(image, "JPEG", exif=exif)


def never_images() -> dict[str, bytes]:
    """Files that are no photos, whatever their names say."""
    frames = [drawn(16, 16), drawn(17, 16).resize((16, 16))]
    return {
        "page.jpg": b"<!doctype html><html><body>404</body></html>",
        "script.jpg": b"#!/bin/sh\nrm -rf /\n",
        "program.jpg": b"\x7fELF\x02\x01\x01" + bytes(200),
        "pickle.jpg": pickle.dumps({"a": 1}),
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
        "marked.svg": b"\xef\xbb\xbf<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        "entities.jpg": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "moving.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "moving.jpg": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "icon.ico": saved(frames[0], "ICO"),
        "paper.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "post-script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "film.mp4": b"\0\0\0\x18ftypisom" + bytes(200),
        "zeros.jpg": bytes(4_096),
        "noise.jpg": b"\x01" + np.random.default_rng(2).bytes(4_096),
        "archive.jpg": b"PK\x03\x04" + bytes(200),
        "text.jpg": "Größe: 42\n".encode("utf-16"),
        "link.jpg": b"[InternetShortcut]\r\nURL=http://169.254.169.254/\r\n",
        "one-byte.jpg": b"\xff",
    }


AS_CLIPS = {"moving.gif": ("succeeded",), "film.mp4": ("truncated-clip", "unsupported-clip")}
"""What becomes of those that are called like clips, where clips are taken."""


def unread_pictures() -> dict[str, bytes]:
    """Pictures of kinds that are not read."""
    return {
        "jpeg-2000.jpg": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200),
        "newest.jxl": b"\xff\x0a" + bytes(200),
        "large.psb": b"8BPB" + bytes(200),
        "light.exr": b"\x76\x2f\x31\x01" + bytes(200),
        "app.png": b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI" + bytes(200),
    }


def cut(files: dict[str, bytes], every: int = 16) -> Iterator[tuple[str, bytes]]:
    """Cut each file off at `every` places, from its first byte to the one before the last."""
    for name, data in files.items():
        for part in range(every):
            length = 1 + (len(data) - 2) * part // (every - 1)
            yield f"{name}@{length}", data[:length]


@dataclass(frozen=True)
class Case:
    """A file, and the outcomes that are allowed for it."""

    name: str
    data: bytes
    outcomes: frozenset[str]


def cases() -> list[Case]:
    """Hundreds of files, each with its allowed outcomes (`succeeded`, or an error's code)."""
    files = good()
    found = [_case("empty.jpg", b"", "empty-file")]
    found += [_case(name, data, "succeeded") for name, data in files.items()]
    for name in ("jpeg", "png", "webp", "bmp", "tiff"):
        found += [
            _case(f"{name}-called.{other}", files[name], "succeeded")
            for other in ("jpg", "png", "webp", "gif", "svg", "html", "exe")
        ]
    found += [
        _case(name, data, "not-an-image", *AS_CLIPS.get(name, ()))
        for name, data in never_images().items()
    ]
    found += [_case(name, data, "unsupported-image") for name, data in unread_pictures().items()]
    found += [_case(f"bomb-{name}", data, code) for name, (data, code) in bombs().items()]
    # only the first picture is used, and it comes first in the file
    whole = files.pop("several.mpo")
    found.append(_case("several-cut.mpo", whole[: len(whole) * 3 // 4], "succeeded"))
    found.append(_case("first-cut.mpo", whole[: len(whole) // 4], "truncated-image"))
    for name, data in cut(files):
        # The first bytes tell that it was to be a photo.
        outcomes = ["truncated-image"]
        if len(data) < 33:
            outcomes.append("not-an-image")
        if len(files[name.partition("@")[0]]) - len(data) <= 12:
            outcomes.append("succeeded")  # only the mark of the end is missing
        found.append(_case(f"cut-{name}", data, *outcomes))
    for name in ("jpeg", "progressive.jpg", "cmyk.jpg", "png", "palette.png", "16bit.png"):
        half = len(files[name]) // 2  # a download that reserved its space and stopped halfway
        padded = files[name][:half] + bytes(half)
        found.append(_case(f"padded-{name}", padded, "truncated-image"))
    for orientation in (0, 9, 262, 65_535):
        found.append(_case(f"turned-{orientation}.jpg", turned(orientation), "succeeded"))
    exif = b"\xff\xe1\x00\x20Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(14)
    found.append(_case("exif.jpg", files["jpeg"][:2] + exif + files["jpeg"][2:], "succeeded"))
    tail = b"PK\x05\x06" + bytes(18)
    found += [_case(f"tail-{name}", files[name] + tail, "succeeded") for name in ("jpeg", "png")]
    for name, data in mutated({name: files[name] for name in SMALL}, each=12, seed=3):
        found.append(_case(f"mutated-{name}", data, "succeeded", *CODES))
    return found


SMALL = ("jpeg", "png", "webp", "bmp", "tiff", "progressive.jpg", "cmyk.jpg", "palette.png")

CODES = (
    "empty-file",
    "not-an-image",
    "camera-raw",
    "unsupported-image",
    "truncated-image",
    "too-many-pixels",
    "too-costly",
)
"""What the codec may say of a damaged file."""


def _case(name: str, data: bytes, *outcomes: str) -> Case:
    return Case(name, data, frozenset(outcomes))


def mutated(files: dict[str, bytes], each: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Damage each file `each` times: flip bits, overwrite, remove or repeat blocks."""
    rng = np.random.default_rng(seed)
    for name, data in files.items():
        for number in range(each):
            changed = bytearray(data)
            for _ in range(int(rng.integers(1, 6))):
                # Headers are short and matter most, so they are hit more often.
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


def ycck(image: PIL.Image.Image) -> bytes:
    """A four-channel JPEG as Photoshop writes it: the inks as YCbCr (ITU-T T.871), without black.

    Pillow stores the four channels inverted, as Adobe does, but marks them as not inverted.
    """
    red, green, blue = np.moveaxis(255.0 - np.asarray(image, np.float64), -1, 0)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    cb = 128 + (blue - y) / 1.772
    cr = 128 + (red - y) / 1.402
    stored = np.stack([y, cb, cr, np.full_like(y, 255)], -1).round().clip(0, 255)
    inks = PIL.Image.frombytes("CMYK", image.size, (255 - stored).astype(np.uint8).tobytes())
    data = bytearray(saved(inks, "JPEG", quality=95))
    data[data.find(b"Adobe") + 11] = 2
    return bytes(data)


def wide_png(values: NDArray[np.uint16], *, interlaced: bool = False) -> bytes:
    """A PNG with 16 bits per channel, from [h, w, 1 to 4], without filters and with Adam7
    interlacing (PNG, 8.2).
    """
    height, width, channels = values.shape
    passes = [(slice(None), slice(None))]
    if interlaced:
        starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2)]
        starts += [(0, 1, 2, 2), (1, 0, 2, 1)]
        passes = [(slice(y, None, down), slice(x, None, across)) for y, x, down, across in starts]
    parts = [values[rows, columns].astype(">u2") for rows, columns in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, int(interlaced))
    return png(header, zlib.compress(rows))
