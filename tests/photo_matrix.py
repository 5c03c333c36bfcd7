"""Small photos of every kind that is accepted, each with what an independent reader sees in it.

The pictures are made by hand or by other programs' writers. What they hold is read by libvips, by
tifffile with formulas from TIFF 6.0, or known because it was drawn.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import PIL.Image
import pyvips
import tifffile
from numpy.typing import NDArray

from tests.colour_profiles import (
    adobe_rgb,
    adobe_to_linear,
    encode_srgb,
    grey_gamma,
    linear_of_srgb,
    linear_rgb,
)
from tests.photo_files import chunk, heif, saved

WIDTH, HEIGHT = 24, 16

PACKINGS = ("tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", "jpeg")


@dataclass(frozen=True)
class Sample:
    """A file, and what it looks like upright: RGBA [h, w, 4] uint8."""

    name: str
    data: bytes
    seen: NDArray[np.uint8]


def gradient(channels: int, full: int) -> NDArray[np.int64]:
    """Smooth colours [h, w, channels] in 0..full, so that chroma subsampling hardly shows."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    planes = (x / (WIDTH - 1), y / (HEIGHT - 1), (x + y) / (WIDTH + HEIGHT - 2), 1 - x / WIDTH / 2)
    return np.stack([np.rint(planes[n] * full) for n in range(channels)], -1).astype(np.int64)


def matrix() -> Iterator[Sample]:
    """All samples."""
    yield from pngs()
    yield from jpegs()
    yield from webps()
    yield from tiffs()
    yield from bmps()
    yield from phones()
    yield from psds()


def read_by_vips(data: bytes) -> NDArray[np.uint8]:
    """A file as libvips sees it: upright RGBA in sRGB."""
    image = pyvips.Image.new_from_buffer(data, "", access="random").autorot()
    if image.get_typeof("icc-profile-data") and image.interpretation != "b-w-wrong":
        image = image.icc_transform("srgb", embedded=True, intent="perceptual", depth=8)
    image = image.colourspace("srgb")
    if image.bands < 4:
        image = image.bandjoin(255)
    return np.asarray(image.cast("uchar").numpy()).astype(np.uint8)


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels turned as the orientation says (TIFF 6.0, tag 274): where row 0 and column 0 are."""
    rows_and_columns = {
        1: pixels,
        2: np.fliplr(pixels),
        3: np.rot90(pixels, 2),
        4: np.flipud(pixels),
        5: np.rot90(np.fliplr(pixels), 1),
        6: np.rot90(pixels, -1),
        7: np.rot90(np.fliplr(pixels), -1),
        8: np.rot90(pixels, 1),
    }
    return rows_and_columns[orientation]


def exif(orientation: int) -> bytes:
    """An EXIF block that only says how the photo lies."""
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x112, 3, 1, orientation, 0) + bytes(4)


def pngs() -> Iterator[Sample]:
    """Every colour type and bit depth (PNG, table 12), with and without a clear colour, woven or
    not, turned, and with profiles.
    """
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    kinds = [(kind, bits) for kind, all_bits in depths.items() for bits in all_bits]
    profiles = {"none": b"", "linear": linear_rgb(), "adobe": adobe_rgb(), "grey": grey_gamma(1.8)}
    for (kind, bits), clear, turn, woven in product(kinds, (False, True), range(1, 9), (0, 1)):
        if (clear and kind in (4, 6)) or (woven and turn != 1):
            continue
        yield png_sample(kind, bits, clear=clear, turn=turn, woven=woven)
    for (kind, bits), (name, profile) in product(kinds, profiles.items()):
        if profile and (name == "grey") == (kind in (0, 4)):
            yield png_sample(kind, bits, profile=profile, label=name)


def png_sample(
    kind: int,
    bits: int,
    *,
    clear: bool = False,
    turn: int = 1,
    woven: int = 0,
    profile: bytes = b"",
    label: str = "none",
) -> Sample:
    """One PNG, and what libvips sees in it."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    values = gradient(channels, 2**bits - 1)
    body = b"".join(
        chunk(name, content)
        for name, content in (
            (b"eXIf", exif(turn) if turn > 1 else b""),
            (b"iCCP", b"p\0\0" + zlib.compress(profile) if profile else b""),
            (b"PLTE", palette(bits) if kind == 3 else b""),
            (b"tRNS", clear_colour(kind, values) if clear else b""),
        )
        if content
    )
    passes = [(0, 0, 1, 1)]
    if woven:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2)]
        passes += [(0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b""
    for y, x, down, across in passes:
        for row in values[y::down, x::across].reshape(-1, len(range(x, WIDTH, across)) * channels):
            rows += b"\0" + packed(row, bits)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, kind, 0, 0, woven)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body
    data += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    name = f"png-{kind}-{bits}bit-{'clear' if clear else 'plain'}-turn{turn}-woven{woven}-{label}"
    # libvips cuts 16 bits off and converts their colours by a coarse table: formulas are exact.
    seen = deep_pixels(values, clear, label, turn) if bits == 16 else read_by_vips(data)
    return Sample(name, data, seen)


def deep_pixels(
    values: NDArray[np.int64], clear: bool, profile: str, turn: int
) -> NDArray[np.uint8]:
    """What 16-bit samples look like, by the formulas of their profile."""
    share = values / 65_535
    count = values.shape[2]
    colours = share[..., :3] if count >= 3 else share[..., :1]
    curves = {
        "none": linear_of_srgb,
        "linear": lambda given: given,
        "grey": lambda given: given**1.8,
        "adobe": adobe_to_linear,
    }
    linear = curves[profile](colours)
    seen = np.broadcast_to(encode_srgb(linear), (HEIGHT, WIDTH, 3))
    cover = share[..., -1] if count in (2, 4) else np.ones((HEIGHT, WIDTH))
    if clear:
        cover = np.where((values == values[5, 7]).all(axis=2), 0, 1)
    return upright(np.rint(np.dstack([seen, cover]) * 255).astype(np.uint8), turn)


def packed(row: NDArray[np.int64], bits: int) -> bytes:
    """A row of samples, the first in the highest bits."""
    if bits == 16:
        return row.astype(">u2").tobytes()
    text = "".join(f"{value:0{bits}b}" for value in row)
    text = text.ljust(-(-len(text) // 8) * 8, "0")
    return int(text, 2).to_bytes(len(text) // 8, "big")


def palette(bits: int) -> bytes:
    """A palette of 2**bits colours."""
    n = np.arange(2**bits) * 255 // (2**bits - 1)
    return np.stack([n, 255 - n, n // 2 + 60], -1).astype(np.uint8).tobytes()


def clear_colour(kind: int, values: NDArray[np.int64]) -> bytes:
    """The content of a tRNS chunk (PNG, 11.3.1.1)."""
    if kind == 3:
        return bytes((0, 128))
    return bytes(values[5, 7].astype(">u2").tobytes())


def jpegs() -> Iterator[Sample]:
    """Grey, colour and ink, turned, with profiles."""
    profiles = {"none": b"", "adobe": adobe_rgb(), "linear": linear_rgb(), "grey": grey_gamma(1.8)}
    for mode, turn, (name, profile), progressive in product(
        ("L", "RGB", "CMYK"), range(1, 9), profiles.items(), (False, True)
    ):
        if profile and (turn not in (1, 6) or (name == "grey") != (mode == "L") or mode == "CMYK"):
            continue
        image = PIL.Image.fromarray(gradient(3, 255).astype(np.uint8)).convert(mode)
        data = saved(
            image,
            "JPEG",
            quality=95,
            subsampling=0,
            progressive=progressive,
            exif=b"Exif\0\0" + exif(turn),
            **({"icc_profile": profile} if profile else {}),
        )
        seen = read_by_vips(data) if mode != "CMYK" else naive_cmyk(data, turn)
        yield Sample(f"jpeg-{mode}-turn{turn}-{name}-{progressive}", data, seen)


def naive_cmyk(data: bytes, turn: int) -> NDArray[np.uint8]:
    """Inks without a profile: each takes its share of the light."""
    image = pyvips.Image.new_from_buffer(data, "")
    inks = np.asarray(image.numpy()).astype(np.float64) / 255
    light = (1 - inks[..., :3]) * (1 - inks[..., 3:])
    return upright(opaque(np.rint(light * 255)), turn)


def opaque(colours: NDArray[Any]) -> NDArray[np.uint8]:
    """[h, w, 3] as RGBA."""
    return np.dstack([colours, np.full(colours.shape[:2], 255)]).astype(np.uint8)


def webps() -> Iterator[Sample]:
    """With and without loss, alpha, profile, turn."""
    for mode, lossless, turn, profile in product(
        ("RGB", "RGBA"), (False, True), range(1, 9), (b"", adobe_rgb())
    ):
        image = PIL.Image.fromarray(gradient(len(mode), 255).astype(np.uint8), mode)
        data = saved(
            image,
            "WEBP",
            lossless=lossless,
            quality=95,
            exact=True,
            exif=b"Exif\0\0" + exif(turn),
            icc_profile=profile,
        )
        yield Sample(f"webp-{mode}-{lossless}-turn{turn}-{len(profile)}", data, read_by_vips(data))


def tiffs() -> Iterator[Sample]:
    """What tifffile writes: byte order, depth, colour, alpha, planes, tiles, packing, turn."""
    spaces = ("minisblack", "miniswhite", "rgb", "separated")
    types = ("u1", "u2", "f4", "f2")
    number = 0
    for space, kind, alpha, planar in product(spaces, types, (None, 1, 2, 0), (1, 2)):
        if space == "miniswhite" and alpha == 1:
            continue  # refused: nobody says what it means
        for order, packing in product("<>", (None, "zlib", "predictor", "tiles")):
            number += 1
            turn = number % 8 + 1
            yield tiff_sample(space, kind, alpha, planar, order, packing, turn)
    for bits, order in product((1, 8), "<>"):
        pixels = gradient(1, 2**bits - 1)[..., 0].astype(bool if bits == 1 else np.uint8)
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, photometric="minisblack", byteorder=order)
        level = pixels.astype(np.uint8) * (255 // (2**bits - 1))
        yield Sample(f"tiff-{bits}bit-{order}", file.getvalue(), opaque(np.dstack([level] * 3)))
    image = PIL.Image.fromarray(gradient(3, 255).astype(np.uint8))
    for mode, packing in product(("1", "L", "P", "RGB", "RGBA", "CMYK"), PACKINGS):
        if packing == "jpeg" and mode not in ("L", "RGB"):
            continue
        data = saved(image.convert(mode), "TIFF", compression=packing)
        seen = np.asarray(image.convert(mode).convert("RGB").convert("RGBA"))
        seen = read_by_vips(data) if packing == "jpeg" else seen
        yield Sample(f"tiff-{mode}-{packing}", data, seen)
    for name, profile in (("linear", linear_rgb()), ("adobe", adobe_rgb())):
        for kind in ("u1", "u2"):
            full = 255 if kind == "u1" else 65_535
            pixels = gradient(3, full).astype(kind)
            file = io.BytesIO()
            tifffile.imwrite(file, pixels, photometric="rgb", iccprofile=profile)
            data = file.getvalue()
            deep = kind == "u2"
            seen = deep_pixels(pixels.astype(int), False, name, 1) if deep else read_by_vips(data)
            yield Sample(f"tiff-rgb-{kind}-{name}", data, seen)


def tiff_sample(
    space: str,
    kind: str,
    alpha: int | None,
    planar: int,
    order: str,
    packing: str | None,
    turn: int,
) -> Sample:
    """One TIFF; what it means follows from its fields (TIFF 6.0)."""
    count = {"rgb": 3, "separated": 4}.get(space, 1)
    full = {"u1": 255, "u2": 65_535}.get(kind, 1)
    wanted = gradient(count, 255) / 255
    cover = np.ones((HEIGHT, WIDTH)) if alpha is None else np.flipud(gradient(1, 255)[..., 0]) / 255
    stored = 1 - wanted if space == "miniswhite" else wanted
    planes = stored * cover[..., None] if alpha == 1 else stored
    if alpha is not None:
        planes = np.dstack([planes, cover])
    scaled = np.rint(planes * full) if full > 1 else planes
    values = scaled.astype(order + kind)
    several = values.shape[2] > 1
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        np.moveaxis(values, -1, 0) if planar == 2 and several else values.squeeze(),
        photometric=space,
        planarconfig=("separate" if planar == 2 else "contig") if several else None,
        extrasamples=[alpha] if alpha is not None else None,
        byteorder=order,
        compression=None if packing in (None, "tiles") else "zlib",
        predictor=packing == "predictor" and kind[0] == "u",
        tile=(16, 16) if packing == "tiles" else None,
        rowsperstrip=None if packing == "tiles" else 5,
        extratags=[(274, 3, 1, turn, True)],
        metadata=None,
    )
    light = wanted
    if space == "separated":
        light = (1 - wanted[..., :3]) * (1 - wanted[..., 3:])
    if alpha == 0 or alpha is None:
        cover = np.ones((HEIGHT, WIDTH))
    seen = np.rint(np.dstack([*([light[..., n % light.shape[2]] for n in range(3)]), cover]) * 255)
    name = f"tiff-{space}-{kind}-alpha{alpha}-planar{planar}-{order}-{packing}-turn{turn}"
    return Sample(name, file.getvalue(), upright(seen.astype(np.uint8), turn))


def bmps() -> Iterator[Sample]:
    """1 to 32 bits, with masks, from below and from above."""
    pixels = gradient(3, 255).astype(np.uint8)
    image = PIL.Image.fromarray(pixels)
    yield Sample("bmp-24", saved(image, "BMP"), opaque(pixels))
    grey = image.convert("L")
    yield Sample("bmp-8", saved(grey, "BMP"), opaque(np.dstack([np.asarray(grey)] * 3)))
    bilevel = image.convert("1")
    levels = np.asarray(bilevel).astype(np.uint8) * 255
    yield Sample("bmp-1", saved(bilevel, "BMP"), opaque(np.dstack([levels] * 3)))
    for name, bits, sizes, masked, down in (
        ("555", 16, (5, 5, 5, 0), False, False),
        ("555-masks", 16, (5, 5, 5, 0), True, True),
        ("565-masks", 16, (5, 6, 5, 0), True, False),
        ("32", 32, (8, 8, 8, 0), False, True),
        ("32-masks", 32, (8, 8, 8, 0), True, False),
        ("32-alpha", 32, (8, 8, 8, 8), True, False),
    ):
        yield bmp_sample(name, bits, sizes, masked=masked, down=down)


def bmp_sample(
    name: str, bits: int, sizes: tuple[int, int, int, int], *, masked: bool, down: bool
) -> Sample:
    """A BMP of version 5, by hand; `down`: its first row is the top one."""
    red, green, blue = sizes[:3]
    shifts = (green + blue, blue, 0, red + green + blue)
    values = np.zeros((HEIGHT, WIDTH), np.int64)
    seen = np.full((HEIGHT, WIDTH, 4), 255, np.int64)
    for channel, (size, shift) in enumerate(zip(sizes, shifts, strict=True)):
        if size:
            level = gradient(4, 2**size - 1)[..., channel]
            values |= level << shift
            seen[..., channel] = np.rint(level * 255 / (2**size - 1))
    masks = [((1 << size) - 1) << shift for size, shift in zip(sizes, shifts, strict=True)]
    rows = values.astype("<u2" if bits == 16 else "<u4")
    body = (rows if down else rows[::-1]).tobytes()
    height = -HEIGHT if down else HEIGHT
    compression = 3 if masked else 0
    header = struct.pack(
        "<IiiHHIIiiII", 124, WIDTH, height, 1, bits, compression, len(body), *[0] * 4
    )
    header += struct.pack("<4I", *(masks if masked else [0] * 4)) + b"BGRs"
    header = header.ljust(124, b"\0")
    start = 14 + len(header)
    data = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + header + body
    return Sample(f"bmp-{name}", data, seen.astype(np.uint8))


def phones() -> Iterator[Sample]:
    """HEIC and AVIF: without loss they hold what was drawn."""
    for mode, turn in product(("RGB", "RGBA", "L"), range(1, 9)):
        drawn = gradient(4, 255).astype(np.uint8)[..., : len(mode)]
        image = PIL.Image.fromarray(drawn.squeeze(), mode)
        seen = opaque(np.dstack([drawn] * 3)) if mode == "L" else drawn
        seen = opaque(drawn) if mode == "RGB" else seen
        block = b"Exif\0\0" + exif(turn)
        if mode != "L":
            yield Sample(f"heic-{mode}-turn{turn}", heif(image, exif=block), upright(seen, turn))
        data = saved(image, "AVIF", quality=100, subsampling="4:4:4", exif=block)
        yield Sample(f"avif-{mode}-turn{turn}", data, upright(seen, turn))


def psds() -> Iterator[Sample]:
    """Photoshop documents, packed and not, with transparency and with a saved selection."""
    for mode, bits, alpha, packed_rows in product(
        (1, 3, 4), (8, 16), (None, "clear", "mask"), (0, 1)
    ):
        count = {1: 1, 3: 3, 4: 4}[mode]
        full = 2**bits - 1
        light = gradient(count, full)
        cover = np.full((HEIGHT, WIDTH, 1), full)
        if alpha:
            cover = np.flipud(gradient(1, full))
        stored = light
        if alpha == "clear" and mode != 4:
            stored = np.rint((light * cover + full * (full - cover)) / full).astype(np.int64)
        planes = np.dstack([stored, cover]) if alpha else stored
        data = psd(planes, mode, bits, has_alpha=alpha == "clear", packed_rows=bool(packed_rows))
        share = light / full
        if mode == 4:
            share = share[..., :3] * share[..., 3:]
        seen = np.broadcast_to(share, (HEIGHT, WIDTH, 3))
        cover = cover / full if alpha == "clear" else np.ones((HEIGHT, WIDTH, 1))
        pixels = np.rint(np.dstack([seen, cover]) * 255).astype(np.uint8)
        yield Sample(f"psd-{mode}-{bits}-{alpha}-{packed_rows}", data, pixels)


def psd(
    planes: NDArray[np.int64], mode: int, bits: int, *, has_alpha: bool, packed_rows: bool
) -> bytes:
    """A Photoshop document of its merged picture and one empty layer."""
    height, width, channels = planes.shape
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, channels, height, width, bits, mode)
    layer = struct.pack(">h", -1 if has_alpha else 1)
    layers = struct.pack(">II", len(layer) + 4, len(layer)) + layer
    rows = [
        row.astype(">u2" if bits == 16 else "u1").tobytes()
        for plane in np.moveaxis(planes, -1, 0)
        for row in plane
    ]
    if packed_rows:  # PackBits: literal runs of up to 128 bytes
        rows = [bytes((len(row) - 1,)) + row for row in rows]
    lengths = b"".join(struct.pack(">H", len(row)) for row in rows) if packed_rows else b""
    body = struct.pack(">H", packed_rows) + lengths + b"".join(rows)
    return header + bytes(4) + bytes(4) + layers + body
