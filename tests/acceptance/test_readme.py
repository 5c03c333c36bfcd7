"""Every command and snippet of the README is run as it stands there; an unknown one fails here.

They run in a folder of their own whose `matting-data` is the running stack, so that they need no
other words than the README's; only addresses, keys and ids are filled in.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import PIL.Image
import pytest

from api.client import MattingClient
from deploy.local_photos import SAMPLES
from deploy.stack.processes import answers, free_port, start, wait_until
from deploy.stack.stack import Stack

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.timeout(600)


def fences() -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def indented() -> list[str]:
    """The lines of the indented blocks, in their order."""
    return re.findall(r"^ {4}(\S.*)$", re.sub(r"^```.*?^```$", "", README, flags=re.M | re.S), re.M)


def shell_commands() -> list[str]:
    """Every command that a reader would type; comments and continued lines are taken off."""
    fenced = [text.replace("\\\n", " ") for language, text in fences() if language == "sh"]
    lines = [*indented(), *"\n".join(fenced).splitlines()]
    commands = [re.split(r"\s+#\s", line)[0].strip() for line in lines]
    return [one for one in commands if one and not one.startswith(CSV)]


CSV = ("key,", "photos/1.jpg,")


def python_snippets() -> list[str]:
    return [text for language, text in fences() if language == "python"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, stack: Stack) -> Path:
    """Where the commands are typed."""
    place = tmp_path_factory.mktemp("readme")
    (place / "matting-data").symlink_to(stack.data)
    (place / ".venv").mkdir()
    (place / ".venv" / "bin").symlink_to(BIN)
    (place / "photos").mkdir()
    for source, name in (("sneaker", "shoe"), ("mug", "mug")):
        shutil.copy(SAMPLES / f"{source}.jpg", place / "photos" / f"{name}.jpg")
    shutil.copy(SAMPLES / "sneaker.jpg", place / "shoe.jpg")
    for folder in ("images", "alphas"):
        (place / "pairs" / folder).mkdir(parents=True)
    shutil.copy(SAMPLES / "mug.jpg", place / "pairs" / "images" / "mug.jpg")
    with PIL.Image.open(SAMPLES / "mug.jpg") as photo:
        blue = photo.convert("RGB").split()[2].point(lambda level: 255 * (level > 140))
    blue.save(place / "pairs" / "alphas" / "mug.png")
    return place


def run(place: Path, command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=place,
        env={**os.environ, **(env or {}), "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


class Reader:
    """Types one command after the other, and keeps what a later one needs."""

    def __init__(self, stack: Stack, place: Path) -> None:
        self.stack, self.place = stack, place
        self.job = self.key_id = ""

    def make(self, command: str) -> None:
        """Its targets are what CI and the demo's own test run; here: they exist and say what."""
        assert run(ROOT, f"{command} --dry-run")

    def containers(self, command: str) -> None:
        """Held against docker-compose.yml; no engine runs where the tests do."""
        words = shlex.split(command)
        if words[0] == "cp":
            assert (ROOT / words[1]).exists()
        elif words[2] == "exec":
            assert f"\n  {words[3]}:\n" in (ROOT / "docker-compose.yml").read_text()
            self.matting(shlex.join(words[4:]))
        else:
            assert words[2] == "up"

    def elsewhere(self, command: str) -> None:
        """Each loads the model for seconds, and has a test that runs it as it stands here."""
        tests = (ROOT / "tests" / "acceptance" / "test_command.py").read_text()
        word = shlex.split(command)[1]
        assert re.search(rf'matting\(\s*"{word}"', tests)

    def matting(self, command: str) -> None:
        filled = re.sub(r"\bJOB\b", self.job, command)
        filled = re.sub(r"\bID\b", self.key_id, filled)
        said = run(self.place, filled)
        if "matting submit " in command:
            self.job = _id_in(said)
        elif "matting keys create " in command:
            listed = run(self.place, "matting keys list").splitlines()
            self.key_id = _id_in(next(line for line in listed if " shop " in line))

    def curl(self, command: str) -> None:
        url, key = self.stack.address.api_url, self.stack.secrets.api_key
        filled = command.replace("http://localhost:8000", url).replace("mtk_…", key)
        # A name that resolves here, to an address that may be registered.
        filled = filled.replace("shop.example", "93.184.215.14")
        filled = filled.replace("curl ", "curl --fail-with-body -sS ", 1)
        said = run(self.place, filled, {"KEY": key, "URL": url, "no_proxy": "*"})
        if "removebg" in command:
            assert (self.place / "shoe.png").read_bytes().startswith(b"\x89PNG")
        else:
            made = json.loads(said)
            assert made["secret"].startswith("whsec_")
            headers = {"Authorization": f"Bearer {key}"}
            gone = httpx.delete(f"{url}/v1/webhooks/{made['id']}", headers=headers)
            assert gone.status_code == 204, "the other tests' jobs must not be told to it"

    def part(self, command: str) -> None:
        """A process of the system, on a port of its own and with the stack's settings."""
        port = free_port()
        words = shlex.split(command)
        if words[0] == "uvicorn" or "flower" in words:
            words.append(f"--port={port}")
        env = {**os.environ, **self.stack.env, "MATTING_WORKER_METRICS_PORT": str(port)}
        log = self.place / "part.log"
        process = start(words[0], [str(BIN / words[0]), *words[1:]], log=log, folder=ROOT, env=env)
        try:
            wait_until(lambda: _serves(port), process, timeout_s=120)
        finally:
            process.stop(30)

    def migrate(self, command: str) -> None:
        assert "at revision" in run(self.place, command, self.stack.env)


KINDS: list[tuple[str, Callable[[Reader, str], None]]] = [
    (r"make \w+$", Reader.make),
    (r"(cp|docker compose) ", Reader.containers),
    (r"matting migrate$", Reader.migrate),
    (r"\.venv/bin/matting (cutout|doctor)\b", Reader.elsewhere),
    (r"(\.venv/bin/)?matting ", Reader.matting),
    (r"curl ", Reader.curl),
    (r"(uvicorn|celery) ", Reader.part),
]


def _serves(port: int) -> bool:
    """The API and a worker say so; Flower shows its page."""
    paths = ("readyz", "healthcheck")
    return answers(port) and any(
        httpx.get(f"http://127.0.0.1:{port}/{path}", trust_env=False).status_code == 200
        for path in paths
    )


def _id_in(text: str) -> str:
    found = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)
    assert found, text
    return found.group()


def test_every_command_runs(stack: Stack, place: Path) -> None:
    reader = Reader(stack, place)
    commands = shell_commands()
    assert len(commands) >= 18, "the blocks were not found"
    for command in commands:
        matches = [do for pattern, do in KINDS if re.match(pattern, command)]
        assert matches, f"the README names a command that no test runs: {command}"
        matches[0](reader, command)


def test_the_client_in_ten_lines(stack: Stack, place: Path) -> None:
    [snippet] = [one for one in python_snippets() if "MattingClient" in one]
    assert len(snippet.splitlines()) <= 10
    filled = snippet.replace("http://127.0.0.1:8000", stack.address.api_url)
    filled = filled.replace("mtk_...", stack.secrets.api_key)
    (place / "snippet.py").write_text(filled)
    said = run(place, f"{sys.executable} snippet.py", {"PYTHONPATH": str(ROOT)})
    assert "shoe.jpg -> out/" in said


def test_a_webhook_is_verified(capsys: pytest.CaptureFixture[str]) -> None:
    from datetime import UTC, datetime

    from standardwebhooks import Webhook

    [snippet] = [one for one in python_snippets() if "standardwebhooks" in one]
    secret, moment = "whsec_" + "c2VjcmV0c2VjcmV0c2VjcmV0", datetime.now(UTC)
    body = json.dumps({"type": "job.finished", "data": {"id": "42", "counts": {"succeeded": 3}}})
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", moment, body),
    }
    names: dict[str, Any] = {"body": body, "headers": headers}
    exec(snippet.replace("whsec_...", secret), names)
    assert capsys.readouterr().out == "job.finished 42 {'succeeded': 3}\n"


def test_the_manifest_is_taken(stack: Stack, place: Path) -> None:
    lines = [line for line in indented() if line.startswith(CSV)]
    (place / "list.csv").write_text("\n".join(lines) + "\n")
    with MattingClient(stack.address.api_url, stack.secrets.api_key) as client:
        job = client.wait(client.submit_attached("manifest", place / "list.csv")["id"])
        [item] = list(client.items(job["id"]))
    assert item["custom_id"] == "A-1"
    assert item["error"] is not None
    assert item["error"]["code"] == "source-not-found", "there is no such photo here"


def test_every_fence_is_known_and_every_link_leads_somewhere() -> None:
    assert {language for language, _ in fences()} <= {"", "sh", "python"}
    pages = [ROOT / "README.md", *(ROOT / "deploy").rglob("*.md"), ROOT / "CONTRIBUTING.md"]
    for page in pages:
        for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
