"""Mattes that pass through the API as PNG files, without being decoded."""

import io
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from api.matte_png import alpha_as_grey_png, checked_matte
from shared.errors import InvalidMatteError, NotKeptError
from shared.png_chunks import PNG_SIGNATURE


def pieces_of(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def decoded(data: bytes) -> NDArray[np.uint8]:
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert image.mode == "L"
        return np.asarray(image)


def encoded(pixels: NDArray[np.uint8], kind: int) -> bytes:
    """With each of OpenCV's filters, or with Pillow's choice of a filter for each row."""
    if kind == 5:
        buffer = io.BytesIO()
        PIL.Image.fromarray(pixels).save(buffer, "PNG", dpi=(72, 72))
        return buffer.getvalue()
    filters = [
        cv2.IMWRITE_PNG_FILTER_NONE,
        cv2.IMWRITE_PNG_FILTER_SUB,
        cv2.IMWRITE_PNG_FILTER_UP,
        cv2.IMWRITE_PNG_FILTER_AVG,
        cv2.IMWRITE_PNG_FILTER_PAETH,
    ]
    bgra = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA)
    return bytes(cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_FILTER, filters[kind]])[1])


@given(
    st.integers(1, 90), st.integers(1, 70), st.integers(0, 5), st.integers(1, 5_000), st.integers()
)
def test_the_alpha_channel_comes_out_unchanged(
    width: int, height: int, kind: int, piece: int, seed: int
) -> None:
    drawn = np.random.default_rng(abs(seed)).integers(0, 256, (height, width, 4), np.uint8)
    found = decoded(b"".join(alpha_as_grey_png(pieces_of(encoded(drawn, kind), piece))))
    assert np.array_equal(found, drawn[..., 3])


def test_a_large_picture_passes_in_small_pieces() -> None:
    pixels = np.zeros((3_000, 2_000, 4), np.uint8)
    cv2.circle(pixels, (1_000, 1_500), 900, (30, 60, 90, 255), -1, cv2.LINE_AA)
    made = list(alpha_as_grey_png(pieces_of(encoded(pixels, 2), 256 * 1024)))
    assert max(map(len, made)) < 1024**2
    assert np.array_equal(decoded(b"".join(made)), pixels[..., 3])


@pytest.mark.parametrize("kind", ["rgb", "16 bits", "no PNG", "empty"])
def test_another_kind_of_file_is_refused_before_the_first_byte(kind: str) -> None:
    rgb = np.zeros((4, 5, 3), np.uint8)
    deep = np.zeros((4, 5, 4), np.uint16)
    file = {
        "rgb": bytes(cv2.imencode(".png", rgb)[1]),
        "16 bits": bytes(cv2.imencode(".png", deep)[1]),
        "no PNG": b"RIFF" + bytes(100),
        "empty": b"",
    }[kind]
    with pytest.raises(NotKeptError):
        alpha_as_grey_png(pieces_of(file, 50))


def grey(width: int, height: int) -> bytes:
    return bytes(cv2.imencode(".png", np.zeros((height, width), np.uint8))[1])


def test_a_grey_png_of_the_photo_s_size_is_a_matte() -> None:
    assert checked_matte(grey(7, 5), 7, 5) == grey(7, 5)


def test_nothing_in_a_matte_changes_its_values() -> None:
    gamma = (4).to_bytes(4, "big") + b"gAMA" + (100_000).to_bytes(4, "big")
    gamma += zlib.crc32(gamma[4:]).to_bytes(4, "big")
    with_gamma = grey(7, 5)[:33] + gamma + grey(7, 5)[33:]
    assert checked_matte(bytearray(with_gamma), 7, 5) == grey(7, 5)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (grey(5, 7), "5 x 7"),
        (grey(7, 5)[:-12], "cut off"),
        (bytes(cv2.imencode(".png", np.zeros((5, 7, 3), np.uint8))[1]), "one grey channel"),
        (bytes(cv2.imencode(".png", np.zeros((5, 7), np.uint16))[1]), "one grey channel"),
        (b"\xff\xd8\xff" + bytes(50), "not a PNG"),
        (b"", "not a PNG"),
        (PNG_SIGNATURE, "cut off"),
        (PNG_SIGNATURE + b"\0\0\0\1IHDR\0" + bytes(4) + b"\0\0\0\0IEND" + bytes(4), "damaged"),
    ],
)
def test_anything_else_is_no_matte(data: bytes, why: str) -> None:
    with pytest.raises(InvalidMatteError, match=why):
        checked_matte(data, 7, 5)


def test_a_bomb_is_unpacked_in_pieces() -> None:
    rows = zlib.compress(bytes(4_001 * 20_000), 9)
    pixels = (1_000).to_bytes(4, "big") + (20_000).to_bytes(4, "big") + bytes([8, 6, 0, 0, 0])
    file = PNG_SIGNATURE
    for kind, data in ((b"IHDR", pixels), (b"IDAT", rows), (b"IEND", b"")):
        file += len(data).to_bytes(4, "big") + kind + data + bytes(4)
    assert sum(map(len, alpha_as_grey_png(pieces_of(file, 1_000)))) < 200_000
