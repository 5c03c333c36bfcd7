"""Local photos are found by their content, and no file is replaced that is somebody else's."""

import os
from pathlib import Path

import pytest

from api.client import NamedItem
from api.client.downloading import plan_downloads, write_file
from api.client.file_names import result_names
from deploy.commands.result_files import ResultFolder, TargetExistsError
from deploy.local_photos import find_photos
from shared.photo_names import is_never_a_photo
from tests.photo_files import drawn, heif, saved

JPEG = saved(drawn(16, 16), "JPEG")


def lay_out(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_photos_are_found_by_their_content_and_the_rest_is_named(tmp_path: Path) -> None:
    folder = lay_out(
        tmp_path / "photos",
        {
            "a.jfif": JPEG,
            "b.JPE": JPEG,
            "c": JPEG,
            "d.HEIC": heif(drawn(64, 64)),
            "e.jpg": b"damaged",
            "notes.txt": b"x",
            "raw.raf": b"FUJIFILMCCD-RAW 0201",
            "new.jxl": b"\xff\x0a" + bytes(99),
            "film.mov": b"\0\0\0\x14ftypqt  " + bytes(99),
            ".hidden.jpg": JPEG,
            ".gitignore": b"x",
            ".DS_Store": b"x",
            "._a.jfif": JPEG,
            "sub/Thumbs.db": JPEG,
            "__MACOSX/x.jpg": JPEG,
            "list.csv": b"key",
            ".matting-17/1.0.png": JPEG,
        },
    )
    found = find_photos([folder])
    assert [name for _, name in found.files] == ["a.jfif", "b.JPE", "c", "d.HEIC", "e.jpg"]
    reasons = {one.name: one.reason for one in found.left_out}
    assert set(reasons) == {"notes.txt", "raw.raf", "new.jxl", "film.mov", ".hidden.jpg"}
    assert "camera raw" in reasons["raw.raf"]
    assert "JPEG XL" in reasons["new.jxl"]


def test_a_name_that_is_not_utf8_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    lay_out(tmp_path, {"good.jpg": JPEG})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe4d.jpg")).write_bytes(JPEG)
    found = find_photos([tmp_path])
    assert [name for _, name in found.files] == ["good.jpg"]
    assert [(one.name, one.reason) for one in found.left_out] == [
        ("b\\xe4d.jpg", "The file's name is not UTF-8")
    ]


def test_results_below_the_photos_are_not_searched(tmp_path: Path) -> None:
    lay_out(tmp_path, {"a.jpg": JPEG, "out/a.png": JPEG, "out/deep/b.png": JPEG})
    link = tmp_path.parent / "link-to-results"
    link.symlink_to(tmp_path / "out")
    for out in (tmp_path / "out", link):
        found = find_photos([tmp_path], but_for=out)
        assert [name for _, name in found.files] == ["a.jpg"]


@pytest.mark.parametrize(
    "name", ["in/", "a_$folder$", "x/.DS_Store", "x/THUMBS.DB", "__MACOSX/a.jpg", "a/._b.jpg"]
)
def test_system_files_and_lists_are_no_photos_anywhere(name: str) -> None:
    assert is_never_a_photo(name)
    assert not is_never_a_photo("a.b/photo.jpg")
    assert is_never_a_photo("list.csv")


@pytest.mark.parametrize("how", ["itself", "hard link", "symbolic link"])
def test_a_photo_is_never_replaced_through_whatever_link(how: str, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"original")
    target = tmp_path / "out" / "photo.png"
    target.parent.mkdir()
    if how == "itself":
        target = photo
    elif how == "hard link":
        target.hardlink_to(photo)
    else:
        target.symlink_to(photo)
    for overwrite in (False, True):
        with ResultFolder(tmp_path / "out", [photo], overwrite=overwrite) as store:
            staged = store.staging / "1.png"
            store.put(str(staged), b"cut-out", "image/png")
            with pytest.raises(TargetExistsError):
                store.place(staged, target)
        assert photo.read_bytes() == target.read_bytes() == b"original"
        assert not store.staging.exists()


def test_a_file_that_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"retouched")
    with ResultFolder(tmp_path, [], overwrite=False) as store:
        store.put(str(store.staging / "1.png"), b"new", "image/png")
        with pytest.raises(TargetExistsError):
            store.place(store.staging / "1.png", target)
    assert target.read_bytes() == b"retouched"
    with ResultFolder(tmp_path, [], overwrite=True) as store:
        store.put(str(store.staging / "1.png"), b"new", "image/png")
        store.place(store.staging / "1.png", target)
    assert target.read_bytes() == b"new"


def test_a_download_replaces_no_other_file_and_takes_any_name(tmp_path: Path) -> None:
    long = tmp_path / ("商品写真" * 20 + ".png")
    write_file(long, b"result", overwrite=False)
    assert long.read_bytes() == b"result"
    long.write_bytes(b"retouched by somebody")
    with pytest.raises(FileExistsError):
        write_file(long, b"result", overwrite=False)
    assert long.read_bytes() == b"retouched by somebody"
    write_file(long, b"result", overwrite=True)
    assert long.read_bytes() == b"result"
    with pytest.raises(OSError, match="too long"):
        write_file(tmp_path / ("x" * 300), b"result", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == [long.name]


def test_a_download_finds_what_somebody_has_changed(tmp_path: Path) -> None:
    item = {
        "name": "a.jpg",
        "status": "succeeded",
        "result": "/r",
        "result_format": "png",
        "output_bytes": 6,
        "outputs": [{"name": "a.png", "url": "/r", "bytes": 6}],
    }
    [planned] = plan_downloads([item], tmp_path)  # type: ignore[list-item]
    assert list(planned.missing()) == [("/r", tmp_path / "a.png")]
    (tmp_path / "a.png").write_bytes(b"result")
    assert list(planned.missing()) == []
    (tmp_path / "a.png").write_bytes(b"retouched")
    with pytest.raises(FileExistsError):
        list(planned.missing())
    assert list(planned.missing(overwrite=True)) == [("/r", tmp_path / "a.png")]


def test_names_that_are_one_on_some_system_stay_apart() -> None:
    items = [
        NamedItem(name=name, result_format="png", outputs=[])
        for name in ("größe.jpg", "gro\u0308ße.jpg", "GRÖSSE.webp")
    ]
    names = result_names(items)
    assert len({name.casefold() for name in names}) == 3
    assert names == ["größe.jpg.png", "gro\u0308ße.jpg-2.png", "GRÖSSE.webp.png"]
