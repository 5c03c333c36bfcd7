"""Local photos are found by their content, and no file is replaced that is somebody else's."""

import os
from pathlib import Path
from typing import cast

import pytest
import typer

from api.client import NamedItem
from api.client.downloading import NewFile, plan_downloads
from api.client.file_names import result_names
from api.client.responses import Item
from deploy.commands.arguments import attached_source, photo_beside, print_left_out
from deploy.commands.cutout_arguments import run_cutout
from deploy.commands.result_files import ResultFolder, TargetExistsError
from deploy.commands.watch_folder import FolderWatch
from deploy.local_photos import find_photos
from shared.errors import ResultsAmongPhotosError
from shared.photo_names import is_never_a_photo
from shared.settings import Settings
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


def write_file(path: Path, data: bytes, *, changed_at: float, overwrite: bool) -> None:
    """Write a file as a download does, in pieces."""
    with NewFile(path) as file:
        for start in range(0, len(data), 2):
            file.write(data[start : start + 2])
        file.place(changed_at=changed_at, overwrite=overwrite)


@pytest.mark.parametrize("there", [b"", b"r", b"result", b"results", b"resist", b"other"])
def test_a_download_is_complete_whatever_was_there(tmp_path: Path, there: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(there)
    if there != b"result":
        with pytest.raises(FileExistsError):
            write_file(path, b"result", changed_at=1e9, overwrite=False)
        assert path.read_bytes() == there
    inode = path.stat().st_ino
    write_file(path, b"result", changed_at=1e9, overwrite=True)
    assert path.read_bytes() == b"result"
    assert (path.stat().st_ino == inode) == (there == b"result"), "an equal file is left as it is"
    assert path.stat().st_mtime == 1e9
    with NewFile(tmp_path / "b.png") as file:
        file.write(b"ha")  # the transfer ends here
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]


def test_a_cancelled_download_leaves_no_file(tmp_path: Path) -> None:
    """The thread that opens or writes it goes on after the cancellation."""
    NewFile(tmp_path / "new" / "a.png")  # never entered
    (tmp_path / "b.png").write_bytes(b"other")
    for name in ("a.png", "b.png"):
        with NewFile(tmp_path / name) as file:
            pass
        with pytest.raises(ValueError):  # noqa: PT011 - whichever of its files is closed
            file.write(b"late")
        with pytest.raises(ValueError):  # noqa: PT011
            file.place(changed_at=1e9, overwrite=True)
    assert [one.name for one in tmp_path.iterdir()] == ["b.png"]
    assert (tmp_path / "b.png").read_bytes() == b"other"


def test_a_download_replaces_no_other_file_and_takes_any_name(tmp_path: Path) -> None:
    long = tmp_path / ("商品写真" * 20 + ".png")
    write_file(long, b"result", changed_at=1e9, overwrite=False)
    assert long.read_bytes() == b"result"
    long.write_bytes(b"retouched by somebody")
    with pytest.raises(FileExistsError):
        write_file(long, b"result", changed_at=1e9, overwrite=False)
    assert long.read_bytes() == b"retouched by somebody"
    write_file(long, b"result", changed_at=1e9, overwrite=True)
    assert long.read_bytes() == b"result"
    with pytest.raises(OSError, match="too long"):
        write_file(tmp_path / ("x" * 300), b"result", changed_at=1e9, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == [long.name]


def _refuse(*_: object) -> None:
    raise PermissionError


def test_a_download_tells_versions_of_a_result_and_other_files_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    item = {
        "id": "1",
        "name": "a.jpg",
        "status": "succeeded",
        "result": "/r",
        "result_format": "png",
        "output_bytes": 6,
        "outputs": [{"name": "a.png", "url": "/r", "bytes": 6}],
    }
    for finished_at in ("2026-01-01T10:00:00+00:00", "2026-01-01T11:00:00.5+00:00"):
        [download] = plan_downloads([cast(Item, {**item, "finished_at": finished_at})], tmp_path)
        assert list(download.missing()) == [("/r", path)]
        write_file(path, b"result", changed_at=download.finished_at, overwrite=False)
        assert list(download.missing()) == []
    monkeypatch.setattr(os, "utime", _refuse)  # somebody else's file, or a system without times
    write_file(path, b"result", changed_at=0, overwrite=False)
    write_file(tmp_path / "b.png", b"other", changed_at=0, overwrite=False)
    with pytest.raises(FileExistsError):
        write_file(path, b"mended", changed_at=download.finished_at, overwrite=False)
    path.write_bytes(b"retouched by somebody")
    with pytest.raises(FileExistsError):
        list(download.missing())
    assert list(download.missing(overwrite=True)) == [("/r", path)]


def test_names_that_are_one_on_some_system_stay_apart() -> None:
    items = [
        NamedItem(name=name, result_format="png", outputs=[])
        for name in ("größe.jpg", "gro\u0308ße.jpg", "GRÖSSE.webp")
    ]
    names = result_names(items)
    assert len({name.casefold() for name in names}) == 3
    assert names == ["größe.jpg.png", "gro\u0308ße.jpg-2.png", "GRÖSSE.webp.png"]


def test_links_that_lead_nowhere_and_folders_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, {"a.jpg": JPEG, "closed/b.jpg": JPEG, "sub/c.jpg": JPEG})
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    os.mkfifo(tmp_path / "pipe.jpg")
    listed = os.scandir

    def refused(place: str) -> object:
        if Path(place).name == "closed":
            raise PermissionError(13, "Permission denied", str(place))
        return listed(place)

    monkeypatch.setattr(os, "scandir", refused)
    found = find_photos([tmp_path], with_clips=True)
    assert [name for _, name in found.files] == ["a.jpg", "sub/c.jpg"]
    reasons = {one.name: one.reason for one in found.left_out}
    assert set(reasons) == {"closed", "dangling.jpg", "linked", "pipe.jpg"}
    assert "leads to no file" in reasons["dangling.jpg"]
    assert "Permission denied" in reasons["closed"]


def test_what_is_left_out_is_named_with_what_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(tmp_path, {"x.zip": b"PK\x03\x04" + bytes(99), "a.txt": b"x", "b.txt": b"x"})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe4d.jpg")).write_bytes(JPEG)
    print_left_out(find_photos([tmp_path]).left_out)
    said = capsys.readouterr().err
    assert "matting submit x.zip" in said
    assert "not UTF-8. Rename it." in said
    assert "4 files left out. If one of them should be cut out, export it" in said


@pytest.mark.parametrize("name", ["cut.tiff", "cut.GIF", "cut.pdf"])
def test_a_result_in_a_format_that_is_not_written_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"\.png"):
        cut(tmp_path, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_an_address_is_for_the_service(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="matting submit"):
        cut(Path("https://shop.example/a.jpg"), tmp_path / "out")


def cut(photo: Path, out: Path) -> None:
    flags = dict.fromkeys(
        ("alpha_only", "overwrite", "as_json", "fail_on_review", "previews"), False
    )
    run_cutout([photo], out, [], Settings(), **flags)


def test_workbooks_and_lists_among_photos_are_refused_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    lay_out(tmp_path, {"feed.xlsx": b"PK", "feed.csv": b"sku;key\n1;shoe.jpg\n", "shoe.jpg": JPEG})
    with pytest.raises(typer.BadParameter, match="CSV UTF-8"):
        attached_source([str(tmp_path / "feed.xlsx")])
    with pytest.raises(typer.BadParameter, match="is a list"):
        attached_source([str(tmp_path / "feed.csv"), str(tmp_path)])
    assert attached_source([str(tmp_path / "feed.csv")]) == ("manifest", tmp_path / "feed.csv")
    assert photo_beside(tmp_path / "feed.csv") == "shoe.jpg"
    (tmp_path / "shoe.jpg").unlink()
    assert photo_beside(tmp_path / "feed.csv") is None


def test_a_watched_folder_is_not_the_folder_of_its_results(tmp_path: Path) -> None:
    with pytest.raises(ResultsAmongPhotosError):
        FolderWatch(tmp_path, tmp_path / "x" / "..")
    FolderWatch(tmp_path, tmp_path / "out")
    assert not list(tmp_path.iterdir()), "the folder is made with the first photo"
