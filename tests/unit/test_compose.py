"""docker-compose.yml, .env.example and the Dockerfiles agree with each other and with the code."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_contract import known_variables

ROOT = Path(__file__).parents[2]

BATCHES_IN_FLIGHT_S = 25
"""A worker on busy cores finishes its batches within this after SIGTERM."""
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = (
    "migrate", "api", "worker", "worker-gpu", "worker-triton", "triton-models", "triton", "flower",
)  # fmt: skip
ONE_SHOT = ("migrate", "triton-models")
SECRETS = {
    "POSTGRES_PASSWORD", "MINIO_USER", "MINIO_PASSWORD",
    "FLOWER_USER", "FLOWER_PASSWORD", "GRAFANA_PASSWORD",
}  # fmt: skip
SECRET = "5d0c1f9a7be24486a1"
FIXED_FOR_WORKERS = {"MATTING_WORKER_METRICS_PORT": "9100"}
"""Health check and Prometheus look there."""
DOCKERFILES = [
    ROOT / "deploy" / "docker" / name
    for name in ("Dockerfile", "Dockerfile.gpu", "Dockerfile.triton")
]


def compose_program() -> str | None:
    """Docker Compose itself: its parser needs no engine. `make deploy-check` installs it."""
    return shutil.which("docker-compose", path=str(Path(sys.executable).parent))


needs_compose = pytest.mark.skipif(not compose_program(), reason="make deploy-check installs it")


def composed(
    folder: Path, settings: dict[str, str], *, profile: str, own: str = "docker-compose.yml"
) -> subprocess.CompletedProcess[str]:
    """What Docker Compose makes of the file beside an `.env` with these settings, as JSON."""
    shutil.copy(ROOT / "docker-compose.yml", folder)
    shutil.copytree(ROOT / "deploy" / "compose", folder / "deploy" / "compose", dirs_exist_ok=True)
    (folder / ".env").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    program = compose_program()
    assert program
    files = [part for name in own.split(":") for part in ("-f", name)]
    return subprocess.run(
        [program, *files, "--profile", *profile.split(), "config", "--format", "json"],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def example() -> dict[str, str]:
    """.env.example, filled in."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {key: value or (SECRET if key in SECRETS else "") for key, _, value in pairs}


def seconds(duration: str) -> int:
    assert duration.endswith("s"), duration
    return int(duration[:-1])


def test_compose_has_all_services_and_a_profile_chooses_the_worker() -> None:
    assert set(SERVICES) == {
        *OURS, "redis", "postgres", "minio", "prometheus", "grafana", "caddy",
        "alertmanager", "backup",
    }  # fmt: skip
    assert {name: one["profiles"] for name, one in SERVICES.items() if "profiles" in one} == {
        "worker": ["cpu"],
        "worker-gpu": ["gpu"],
        "caddy": ["edge"],
        "alertmanager": ["alerts"],
        "backup": ["backup"],
        **{name: ["triton"] for name in ("triton-models", "triton", "worker-triton")},
    }
    assert "COMPOSE_PROFILES=cpu" in (ROOT / ".env.example").read_text().splitlines()


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ONE_SHOT])
def test_every_service_has_a_health_check_limits_and_restarts(name: str) -> None:
    part = SERVICES[name]
    assert part["restart"] == "unless-stopped"
    assert part["healthcheck"]["test"][0] == "CMD"
    assert "memory" in part["deploy"]["resources"]["limits"]
    assert not part["image"].endswith(":latest")
    for port in () if name == "caddy" else part.get("ports", ()):
        assert port.startswith("127.0.0.1:"), "what has no TLS listens on this machine only"


@pytest.mark.parametrize("name", OURS)
def test_our_own_containers_have_minimal_privileges(name: str) -> None:
    part = SERVICES[name]
    assert part["read_only"] is True
    assert part["cap_drop"] == ["ALL"]
    assert part["security_opt"] == ["no-new-privileges:true"]


def test_a_stopped_worker_gets_enough_time() -> None:
    for name in ("worker", "worker-gpu", "worker-triton"):
        assert seconds(SERVICES[name]["stop_grace_period"]) >= 2 * BATCHES_IN_FLIGHT_S
    asked = re.search(r"--timeout-graceful-shutdown (\d+)", SERVICES["api"]["command"])
    assert asked
    assert seconds(SERVICES["api"]["stop_grace_period"]) > int(asked.group(1))


@pytest.mark.parametrize("name", SERVICES)
def test_logs_do_not_fill_the_disk(name: str) -> None:
    options = SERVICES[name]["logging"]["options"]
    assert options == {"max-size": "50m", "max-file": "5"}


def test_persistent_data_is_on_volumes() -> None:
    for name in SERVICES.keys() - {"migrate", "api", "flower", "backup"}:
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
    assert asked == SECRETS
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
    workers = {(name, port) for name in ("worker", "worker-gpu", "worker-triton")}
    assert asked == {("api", 8000), *workers, ("triton", 8002)}
    assert "--port 8000" in SERVICES["api"]["command"]


def test_paddle_has_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = project["optional-dependencies"]["cpu"][0].removeprefix("paddlepaddle==")
    gpu = DOCKERFILES[1].read_text()
    assert re.findall(r"\b\d+\.\d+\.\d+\b", gpu.replace("uv==0.13.8", "")) == [pinned]
    assert f"ARG PADDLE_VERSION={pinned}\n" in DOCKERFILES[2].read_text()
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


@needs_compose
@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_compose_accepts_the_file_and_refuses_the_unchanged_example(
    profile: str, tmp_path: Path
) -> None:
    done = composed(tmp_path, example(), profile=profile)
    assert done.returncode == 0, done.stderr
    for name in SECRETS:
        done = composed(tmp_path, {**example(), name: ""}, profile=profile)
        assert done.returncode != 0, name
        assert "set it in .env" in done.stderr


@needs_compose
@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_every_setting_in_the_env_file_reaches_our_services(profile: str, tmp_path: Path) -> None:
    wanted = {variable: f"value-of-{variable}" for variable in known_variables()}
    services = json.loads(composed(tmp_path, {**example(), **wanted}, profile=profile).stdout)
    for name in ("migrate", "api", "worker-gpu" if profile == "gpu" else "worker"):
        found = services["services"][name]["environment"]
        fixed = {} if name in ("migrate", "api") else FIXED_FOR_WORKERS
        assert {key: found.get(key) for key in wanted} == {**wanted, **fixed}, name
    flower = services["services"]["flower"]["environment"]
    assert set(flower) == {
        "MATTING_REDIS_URL", "MATTING_REDIS_SENTINEL_MASTER", "MATTING_REDIS_SENTINEL_PASSWORD",
        "FLOWER_BASIC_AUTH",
    }  # fmt: skip


@needs_compose
def test_a_misspelt_setting_reaches_our_services_which_refuse_it(tmp_path: Path) -> None:
    done = composed(tmp_path, {**example(), "MATTING_RETENTION_DAY": "3"}, profile="cpu")
    for name in ("migrate", "api", "worker"):
        found = json.loads(done.stdout)["services"][name]["environment"]
        assert found["MATTING_RETENTION_DAY"] == "3"


@needs_compose
def test_passwords_of_other_programs_stay_outside(tmp_path: Path) -> None:
    services = json.loads(composed(tmp_path, example(), profile="cpu").stdout)["services"]
    for name in ("api", "worker"):
        for secret in (
            "POSTGRES_PASSWORD",
            "MINIO_PASSWORD",
            "FLOWER_PASSWORD",
            "GRAFANA_PASSWORD",
        ):
            assert services[name]["environment"][secret] == "", (name, secret)


MANAGED = {
    "MATTING_DATABASE_URL": "postgresql+psycopg://me:x@db/matting?sslrootcert=/certs/ca.pem",
    "MATTING_REDIS_URL": "rediss://me:x@redis:6380/0?ssl_ca_certs=/certs/ca.pem",
    "POSTGRES_PASSWORD": "unused",
    "MINIO_USER": "unused",
    "MINIO_PASSWORD": "unused",
}


@needs_compose
@pytest.mark.parametrize("profile", ["cpu", "gpu", "triton"])
def test_parts_of_your_own_replace_the_bundled_ones(profile: str, tmp_path: Path) -> None:
    both = "docker-compose.yml:deploy/compose/managed.yml"
    done = composed(tmp_path, {**example(), **MANAGED}, profile=profile, own=both)
    services = json.loads(done.stdout)["services"]
    worker = {"cpu": "worker"}.get(profile, f"worker-{profile}")
    server = {"triton", "triton-models"} if profile == "triton" else set()
    assert set(services) - server == {"migrate", "api", worker, "flower", "prometheus", "grafana"}
    for name in ("migrate", "api", worker, "flower"):
        found = services[name]["environment"]
        assert found["MATTING_REDIS_URL"] == MANAGED["MATTING_REDIS_URL"]
        assert "/certs" in [one["target"] for one in services[name]["volumes"]]
        if name != "flower":
            assert found["MATTING_DATABASE_URL"] == MANAGED["MATTING_DATABASE_URL"]
            # empty: S3 of AWS, with the role of the machine
            empty = (
                "MATTING_S3_ENDPOINT_URL",
                "MATTING_S3_PUBLIC_ENDPOINT_URL",
                "AWS_ACCESS_KEY_ID",
            )
            assert {found[variable] for variable in empty} == {""}
    missing = composed(tmp_path, {**example(), "MINIO_USER": "x"}, profile=profile, own=both)
    assert "MATTING_DATABASE_URL is missing a value" in missing.stderr


@needs_compose
def test_one_bundled_part_can_stay(tmp_path: Path) -> None:
    both = "docker-compose.yml:deploy/compose/managed.yml"
    values = {**example(), **MANAGED, "MATTING_REDIS_URL": "redis://redis:6379/0"}
    done = composed(tmp_path, values, profile="cpu --profile bundled-redis", own=both)
    assert set(json.loads(done.stdout)["services"]) & {"redis", "postgres", "minio"} == {"redis"}


WORKER_HOST = {
    "MATTING_DATABASE_URL": "postgresql+psycopg://me:x@10.0.0.2/matting",
    "MATTING_REDIS_URL": "rediss://me:x@10.0.0.2:6380/0",
    "METRICS_ADDRESS": "10.0.0.12",
}


@needs_compose
@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_a_second_host_runs_the_same_worker_as_the_first(profile: str, tmp_path: Path) -> None:
    name = "worker-gpu" if profile == "gpu" else "worker"
    shutil.copy(ROOT / "deploy" / "compose" / "worker.yml", tmp_path)
    wanted = {variable: f"value-of-{variable}" for variable in known_variables()}
    own = composed(tmp_path, {**WORKER_HOST, **wanted}, profile=profile, own="worker.yml")
    [(only, second)] = json.loads(own.stdout)["services"].items()
    assert only == name
    assert {key: second["environment"].get(key) for key in wanted} == wanted | FIXED_FOR_WORKERS
    done = composed(tmp_path, {**example(), **wanted}, profile=profile)
    first = json.loads(done.stdout)["services"][name]
    alike = {
        "command", "restart", "init", "read_only", "tmpfs", "cap_drop", "security_opt",
        "stop_grace_period", "healthcheck", "deploy", "shm_size", "image",
    }  # fmt: skip
    for field in alike:
        assert second.get(field) == first.get(field), field
    as_is = [
        json.loads(composed(tmp_path, values, profile=profile, own=own).stdout)["services"][name]
        for values, own in ((example(), "docker-compose.yml"), (WORKER_HOST, "worker.yml"))
    ]
    budgets = {one["environment"].get("MATTING_MAX_DECODED_PIXELS") for one in as_is}
    assert len(budgets) == 1, "the memory limit is the same"
    lacking = composed(tmp_path, {"MATTING_REDIS_URL": "x"}, profile=profile, own="worker.yml")
    assert "MATTING_DATABASE_URL is missing a value" in lacking.stderr


@needs_compose
def test_a_worker_s_metrics_are_on_the_private_address_only(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy" / "compose" / "worker.yml", tmp_path)
    for address, expected in (("10.0.0.12", "10.0.0.12"), ("", "127.0.0.1")):
        values = {**WORKER_HOST, "METRICS_ADDRESS": address}
        done = composed(tmp_path, values, profile="cpu", own="worker.yml")
        [port] = json.loads(done.stdout)["services"]["worker"]["ports"]
        assert (port["host_ip"], port["target"]) == (expected, 9100)


@needs_compose
def test_a_gpu_machine_runs_one_worker_for_each_gpu(tmp_path: Path) -> None:
    services = json.loads(composed(tmp_path, example(), profile="gpu").stdout)["services"]
    worker = services["worker-gpu"]
    assert worker["environment"]["MATTING_DEVICES"] == "all"
    assert worker["command"] == ["matting", "worker"]
    [gpus] = worker["deploy"]["resources"]["reservations"]["devices"]
    assert gpus["count"] == -1, "Compose's number for all"
