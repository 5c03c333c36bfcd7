"""Every program of docs/quickstart.md is run as it stands there, in each of its languages."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import PIL.Image
import pytest

from deploy.local_photos import SAMPLES
from deploy.stack.processes import answers, free_port, start, wait_until
from deploy.stack.stack import Stack
from shared.webhooks import new_secret, signed_headers

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"
INTERPRETERS = {"sh": "bash", "py": sys.executable, "php": "php", "mjs": "node"}


def programs() -> dict[str, str]:
    """The programs of the page by their file names, which their first lines name."""
    fences = re.findall(r"^```\w+\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    named = re.compile(r"^(?:#|//|<\?php //) (\w+\.(?:sh|py|php|mjs))$", re.MULTILINE)
    return {match[1]: text for text in fences if (match := named.match(text))}


def interpreter(name: str) -> str:
    """What runs a program. It may be missing on a developer's machine, in CI it must not."""
    program = INTERPRETERS[name.rpartition(".")[2]]
    for needed in (program, *(("jq",) if name.endswith(".sh") else ())):
        if shutil.which(needed) is None and not os.environ.get("CI"):
            pytest.skip(f"{needed} is not installed")
    return program


@pytest.mark.parametrize("name", [f"quickstart.{kind}" for kind in INTERPRETERS])
def test_a_photo_is_submitted_waited_for_and_fetched(
    stack: Stack, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text(programs()[name])
    shutil.copy(SAMPLES / "sneaker.jpg", tmp_path / "shoe.jpg")
    known = {"MATTING_API_URL": stack.address.api_url, "MATTING_API_KEY": stack.secrets.api_key}
    done = subprocess.run(
        [interpreter(name), name],
        cwd=tmp_path,
        env=os.environ | known,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with PIL.Image.open(tmp_path / "out" / "shoe.jpg") as picture:
        assert picture.format == "JPEG"
        assert picture.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["webhook.py", "webhook.php", "webhook.mjs"])
def test_a_receiver_takes_signed_events_and_no_others(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(programs()[name])
    port, secret = free_port(), new_secret()
    serve = ["-S", f"127.0.0.1:{port}"] if name.endswith(".php") else []
    process = start(
        name,
        [interpreter(name), *serve, name],
        log=tmp_path / "log",
        folder=tmp_path,
        env=os.environ | {"WEBHOOK_SECRET": secret, "PORT": str(port)},
    )
    try:
        wait_until(lambda: answers(port), process, timeout_s=180)
        body = json.dumps({"type": "job.finished", "data": {"id": "0191"}}).encode()
        url = f"http://127.0.0.1:{port}/"
        headers = signed_headers("msg_1", int(time.time()), body, [secret])
        assert httpx.post(url, content=body, headers=headers).status_code == 204
        assert httpx.post(url, content=body + b" ", headers=headers).status_code == 401
        old = signed_headers("msg_1", int(time.time()) - 3_600, body, [secret])
        assert httpx.post(url, content=body, headers=old).status_code == 401
        assert "job.finished 0191" in (tmp_path / "log").read_text()
    finally:
        process.stop(5)


def test_every_program_of_the_page_is_run_here() -> None:
    assert sorted(programs()) == [
        *("quickstart.mjs", "quickstart.php", "quickstart.py", "quickstart.sh"),
        *("webhook.mjs", "webhook.php", "webhook.py"),
    ]
