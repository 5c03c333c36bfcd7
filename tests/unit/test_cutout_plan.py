"""A later run of `matting cutout`: what is kept keeps its file, and old records are forgotten."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.client import MattingClient
from api.client.uploading import LocalFile
from deploy.commands.arguments import upload_journal
from deploy.commands.cutout_plan import CutOut, Planned, record_keys
from deploy.commands.result_files import ResultFolder
from deploy.commands.written_files import FORGET_AFTER_S, RECORD, WrittenFiles
from deploy.local_photos import find_photos
from shared.options import Options

NUMBERED = Options(name="{n}.{ext}")


def run(out: Path, photos: list[Path]) -> CutOut:
    """What `matting cutout` does, without a network: each result holds its photo's bytes."""
    files, done = WrittenFiles(out, NUMBERED, "m"), CutOut()
    keys = record_keys([photo.name for photo in photos], [str(photo) for photo in photos])
    planned = [
        Planned(photo, photo.name, number, [], key)
        for number, (photo, key) in enumerate(zip(photos, keys, strict=True), 1)
    ]
    with ResultFolder(out, photos, overwrite=False, is_own=files.wrote) as store:
        for one in done.still_missing(planned, store, files, NUMBERED, overwrite=False):
            staged = store.staging / f"{one.number}.png"
            store.put(str(staged), one.source.read_bytes(), "image/png")
            target = out / f"{one.number}.png"
            try:
                store.place(staged, target)
            except OSError as error:
                done.note_unwritten(one, error)
                continue
            files.note(one.source, one.key, [target])
        files.save()
    return done


def test_a_new_photo_with_the_number_of_another_one_replaces_no_result(tmp_path: Path) -> None:
    photos = [tmp_path / name for name in ("b.jpg", "c.jpg")]
    for photo in photos:
        photo.write_text(photo.name)
    out = tmp_path / "out"
    assert not run(out, photos).failed
    first = tmp_path / "a.jpg"
    first.write_text("a.jpg")
    done = run(out, [first, *photos])
    assert [(one["photo"], one["code"]) for one in done.failed] == [(str(first), "file-exists")]
    assert "another photo" in done.failed[0]["detail"]
    assert len(done.kept) == 2
    assert [(out / f"{n}.png").read_text() for n in (1, 2)] == ["b.jpg", "c.jpg"]


def test_a_photo_that_is_cut_out_later_has_its_number_in_the_folder(tmp_path: Path) -> None:
    photos = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")]
    for photo in photos:
        photo.write_text(photo.name)
    out = tmp_path / "out"
    run(out, photos)
    photos[2].write_text("c.jpg, mended")
    assert not run(out, photos).failed
    contents = [(out / f"{n}.png").read_text() for n in (1, 2, 3)]
    assert contents == ["a.jpg", "b.jpg", "c.jpg, mended"]


def test_photos_of_one_name_are_remembered_each(tmp_path: Path) -> None:
    photos = [tmp_path / folder / "a.jpg" for folder in ("x", "y")]
    for photo in photos:
        photo.parent.mkdir()
        photo.write_text(str(photo))
    run(tmp_path / "out", photos)
    again = run(tmp_path / "out", photos)
    assert not again.failed
    assert len(again.kept) == 2


def test_old_records_of_single_results_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"x")
    records = tmp_path / "state" / "matting" / "cutout"
    for name in ("old.png", "new.png"):
        target = tmp_path / name
        target.write_bytes(b"x")
        files = WrittenFiles(tmp_path, NUMBERED, "m", target=target)
        files.note(photo, "a.jpg", [target])
        files.save()
        assert WrittenFiles(tmp_path, NUMBERED, "m", target=target).wrote(target)
        if name == "old.png":
            before = time.time() - FORGET_AFTER_S - 60
            for record in records.iterdir():
                os.utime(record, (before, before))
    assert len(list(records.iterdir())) == 1
    assert WrittenFiles(tmp_path, NUMBERED, "m", target=tmp_path / "new.png").wrote(
        tmp_path / "new.png"
    )


@pytest.mark.parametrize("home", ["/proc", None], ids=["not writable", "none"])
def test_a_user_without_a_home_gets_single_results_and_submits(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container with any user id."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 3)  # /etc/passwd has no such user
    photo, target = tmp_path / "a.jpg", tmp_path / "a.png"
    for path in (photo, target):
        path.write_bytes(b"x")
    files = WrittenFiles(tmp_path, NUMBERED, "m", target=target)
    files.note(photo, "a.jpg", [target])
    files.save()
    assert files.wrote(target)
    with MattingClient("http://127.0.0.1:9", "key") as client:
        journal = upload_journal(client, find_photos([photo]))
    journal.note(LocalFile(photo, "a.jpg"), "an-upload")
    assert journal.handle(LocalFile(photo, "a.jpg")) == "an-upload"


def test_the_record_is_read_up_to_a_line_that_was_cut_off(tmp_path: Path) -> None:
    photos = [tmp_path / name for name in ("a.jpg", "b.jpg")]
    files = WrittenFiles(tmp_path, NUMBERED, "m")
    for photo in photos:
        photo.write_text(photo.name)
        files.note(photo, photo.name, [photo])
    record = tmp_path / RECORD
    record.write_text(record.read_text()[:-5])
    files = WrittenFiles(tmp_path, NUMBERED, "m")
    assert [files.wrote(photo) for photo in photos] == [True, False]
    files.note(photos[1], "b.jpg", photos[1:])
    files = WrittenFiles(tmp_path, NUMBERED, "m")
    assert [files.wrote(photo) for photo in photos] == [True, True]
    files.save()
    assert sorted(json.loads(record.read_text())) == ["a.jpg", "b.jpg"]


def test_results_of_a_run_that_ended_before_it_noted_them_may_be_replaced(tmp_path: Path) -> None:
    photo, out = tmp_path / "a.jpg", tmp_path / "out"
    photo.write_text("a.jpg")
    results = [out / "a.png", out / "a.1.png"]

    def begin(files: WrittenFiles, text: str) -> list[Path]:
        staged = [out / f"staged-{part}" for part in range(2)]
        for file in staged:
            file.write_text(text)
        files.begin(photo, "a.jpg", dict(zip(results, staged, strict=True)))
        return staged

    out.mkdir()
    files = WrittenFiles(out, NUMBERED, "m")
    for file, result in zip(begin(files, "first"), results, strict=True):
        file.rename(result)
    files.note(photo, "a.jpg", results)
    files.save()
    photo.write_text("a.jpg, mended")
    files = WrittenFiles(out, NUMBERED, "m")
    begin(files, "the second")[0].rename(results[0])
    files.save()  # as another photo's run does

    files = WrittenFiles(out, NUMBERED, "m")
    assert [files.wrote(result) for result in results] == [True, True]
    assert files.has_results_of(photo, "a.jpg") == []
    for file, result in zip(begin(files, "a third"), results, strict=True):
        file.replace(result)
    files.note(photo, "a.jpg", results)
    files.save()
    assert WrittenFiles(out, NUMBERED, "m").has_results_of(photo, "a.jpg") == results
    assert list(json.loads((out / RECORD).read_text())) == ["a.jpg"]


def test_a_full_disk_at_the_end_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_text("a.jpg")
    files = WrittenFiles(tmp_path, NUMBERED, "m")
    files.note(photo, "a.jpg", [photo])
    partial = tmp_path / f"{RECORD}.{os.getpid()}.part"
    partial.symlink_to("/dev/full")
    files.save()
    assert "No space left" in capsys.readouterr().err
    assert not os.path.lexists(partial)
    assert WrittenFiles(tmp_path, NUMBERED, "m").has_results_of(photo, "a.jpg") == [photo]


def test_two_runs_into_one_folder_lose_nothing_of_each_other(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_text("a.jpg")
    names = [f"{number}.jpg" for number in range(300)]

    def note() -> None:
        files = WrittenFiles(tmp_path, NUMBERED, "m")
        for name in names:
            files.note(photo, name, [photo])

    with ThreadPoolExecutor(1) as thread:
        noted = thread.submit(note)
        files = WrittenFiles(tmp_path, NUMBERED, "m")
        while not noted.done():
            files.save()
        noted.result()
    files.save()
    assert list(json.loads((tmp_path / RECORD).read_text())) == names
