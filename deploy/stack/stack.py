"""The embedded stack: Redis, S3, database, API, workers and Flower as processes on one machine.

`Stack` starts them in the order of their dependencies and stops them in reverse. It restarts a
process that ends unexpectedly. Queue, objects, database and keys are stored in the data folder, so
a second start on the same folder continues the jobs of the first.
"""

import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Self

import httpx

from deploy.stack.address import (
    ADDRESS_FILE,
    StackAddress,
    StackSecrets,
    read_secrets,
    write_secrets,
)
from deploy.stack.data_folder import lock_folder, refuse_damaged
from deploy.stack.ports import (
    LOOPBACK,
    http_url,
    listening,
    network_address,
    own_address,
    remember_ports,
    same_ports,
)
from deploy.stack.processes import Process, answers, program, start, wait_until
from deploy.stack.supervisor import Supervisor
from shared.errors import PortInUseError
from shared.jobs import Scope
from shared.settings import Settings
from shared.table_revision import is_current

START_TIMEOUT_S = 180
WORKER_START_TIMEOUT_S = 300
"""A large model takes minutes to load and warm up on a slow machine."""

READINESS_POLL_S = 0.25
"""An answer takes the API 10 ms of CPU, which the worker needs for its start."""

STOPPED_LAST = ("redis", "s3")

BUCKET = "matting"
DATABASE_FILE = "matting.db"

STOP_GRACE_S = 30
"""Longer than a worker needs for its batches in flight."""

_OF_AWS = ("MATTING_S3_ADDRESSING", "MATTING_S3_ENCRYPTION", "MATTING_S3_KMS_KEY_ID")
"""Settings of an installation on AWS, which the embedded S3 does not understand."""

FLOWER_COLUMNS = "uuid,kwargs,state,received,started,runtime,worker"
"""Flower's columns. The column `kwargs` shows the job and the file of each image."""


class Stack:
    """The embedded stack. Use it as a context manager: entering starts it, leaving stops it."""

    def __init__(
        self,
        data: Path,
        *,
        host: str = LOOPBACK,
        api_port: int | None = None,
        workers: int = 1,
        env: dict[str, str] | None = None,
        samples: Path | None = None,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Nothing starts here.

        `host`: the address that API and S3 listen on; Redis and Flower always listen on loopback.
        `env` is added to the environment of every process. The photos of the folder `samples` are
        put below `samples/` of the bucket, where the examples in the API's documentation look for
        them. `report` is called with one line for each process that is started or restarted.
        """
        self.data = data.absolute()
        self.workers: list[Process] = []
        self._processes: list[Process] = []
        self._supervisor = Supervisor(self._processes, report)
        self._worker_count = workers
        self._host = host
        self._api_port = api_port
        self._extra_env = env or {}
        self._samples = samples
        self._report = report
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        """Start all processes. Raises StackError after stopping those that were started."""
        try:
            self._start()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _start(self) -> None:
        self.logs = self.data / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self._closing.callback(lock_folder(self.data).close)
        self._closing.callback(self._supervisor.close)
        ports = same_ports(self.data)
        if self._api_port is not None:
            if answers(self._api_port):
                raise PortInUseError(f"Port {self._api_port} is used by another program")
            ports["api"] = self._api_port
        known = read_secrets(self.data)
        s3_access = known.s3_access_key if known else secrets.token_hex(10)
        s3_secret = known.s3_secret_key if known else secrets.token_hex(20)
        self.env = self._environment(ports, s3_access, s3_secret)

        # The order is that of what they need from each other. What needs nothing more of each other
        # starts side by side: a start is bounded by the cores.
        self._report("starting Redis and S3")
        redis = self._start_redis(ports["redis"])
        s3 = self._start_s3(ports["s3"], s3_access, s3_secret)
        wait_until(lambda: answers(ports["redis"]), redis, timeout_s=START_TIMEOUT_S)
        self._report("starting Flower")
        flower = self._start_flower(ports["flower"])
        api_key = self._api_key(s3_access, s3_secret)
        at = ports["api"], own_address(self._host)
        wait_until(lambda: answers(ports["s3"], at[1]), s3, timeout_s=START_TIMEOUT_S)
        self._report("starting API and worker (loads and warms the model)")
        self.address = StackAddress(
            api_url=http_url(own_address(self._host), ports["api"]),
            flower_url=f"http://127.0.0.1:{ports['flower']}",
            s3_url=self.env["MATTING_S3_ENDPOINT_URL"],
        )
        for _ in range(self._worker_count):
            self.add_worker()
        api = self._start_api(ports["api"])
        # A port is cheaper to ask than the API, and the cores are busy with this very start.
        wait_until(lambda: answers(*at), api, timeout_s=START_TIMEOUT_S)
        for worker in self.workers:
            self.wait_for_worker(worker)
        wait_until(lambda: answers(ports["flower"]), flower, timeout_s=START_TIMEOUT_S)
        remember_ports(self.data, ports)
        self.secrets = StackSecrets(s3_access, s3_secret, api_key)
        path = self.data / ADDRESS_FILE
        path.write_text(json.dumps(asdict(self.address)))
        self._closing.callback(path.unlink, missing_ok=True)
        self._closing.callback(self._ask_to_stop)
        self._supervisor.start()
        self._closing.callback(self._supervisor.pause)

    def _ask_to_stop(self) -> None:
        """Let API, workers and Flower stop at the same time. Redis and S3 still serve them."""
        for process in self._processes:
            if process.name not in STOPPED_LAST:
                process.ask_to_stop()

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by name: redis, s3, api, worker-1, …, flower."""
        return {part.name: part.popen.pid for part in self._processes}

    @property
    def settings(self) -> Settings:
        """The settings that the processes of this stack use."""
        named = {
            key: value for key, value in self.env.items() if value and key.startswith("MATTING_")
        }
        values = {key.removeprefix("MATTING_").lower(): value for key, value in named.items()}
        own: dict[str, str | None] = {"AWS_SESSION_TOKEN": None, "s3_addressing": "auto"}
        own |= dict.fromkeys(("s3_encryption", "s3_kms_key_id"))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            own[name] = self.env[name]
        return Settings.model_validate(values | own)

    def add_worker(self) -> Process:
        """Start one more worker. Call `wait_for_worker` to wait until it is warm."""
        number = len(self.workers) + 1
        worker = self._spawn(
            f"worker-{number}",
            _python_module(
                "celery -A worker.app worker -P threads --without-gossip --without-mingle "
                f"-l WARNING -n worker-{number}@%h"
            ),
        )
        self.workers.append(worker)
        return worker

    def wait_for_worker(self, worker: Process) -> None:
        """Wait until the API reports the worker as warm. Raises StackError."""
        mark = f"-{worker.popen.pid}-"
        with httpx.Client(base_url=self.address.api_url, trust_env=False) as client:

            def warm() -> bool:
                try:
                    workers = client.get("/readyz").json()["workers"]
                except (httpx.TransportError, ValueError, KeyError):
                    return False  # the API is starting again, or refuses: it is asked again
                return any(mark in one["id"] for one in workers)

            wait_until(warm, worker, timeout_s=WORKER_START_TIMEOUT_S, poll_s=READINESS_POLL_S)

    def _environment(self, ports: dict[str, int], access: str, secret: str) -> dict[str, str]:
        cores = str(max(1, len(os.sched_getaffinity(0)) // max(1, self._worker_count)))
        return {
            # the workers share the cores, unless the environment says otherwise
            "MATTING_CPU_THREADS": cores,
            "MATTING_CODEC_THREADS": cores,
            **{
                key: value
                for key, value in os.environ.items()
                # its own S3 has keys of its own: no role, profile or token of this machine's user
                if "proxy" not in key.lower() and not key.startswith("AWS_")
            },
            "MATTING_DATABASE_URL": f"sqlite:///{self.data / DATABASE_FILE}",
            "MATTING_REDIS_URL": f"redis://127.0.0.1:{ports['redis']}/0",
            "MATTING_S3_ENDPOINT_URL": http_url(own_address(self._host), ports["s3"]),
            "MATTING_S3_PUBLIC_ENDPOINT_URL": http_url(network_address(self._host), ports["s3"]),
            "MATTING_S3_BUCKET": BUCKET,
            "MATTING_DESTINATIONS": os.environ.get("MATTING_DESTINATIONS", f"s3://{BUCKET}/"),
            **dict.fromkeys(_OF_AWS, ""),
            "MATTING_MODELS_DIR": os.environ.get("MATTING_MODELS_DIR", str(self.data / "models")),
            "MATTING_FLOWER_URL": f"http://127.0.0.1:{ports['flower']}",
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "PYTHONUNBUFFERED": "1",
            # glibc keeps freed memory in one arena per thread: 856 MB after 400 photos. Large
            # arrays in the heap leave holes there: 40 MB more at the peak.
            "MALLOC_ARENA_MAX": "2",
            "MALLOC_MMAP_THRESHOLD_": "1048576",
            "MALLOC_TRIM_THRESHOLD_": "33554432",
            "FLOWER_UNAUTHENTICATED_API": "true",  # it listens on loopback only
            **self._extra_env,
        }

    def _spawn(
        self, name: str, command: list[str], dies_by: signal.Signals = signal.SIGTERM
    ) -> Process:
        process = start(
            name,
            command,
            log=self.logs / f"{name}.log",
            folder=self.data,
            env=self.env,
            dies_by=dies_by,
        )
        self._closing.callback(process.stop, STOP_GRACE_S)
        self._processes.append(process)
        return process

    def _start_redis(self, port: int) -> Process:
        folder = self.data / "redis"
        folder.mkdir(exist_ok=True)
        return self._spawn(
            "redis",
            [
                program("redis-server"),
                *f"--port {port} --bind 127.0.0.1 --appendonly yes --save".split(),
                "",
                "--dir",
                str(folder),
            ],
        )

    def _start_s3(self, port: int, access: str, secret: str) -> Process:
        folder = self.data / "s3"
        (folder / BUCKET).mkdir(parents=True, exist_ok=True)
        if self._samples is not None:  # now: the running server does not see new files at once
            samples = folder / BUCKET / "samples"
            samples.mkdir(exist_ok=True)
            for photo in self._samples.glob("*.jpg"):
                shutil.copyfile(photo, samples / photo.name)
        # Keys are passed in the environment (as CSV), because every user can read a command line.
        self.env["RCLONE_AUTH_KEY"] = f'"{access},{secret}"'
        process = self._spawn(
            "s3",
            [
                program("rclone"),
                *f"serve s3 --addr {listening(self._host)}:{port} --config /dev/null".split(),
                # Photos that people copy into the folder are there for S3 too, after a second.
                *["--dir-cache-time", "1s", "--poll-interval", "0"],
                # The console's page uploads by presigned URL. A page without one can do nothing:
                # the server asks for signatures, and browsers have none to send by themselves.
                "--allow-origin",
                "*",
                str(folder),
            ],
        )
        del self.env["RCLONE_AUTH_KEY"]
        return process

    def _api_key(self, access: str, secret: str) -> str:
        """The key of whoever runs the stack. Creates the tables and the key at the first start."""
        known, file = read_secrets(self.data), self.data / DATABASE_FILE
        if known and is_current(file):
            return known.api_key
        refuse_damaged(file)
        self._report("starting database")
        # Only now: these imports take most of a second, while Flower starts on the other core.
        from shared import job_store
        from shared.database import Database

        database = Database(self.settings.database_url, process="stack")
        try:
            database.migrate()
            if known:
                return known.api_key
            with database.transaction() as session:
                # who starts the system runs it: the console shows them workers and keys
                _key, api_key = job_store.create_api_key(
                    session, "embedded stack", scopes=[Scope.ADMIN]
                )
        finally:
            database.close()
        write_secrets(self.data, StackSecrets(access, secret, api_key))
        return api_key

    def _start_api(self, port: int) -> Process:
        return self._spawn(
            "api",
            _python_module(
                "uvicorn api.app:app --http api.http.connections:HeaderTimeoutProtocol "
                f"--host {self._host} --port {port} --log-level warning "
                "--no-access-log --timeout-graceful-shutdown 5"
            ),
        )

    def _start_flower(self, port: int) -> Process:
        return self._spawn(
            "flower",
            _python_module(
                f"celery -A shared.queue flower --address=127.0.0.1 --port={port} "
                f"--max_tasks=10000 --tasks_columns={FLOWER_COLUMNS} --logging=warning"
            ),
            # It keeps nothing, and if Redis ends beside it, SIGTERM leaves its threads waiting.
            dies_by=signal.SIGKILL,
        )


def _python_module(command: str) -> list[str]:
    return [sys.executable, "-m", *command.split()]
