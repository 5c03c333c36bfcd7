"""Alert rules, dashboard and runbook agree with the code's metrics."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

import api.http.metrics
import shared.telemetry
import worker.consumer.device_metrics

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
        others = ("up{", "process_", "ALERTS{")
        assert named or any(name in expression for name in others), title
        for name in named:
            assert re.sub(SUFFIXES + "$", "", name) in known or name in known, (title, name)


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
