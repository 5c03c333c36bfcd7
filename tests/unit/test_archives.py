"""Zip files: photos get plain names; bombs and damaged files fail."""

import io
import struct
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.sources import archives
from api.sources.archives import Archive, UnpackedClip
from shared.errors import BadArchiveError
from shared.settings import Settings

SETTINGS = Settings(max_image_bytes=10_000, max_archive_bytes=50_000, max_clip_bytes=20_000)
CLIP = b"\0\0\0\x18ftypmp42"


def packed(files: dict[str, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file


def unpacked(file: io.BytesIO, after: int = 0) -> dict[str, bytes | str]:
    """Content by name, or the error's code instead."""
    store = Store()
    items = Archive(file, SETTINGS).items(after=after, key_of=lambda n: f"in/{n}", store=store)
    return {item.name: item.error.code if item.error else store[item.source] for item in items}


class Store(dict[str, bytes]):
    """Stores photos by key. Checks that room was made for each before it was unpacked."""

    room_bytes = 0

    def make_room(self, size_bytes: int) -> None:
        self.room_bytes = size_bytes

    def put(self, key: str, data: bytearray) -> str:
        assert len(data) <= self.room_bytes
        self[key] = bytes(data)
        return key

    def upload(self, key: str, clip: UnpackedClip) -> str:
        self[key] = b"".join(iter(lambda: clip.read(7_000), b""))
        return key


def test_photos_keep_their_folders_and_system_files_are_no_photos() -> None:
    file = packed(
        {
            "skuA/main.jpg": b"a",
            "skuB/main.jpg": b"b",
            "skuB/": b"",
            "__MACOSX/skuA/._main.jpg": b"x",
            "skuA/.DS_Store": b"x",
            "skuA/._main.jpg": b"x",
            "Thumbs.db": b"x",
            "skuA/Desktop.ini": b"x",
            "list.csv": b"key",
            "a.xmp": b"x",
            ".gitignore": b"x",
        }
    )
    assert unpacked(file) == {"skuA/main.jpg": b"a", "skuB/main.jpg": b"b"}
    assert unpacked(file, after=1) == {"skuB/main.jpg": b"b"}


def test_what_is_no_photo_is_named_and_the_content_decides() -> None:
    file = packed(
        {
            "a.jpg": b"a",
            "read me.txt": b"x",
            "inner.zip": b"PK\3\4",
            "phone.HEIC": b"a",
            "no-ending": b"\xff\xd8\xff" + bytes(9),
            "raw.CR3": b"\0\0\0\x18ftypcrx " + bytes(30),
            "raw.raf": b"FUJIFILMCCD-RAW 0201",
            ".hidden/a.jpg": b"x",
        }
    )
    assert unpacked(file) == {
        "a.jpg": b"a",
        "read me.txt": "not-an-image",
        "inner.zip": "not-an-image",
        "phone.HEIC": b"a",
        "no-ending": b"\xff\xd8\xff" + bytes(9),
        "raw.CR3": "camera-raw",
        "raw.raf": "camera-raw",
        ".hidden/a.jpg": "hidden-file",
    }


@pytest.mark.parametrize(
    ("names", "encoding"),
    [
        (["größe.jpg", "靴/赤い靴.jpg", "a.jpg"], "utf-8"),
        (["商品/赤い靴.jpg", "写真－１.jpg", "a.jpg"], "cp932"),
        (["größe.jpg", "éclair.jpg", "a.jpg"], "cp437"),
        (["Müller.jpg"], "cp437"),
    ],
)
def test_names_are_read_as_they_were_written(names: list[str], encoding: str) -> None:
    raw = [name.encode(encoding) for name in names]
    places = [b"QXZ"[n : n + 1] * len(one) for n, one in enumerate(raw)]
    data = packed({place.decode(): b"x" for place in places}).getvalue()
    for place, one in zip(places, raw, strict=True):
        data = data.replace(place, one)
    assert list(unpacked(io.BytesIO(data))) == names


def test_names_that_point_outside_become_plain() -> None:
    file = packed({"../../etc/a.jpg": b"a", "/root/b.jpg": b"b", "C:\\c.jpg": b"c"})
    assert set(unpacked(file)) == {"etc/a.jpg", "root/b.jpg", "c.jpg"}


def test_one_bomb_fails_alone_and_an_archive_of_bombs_fails_as_a_whole() -> None:
    found = unpacked(packed({"good.jpg": b"g", "bomb.jpg": b"\0" * 10_000_000}))
    assert found == {"good.jpg": b"g", "bomb.jpg": "file-too-large"}
    with pytest.raises(BadArchiveError):
        unpacked(packed({f"{n}.jpg": b"\0" * 9_999 for n in range(6)}))


def test_clips_are_unpacked_in_pieces_and_may_be_larger_than_photos() -> None:
    clip = CLIP + bytes(range(256)) * 50
    file = packed(
        {
            "a/film.mp4": clip,
            "photo.gif": b"\xff\xd8\xff" + bytes(9),
            "no clip.mov": b"x" * 600,
            "text.mov": b"x" * 20_000,
            "long.mp4": CLIP + bytes(20_000),
            "film": clip,
            ".film.mp4": clip,
            "shoe.jpg": b"a",
        }
    )
    assert unpacked(file) == {
        "a/film.mp4": clip,
        "photo.gif": b"\xff\xd8\xff" + bytes(9),
        "no clip.mov": b"x" * 600,
        "text.mov": "file-too-large",
        "long.mp4": "clip-too-large",
        "film": "not-an-image",
        ".film.mp4": "hidden-file",
        "shoe.jpg": b"a",
    }
    with pytest.raises(BadArchiveError, match="exceeds the limit"):
        unpacked(packed({f"{n}.mp4": clip for n in range(4)}))
    with pytest.raises(BadArchiveError, match="exceeds the limit"):
        unpacked(packed({f"{n}.mp4": CLIP + bytes(20_000) for n in range(4)}))


def test_a_wrong_size_in_the_archive_fails() -> None:
    data = bytearray(packed({"a.jpg": b"\0" * 5_000_000}).getvalue())
    size = (5_000_000).to_bytes(4, "little")
    while size in data:
        start = data.index(size)
        data[start : start + 4] = (10).to_bytes(4, "little")
    assert unpacked(io.BytesIO(bytes(data)))["a.jpg"] in ("bad-archive", "file-too-large")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bound_are_refused(method: int) -> None:
    file = packed({"good.jpg": b"x"})
    with zipfile.ZipFile(file, "a", method) as archive:
        archive.writestr("bomb.jpg", bytes(9_000))
    assert unpacked(file) == {"good.jpg": b"x", "bomb.jpg": "bad-archive"}


def test_a_damaged_photo_fails_alone() -> None:
    file = packed({"a.jpg": bytes(range(256)) * 20, "b.jpg": b"b"})
    data = bytearray(file.getvalue())
    data[60] ^= 0xFF
    assert unpacked(io.BytesIO(bytes(data))) == {"a.jpg": "bad-archive", "b.jpg": b"b"}


def test_entries_that_share_bytes_are_refused() -> None:
    """A bomb of 100 kB held 20 GB: a thousand entries, one photo."""
    data = packed({"a.jpg": b"x" * 9_000}).getvalue()
    directory, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry, count = data[directory:end], 5
    sizes = struct.pack("<HHL", count, count, count * len(entry))
    bomb = data[:directory] + entry * count + data[end : end + 8] + sizes + data[end + 16 :]
    with zipfile.ZipFile(io.BytesIO(bomb)) as archive:
        assert len(archive.infolist()) == count
    with pytest.raises(BadArchiveError, match="overlap"):
        unpacked(io.BytesIO(bomb))
    program = io.BytesIO(b"#!/bin/sh\n" * 50 + data)  # an archive that unpacks itself
    assert list(unpacked(program)) == ["a.jpg"]


def test_a_directory_that_would_fill_the_memory_is_refused() -> None:
    data = bytearray(packed({"a.jpg": b"a"}).getvalue())
    end = data.rindex(b"PK\5\6")
    data[end + 12 : end + 16] = (1 << 30).to_bytes(4, "little")
    with pytest.raises(BadArchiveError):
        Archive(io.BytesIO(bytes(data)), SETTINGS)


def test_a_long_directory_behind_a_record_that_names_a_short_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """zipfile reads as much as the ZIP64 record says: all of a file of gigabytes."""
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 1_000)
    data = packed({f"{number}.jpg": b"a" for number in range(40)}).getvalue()
    directory, end = data.index(b"PK\1\2"), data.rindex(b"PK\5\6")
    size = end - directory
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 40, 40, size, directory)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    short = data[:end] + wide + locator + data[end : end + 12] + b"\x09\0\0\0" + data[end + 16 :]
    with zipfile.ZipFile(io.BytesIO(short)) as archive:
        assert len(archive.infolist()) == 40
    with pytest.raises(BadArchiveError, match="too long"):
        unpacked(io.BytesIO(short))
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 10_000)
    assert len(unpacked(io.BytesIO(short))) == 40, "a large archive has such records"
    with pytest.raises(BadArchiveError, match="damaged"):
        unpacked(io.BytesIO(short.replace(b"PK\6\6", b"PK\6\5")))


def test_very_many_entries_are_refused_before_they_are_read() -> None:
    """Those of 64 MB took 500 MB of memory."""
    names = ["a.jpg", *(f"folder-{number}/" for number in range(6))]
    few = SETTINGS.model_copy(update={"max_keys_per_job": 2})
    with pytest.raises(BadArchiveError, match="more than 6 entries"):
        Archive(packed(dict.fromkeys(names, b"")), few)
    assert len(Archive(packed(dict.fromkeys(names[:6], b"")), few)) == 1


@given(st.binary(max_size=300), st.integers(0, 400), st.binary(max_size=8))
def test_arbitrary_bytes_give_an_archive_or_an_error(data: bytes, at: int, patch: bytes) -> None:
    good = packed({"a.jpg": b"a" * 50, "b/c.png": b"b"}).getvalue()
    for candidate in (data, good[:at] + patch + good[at + len(patch) :], good[:at]):
        with suppress(BadArchiveError):
            unpacked(io.BytesIO(candidate))
