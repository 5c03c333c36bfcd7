"""Runs every command and snippet of the README and of docs/ as printed there.

They run in a folder whose `matting-data` is the running stack. Only addresses, keys and ids are
filled in. A command that no test knows fails here.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import PIL.Image
import pytest

from api.client import MattingClient
from deploy.local_photos import SAMPLES
from deploy.stack.processes import answers, free_port, start, wait_until
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.acceptance.forked_command import program

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/submit.md",
    "docs/review.md",
    "docs/models.md",
    "docs/webhooks.md",
    "docs/api.md",
    "docs/operate.md",
    "docs/capacity.md",
    "docs/benchmarks.md",
    "docs/comparison.md",
    "docs/console.md",
    "docs/formats.md",
    "docs/clients.md",
    "docs/edge.md",
    "docs/fleet.md",
    "docs/environments.md",
    "docs/queries.md",
    "docs/sets.md",
    "docs/triton.md",
    "docs/video.md",
)
BIN = Path(sys.executable).parent


def fences(page: str) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block."""
    text = (ROOT / page).read_text()
    yield from re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def indented(page: str) -> list[str]:
    """The lines of the indented blocks, in order."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.M | re.S)
    return re.findall(r"^ {4}(\S.*)$", text, re.M)


def shell_commands(page: str) -> list[str]:
    """Every command that a reader would type, without comments and line continuations."""
    fenced = [text.replace("\\\n", " ") for language, text in fences(page) if language == "sh"]
    lines = [*indented(page), *"\n".join(fenced).splitlines()]
    commands = [re.split(r"\s+#\s", line)[0].strip() for line in lines]
    return [one for one in commands if one and not one.startswith(CSV)]


CSV = ("key,", "photos/1.jpg,")


def python_snippets(page: str) -> list[str]:
    return [text for language, text in fences(page) if language == "python"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, stack: Stack, bucket: Storage) -> Path:
    """The folder in which the commands run, with the photos that they name."""
    place = tmp_path_factory.mktemp("docs")
    (place / "matting-data").symlink_to(stack.data)
    (place / ".venv").mkdir()
    (place / ".venv" / "bin").symlink_to(BIN)
    (place / "photos").mkdir()
    for source, name in (("sneaker", "shoe"), ("mug", "mug")):
        shutil.copy(SAMPLES / f"{source}.jpg", place / "photos" / f"{name}.jpg")
    shutil.copy(SAMPLES / "sneaker.jpg", place / "shoe.jpg")
    with closing(Storage(stack.settings)) as storage:
        for key in ("shop/shoe.jpg", "catalogue/shoe.jpg"):
            storage.put(key, (place / "shoe.jpg").read_bytes(), "image/jpeg")
    bucket.put("inbox/shoe.jpg", (place / "shoe.jpg").read_bytes(), "image/jpeg")
    (place / "products.csv").write_text("key,sku\nshop/shoe.jpg,RED-40\n")
    for folder in ("images", "alphas"):
        (place / "pairs" / folder).mkdir(parents=True)
    shutil.copy(SAMPLES / "mug.jpg", place / "pairs" / "images" / "mug.jpg")
    with PIL.Image.open(SAMPLES / "mug.jpg") as photo:
        blue = photo.convert("RGB").split()[2].point(lambda level: 255 * (level > 140))
    blue.save(place / "pairs" / "alphas" / "mug.png")
    return place


def run(place: Path, command: str, env: dict[str, str] | None = None) -> str:
    path = f"{Path(program()).parent}:{BIN}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=place,
        env={**os.environ, **(env or {}), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


class Reader:
    """Types one command after the other, and keeps ids that a later one needs."""

    def __init__(self, stack: Stack, place: Path) -> None:
        self.stack, self.place = stack, place
        self.job = self.key_id = ""

    def make(self, command: str) -> None:
        """CI and the demo's own test run the targets. This only checks that they exist."""
        assert run(ROOT, f"{command} --dry-run")

    def containers(self, command: str) -> None:
        """Checked against docker-compose.yml, because the test machine has no Docker."""
        words = shlex.split(command)
        if words[0] == "cp":
            assert (ROOT / words[1]).exists()
            return
        action, *rest = words[2:]
        named = [word for word in rest if not word.startswith("-")]
        named = named if action in ("start", "stop") else named[:1]
        for service in named:
            assert f"\n  {service}:\n" in (ROOT / "docker-compose.yml").read_text(), command
        if action == "exec" and rest[1] == "matting":
            self.matting(shlex.join(rest[1:]))
        elif action == "exec":
            assert rest[-1] == "flushdb" or self.tested_backup(command)
        else:
            assert action in ("up", "run", "stop", "start"), command

    def tested_backup(self, command: str) -> bool:
        """tests/integration/test_backup.py runs pg_dump and pg_restore with the same options."""
        test = (ROOT / "tests" / "integration" / "test_backup.py").read_text()
        tool, *options = re.findall(r"pg_\w+|--\w[\w-]*|-Fc", command)
        return all(f'"{word}"' in test for word in (tool, *options))

    def elsewhere(self, command: str) -> None:
        """Each loads the model for seconds, and test_command.py runs it in this form."""
        tests = (ROOT / "tests" / "acceptance" / "test_command.py").read_text()
        word = shlex.split(command)[1]
        assert re.search(rf'matting\(\s*"{word}"', tests)

    def matting(self, command: str) -> None:
        if "JOB" in command and not self.job:
            self.matting("matting submit photos/ --wait")
        filled = re.sub(r"\bJOB\b", self.job, command)
        filled = re.sub(r"\bID\b", self.key_id, filled)
        said = run(self.place, filled)
        if "matting submit " in command and "--dry-run" not in command:
            self.job = _id_in(said)
        elif "matting delete " in command:
            self.job = ""
        elif "matting keys create " in command:
            listed = run(self.place, "matting keys list").splitlines()
            self.key_id = _id_in(next(line for line in listed if " shop " in line))

    def curl(self, command: str) -> None:
        url, key = self.stack.address.api_url, self.stack.secrets.api_key
        filled = command.replace("http://localhost:8000", url).replace("mtk_…", key)
        # The name becomes a public address, which may be registered.
        filled = filled.replace("shop.example", "93.184.215.14")
        filled = filled.replace("curl ", "curl --fail-with-body -sS ", 1)
        said = run(self.place, filled, {"KEY": key, "URL": url, "no_proxy": "*"})
        if "removebg" in command:
            assert (self.place / "shoe.png").read_bytes().startswith(b"\x89PNG")
            return
        made = json.loads(said)
        if "/v1/webhooks" in command:
            assert made["secret"].startswith("whsec_")
            headers = {"Authorization": f"Bearer {key}"}
            gone = httpx.delete(f"{url}/v1/webhooks/{made['id']}", headers=headers)
            assert gone.status_code == 204, "the other tests' jobs must not be told to it"
        else:
            with MattingClient(url, key) as client:
                assert client.wait(made["id"])["counts"]["succeeded"] == 1

    def part(self, command: str) -> None:
        """A process of the system, with a port of its own and the stack's settings."""
        port = free_port()
        words = shlex.split(command)
        if words[0] == "uvicorn" or "flower" in words:
            words.append(f"--port={port}")
        env = {**os.environ, **self.stack.env, "MATTING_WORKER_METRICS_PORT": str(port)}
        log = self.place / "part.log"
        process = start(words[0], [str(BIN / words[0]), *words[1:]], log=log, folder=ROOT, env=env)
        try:
            wait_until(lambda: _serves(port), process, timeout_s=180)
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


SLOW = r"matting (models verify|contact-sheet) "
RUN: set[str] = set()
"""Commands that ran already: several pages name the slow ones, and one run is enough."""


def _serves(port: int) -> bool:
    """The API and workers answer /readyz; Flower answers /healthcheck."""
    paths = ("readyz", "healthcheck")
    return answers(port) and any(
        httpx.get(f"http://127.0.0.1:{port}/{path}", trust_env=False).status_code == 200
        for path in paths
    )


def _id_in(text: str) -> str:
    found = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)
    assert found, text
    return found.group()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs(stack: Stack, place: Path, page: str) -> None:
    reader = Reader(stack, place)
    for command in shell_commands(page):
        plain = command.removeprefix(".venv/bin/")
        if re.match(SLOW, plain) and plain in RUN:
            continue
        RUN.add(plain)
        matches = [do for pattern, do in KINDS if re.match(pattern, command)]
        assert matches, f"{page} names a command that no test runs: {command}"
        matches[0](reader, command)


def test_every_page_is_run_by_some_test() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    pages = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
    left_out = [page for page in pages if page.rpartition("/")[2] not in tests]
    assert left_out == [], "add them to PAGES"


def test_the_blocks_are_found() -> None:
    assert sum(len(shell_commands(page)) for page in PAGES) >= 40
    assert sum(len(python_snippets(page)) for page in PAGES) >= 3


@pytest.mark.parametrize(
    ("page", "answer"),
    [("README.md", "shoe.jpg -> out/"), ("docs/submit.md", "'succeeded': 1")],
)
def test_the_client_s_snippets_do_what_they_say(
    stack: Stack, place: Path, page: str, answer: str
) -> None:
    [snippet] = [one for one in python_snippets(page) if "MattingClient" in one]
    assert len(snippet.splitlines()) <= 10
    filled = snippet.replace("http://127.0.0.1:8000", stack.address.api_url)
    filled = filled.replace("mtk_...", stack.secrets.api_key)
    (place / "snippet.py").write_text(filled)
    said = run(place, f"{sys.executable} snippet.py", {"PYTHONPATH": str(ROOT)})
    assert answer in said


def test_a_webhook_is_verified(capsys: pytest.CaptureFixture[str]) -> None:
    from datetime import UTC, datetime

    from standardwebhooks import Webhook

    [snippet] = [one for one in python_snippets("docs/webhooks.md") if "standardwebhooks" in one]
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
    lines = [line for line in indented("docs/submit.md") if line.startswith(CSV)]
    (place / "list.csv").write_text("\n".join(lines) + "\n")
    with MattingClient(stack.address.api_url, stack.secrets.api_key) as client:
        job = client.wait(client.submit_attached("manifest", place / "list.csv")["id"])
        [item] = list(client.items(job["id"]))
    assert item["custom_id"] == "A-1"
    assert item["error"] is not None
    assert item["error"]["code"] == "source-not-found", "there is no such photo here"


def test_every_fence_is_known() -> None:
    known = {"", "sh", "python", "json"}
    assert {language for page in PAGES for language, _ in fences(page)} <= known
    for text in [text for page in PAGES for language, text in fences(page) if language == "json"]:
        assert json.loads(text)
