"""Flower as compose and Kubernetes start it: it needs a password."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from deploy.stack.processes import answers, free_port, start, wait_until

ROOT = Path(__file__).parents[2]
USER, PASSWORD = "watcher", "5d0c1f9a7be24486a1"


@pytest.fixture(scope="module")
def flower(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start it with compose's command on another port. Returns its address."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    command, port = compose["services"]["flower"]["command"], free_port()
    assert "--port=5555" in command
    folder = tmp_path_factory.mktemp("flower")
    part = start(
        "flower",
        [sys.executable, "-m", *command.replace("--port=5555", f"--port={port}").split()],
        log=folder / "flower.log",
        folder=folder,
        env=dict(os.environ)
        | {"MATTING_REDIS_URL": redis_url, "FLOWER_BASIC_AUTH": f"{USER}:{PASSWORD}"},
    )
    wait_until(lambda: answers(port), part, timeout_s=180)
    yield f"http://127.0.0.1:{port}"
    part.stop(10)


def test_flower_needs_its_password(flower: str) -> None:
    asked = [("GET", path) for path in ("/", "/workers", "/tasks", "/broker", "/api/tasks")]
    asked += [("GET", "/api/workers"), ("GET", "/api/task/info/x")]
    asked += [("POST", "/api/worker/shutdown/x"), ("POST", "/api/task/async-apply/x")]
    for auth in (None, (USER, "wrong"), ("", "")):
        with httpx.Client(base_url=flower, auth=auth, trust_env=False) as anyone:
            for method, path in asked:
                assert anyone.request(method, path).status_code == 401, (method, path, auth)
    with httpx.Client(base_url=flower, auth=(USER, PASSWORD), trust_env=False) as watcher:
        assert watcher.get("/api/tasks").status_code == 200
        assert watcher.get("/workers").status_code == 200
    assert httpx.get(f"{flower}/healthcheck", trust_env=False).status_code == 200
