"""Bad files through the decoder, in a child process where they can do no harm."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.errors import MattingError, TooCostlyImageError
from shared.settings import Settings
from tests import bad_photos, photo_bombs
from tests.colour_profiles import adobe_rgb
from tests.photo_files import drawn, saved
from worker.imaging.decoding import decode
from worker.imaging.quarantine import BYTES_PER_PIXEL, DecodeRequest, Quarantine

GOOD = bad_photos.good()
SMALL = {name: data for name, data in GOOD.items() if "30000" not in name}
SLOW_S = 60
SIDE = 1_000


@pytest.fixture(scope="module")
def quarantine() -> Iterator[Quarantine]:
    """Decodes in a child with little memory beyond what these small files need."""
    quarantine = Quarantine(Settings(max_image_pixels=4_000_000, image_timeout_s=SLOW_S))
    yield quarantine
    quarantine.close()


def outcome(quarantine: Quarantine, data: bytes) -> str:
    try:
        found = quarantine.decode(data, DecodeRequest())
    except MattingError as error:
        return error.code
    assert found.image.shape == (found.height, found.width, 3)
    assert found.alpha is None or found.alpha.shape == (found.height, found.width)
    return "succeeded"


def test_each_kind_of_bad_file_has_the_expected_outcome(quarantine: Quarantine) -> None:
    cases = bad_photos.cases()
    assert len(cases) >= 500
    found = {one.name: outcome(quarantine, one.data) for one in cases}
    assert not {one.name: found[one.name] for one in cases if found[one.name] not in one.outcomes}
    codes = Counter(found.values())
    assert codes["succeeded"] > 60
    assert codes["truncated-image"] > 300
    assert codes["not-an-image"] > 20


def test_damaged_files_never_crash_hang_or_exceed_the_memory(quarantine: Quarantine) -> None:
    codes = Counter(
        outcome(quarantine, data) for _, data in bad_photos.mutated(SMALL, each=15, seed=11)
    )
    assert codes.total() > 400
    assert set(codes) <= {"succeeded", *bad_photos.CODES}
    assert codes["succeeded"] > 20
    assert codes["truncated-image"] > 20


@hypothesis_settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(sorted(SMALL)))
def test_a_changed_file_gives_a_photo_or_an_image_error(
    quarantine: Quarantine, data: st.DataObject, name: str
) -> None:
    changed = bytearray(SMALL[name])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(changed)))
        length = data.draw(st.integers(0, 16))
        changed[at : at + length] = data.draw(st.binary(max_size=16))
    result = outcome(quarantine, bytes(changed))
    assert result == "succeeded" or result in bad_photos.CODES


@hypothesis_settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    magic=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"II*\0"]),
    rest=st.binary(max_size=400),
)
def test_arbitrary_bytes_give_an_image_error(
    quarantine: Quarantine, magic: bytes, rest: bytes
) -> None:
    result = outcome(quarantine, magic + rest)
    assert result == "succeeded" or result in bad_photos.CODES


def test_a_jpeg_of_thousands_of_scans_is_refused_at_once() -> None:
    data = photo_bombs.scan_bomb()
    began = time.process_time()
    with pytest.raises(TooCostlyImageError):
        decode(data, Settings())
    assert time.process_time() - began < 1


def test_scans_after_a_fake_end_marker_are_counted() -> None:
    data = photo_bombs.scan_bomb(200, 200, scans=500)
    at = data.find(b"\xff\xda", data.find(b"\xff\xda") + 2)
    hidden = data[:at] + b"\xff\xfe\x00\x06\xff\xd9\xff\xd9" + data[at:]
    with pytest.raises(TooCostlyImageError):
        decode(hidden, Settings())


def test_a_video_after_the_photo_is_accepted() -> None:
    film = np.random.default_rng(1).bytes(1024**2) + b"\xff\xda" * 500
    assert decode(GOOD["jpeg"] + film, Settings()).width == 96


def test_ten_scans_are_accepted() -> None:
    assert decode(photo_bombs.scan_bomb(200, 200, scans=10), Settings()).width == 200


def hungry() -> dict[str, bytes]:
    """Photos of one size in the formats that need the most memory for it, and small bombs."""
    image = drawn(SIDE, SIDE)
    clear = image.convert("RGBA")
    clear.putalpha(PIL.Image.linear_gradient("L").resize((SIDE, SIDE)))
    inks = image.convert("CMYK")
    deep = np.asarray(clear).astype(np.uint16) * 257
    icc = adobe_rgb()
    quick = {"compress_level": 1, "icc_profile": icc}
    return {
        "plain.jpg": saved(image, "JPEG"),
        "progressive.jpg": saved(image, "JPEG", progressive=True, subsampling=0, icc_profile=icc),
        "inks.jpg": saved(inks, "JPEG", progressive=True, subsampling=0, icc_profile=icc),
        "clear.png": saved(clear, "PNG", **quick),
        "deep.png": bad_photos.wide_png(deep, interlaced=True),
        "deep-grey.png": bad_photos.wide_png(deep[..., :1]),
        "grey-alpha.png": saved(clear.convert("LA"), "PNG", **quick),
        "palette.png": saved(image.convert("P"), "PNG", transparency=0),
        "clear.webp": saved(clear, "WEBP", lossless=True, method=0, icc_profile=icc),
        "float.tiff": saved(image.convert("F"), "TIFF"),
        "lzw.tiff": saved(clear, "TIFF", compression="tiff_lzw", icc_profile=icc),
        "inks.tiff": saved(inks, "TIFF", icc_profile=icc),
    }


def test_no_photo_takes_more_memory_than_its_size_warrants(tmp_path: Path) -> None:
    files = {name: (data, BYTES_PER_PIXEL * SIDE**2) for name, data in hungry().items()}
    bombs = photo_bombs.bombs().items()
    files |= {f"bomb-{name}": (data, 32 * 1024**2) for name, (data, _) in bombs}
    paths = [tmp_path / name for name in files]
    for path, (data, _) in zip(paths, files.values(), strict=True):
        path.write_bytes(data)
    measured = subprocess.run(
        [sys.executable, "-m", "tests.decoding_memory", *map(os.fspath, paths)],
        capture_output=True,
        check=True,
        text=True,
    )
    took = dict(zip(files, [int(line) * 1024 for line in measured.stdout.split()], strict=True))
    assert {name: took[name] for name, (_, allowed) in files.items() if took[name] > allowed} == {}
    assert took["clear.png"] > 4 * SIDE**2, "it measures"
