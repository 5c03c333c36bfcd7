"""The command harms nobody's files, and names what it leaves out."""

import csv
import json
import shutil
from pathlib import Path

import PIL.Image
import pytest

from deploy.stack.stack import Stack
from tests.acceptance.command import matting
from tests.clips import moving_square, write
from tests.photo_files import drawn, heif, saved


def test_a_cutout_replaces_no_file_and_takes_no_result_for_a_photo(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    original = saved(drawn(), "PNG")
    (photos / "shoe.png").write_bytes(original)
    (tmp_path / "link").symlink_to(photos)
    refused = matting("cutout", str(photos), "--out", str(tmp_path / "link"))
    assert refused.returncode == 2
    assert "results-among-photos" in refused.stderr
    assert [path.name for path in photos.iterdir()] == ["shoe.png"]
    assert (photos / "shoe.png").read_bytes() == original

    out = photos / "out"
    assert matting("cutout", str(photos), "--out", str(out)).returncode == 0
    result = (out / "shoe.png").read_bytes()
    again = matting("cutout", str(photos), "--out", str(out), "--alpha-only")
    assert again.returncode == 1
    assert "file-exists" in again.stderr
    assert (out / "shoe.png").read_bytes() == result
    assert sorted(path.name for path in photos.rglob("*.png")) == ["shoe.png", "shoe.png"]


def test_one_file_shows_the_photo_of_the_last_run_whose_result_it_was(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTING_MODEL", str(tiny_model))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    cut, shown = tmp_path / "cut.png", []
    (tmp_path / "x.png").write_bytes(saved(drawn(120, 90), "PNG"))
    (tmp_path / "y.png").write_bytes(saved(drawn(90, 120), "PNG"))
    for photo in ("x.png", "y.png", "x.png", "y.png"):
        done = matting("cutout", str(tmp_path / photo), "--out", str(cut))
        assert done.returncode == 0, done.stderr
        with PIL.Image.open(cut) as result:
            shown.append(result.size)
    assert shown == [(120, 90), (90, 120)] * 2


def test_a_photo_with_a_foreign_file_in_the_place_of_its_second_result_is_done_once_that_is_gone(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTING_MODEL", str(tiny_model))
    photo, out = tmp_path / "x.jpg", tmp_path / "out"
    photo.write_bytes(saved(drawn(), "JPEG"))
    foreign = out / "second.webp"
    out.mkdir()
    foreign.write_text("of the person")
    extra = 'extra_outputs=[{"name": "second.{ext}", "format": "webp"}]'
    asked = ("--out", str(out), "--option", extra)
    for _ in range(2):
        refused = matting("cutout", str(photo), *asked)
        assert refused.returncode == 1
        assert f"{foreign} is there already" in refused.stderr
        assert foreign.read_text() == "of the person"
    foreign.unlink()
    done = matting("cutout", str(photo), *asked)
    assert done.returncode == 0, done.stderr
    assert foreign.exists()


def test_a_clip_with_a_foreign_file_in_the_place_of_its_strip_is_done_once_that_is_gone(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTING_MODEL", str(tiny_model))
    clip, out = write(tmp_path / "shoe.mp4", moving_square(4)), tmp_path / "out"
    foreign = out / "shoe.strip.webp"
    out.mkdir()
    foreign.write_text("of the person")
    asked = ("--out", str(out), "--option", "background=white", "--previews")
    refused = matting("cutout", str(clip), *asked)
    assert refused.returncode == 1
    assert f"{foreign} is there already" in refused.stderr
    assert foreign.read_text() == "of the person"
    foreign.unlink()
    done = matting("cutout", str(clip), *asked)
    assert done.returncode == 0, done.stderr
    assert foreign.exists()


def test_a_clip_s_result_in_a_named_file_is_kept_by_a_second_run(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTING_MODEL", str(tiny_model))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    clip, cut = write(tmp_path / "shoe.mp4", moving_square(4)), tmp_path / "cut.mp4"
    for said in ("1 done", "1 kept from before"):
        done = matting("cutout", str(clip), "--out", str(cut), "--option", "background=white")
        assert done.returncode == 0, done.stderr
        assert said in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.mp4", "shoe.mp4", "state"]


def test_a_folder_that_can_t_be_written_is_told_at_once(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTING_MODEL", str(tiny_model))
    photo, file = tmp_path / "shoe.png", tmp_path / "notes"
    photo.write_bytes(saved(drawn(), "PNG"))
    file.write_text("of the person")
    for command in ("cutout", "demo"):
        refused = matting(command, str(photo), "--out", str(file / "out"))
        assert refused.returncode == 2
        assert f"{file / 'out'} can't be written: Not a directory" in refused.stderr
        assert "loading" not in refused.stderr


def test_downloads_replace_nothing_and_what_is_left_out_is_named(
    stack: Stack, tmp_path: Path
) -> None:
    data = ("--data", str(stack.data))
    photos = tmp_path / "photos"
    photos.mkdir()
    image = drawn(120, 90)
    (photos / "shoe.png").write_bytes(saved(image, "PNG"))
    (photos / "phone.HEIC").write_bytes(heif(image))
    (photos / ("商品写真" * 20 + ".jfif")).write_bytes(saved(image, "JPEG"))
    (photos / "raw.raf").write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(99))
    (photos / ".DS_Store").write_bytes(b"x")
    sent = matting("submit", str(photos), "--wait", "--json", *data)
    assert sent.returncode == 1
    assert "raw.raf" in sent.stderr
    assert "DS_Store" not in sent.stderr
    job = json.loads(sent.stdout)
    counts = job["counts"]
    assert (counts["succeeded"], counts["failed"], counts["total"]) == (3, 1, 4), sent.stderr
    assert "1 left-out" in sent.stderr
    assert matting("report", job["id"], str(tmp_path / "report.csv"), *data).returncode == 0
    with (tmp_path / "report.csv").open(encoding="utf-8-sig", newline="") as file:
        errors = {row["name"]: row["error_detail"] for row in csv.DictReader(file)}
    assert "camera raw (Fujifilm RAF)" in errors["raw.raf"]

    original = (photos / "shoe.png").read_bytes()
    fetched = matting("download", job["id"], str(photos), *data)
    assert fetched.returncode == 1
    assert "shoe.png" in fetched.stderr
    assert (photos / "shoe.png").read_bytes() == original
    assert (photos / ("商品写真" * 20 + ".png")).exists(), "the others go on"
    assert (photos / "phone.png").exists()

    out = tmp_path / "out"
    assert matting("download", job["id"], str(out), *data).returncode == 1, "one was left out"
    (out / "shoe.png").write_bytes(b"retouched")
    kept = matting("download", job["id"], str(out), "--json", *data)
    assert kept.returncode == 1
    assert json.loads(kept.stdout)["missed"] == ["shoe.png"]
    assert (out / "shoe.png").read_bytes() == b"retouched"
    matting("download", job["id"], str(out), "--overwrite", *data)
    assert (out / "shoe.png").read_bytes() != b"retouched"


def test_a_zip_names_what_it_leaves_out(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(saved(drawn(), "JPEG"))
    (folder / "notes.txt").write_text("x")
    (folder / ".DS_Store").write_text("x")
    packed = shutil.make_archive(str(tmp_path / "photos"), "zip", folder)
    sent = matting("submit", packed, "--wait", "--json", "--data", str(stack.data))
    assert sent.returncode == 1
    job = json.loads(sent.stdout)
    assert job["counts"]["total"] == 2
    assert job["counts"]["succeeded"] == 1
    assert "notes.txt" in sent.stderr
