"""`python -m tests.images`: carries out the Dockerfiles without Docker and starts their processes.

For each Dockerfile it makes a fresh environment and runs the install steps there. Then it runs the
commands and health checks of docker-compose.yml with a real Redis and S3, sends a photo through and
stops the worker.
"""

import json
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from api.client import MattingClient
from deploy.local_photos import SAMPLES
from deploy.stack.processes import Process, answers, free_port, program, start, wait_until
from tests.images.dockerfile import Image, build, files, foreign_libraries, megabytes, run_in

ROOT = Path(__file__).parents[2]
LIMIT_MB = 2000 - 130
"""Limit for the packages of the CPU image. python:3.11-slim takes 130 MB of the 2,000."""

SECRET = "5d0c1f9a7be24486a1"


def main() -> None:
    """Check both images. The last line of the output is one JSON object."""
    report = {}
    for name, worker in (("Dockerfile", "worker"), ("Dockerfile.gpu", "worker-gpu")):
        with tempfile.TemporaryDirectory() as folder:
            print(f"{name}: installing", flush=True)
            image = build(ROOT / "deploy" / "docker" / name, ROOT, Path(folder))
            if name == "Dockerfile.gpu":
                # Paddle's GPU wheels need their own index and a driver, so the CPU wheel replaces
                # them.
                pins = ROOT / "deploy" / "constraints.txt"
                run_in(
                    image,
                    Path(folder),
                    ["pip", "install", "-c", str(pins), "paddlepaddle"],
                    ROOT,
                )
            report[name] = check(image, Path(folder), worker)
            report[name]["left out"] = image.left_out
            print(f"  {report[name]}", flush=True)
    assert report["Dockerfile"]["packages_mb"] <= LIMIT_MB
    assert report["Dockerfile"]["foreign"] == ["libgomp.so.1"], "apt-get installs libgomp1 alone"
    print(json.dumps(report))


def check(image: Image, work: Path, worker: str) -> dict[str, Any]:
    """Start the services as compose does. Returns what was measured."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    before = set(files(image.venv))
    ports = {str(port): free_port() for port in (8000, 5555, 9100)}
    with ExitStack() as closing:
        env = closing.enter_context(_services(work)) | {
            "MATTING_WORKER_METRICS_PORT": str(ports["9100"]),
            "FLOWER_BASIC_AUTH": f"user:{SECRET}",
            **{key: value for key, value in image.env.items() if key not in ("PATH", "HOME")},
            "PATH": f"{image.venv}/bin:/usr/bin:/bin",
            "HOME": str(work / "tmp"),
            "MPLCONFIGDIR": str(work / "tmp"),
            "TMPDIR": str(work / "tmp"),
            "MATTING_MODELS_DIR": str(work / "models"),
            "MATTING_ENGINE_CACHE_DIR": str(work / "models"),
            "MATTING_DEVICE": "cpu",
        }
        _prepare(image, work, env)
        running = {}
        for name in ("api", worker, "flower"):
            command = _at_free_ports(shlex.split(services[name]["command"]), ports)
            running[name] = _start(image, work, name, command, env)
            closing.callback(running[name].stop, 30)
        for name, process in running.items():
            test = _at_free_ports(services[name]["healthcheck"]["test"][1:], ports)
            _wait_healthy(image, work, process, test, env)
            print(f"  {name} is healthy", flush=True)
        flower = f"http://127.0.0.1:{ports['5555']}/tasks"
        assert httpx.get(flower).status_code == 401, "Flower stands behind its password"
        assert httpx.get(flower, auth=("user", SECRET)).status_code == 200
        key = _run(image, work, ["matting", "keys", "create", "check"], env).split()
        _send_a_photo(f"http://127.0.0.1:{ports['8000']}", key, work)
        stopped_s = _stop(running[worker], services[worker]["stop_grace_period"])
    written = set(files(image.venv)) - before
    assert not written, f"a read-only root would refuse {sorted(written)[:5]}"
    return {
        "packages_mb": megabytes(image.venv),
        "foreign": sorted(foreign_libraries(image.venv)),
        "worker_stops_s": round(stopped_s, 1),
    }


@contextmanager
def _services(work: Path) -> Iterator[dict[str, str]]:
    for name in ("tmp", "models", "s3/matting", "log"):
        (work / name).mkdir(parents=True)
    with ExitStack() as closing:
        redis, s3 = free_port(), free_port()
        for name, port, command in (
            ("redis", redis, ["redis-server", "--port", str(redis), "--save", ""]),
            ("s3", s3, ["rclone", "serve", "s3", "--addr", f"127.0.0.1:{s3}", "--config",
                        "/dev/null", "--auth-key", f"matting,{SECRET}", str(work / "s3")]),
        ):  # fmt: skip
            command[0] = program(command[0])
            process = start(name, command, log=work / "log" / name, folder=work, env={})
            closing.callback(process.stop, 10)
            wait_until(lambda port=port: answers(port), process, timeout_s=180)  # type: ignore[misc]
        yield {
            "MATTING_DATABASE_URL": f"sqlite:///{work / 'tmp' / 'matting.db'}",
            "MATTING_REDIS_URL": f"redis://127.0.0.1:{redis}/0",
            "MATTING_S3_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
            "AWS_ACCESS_KEY_ID": "matting",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }


def _prepare(image: Image, work: Path, env: dict[str, str]) -> None:
    weak = subprocess.run(
        [image.venv / "bin" / "matting", "prepare"],
        env=env | {"AWS_SECRET_ACCESS_KEY": "minioadmin"},
        cwd=work / "tmp",
        capture_output=True,
        text=True,
        check=False,
    )
    assert weak.returncode == 2, weak
    assert "AWS_SECRET_ACCESS_KEY" in weak.stdout + weak.stderr
    print("  " + _run(image, work, ["matting", "prepare"], env).replace("\n", "; "))


def _run(image: Image, work: Path, command: list[str], env: dict[str, str]) -> str:
    command = [str(image.venv / "bin" / command[0]), *command[1:]]
    done = subprocess.run(
        command, env=env, cwd=work / "tmp", capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def _at_free_ports(command: list[str], ports: dict[str, int]) -> list[str]:
    for known, free in ports.items():
        command = [word.replace(known, str(free)) for word in command]
    return command


def _start(image: Image, work: Path, name: str, command: list[str], env: dict[str, str]) -> Process:
    command = [str(image.venv / "bin" / command[0]), *command[1:]]
    return start(name, command, log=work / "log" / name, folder=work / "tmp", env=env)


def _wait_healthy(
    image: Image, work: Path, process: Process, test: list[str], env: dict[str, str]
) -> None:
    test = [str(image.venv / "bin" / test[0]), *test[1:]]

    def healthy() -> bool:
        time.sleep(1)  # each check starts an interpreter
        return not subprocess.run(
            test, env=env, cwd=work / "tmp", capture_output=True, check=False
        ).returncode

    wait_until(healthy, process, timeout_s=300)


def _send_a_photo(url: str, words: list[str], work: Path) -> None:
    key = next(word for word in words if word.startswith("mtk_"))
    with MattingClient(url, key) as client:
        job = client.wait(client.submit_files([next(SAMPLES.glob("*.jpg"))])["id"])
        assert job["counts"]["succeeded"] == 1, job
        [(item, path)] = client.download(job["id"], work / "out")
        print(f"  {item['name']} -> {path.stat().st_size:,} bytes", flush=True)


def _stop(process: Process, grace: str) -> float:
    began = time.monotonic()
    process.popen.terminate()
    status = process.popen.wait(float(grace.removesuffix("s")))
    assert status == 0, f"the worker ended with {status}"
    return time.monotonic() - began


if __name__ == "__main__":
    main()
