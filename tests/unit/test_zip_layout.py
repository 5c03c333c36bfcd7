"""Any range of a zip file of stored entries is what the whole file has there."""

import io
import shutil
import subprocess
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

from api import zip_layout
from api.zip_layout import Entry, Span, ZipLayout

STAMP = datetime(2026, 11, 26, 13, 45, 30, tzinfo=UTC)
FILES = {"a.png": b"one" * 700, "sub/\u00e4\u20ac.png": b"two", "empty.png": b"", "z": bytes(5_000)}


def layout(files: dict[str, bytes]) -> ZipLayout:
    entries = [
        Entry(name=name, key=name, size_bytes=len(data), crc32=zlib.crc32(data))
        for name, data in files.items()
    ]
    return ZipLayout([*entries, Entry.of_text("missing.txt", "b.png\n")], STAMP)


def read(made: ZipLayout, start: int, stop: int) -> bytes:
    found = b""
    for piece in made.pieces(start, stop, longest=999):
        if isinstance(piece, Span):
            assert 0 < piece.stop - piece.start <= 999
            found += FILES[piece.key][piece.start : piece.stop]
        else:
            found += piece
    return found


def test_other_programs_read_the_archive(tmp_path: Path) -> None:
    made = layout(FILES)
    whole = read(made, 0, made.size_bytes)
    assert len(whole) == made.size_bytes
    with zipfile.ZipFile(io.BytesIO(whole)) as packed:
        assert packed.testzip() is None
        assert {name: packed.read(name) for name in FILES} == FILES
        assert packed.read("missing.txt") == b"b.png\n"
        assert packed.getinfo("z").date_time == (2026, 11, 26, 13, 45, 30)
    if shutil.which("unzip"):
        file = tmp_path / "all.zip"
        file.write_bytes(whole)
        subprocess.run(["unzip", "-tq", file], check=True, capture_output=True)


@hypothesis.given(data=strategies.data())
def test_every_range_is_what_the_whole_has_there(data: strategies.DataObject) -> None:
    made = layout(FILES)
    whole = read(made, 0, made.size_bytes)
    start = data.draw(strategies.integers(0, made.size_bytes - 1))
    stop = data.draw(strategies.integers(start + 1, made.size_bytes))
    assert read(made, start, stop) == whole[start:stop]


def test_another_file_time_or_name_is_another_etag() -> None:
    etags = [
        layout(FILES).etag,
        layout({**FILES, "a.png": b"other"}).etag,
        layout({"b" + name: data for name, data in FILES.items()}).etag,
        ZipLayout([], STAMP).etag,
        ZipLayout([], STAMP.replace(hour=14)).etag,
    ]
    assert len(set(etags)) == len(etags)
    assert layout(FILES).etag == etags[0]


def test_archives_beyond_4_gib_and_65535_files_have_the_larger_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zip_layout, "MAX_32", 2_500)
    monkeypatch.setattr(zip_layout, "MAX_16", 3)
    small = {"a.png": b"one" * 700, "b.png": b"two" * 700, "c.png": b"three"}
    made = layout(small)
    pieces = made.pieces(0, made.size_bytes, longest=10**6)
    whole = b"".join(p if isinstance(p, bytes) else small[p.key][p.start : p.stop] for p in pieces)
    # what stands for "see the larger record" is 0xFFFFFFFF and 0xFFFF for others
    end = whole.rindex(b"PK\x05\x06")
    record = whole.index(b"PK\x06\x06")
    assert record < end
    assert int.from_bytes(whole[record + 32 : record + 40], "little") == 4
    start = int.from_bytes(whole[record + 48 : record + 56], "little")
    assert whole[start : start + 4] == b"PK\x01\x02"
    last = whole.rindex(b"PK\x01\x02")
    extra = whole[last + 46 + len("missing.txt") :][:12]
    offset = int.from_bytes(extra[4:], "little")
    assert whole[offset : offset + 4] == b"PK\x03\x04"
    assert whole[offset + 30 :].startswith(b"missing.txt")
