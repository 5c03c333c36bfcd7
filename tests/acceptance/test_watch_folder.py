"""A watched folder: each photo is cut out once, whenever the command is killed."""

import json
import os
import shutil
import time
from pathlib import Path

from PIL import Image

from api.client import MattingClient
from deploy.commands.watch_folder import RECORD, SETTLE_S
from deploy.stack.stack import Stack
from tests.acceptance.command import matting, running
from tests.waiting import eventually


def add(folder: Path, photo: Path, name: str) -> None:
    """Copy a photo there that nobody is writing any more."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(photo, folder / name)
    os.utime(folder / name, (time.time() - 2 * SETTLE_S,) * 2)


def test_each_photo_is_cut_out_once_also_when_the_command_is_killed(
    stack: Stack, client: MattingClient, folder: Path, tmp_path: Path
) -> None:
    data = ("--data", str(stack.data))
    watched, out = tmp_path / "in", tmp_path / "out"

    def jobs() -> list[int]:
        return [
            job["counts"]["total"]
            for job in client.jobs(metadata={"watched": str(watched.resolve())[-200:]})
        ]

    for name in ("a.jpg", "b/c.jpg"):
        add(watched, folder / "x.jpg", name)
    add(watched, folder / "x.jpg", "half-copied.jpg")
    os.utime(watched / "half-copied.jpg", (time.time() + 3_600,) * 2)  # as if written just now
    command = ("watch-folder", str(watched), str(out))
    for _ in range(2):
        done = matting(*command, "--once", *data)
        assert done.returncode == 0, done.stderr
    assert jobs() == [2]
    assert (out / "a.png").exists()
    assert (out / "b" / "c.png").exists()
    assert not (out / "half-copied.png").exists()

    add(watched, folder / "skuA" / "main.jpg", "d.jpg")
    record = out / RECORD
    with running(*command, *data, cwd=tmp_path) as child:
        eventually(
            # the result too: on a busy machine the batch can be over before it is seen
            lambda: json.loads(record.read_text())["batch"] or (out / "d.png").exists(),
            "the batch in the record",
        )
        child.kill()
    add(watched, folder / "skuB" / "main.jpg", "e.jpg")
    add(watched, folder / "x.png", "a.jpg")  # changed
    done = matting(*command, "--once", *data)
    assert done.returncode == 0, done.stderr
    assert sum(jobs()) == 2 + 1 + 2, "d once, e once, a again"
    assert (out / "d.png").exists()
    assert (out / "e.png").exists()

    (out / "f.png").write_text("somebody else's")
    add(watched, folder / "x.jpg", "f.jpg")
    Image.open(folder / "x.jpg").resize((200, 160)).save(tmp_path / "small.jpg")
    add(watched, tmp_path / "small.jpg", "a.jpg")  # changed again, in the same batch
    add(watched, folder / "x.jpg", "notes.txt")
    (watched / "notes.txt").write_text("no photo")
    before = (out / "a.png").read_bytes()
    done = matting(*command, "--once", *data)
    assert done.returncode == 1, done.stderr
    assert (out / "f.png").read_text() == "somebody else's"
    assert (out / "a.png").read_bytes() != before
    assert "1 photo without a result" in done.stderr
    assert done.stderr.count("notes.txt") == 1
    refused = matting("watch-folder", str(watched), str(watched), "--once", *data)
    assert refused.returncode == 2
    assert "results-among-photos" in refused.stderr
    record.write_text("{")
    refused = matting(*command, "--once", *data)
    assert refused.returncode == 2
    assert "damaged" in refused.stderr
