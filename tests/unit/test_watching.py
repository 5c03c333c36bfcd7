"""Alert rules, dashboard and runbook, held against the metrics that the code has."""

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

import api.metrics
import shared.telemetry
import worker.device

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
SUFFIXES = r"(_total|_bucket|_sum|_count)?"


def known_metrics() -> set[str]:
    """Those that are counted, and those that are asked for at each scrape."""
    registered = {
        family.name
        for family in prometheus_client.REGISTRY.collect()
        if family.name.startswith("matting_")
    }
    asked: set[str] = set()
    for module in (api.metrics, worker.device):
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


def test_every_metric_that_is_watched_exists() -> None:
    known = known_metrics()
    for title, expression in expressions():
        named = re.findall(r"\bmatting_[a-z_]+\b", expression)
        assert named or "up{" in expression or "process_" in expression, title
        for name in named:
            assert re.sub(SUFFIXES + "$", "", name) in known or name in known, (title, name)


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    rules: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    pages = {path.stem for path in (DEPLOY / "runbook").glob("Matting*.md")}
    assert {rule["alert"] for rule in rules} == pages
    for rule in rules:
        assert rule["annotations"]["runbook"] == f"deploy/runbook/{rule['alert']}.md"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_every_alert_is_tested_firing_and_silent() -> None:
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
