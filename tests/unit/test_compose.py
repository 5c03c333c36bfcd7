"""docker-compose.yml, .env.example and the Dockerfiles agree with each other and with the code."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]

BATCHES_IN_FLIGHT_S = 25
"""A worker on busy cores finishes its batches within this after SIGTERM."""
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "api", "worker", "worker-gpu", "flower")
DOCKERFILES = [ROOT / "deploy" / "docker" / name for name in ("Dockerfile", "Dockerfile.gpu")]


def has_compose() -> bool:
    if not shutil.which("docker"):
        return False
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return asked.returncode == 0


def seconds(duration: str) -> int:
    assert duration.endswith("s"), duration
    return int(duration[:-1])


def test_compose_has_all_services_and_a_profile_chooses_the_worker() -> None:
    assert set(SERVICES) == {
        *OURS, "redis", "postgres", "minio", "prometheus", "grafana",
    }  # fmt: skip
    assert {name: one["profiles"] for name, one in SERVICES.items() if "profiles" in one} == {
        "worker": ["cpu"],
        "worker-gpu": ["gpu"],
    }
    assert "COMPOSE_PROFILES=cpu" in (ROOT / ".env.example").read_text().splitlines()


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "migrate"])
def test_every_service_has_a_health_check_limits_and_restarts(name: str) -> None:
    part = SERVICES[name]
    assert part["restart"] == "unless-stopped"
    assert part["healthcheck"]["test"][0] == "CMD"
    assert "memory" in part["deploy"]["resources"]["limits"]
    assert not part["image"].endswith(":latest")
    for port in part.get("ports", ()):
        assert port.startswith("127.0.0.1:"), "what has no TLS listens on this machine only"


@pytest.mark.parametrize("name", OURS)
def test_our_own_containers_have_minimal_privileges(name: str) -> None:
    part = SERVICES[name]
    assert part["read_only"] is True
    assert part["cap_drop"] == ["ALL"]
    assert part["security_opt"] == ["no-new-privileges:true"]


def test_a_stopped_worker_gets_enough_time() -> None:
    for name in ("worker", "worker-gpu"):
        assert seconds(SERVICES[name]["stop_grace_period"]) >= 2 * BATCHES_IN_FLIGHT_S
    asked = re.search(r"--timeout-graceful-shutdown (\d+)", SERVICES["api"]["command"])
    assert asked
    assert seconds(SERVICES["api"]["stop_grace_period"]) > int(asked.group(1))


def test_persistent_data_is_on_volumes() -> None:
    for name in ("redis", "postgres", "minio", "prometheus", "grafana", "worker", "worker-gpu"):
        own = [one.split(":")[0] for one in SERVICES[name]["volumes"] if one[0] not in "./"]
        assert own, name
        assert set(own) <= set(COMPOSE["volumes"])
    for part in SERVICES.values():
        for one in part.get("volumes", ()):
            if one.startswith("./"):
                assert (ROOT / one.split(":")[0]).exists(), one
    assert "--appendonly yes" in SERVICES["redis"]["command"]


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    asked = set(re.findall(r"\$\{(\w+):\?", text))
    assert asked == {
        "POSTGRES_PASSWORD", "MINIO_USER", "MINIO_PASSWORD",
        "FLOWER_USER", "FLOWER_PASSWORD", "GRAFANA_PASSWORD",
    }  # fmt: skip
    example = (ROOT / ".env.example").read_text().splitlines()
    for name in asked:
        assert f"{name}=" in example, "empty, so that compose refuses it"
        assert f"${{{name}}}" not in text
        assert f"${{{name}:-" not in text


def test_prometheus_scrapes_the_names_and_ports_in_compose() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    asked = {
        (name, one["port"])
        for job in config["scrape_configs"]
        for one in job["dns_sd_configs"]
        for name in one["names"]
    }
    port = int(SERVICES["worker"]["environment"]["MATTING_WORKER_METRICS_PORT"])
    assert asked == {("api", 8000), ("worker", port), ("worker-gpu", port)}
    assert "--port 8000" in SERVICES["api"]["command"]


def test_paddle_has_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = project["optional-dependencies"]["cpu"][0].removeprefix("paddlepaddle==")
    gpu = DOCKERFILES[1].read_text()
    assert re.findall(r"\b\d+\.\d+\.\d+\b", gpu.replace("uv==0.13.8", "")) == [pinned]
    base = re.search(r"^ARG PADDLE_BASE=(\S+)$", gpu, re.MULTILINE)
    assert base
    notes = (ROOT / "deploy" / "docker" / "README.md").read_text()
    assert f"paddlepaddle/paddle:{pinned}-{base.group(1)}" in notes


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_copies_existing_files_and_runs_without_root(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE)[-1] == "10001"
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--)(.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source.split('/')[0]}" in ignored, f"{source} does not reach the engine"


@pytest.mark.skipif(not has_compose(), reason="`docker compose` is missing")
@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_docker_accepts_the_file_and_refuses_the_unchanged_example(
    profile: str, tmp_path: Path
) -> None:
    example = (ROOT / ".env.example").read_text()
    filled = re.sub(r"^(\w+)=$", r"\1=5d0c1f9a7be24486a1", example, flags=re.MULTILINE)
    results = []
    for number, text in enumerate((example, filled)):
        env_file = tmp_path / f"{number}.env"
        env_file.write_text(text)
        command = ["docker", "compose", "--env-file", str(env_file), "--profile", profile]
        done = subprocess.run(
            [*command, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        results.append(done)
    assert results[0].returncode != 0
    assert "set it in .env" in results[0].stderr
    assert results[1].returncode == 0, results[1].stderr
