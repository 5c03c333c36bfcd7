"""The subcommands submit, status, download, keys, cutout and doctor, and wrong usage."""

import json
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import PIL.Image
import pytest

from deploy.commands.written_files import RECORD
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.acceptance.command import MATTING, matting
from tests.clips import moving_square, read, write
from tests.waiting import eventually


def test_submit_status_watch_and_download_work_together(
    stack: Stack, folder: Path, tmp_path: Path
) -> None:
    data = ("--data", str(stack.data))
    sent = matting("submit", str(folder), "--wait", "--json", *data)
    assert sent.returncode == 1, "two of six are bad"
    job = json.loads(sent.stdout)
    assert job["counts"]["succeeded"] == 4
    assert "not-an-image" in sent.stderr
    assert re.search(r"4 done: \d ready.*; 2 failed: 1 ", sent.stderr)
    shown = json.loads(matting("status", job["id"], "--json", *data).stdout)
    assert shown["counts"] == job["counts"]
    listed = matting("status", *data).stdout
    assert job["id"] in listed
    assert max(map(len, listed.splitlines())) <= 80
    assert matting("watch", job["id"], *data).returncode == 1
    fetched = matting("download", job["id"], str(tmp_path / "out"), "--json", *data)
    assert fetched.returncode == 1
    names = {one["name"]: one["path"] for one in json.loads(fetched.stdout)["results"]}
    assert names["skuA/main.jpg"] == str(tmp_path / "out" / "skuA" / "main.png")
    assert (tmp_path / "out" / "skuA" / "main.png").exists()
    photo = (folder / "x.jpg").read_bytes()
    refused = matting("report", job["id"], str(folder / "x.jpg"), *data)
    assert (refused.returncode, (folder / "x.jpg").read_bytes()) == (2, photo), (
        "no list over a photo"
    )
    good = matting("submit", str(folder / "x.jpg"), "--wait", "--option", "format=webp", *data)
    assert good.returncode == 0
    assert matting("cancel", good.stdout.strip(), *data).returncode == 0
    again = matting("retry", good.stdout.strip(), *data)
    assert (again.returncode, again.stdout) == (0, good.stdout)
    assert again.stderr == "no image failed\n"
    assert "trying 2 failed images again" in matting("retry", job["id"], *data).stderr


def test_a_shell_completes_commands_and_the_ids_of_jobs(stack: Stack, folder: Path) -> None:
    data = str(stack.data)
    job_id = matting("submit", str(folder / "x.jpg"), "--data", data).stdout.strip()

    def completed(*words: str) -> str:
        environment = os.environ | {
            "_MATTING_COMPLETE": "complete_zsh",
            "_TYPER_COMPLETE_ARGS": " ".join(["matting", *words]),
        }
        return subprocess.run(
            [MATTING], capture_output=True, text=True, env=environment, timeout=240, check=True
        ).stdout

    assert "submit" in completed("sub")
    assert "background=" in completed("submit", "--option", "back")
    assert "format=webp" in completed("submit", "--option", "format=w")
    assert job_id in completed("status", "--data", data, job_id[:4])
    assert job_id in completed("download", "--data", data, job_id[:4])
    assert completed("download", "--data", "/nowhere", job_id[:4]).strip() == "_files"


def test_a_missing_result_does_not_stop_the_download(
    stack: Stack, folder: Path, tmp_path: Path
) -> None:
    data = ("--data", str(stack.data))
    sent = matting("submit", str(folder / "skuA"), str(folder / "skuB"), "--wait", *data)
    job_id = sent.stdout.strip()
    with closing(Storage(stack.settings)) as storage:
        lost = next(iter(storage.list_keys(f"jobs/{job_id}/")))
        storage.delete_many([lost])
    done = matting("download", job_id, str(tmp_path / "out"), "--json", *data)
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert (len(answer["results"]), len(answer["missed"])) == (1, 1)
    assert f"not downloaded {answer['missed'][0]}" in done.stderr


def test_the_reader_of_the_output_may_stop_reading(stack: Stack) -> None:
    command = f"{MATTING} status --json --data {stack.data} | head -c 1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=240, check=True
    )
    assert (done.stdout, done.stderr) == ("[", "")


def test_the_readme_s_ten_lines_do_what_they_say(
    stack: Stack, folder: Path, tmp_path: Path
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    script = readme.split("## Ten lines of Python")[1].split("```python\n")[1].split("```")[0]
    assert len(script.strip().splitlines()) <= 10
    script = script.replace("http://127.0.0.1:8000", stack.address.api_url)
    script = script.replace("mtk_...", stack.secrets.api_key)
    (folder / "x.jpg").rename(folder / "shoe.jpg")
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=240,
        check=True,
    )
    [name, path] = done.stdout.strip().split(" -> ")
    assert name == "photos/shoe.jpg"
    with PIL.Image.open(tmp_path / path) as picture:
        assert (picture.mode, picture.size) == ("RGBA", (400, 300))


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "no-such-file.jpg"],
        ["submit", "x.jpg", "--option", "colour"],
        ["status", "not-an-id"],
        ["status", "01a1fb77-d843-73ec-984f-708320b6b1cb"],
        ["nonsense"],
        ["cutout", "no-such-folder", "--out", "o"],
        ["cutout", "x.jpg", "--out", "o", "--option", "format=gif"],
        ["submit", "s3://photos/nothing/", "--option", "format=gif"],
        ["report", "01a1fb77-d843-73ec-984f-708320b6b1cb", "/proc/no/report.csv"],
        ["download", "01a1fb77-d843-73ec-984f-708320b6b1cb", "o"],
    ],
)
def test_wrong_usage_is_status_2_and_one_sentence(
    stack: Stack, tmp_path: Path, arguments: list[str]
) -> None:
    extra = [] if arguments[0] in ("nonsense", "cutout") else ["--data", str(stack.data)]
    done = matting(*arguments, *extra, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [MATTING, "cutout", "x.jpg", "--out", "o"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"MATTING_LEASE_S": "soon"},
        timeout=240,
        check=False,
    )
    assert done.returncode == 2
    assert "MATTING_LEASE_S must be a number" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_no_stack_running_it_says_how_to_start_one(tmp_path: Path) -> None:
    done = matting("status", "--data", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "matting up" in done.stderr


def test_keys_are_made_listed_and_revoked(stack: Stack) -> None:
    data = ("--data", str(stack.data))
    secret = matting("keys", "create", "shop", *data).stdout.strip()
    assert secret.startswith("mtk_")
    listed = matting("keys", "list", *data).stdout
    assert "shop" in listed
    assert secret not in listed
    key_id = next(line.split()[0] for line in listed.splitlines() if "shop" in line)
    assert matting("keys", "revoke", key_id, *data).returncode == 0


def test_cutout_needs_no_server_and_a_second_run_writes_only_what_is_missing(
    folder: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    done = matting("cutout", str(folder), "--out", str(cut), "--json", cwd=tmp_path)
    assert done.returncode == 1, "two of six are bad"
    assert "loading the model" in done.stderr
    assert f"wrote {cut}/skuA/main.png" in done.stderr
    assert "4 done: " in done.stderr
    assert "2 failed: " in done.stderr
    answer = json.loads(done.stdout)
    assert (len(answer["written"]), len(answer["failed"])) == (4, 2)
    with PIL.Image.open(cut / "skuA" / "main.png") as picture:
        assert (picture.mode, picture.size) == ("RGBA", (400, 300))
    assert sorted(path.name for path in cut.iterdir()) == [
        ".matting-cutout.json", "skuA", "skuB", "x.jpg.png", "x.png.png",
    ]  # fmt: skip

    (folder / "cut.jpg").unlink()
    (folder / "page.jpg").unlink()
    again = matting("cutout", str(folder), "--out", str(cut), cwd=tmp_path)
    assert again.returncode == 0
    assert "loading the model" not in again.stderr
    assert "4 kept from before" in again.stderr

    (cut / "x.jpg.png").write_text("of somebody else")
    refused = matting("cutout", str(folder / "x.jpg"), "--out", str(cut / "x.jpg.png"))
    assert refused.returncode == 1
    assert "--overwrite" in refused.stderr
    assert (cut / "x.jpg.png").read_text() == "of somebody else"


def test_cutout_says_what_it_wrote_where_its_record_cannot_be_written(
    folder: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    (cut / RECORD).mkdir(parents=True)
    done = matting("cutout", str(folder / "x.jpg"), "--out", str(cut), "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    [failed] = json.loads(done.stdout)["failed"]
    assert (failed["photo"], failed["code"]) == (str(folder / "x.jpg"), "not-written")
    assert [path.name for path in cut.iterdir()] == [RECORD]


def test_cutout_writes_one_named_file_and_into_a_pipe(folder: Path, tmp_path: Path) -> None:
    photo = folder / "x.jpg"
    only = matting("cutout", str(photo), "--out", str(tmp_path / "a.png"), "--alpha-only")
    assert only.returncode == 0
    with PIL.Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "L"
    again = matting("cutout", str(photo), "--out", str(tmp_path / "a.png"), "--alpha-only")
    assert (again.returncode, "1 kept from before" in again.stderr) == (0, True)
    assert "loading the model" not in again.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.png"]
    command = f"{MATTING} cutout - --option format=webp < {photo} > {tmp_path / 'b.webp'}"
    piped = subprocess.run(["bash", "-c", command], check=True, timeout=240, capture_output=True)
    assert b"wrote the result to standard output" in piped.stderr
    with PIL.Image.open(tmp_path / "b.webp") as picture:
        assert (picture.format, picture.size) == ("WEBP", (400, 300))
    jpeg = matting("cutout", str(photo), "--out", str(tmp_path / "a.jpg"))
    assert jpeg.returncode == 2
    assert "JPEG has no transparency" in jpeg.stderr


def test_wrong_options_are_named_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"")
    for option, words in (
        ("bg=white", "Unknown option `bg`. Did you mean `background`?"),
        ("format=gif", '`format` "gif" is not one of png, webp, jpeg, avif, zip or psd.'),
    ):
        for command in (("submit",), ("cutout", "--out", "o")):
            done = matting(*command, "x.jpg", "--option", option, cwd=tmp_path)
            assert done.returncode == 2, "no stack runs here: it was not asked"
            assert words in " ".join(done.stderr.split())
            assert "matting options" in done.stderr
    listed = matting("options").stdout
    assert "background" in listed
    assert "80%" in matting("options", "scale").stdout
    assert "  points: `[x, y, 1]` lies on" in matting("options", "subject").stdout
    assert json.loads(matting("options", "--json").stdout)["$defs"]["Format"]["enum"]


def test_delete_asks_and_says_what_it_removed(stack: Stack, folder: Path) -> None:
    data = ("--data", str(stack.data))
    job_id = matting("submit", str(folder / "x.jpg"), "--wait", *data).stdout.strip()
    unasked = matting("delete", job_id, *data)
    assert unasked.returncode == 2
    assert "--yes" in unasked.stderr
    done = matting("delete", job_id, "--yes", *data)
    assert done.returncode == 0
    assert f"deleted {job_id}: 1 result (" in done.stderr
    assert matting("status", job_id, *data).returncode == 2


def test_marked_results_are_listed_and_judged_on_the_terminal(
    stack: Stack, folder: Path, tmp_path: Path
) -> None:
    data = ("--data", str(stack.data))
    tiny = tmp_path / "tiny.jpg"
    with PIL.Image.open(folder / "x.jpg") as photo:
        photo.resize((40, 30)).save(tiny)
    job_id = matting("submit", str(tiny), "--wait", *data).stdout.strip()
    listed = matting("review", job_id, *data).stdout
    assert "the photo has few pixels" in listed
    [item] = json.loads(matting("review", job_id, "--json", *data).stdout)
    assert matting("review", job_id, "--reject", item["id"], *data).returncode == 0
    assert json.loads(matting("review", job_id, "--json", *data).stdout) == []
    told = matting("retry", job_id, *data).stderr
    assert "no image failed; 1 rejected: use --include rejected" in told
    rejected = ("retry", job_id, "--include", "rejected", *data)
    wrong = matting(*rejected, "--option", "crop=perhaps")
    assert wrong.returncode == 2, wrong.stderr
    assert "crop" in wrong.stderr
    redone = matting(*rejected, "--option", "crop=true")
    assert redone.returncode == 0, redone.stderr
    assert "no image failed; making 1 rejected image again" in redone.stderr
    assert "made again, because the result before was rejected" in eventually(
        lambda: found if "made again" in (found := matting("review", job_id, *data).stdout) else "",
        "the new version",
    )

    # with a terminal: it asks
    matting("submit", str(tiny), "--wait", *data)
    again = matting("status", *data).stdout.splitlines()[1].split()[0]
    command = f"{MATTING} review {again} --no-viewer --data {stack.data}"
    typed = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        input="?\na\n",
        env=os.environ | {"TERM": "dumb"},  # no colours between the words
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert "1 of 1" in typed.stdout
    assert "stored 1 verdict;" in typed.stdout


def test_a_dry_run_takes_a_local_folder_and_sends_nothing(stack: Stack, folder: Path) -> None:
    data = ("--data", str(stack.data))
    before = len(matting("status", *data).stdout.splitlines())
    done = matting("submit", str(folder), "--dry-run", *data)
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert (answer["images"], answer["sampled"]) == (6, 5), "one is a page"
    assert answer["bytes"] == sum(path.stat().st_size for path in folder.rglob("*.*"))
    assert len(matting("status", *data).stdout.splitlines()) == before


def test_doctor_finds_a_healthy_machine_healthy(stack: Stack, tmp_path: Path) -> None:
    done = matting("doctor", "--data", str(stack.data), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warm in" in done.stderr
    assert "1 shapes" not in done.stderr


def test_doctor_names_the_fix_for_a_model_that_is_missing(tmp_path: Path) -> None:
    environment = os.environ | {"MATTING_MODEL": "no-such-model"}
    done = subprocess.run(
        [MATTING, "doctor"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=240,
        check=False,
    )
    assert done.returncode == 2
    assert "MATTING_MODEL must be" in done.stderr


def test_cutout_takes_the_clips_of_a_folder_too(tmp_path: Path) -> None:
    folder, cut = tmp_path / "clips", tmp_path / "cut"
    folder.mkdir()
    good = write(folder / "shoe.mp4", moving_square(6), sound="aac")
    (folder / "half.mp4").write_bytes(good.read_bytes()[:900])
    options = ("--option", "background=white", "--previews")
    done = matting("cutout", str(folder), "--out", str(cut), "--json", *options)
    assert done.returncode == 1, "one of two is cut off"
    answer = json.loads(done.stdout)
    assert answer["failed"][0]["code"] == "truncated-clip"
    assert answer["written"][0]["clip"]["frames"] == 6
    assert sorted(path.name for path in cut.iterdir()) == [
        ".matting-cutout.json", "shoe.mp4", "shoe.poster.webp", "shoe.strip.webp",
    ]  # fmt: skip
    assert len(read(cut / "shoe.mp4")[0]) == 6
    again = matting("cutout", str(good), "--out", str(cut), *options)
    assert again.returncode == 0
    assert "1 kept from before" in again.stderr
    photo = matting("cutout", str(good), "--out", str(tmp_path / "a.png"))
    assert photo.returncode == 2
    assert "this is a clip" in photo.stderr
