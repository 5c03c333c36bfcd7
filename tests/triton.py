"""The real Triton server, from the wheel nvidia-pytriton: started, killed and started again.

The wheel is used for its server alone. Its Python packages want numpy 1, so they are not installed.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import tritonclient.grpc as triton

from deploy.stack.processes import Process, free_port, start, wait_until
from deploy.triton.repository import export
from shared.settings import Settings
from worker.inference.catalog import find_model
from worker.inference.triton_wire import model_number

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
REPOSITORY_ROOT = Path(__file__).parents[1]
STAND_IN = REPOSITORY_ROOT / "tests" / "triton_models" / "model.py"
READY_S = 120


def why_no_triton() -> str | None:
    """Why the server cannot run here; None if it can."""
    spec = find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        return "the wheel nvidia-pytriton is not installed (make installs it)"
    stub = _wheel() / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    if not stub.is_file():
        return f"nvidia-pytriton has no stub for Python {PYTHON}"
    needs = subprocess.run(
        ["ldd", str(stub)],
        env={**os.environ, "LD_LIBRARY_PATH": _libraries()},
        capture_output=True,
        text=True,
        check=False,
    )
    missing = [line.split()[0] for line in needs.stdout.splitlines() if "not found" in line]
    if needs.returncode or missing:
        return f"Triton's Python process lacks {', '.join(missing)} (apt install libpython{PYTHON})"
    return None


class Triton:
    """A server with a model repository. Its models run with the packages of this Python."""

    def __init__(
        self,
        folder: Path,
        repository: Path,
        *models: str,
        env: dict[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Start the server and wait until it serves these models. `options`: of its command."""
        self.repository = repository
        self._models = models
        self.grpc_port, self.http_port, metrics_port = free_port(), free_port(), free_port()
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        server = _wheel()
        backends = folder / "backends"
        if not backends.exists():
            shutil.copytree(server / "backends" / "python", backends / "python")
            stub = server / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
            shutil.copy(stub, backends / "python")
        command = [str(server / "bin" / "tritonserver"), "--model-repository", str(repository)]
        command += ["--backend-directory", str(backends), "--disable-auto-complete-config"]
        command += ["--grpc-address", "127.0.0.1", "--grpc-port", str(self.grpc_port)]
        command += ["--http-address", "127.0.0.1", "--http-port", str(self.http_port)]
        command += ["--metrics-address", "127.0.0.1", "--metrics-port", str(metrics_port)]
        command += ["--model-control-mode", "explicit", "--exit-timeout-secs", "5"]
        command += [*options, *(f"--load-model={name}" for name in models)]
        environment = {
            **{key: value for key, value in os.environ.items() if "proxy" not in key.lower()},
            "LD_LIBRARY_PATH": _libraries(),
            "PYTHONPATH": f"{REPOSITORY_ROOT}{os.pathsep}{_packages()}",
            # The stub runs the system's Python library: no other Python's files may be found first.
            "PATH": "/usr/bin:/bin",
            "TRITON_CHILD_PYTHON": sys.executable,
            "MATTING_LOG_LEVEL": "WARNING",
            **(env or {}),
        }
        self.process: Process = start(
            "triton", command, log=folder / "triton.log", folder=folder, env=environment
        )
        self.wait()

    @property
    def url(self) -> str:
        """For MATTING_TRITON_URL."""
        return f"grpc://127.0.0.1:{self.grpc_port}"

    def client(self) -> Any:
        """A client of the gRPC port."""
        return triton.InferenceServerClient(f"127.0.0.1:{self.grpc_port}")

    def wait(self) -> None:
        """Wait until all models are ready."""
        wait_until(self._ready, self.process, timeout_s=READY_S)

    def kill(self) -> None:
        """SIGKILL for the server and the processes of its models, as when its container dies.
        Otherwise a process that holds a request would stay.
        """
        models = list(self._model_processes())
        self.process.popen.send_signal(signal.SIGKILL)
        self.process.popen.wait(180)
        for pid, region in models:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            (Path("/dev/shm") / region).unlink(missing_ok=True)

    def restart(self) -> None:
        """Start it again, and wait."""
        self.process.restart()
        self.wait()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        self.process.stop(10)

    def batches(self, model: str) -> dict[int, int]:
        """How many executions of each batch size there were since the model was loaded."""
        with self.client() as client:
            [stats] = client.get_inference_statistics(model).model_stats
        return {one.batch_size: one.compute_infer.count for one in stats.batch_stats}

    def _model_processes(self) -> Iterator[tuple[int, str]]:
        """Process id, and name of the shared memory, of each model's process."""
        for path in Path("/proc").iterdir():
            with suppress(OSError, IndexError, ValueError):
                parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == self.process.popen.pid:
                    yield int(path.name), (path / "cmdline").read_text().split("\0")[2]

    def _ready(self) -> bool:
        try:
            for path in ("health", *(f"models/{name}" for name in self._models)):
                answer = httpx.get(
                    f"http://127.0.0.1:{self.http_port}/v2/{path}/ready", trust_env=False
                )
                if answer.status_code != 200:
                    return False
        except httpx.TransportError:
            return False
        return True


def _wheel() -> Path:
    spec = find_spec("pytriton")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "tritonserver"


def _packages() -> Path:
    return _wheel().parents[1]


def _libraries() -> str:
    """Where the server's libraries are, and perhaps those of this Python."""
    own = [str(_packages() / "nvidia_pytriton.libs"), os.environ.get("LD_LIBRARY_PATH", "")]
    return os.pathsep.join(filter(None, own))


def timed_model(
    repository: Path, model: Path, *, change: tuple[str, str] = ("", ""), **parameters: float
) -> None:
    """Write the stand-in of tests/triton_models in the place of this tiny network. `change`: a text
    in its config.pbtxt, and what replaces it.
    """
    shutil.rmtree(repository / model.name, ignore_errors=True)
    settings = Settings(model=str(model))
    folder = export(repository, settings, "cpu")
    shutil.copyfile(STAND_IN, folder / "1" / "model.py")
    lines = [
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
        for key, value in {**parameters, "model": model_number(find_model(settings))}.items()
    ]
    text = (folder / "config.pbtxt").read_text().partition("# An instance is ready")[0]
    (folder / "config.pbtxt").write_text(text.replace(*change) + "".join(lines))
