"""The command's summary of a job, its record of written files, and the ports of its stack."""

import io
import json
import re
import socket
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from api.client import Job
from deploy.cli import app
from deploy.commands import arguments, downloads, progress
from deploy.commands.cutout import _say
from deploy.commands.cutout_plan import CutOut, Planned
from deploy.commands.progress import print_table
from deploy.commands.review import REASONS
from deploy.commands.summary import Tally, kind_of, tally
from deploy.commands.written_files import RECORD, WrittenFiles
from deploy.stack.ports import remember_ports, same_ports
from shared.jobs import Reason
from shared.marketplaces import Market
from shared.options import Options
from shared.photo_kinds import refusal
from shared.rendition import Format
from tests.unit.test_render import photo
from worker.imaging.decoding import DecodedImage
from worker.imaging.encoding import encode
from worker.imaging.finishing import finish_matte
from worker.imaging.marketplace_rules import unmet_rules


def test_the_sentence_says_what_a_seller_wants_to_know() -> None:
    tally = Tally(total=120, done=120, to_check=42)
    for number in range(118):
        tally.add_rules(
            [
                "The width is 640 px; Amazon requires at least 1000 px; the subject has only 500",
                "The height is 640 px; Amazon requires at least 1000 px; the subject has only 500",
            ],
            to_check=number < 42,
        )
    assert tally.sentence() == (
        "120 done: 2 ready, 42 to check, 76 against a rule; "
        "118 too small for Amazon (add enlarge=true)"
    )


def test_failures_and_what_is_left_are_counted_too() -> None:
    tally = Tally(total=10, done=3, cancelled=1)
    tally.failed.update(["not-an-image", "not-an-image", "truncated-image"])
    assert tally.sentence() == (
        "3 done: 3 ready; 3 failed: 2 not-an-image, 1 truncated-image; 1 cancelled; 3 to do"
    )
    assert Tally(total=0).sentence() == "0 done"


@pytest.mark.parametrize("market", list(Market))
def test_every_sentence_of_the_rules_has_its_word_in_the_summary(market: Market) -> None:
    for size in ((60, 40), (9_000, 700)):
        picture = np.full((size[1], size[0], 3), 128, np.uint8)
        matte = np.zeros((size[1], size[0]), np.uint8)
        matte[5:9, 5:9] = 255
        data = encode(picture, Options(format=Format.JPEG, background="#ffffff"))
        for rule in unmet_rules(data, Format.JPEG, market, matte=matte, photo_px=(4, 4)):
            assert kind_of(rule) != rule


def test_a_job_with_max_bytes_counts_the_files_that_are_larger() -> None:
    image, matte = photo()
    options = Options(format=Format.JPEG, background="#ffffff", max_bytes=10_000)
    [file] = finish_matte(DecodedImage(image, matte.shape[1], matte.shape[0]), matte, options)
    item = {"outputs": [{"unmet": list(file.unmet)}], "needs_review": False}
    client = MagicMock()
    client.items.side_effect = lambda _job, status: iter([item] if status == "succeeded" else [])
    counts = {"total": 3, "succeeded": 3, "failed": 0, "cancelled": 0}
    asked = {"max_bytes": 10_000}
    for given in (asked, {"extra_outputs": [asked]}):
        job = {"id": "a", "counts": counts, "review": {"needs_review": 0}, "options": given}
        assert tally(client, cast(Job, job)).sentence() == (
            "3 done: 2 ready, 1 against a rule; 1 larger than max_bytes (set max_side_px)"
        )


def test_the_terminal_review_has_words_for_every_reason() -> None:
    assert set(REASONS) == set(Reason)


def test_a_table_cuts_no_cell_short(capsys: pytest.CaptureFixture[str]) -> None:
    row = ["0190c8f0-0000-7000-8000-000000000000", "shoe.jpg", "a reason; " * 40, "ende"]
    print_table(["image", "name", "why", "x"], [row, ["1", "2", "3", "\u9774"]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(cell.strip() in lines[1] for cell in row)


def test_only_files_that_a_run_with_the_same_options_wrote_may_be_replaced(tmp_path: Path) -> None:
    photo, result = tmp_path / "a.jpg", tmp_path / "out" / "a.png"
    result.parent.mkdir()
    photo.write_bytes(b"photo")
    first = WrittenFiles(result.parent, Options(), "builtin")
    result.write_bytes(b"result")
    assert not first.wrote(result)
    first.note(photo, "a.jpg", [result])
    first.save()

    second = WrittenFiles(result.parent, Options(), "builtin")
    assert second.has_results_of(photo, "a.jpg") == [result]
    assert second.wrote(result)
    for other in (
        WrittenFiles(result.parent, Options(crop=True), "builtin"),
        WrittenFiles(result.parent, Options(), "u2netp"),
    ):
        assert other.has_results_of(photo, "a.jpg") == []
        assert not other.wrote(result)
    photo.write_bytes(b"another photo")
    assert second.has_results_of(photo, "a.jpg") == []
    result.write_bytes(b"retouched by hand")
    assert not WrittenFiles(result.parent, Options(), "builtin").wrote(result)


@pytest.mark.parametrize("record", ["", "[]", '{"a": 1}', '{"a": {"photo": {}, "files": {}}}'])
def test_a_damaged_record_lets_no_file_be_replaced(tmp_path: Path, record: str) -> None:
    (tmp_path / RECORD).write_text(record)
    (tmp_path / "a.png").write_bytes(b"x")
    assert not WrittenFiles(tmp_path, Options(), "builtin").wrote(tmp_path / "a.png")


def test_ports_stay_the_same_unless_one_is_taken(tmp_path: Path) -> None:
    ports = same_ports(tmp_path)
    assert len(set(ports.values())) == 4
    remember_ports(tmp_path, ports)
    assert same_ports(tmp_path) == ports
    with socket.create_server(("127.0.0.1", ports["s3"])):
        moved = same_ports(tmp_path)
    assert moved["s3"] != ports["s3"]
    assert {**moved, "s3": 0} == {**ports, "s3": 0}
    (tmp_path / "ports.json").write_text(json.dumps(["damaged"]))
    assert len(same_ports(tmp_path)) == 4


def test_a_job_that_has_ended_waits_for_no_worker() -> None:
    def note(**counts: int) -> str:
        numbers = {"total": 1, "succeeded": 0, "failed": 0, "cancelled": 0} | counts
        job = {"status": "running", "counts": numbers, "images_per_s": None}
        return progress._note(cast(Job, job | {"estimated_s_left": None}))

    assert note() == "waiting for a worker"
    assert note(failed=1) == "1 failed"
    assert note(total=2, failed=1) == "waiting for a worker, 1 failed"


def test_a_job_that_stands_still_says_so_instead_of_the_time_left() -> None:
    counts = {"total": 6, "succeeded": 1, "failed": 0, "cancelled": 0}
    job = cast(
        Job,
        {"status": "running", "counts": counts, "images_per_s": 1.4, "estimated_s_left": 4},
    )
    assert progress._note(job) == "1.4 images/s, 4 s left"
    assert progress._note(job, still_s=58) == "none for 58 s; `matting doctor` checks every part"


def test_a_download_says_how_many_images_have_no_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = str(uuid.uuid4())
    client = MagicMock()
    client.__enter__.return_value = client
    client.job.return_value = {"id": job_id, "counts": {"succeeded": 1, "total": 6}}
    client.download.return_value = [({"name": "a.jpg"}, tmp_path / "a.png")]
    monkeypatch.setattr(downloads, "connect", lambda _data: client)
    with pytest.raises(typer.Exit) as ended:
        downloads.download(job_id, tmp_path)
    assert ended.value.exit_code == 1
    assert f"5 images have no result: see `matting status {job_id}`" in capsys.readouterr().err


def test_a_rule_names_the_file_that_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    made = SimpleNamespace(review=[], outputs=[SimpleNamespace(name="", unmet=["too small"])])
    done = CutOut()
    _say(Planned(Path("a.jpg"), "a.jpg", 1, [], "a.jpg"), cast(Any, made), [Path("o/a.png")], done)
    assert "o/a.png: too small" in capsys.readouterr().err


def test_the_list_of_options_shows_values_on_lines_of_their_own() -> None:
    said = CliRunner().invoke(app, ["options"]).output
    assert "\\n" not in said
    assert re.search(r"^ +true, false; default true *$", said, re.MULTILINE)


def test_a_terminal_shows_that_a_folder_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").touch()
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=True, highlight=False, width=400)
    monkeypatch.setattr(arguments, "console", terminal)
    arguments.resolve_photos([tmp_path])
    assert f"looking for photos in {tmp_path}" in written.getvalue()


def test_a_workbook_is_told_to_become_a_list() -> None:
    head = b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml"
    assert "CSV UTF-8" in refusal(head).detail
    assert "CSV" not in refusal(b"PK\x03\x04" + bytes(26) + b"a.jpg").detail
