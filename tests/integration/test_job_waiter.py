"""A client waits for a job while no worker runs: it gets an answer in time, and no image is
lost.
"""

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from api.app import create_app
from shared import job_store
from shared.database import Database
from shared.settings import Settings

TIMEOUT_S = 0.5


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    """An API client with a key. No worker is running."""
    database = Database(settings.database_url, process="tests")
    database.migrate()
    with database.transaction() as session:
        _, secret = job_store.create_api_key(session, "shop")
    database.close()
    app = create_app(settings.model_copy(update={"removebg_timeout_s": TIMEOUT_S}))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        host = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with httpx.Client(base_url=host, headers={"X-Api-Key": secret}, timeout=120) as client:
            yield client
        server.should_exit = True
        thread.join()


def test_a_call_that_times_out_continues_as_a_job(client: httpx.Client, jpeg: bytes) -> None:
    started = time.monotonic()
    answer = client.post("/v1.0/removebg", files={"image_file": ("shoe.jpg", jpeg)})
    assert answer.status_code == 504
    assert time.monotonic() - started >= TIMEOUT_S
    [error] = answer.json()["errors"]
    assert error["code"] == "answer-timeout"
    job_id = answer.headers["X-Job-Id"]
    assert job_id in error["title"]
    job = client.get(answer.headers["Location"]).json()
    assert (job["id"], job["priority"], job["counts"]["total"]) == (job_id, 9, 1)
