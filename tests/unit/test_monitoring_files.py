"""Alert rules, dashboard and runbook agree with the code's metrics."""

import json
import os
import re
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import prometheus_client
import pytest
import yaml

import api.http.metrics
import shared.telemetry
import worker.consumer.device_metrics
from api.app import create_app
from deploy.maintenance import runbook_dashboard
from deploy.stack.processes import answers, free_port, start, wait_until
from shared.settings import Settings
from tests.http_servers import LocalHTTPServer
from tests.waiting import eventually

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
SUFFIXES = r"(_total|_bucket|_sum|_count)?"


def known_metrics() -> set[str]:
    """All metrics: counted ones, and those computed at each scrape."""
    registered = {
        family.name
        for family in prometheus_client.REGISTRY.collect()
        if family.name.startswith("matting_")
    }
    asked: set[str] = set()
    for module in (api.http.metrics, worker.consumer.device_metrics):
        assert module.__file__
        asked |= set(re.findall(r'"(matting_[a-z_]+)"', Path(module.__file__).read_text()))
    assert shared.telemetry.IMAGES
    return registered | asked


def expressions() -> Iterator[tuple[str, str]]:
    for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]:
        yield rule["alert"], rule["expr"]
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "matting.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def test_every_metric_in_rules_and_dashboard_exists() -> None:
    known = known_metrics()
    for title, expression in expressions():
        named = re.findall(r"\bmatting_[a-z_]+\b", expression)
        others = ("up{", "process_", "ALERTS{", "nv_")  # Triton's: tests/integration/test_triton.py
        assert named or any(name in expression for name in others), title
        for name in named:
            assert re.sub(SUFFIXES + "$", "", name) in known or name in known, (title, name)


def test_files_that_callers_fetch_slowly_do_not_make_the_api_slow() -> None:
    [expression] = [expr for alert, expr in expressions() if alert == "MattingApiSlow"]
    [left_out] = re.findall(r'route!~"([^"]+)"', expression)
    described = create_app(Settings()).openapi()["paths"]
    streamed = {
        path
        for path, methods in described.items()
        for kind in methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if kind in ("text/csv", "application/x-ndjson", "application/zip")
    }
    assert {path for path in described if re.fullmatch(left_out, path)} == streamed


def panels() -> list[dict[str, Any]]:
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "matting.json").read_text())
    found: list[dict[str, Any]] = board["panels"]
    return found


def test_the_dashboard_fits_on_one_screen_without_overlaps() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert max(x for x, _ in taken) < 24
    # A cell with its gap is 38 px high, so a screen of 1080 px shows 28 rows (`?kiosk`).
    assert max(y for _, y in taken) < 28


def test_every_tile_has_thresholds_of_its_own() -> None:
    """Without thresholds of its own, Grafana paints every value above 80 red, even a good one."""
    tiles = [panel for panel in panels() if panel["type"] == "stat"]
    assert tiles
    for tile in tiles:
        assert tile["fieldConfig"]["defaults"]["thresholds"]["steps"], tile["title"]


def test_the_runbook_names_existing_panels() -> None:
    titles = {panel["title"] for panel in panels()}
    for page in (DEPLOY / "runbook").glob("*.md"):
        named = set(re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", page.read_text()))
        assert named <= titles, page.name


def test_every_alert_has_one_runbook_page() -> None:
    rules: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    pages = {path.stem for path in (DEPLOY / "runbook").glob("Matting*.md")}
    assert {rule["alert"] for rule in rules} == pages
    for rule in rules:
        assert rule["annotations"]["runbook"] == f"deploy/runbook/{rule['alert']}.md"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_every_alert_has_a_firing_and_a_silent_test() -> None:
    tests = yaml.safe_load((ALERTS.parent / "tests" / "alerts.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (package prometheus) is missing")
def test_the_alert_rules_fire_when_they_should() -> None:
    for command in (
        ["test", "rules", str(ALERTS.parent / "tests" / "alerts.yml")],
        ["check", "config", str(ALERTS.parent / "prometheus.yml")],
    ):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_runbook_s_dashboard_is_up_to_date() -> None:
    text = runbook_dashboard.PATH.read_text()
    assert text == runbook_dashboard.runbook_dashboard(), "run: make reference"
    titles = {panel["title"] for panel in json.loads(text)["panels"]}
    assert titles == {path.stem for path in (DEPLOY / "runbook").glob("*.md")}


def test_the_dashboard_links_to_the_runbook() -> None:
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "matting.json").read_text())
    uid = json.loads(runbook_dashboard.PATH.read_text())["uid"]
    links = [*board["links"], *(link for panel in panels() for link in panel.get("links", ()))]
    assert len(links) == 2
    assert {link["url"] for link in links} == {f"/d/{uid}"}


needs_alertmanager = pytest.mark.skipif(
    not shutil.which("prometheus-alertmanager") and os.environ.get("SERVER_TESTS") != "required",
    reason="prometheus-alertmanager is not installed",
)


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(json.loads(body))  # type: ignore[attr-defined]  # set by the test
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class _Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as one mail needs."""

    def handle(self) -> None:
        self.wfile.write(b"220 mail\r\n")
        inside = False
        for line in self.rfile:
            if inside:
                self.server.told.append(line.decode().strip())  # type: ignore[attr-defined]
                if line != b".\r\n":
                    continue
            inside = line.upper().startswith(b"DATA")
            self.wfile.write(b"354 go on\r\n" if inside else b"250 ok\r\n")
            if line.upper().startswith(b"QUIT"):
                return


@needs_alertmanager
def test_an_alert_reaches_the_pager_and_the_mailbox(tmp_path: Path) -> None:
    hook = LocalHTTPServer(("127.0.0.1", 0), _Hook)
    mail = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mail)
    mail.daemon_threads = True
    hook_told: list[dict[str, Any]] = []
    mail_told: list[str] = []
    hook.told, mail.told = hook_told, mail_told  # type: ignore[attr-defined]  # for the handlers
    for server in (hook, mail):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    text = text.replace("https://pager.example.com/hook", f"http://127.0.0.1:{hook.server_port}")
    text = text.replace("smtp.example.com:587", f"127.0.0.1:{mail.server_address[1]}")
    text = re.sub("  smtp_auth_.*\n", "", text).replace(
        "global:", "global:\n  smtp_require_tls: false"
    )
    (tmp_path / "config.yml").write_text(text.replace("group_wait: 30s", "group_wait: 0s"))
    port = free_port()
    command = [
        "prometheus-alertmanager", f"--config.file={tmp_path}/config.yml",
        f"--storage.path={tmp_path}", f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]  # fmt: skip
    process = start(
        "alertmanager", command, log=tmp_path / "log", folder=tmp_path, env=dict(os.environ)
    )
    try:
        wait_until(lambda: answers(port), process, timeout_s=180)
        alert = {"alertname": "MattingNoWarmWorker", "severity": "page"}
        notes = {"summary": "No worker is warm.", "runbook": "deploy/runbook/x.md"}
        sent = [{"labels": alert, "annotations": notes}]
        httpx.post(f"http://127.0.0.1:{port}/api/v2/alerts", json=sent).raise_for_status()
        told = eventually(lambda: hook_told, "the webhook")
        assert told[0]["alerts"][0]["annotations"] == notes
        assert eventually(
            lambda: any("MattingNoWarmWorker" in one for one in mail_told), "the mail"
        )
    finally:
        process.stop(10)
        for server in (hook, mail):
            server.shutdown()
            server.server_close()


@needs_alertmanager
def test_alertmanager_accepts_the_file() -> None:
    path = DEPLOY / "alertmanager" / "alertmanager.yml"
    done = subprocess.run(
        ["amtool", "check-config", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 receivers" in done.stdout
