"""Systems that the command starts: they keep their jobs and leave no process behind."""

import json
import os
import re
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import PIL.Image

from deploy.commands.written_files import WrittenFiles
from shared.object_url import ObjectUrl
from shared.settings import Settings
from shared.storage import Storage
from tests.acceptance.command import MATTING, matting, processes_below, running
from tests.waiting import eventually


def test_the_demo_leaves_results_a_sheet_and_no_process(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()
    earlier = tmp_path / "out" / "mug.png"
    earlier.write_text("of an earlier version")
    WrittenFiles(earlier.parent, None, "demo").note(earlier, "mug.png", [earlier])
    done = subprocess.run(
        [MATTING, "demo", "--out", "out"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 7
    assert earlier.read_bytes().startswith(b"\x89PNG"), "its own earlier results are replaced"
    with PIL.Image.open(tmp_path / "out" / "contact-sheet.png") as sheet:
        assert sheet.width > 1_000
    assert processes_below(str(tmp_path)) == []
    assert list((tmp_path / "tmp").glob("matting-*")) == []


def test_a_second_start_finds_the_jobs_of_the_first_and_ctrl_c_stops_cleanly(
    folder: Path, tmp_path: Path, tiny_model: Path
) -> None:
    data = tmp_path / "data"
    job = None
    printed = []
    for _ in range(2):
        with running(
            *("up", "--data", str(data), "--port", "0", "--host", "0.0.0.0"),
            cwd=tmp_path,
            MATTING_SECOND_MODEL="none",  # it takes seconds to warm up
            MATTING_MODEL=str(tiny_model),
        ) as up:
            assert up.stderr is not None
            text = ""
            while "Ctrl-C" not in text:
                line = up.stderr.readline()
                assert line, text
                text += line
            assert "/docs" in text
            printed.append(re.findall(r"http://[^\s/,]+", text))
            assert "Flower" in text
            assert "Warning" in text
            assert "mtk_" in text
            assert re.search(r"^Console http://\S+/console/sign-in#mtl_\S+$", text, re.MULTILINE)
            with closing(s3_of(text, data)) as s3:
                found = s3.list_page(ObjectUrl("matting", "jobs/"), after=None)
                samples = s3.list_page(ObjectUrl("matting", "samples/"), after=None)
            assert bool(found) == (job is not None), "the files of the first start are there"
            assert len(list(samples)) == 6, "what the examples of /docs name"
            if job is None:
                sent = matting("submit", str(folder / "x.jpg"), "--wait", "--data", str(data))
                job = sent.stdout.strip()
            else:
                shown = matting("status", job, "--json", "--data", str(data)).stdout
                assert json.loads(shown)["counts"]["succeeded"] == 1
            up.send_signal(signal.SIGINT)
            assert up.wait(180) == 0
        assert processes_below(str(data)) == []
    assert printed[0] == printed[1], "bookmarks and links stay valid"


def s3_of(said: str, data: Path) -> Storage:
    """The S3 server as a reader reaches it: with the printed address, and the keys in the named
    file.
    """
    found = re.search(r"^S3 +(http\S+), bucket (\w+)$", said, re.MULTILINE)
    assert found, said
    known = json.loads((data / "secrets.json").read_text())
    settings = {
        "s3_endpoint_url": found[1],
        "s3_bucket": found[2],
        "aws_access_key_id": known["s3_access_key"],
        "aws_secret_access_key": known["s3_secret_key"],
    }
    return Storage(Settings.model_validate(settings))


def test_a_killed_stack_takes_its_parts_along(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running("up", "--data", str(data), "--port", "0", cwd=tmp_path) as up:
        eventually((data / "logs" / "api.log").exists, "the API to start")
        up.kill()
    eventually(lambda: not processes_below(str(data)), "its processes to end")


def test_a_damaged_database_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "matting.db").write_bytes(b"no database " * 1_000)
    up = matting("up", "--data", str(tmp_path), "--port", "0", cwd=tmp_path)
    assert (up.returncode, "[data-damaged]" in up.stderr) == (2, True), up.stderr
    assert "Traceback" not in up.stderr
    assert (tmp_path / "matting.db").read_bytes() == b"no database " * 1_000
    assert not processes_below(str(tmp_path))


def test_ctrl_c_in_the_demo_leaves_nothing(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with running("demo", "--out", "out", cwd=tmp_path, TMPDIR=str(temporary)) as demo:
        eventually(lambda: list(temporary.glob("matting-*/logs/worker-1.log")), "a worker to start")
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=240)
        assert demo.returncode == 130, errors
        assert "Traceback" not in errors
    assert processes_below(str(tmp_path)) == []
    assert list(temporary.glob("matting-*")) == []
