"""`matting models pull` with a real HTTP server that breaks off, changes the file, or lies."""

import hashlib
import io
import json
import re
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli import app
from deploy.models.lock import LOCK_FILE
from deploy.models.pull import pull, unpack
from shared.errors import BadModelArchiveError, ModelChangedError, ModelDownloadError
from shared.settings import Settings
from tests.http_servers import LocalHTTPServer
from worker.inference.catalog import BUNDLES, find_model

NAME = "modnet-mobilenetv2"
PARTS = ("deploy.yaml", "model.pdmodel", "model.pdiparams")


def archive(folder: str = "export/", extra: dict[str, bytes] | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name in PARTS:
            opened.writestr(folder + name, (BUNDLES / "builtin" / name).read_bytes())
        for name, data in (extra or {}).items():
            opened.writestr(name, data)
    return file.getvalue()


class Site(LocalHTTPServer):
    """Serves one file under every path, with ranges by RFC 9110. Breaks off after `breaks`
    bytes.
    """

    body = b""
    breaks: int | None = None
    status = 200
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site = self.server
        tag = f'"{hashlib.sha256(site.body).hexdigest()}"'
        wanted = self.headers.get("Range")
        site.asked.append(wanted)
        start = 0
        if wanted and self.headers.get("If-Range") == tag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1))  # type: ignore[union-attr]
        self.send_response(site.status if site.status != 200 else 206 if start else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(site.body) - start))
        self.end_headers()
        rest = site.body[start:]
        self.wfile.write(rest if site.breaks is None else rest[: site.breaks])

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(("127.0.0.1", 0), Handler) as site:
        site.asked, site.body = [], archive()
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield site
        site.shutdown()
        thread.join()


def url(site: Site) -> str:
    return f"http://127.0.0.1:{site.server_address[1]}/{NAME}.zip"


def test_a_pulled_model_is_the_published_one_and_is_locked(site: Site, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    model = pull(NAME, url(site), tmp_path, lambda here, total: seen.append((here, total)))
    builtin = find_model(Settings())
    assert model.fingerprint == builtin.fingerprint
    assert seen[-1] == (len(site.body), len(site.body))
    locked = json.loads((tmp_path / LOCK_FILE).read_text())[NAME]
    assert locked["sha256"] == hashlib.sha256(site.body).hexdigest()
    assert locked["bytes"] == len(site.body)
    assert {one.name for one in tmp_path.iterdir()} == {NAME, LOCK_FILE}
    assert find_model(Settings(model=NAME, models_dir=tmp_path)).name == NAME


def test_an_interrupted_download_continues(site: Site, tmp_path: Path) -> None:
    site.breaks = len(site.body) // 3
    pull(NAME, url(site), tmp_path)
    third = site.breaks
    assert site.asked[0] is None
    assert site.asked[1:3] == [f"bytes={third}-", f"bytes={2 * third}-"]


def test_a_changed_file_is_downloaded_from_the_start(site: Site, tmp_path: Path) -> None:
    partial = tmp_path / f".{NAME}.zip.part"
    partial.write_bytes(b"x" * 100)
    partial.with_suffix(".etag").write_text('"of another file"')
    assert pull(NAME, url(site), tmp_path).fingerprint


def test_a_model_that_changed_is_refused_and_the_old_one_stays(site: Site, tmp_path: Path) -> None:
    before = pull(NAME, url(site), tmp_path).fingerprint
    site.body = archive(extra={"export/readme.txt": b"another"})
    with pytest.raises(ModelChangedError, match="SHA-256"):
        pull(NAME, url(site), tmp_path)
    assert find_model(Settings(model=NAME, models_dir=tmp_path)).fingerprint == before
    assert {one.name for one in tmp_path.iterdir()} == {NAME, LOCK_FILE}


def test_a_missing_model_reports_each_address_and_its_answer(site: Site, tmp_path: Path) -> None:
    site.status = 404
    with pytest.raises(ModelDownloadError, match="404"):
        pull(NAME, url(site), tmp_path)


def test_a_local_file_is_installed_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "mine.zip"
    file.write_bytes(archive(folder=""))
    assert pull("mine", str(file), tmp_path / "models").fingerprint
    assert file.exists()


@pytest.mark.parametrize("name", ["../evil.yaml", "/tmp/evil.yaml", "export/../../evil.yaml"])
def test_no_entry_leaves_its_folder(name: str, tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(archive(extra={name: b"x"}))
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    unpack(file, inside)
    assert {one.name for one in inside.iterdir()} == set(PARTS)
    assert not list(tmp_path.rglob("evil*"))


def test_links_in_an_archive_are_not_created(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("export/notes.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    file = tmp_path / "a.zip"
    file.write_bytes(archive())
    with zipfile.ZipFile(file, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    inside = tmp_path / "inside"
    inside.mkdir()
    unpack(file, inside)
    assert {one.name for one in inside.iterdir()} == set(PARTS)


@pytest.mark.parametrize("data", [b"<html>", b"", archive()[:-30]])
def test_a_file_that_is_no_archive_is_refused(data: bytes, site: Site, tmp_path: Path) -> None:
    site.body = data
    with pytest.raises(BadModelArchiveError):
        pull(NAME, url(site), tmp_path)
    assert not [one for one in tmp_path.iterdir() if one.name != LOCK_FILE]


def test_an_archive_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.models.pull.MAX_UNPACKED_BYTES", 100_000)
    file = tmp_path / "a.zip"
    file.write_bytes(archive())
    with pytest.raises(BadModelArchiveError, match="unpacks to more"):
        pull("bomb", str(file), tmp_path / "models")


def test_the_command_pulls_from_the_mirror_and_lists_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTING_MODELS_URL", url(site).rpartition("/")[0])
    monkeypatch.setenv("MATTING_MODELS_DIR", str(tmp_path))
    tuned = {"cpu": {NAME: {"images_per_s": 7.5}}}
    (tmp_path / "tune.json").write_text(json.dumps(tuned))
    runner = CliRunner()
    done = runner.invoke(app, ["models", "pull", NAME])
    assert done.exit_code == 0, done.output
    listed = json.loads(runner.invoke(app, ["models", "list", "--json"]).stdout)
    found = {one["model"]: one for one in listed}
    assert found[NAME] == {
        "model": NAME, "mb": 1.9, "sad": 50.07, "mse": 0.0053, "fps_v100": 68.4,
        "images_per_s": 7.5, "licence": "Apache-2.0",
    } | {"mb": found[NAME]["mb"]}  # fmt: skip
    assert found[NAME]["mb"] > 1
    assert found["modnet-hrnet_w18"]["mb"] is None
    assert runner.invoke(app, ["models", "pull", "../x"]).exit_code == 2
    assert runner.invoke(app, ["models", "pull", "no-such"]).exit_code == 2
