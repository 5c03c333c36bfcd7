"""A real API process on PostgreSQL for all attacks. It is checked after each."""

import os
import sys
from collections.abc import Iterator

import httpx
import pytest

from deploy.stack.processes import answers, free_port, start, wait_until
from shared import job_store
from shared.database import Database
from tests.acceptance.hostile.api import LIMITS, ROOMY, Api
from tests.conftest import new_database


@pytest.fixture(scope="package")
def api(
    postgresql_url: str,
    redis_url: str,
    s3: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Api]:
    yield from _served(postgresql_url, redis_url, s3, tmp_path_factory, LIMITS)


@pytest.fixture(scope="package")
def roomy(
    postgresql_url: str,
    redis_url: str,
    s3: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Api]:
    """Another process with a user's default limits. It has its own database, so that the two don't
    list each other's sources.
    """
    yield from _served(new_database(postgresql_url), redis_url, s3, tmp_path_factory, ROOMY)


def _served(
    postgresql_url: str,
    redis_url: str,
    s3: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    limits: dict[str, str],
) -> Iterator[Api]:
    folder, port = tmp_path_factory.mktemp("hostile"), free_port()
    database = Database(postgresql_url, process="tests")
    database.migrate()
    with database.transaction() as session:
        keys = [job_store.create_api_key(session, name)[1] for name in ("owner", "stranger")]
    names = {"s3_endpoint_url": "MATTING_S3_ENDPOINT_URL"}
    env = os.environ | limits | {names.get(key, key.upper()): one for key, one in s3.items()}
    env |= {"MATTING_DATABASE_URL": postgresql_url, "MATTING_REDIS_URL": redis_url}
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "api.app:app",
        "--http",
        "api.http.connections:HeaderTimeoutProtocol",
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    process = start("api", command, log=folder / "api.log", folder=folder, env=env)
    wait_until(lambda: answers(port), process, timeout_s=180)
    api = Api(port, keys[0], keys[1], process, database)
    yield api
    process.stop(10)
    database.close()
    assert_log_is_clean(api, 0)


@pytest.fixture(autouse=True)
def _unharmed(api: Api) -> Iterator[None]:
    """After each attack the same process still serves, and has disclosed neither a key nor a stack
    trace.
    """
    logged_bytes = api.process.log.stat().st_size
    yield
    assert api.process.alive()
    with api.caller() as client:
        assert client.get("/v1/jobs").status_code == 200
    assert_log_is_clean(api, logged_bytes)


@pytest.fixture
def owner(api: Api) -> Iterator[httpx.Client]:
    with api.caller() as client:
        yield client


@pytest.fixture
def anyone(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, trust_env=False) as client:
        yield client


def assert_log_is_clean(api: Api, from_byte: int) -> None:
    log = api.process.log.read_bytes()[from_byte:].decode(errors="replace")
    assert api.key not in log
    assert "Traceback" not in log, log[log.index("Traceback") :][:3_000]
