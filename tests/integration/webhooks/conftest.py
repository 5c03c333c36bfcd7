"""One API process and one receiver for all webhook tests. Each test gets its own key and path."""

import os
import secrets
import threading
from collections.abc import Iterator

import httpx
import pytest

from shared.database import Database
from tests.integration.webhooks.receiver import Receiver
from tests.integration.webhooks.service import Api

QUICK = {
    "MATTING_ALLOW_PRIVATE_ADDRESSES": "true",
    # Long enough for a busy machine: the receiver answers, and the tests look, in time.
    "MATTING_WEBHOOK_RETRIES_S": "0.1, 0.1, 4",
    "MATTING_WEBHOOK_TIMEOUT_S": "4",
    "MATTING_WEBHOOK_OVERLAP_S": "10",
    "MATTING_MAX_WEBHOOKS_PER_KEY": "2",
}


@pytest.fixture(scope="package")
def api(
    migrated_postgresql: Database,
    redis_url: str,
    s3: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api")
    url = migrated_postgresql.url.render_as_string(hide_password=False)
    env = {
        **os.environ,
        **QUICK,
        "MATTING_DATABASE_URL": url,
        "MATTING_REDIS_URL": redis_url,
        "MATTING_S3_ENDPOINT_URL": s3["s3_endpoint_url"],
        "AWS_ACCESS_KEY_ID": s3["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": s3["aws_secret_access_key"],
    }
    running = Api(folder, env, migrated_postgresql)
    yield running
    running.process.stop(20)


@pytest.fixture(scope="package")
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def caller(api: Api) -> Iterator[httpx.Client]:
    """A client with its own key, so that it gets no events of other tests' jobs."""
    with api.caller() as client:
        yield client


@pytest.fixture
def path() -> str:
    """A path on the receiver for one test."""
    return f"/{secrets.token_hex(4)}"
