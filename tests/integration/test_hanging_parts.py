"""Servers that accept a connection and never answer: every caller gets an error in time."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from api.background import latest
from api.background.latest import Latest
from shared import database as database_module
from shared import queue as queue_module
from shared import storage_connection
from shared.database import Database
from shared.errors import DatabaseError, QueueError, StorageError
from shared.models import new_id
from shared.queue import Message, make_app, publish_many, queue_lanes
from shared.rate_limit import RateLimiter
from shared.settings import Settings
from shared.storage import Storage

PATIENCE_S = 15
"""Limit, also on a busy machine. Without time limits each of these calls waited for minutes or for
ever.
"""


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]


def test_a_hanging_redis_takes_no_message_and_blocks_nobody(
    silent: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "SOCKET_TIMEOUT_S", 0.5)
    queue = make_app(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{silent}/0"}))
    message = Message(item_id=new_id(), job_id=new_id(), name="a.jpg", priority=5)
    began = time.monotonic()
    with pytest.raises(QueueError):
        publish_many(queue, [message])
    with pytest.raises(QueueError):
        queue_lanes(queue)
    assert time.monotonic() - began < PATIENCE_S
    queue.close()


def test_requests_do_not_wait_for_a_hanging_rate_limit(silent: int, settings: Settings) -> None:
    limiter = RateLimiter(
        settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{silent}/0"})
    )
    began = time.monotonic()
    assert all(limiter.take("key", 1).allowed for _ in range(200))
    assert time.monotonic() - began < PATIENCE_S, "one of them waits, not each"
    limiter.close()


def test_a_hanging_storage_times_out(
    silent: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_connection, "READ_TIMEOUT_S", 0.3)
    away = {"s3_endpoint_url": f"http://127.0.0.1:{silent}"}
    storage = Storage(settings.model_copy(update=away))
    began = time.monotonic()
    with pytest.raises(StorageError):
        storage.get("photos", "a.jpg", 1_000)
    assert time.monotonic() - began < PATIENCE_S
    storage.close()


@pytest.fixture
def impatient(migrated_postgresql: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(database_module, "ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setattr(database_module, "POOL_TIMEOUT_S", 0.2)
    url = migrated_postgresql.url.render_as_string(hide_password=False)
    database = Database(url, process="tests", pool_size=1)
    yield database
    database.close()


def test_a_hanging_postgresql_times_out(impatient: Database) -> None:
    began = time.monotonic()
    with pytest.raises(DatabaseError), impatient.transaction() as session:
        session.execute(sa.text("SELECT pg_sleep(60)"))
    assert time.monotonic() - began < PATIENCE_S
    with impatient.transaction() as session:
        assert session.scalar(sa.text("SELECT 7")) == 7, "and is not taken for the next one's"


def test_the_server_ends_an_endless_statement(
    migrated_postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "STATEMENT_TIMEOUT_MS", 200)
    url = migrated_postgresql.url.render_as_string(hide_password=False)
    database = Database(url, process="tests")
    with pytest.raises(DatabaseError), database.transaction() as session:
        session.execute(sa.text("SELECT pg_sleep(60)"))
    database.close()


def test_an_exhausted_connection_pool_is_an_outage_too(impatient: Database) -> None:
    with impatient.transaction() as one, impatient.transaction() as two:
        for session in (one, two):
            session.execute(sa.select(1))
        with pytest.raises(DatabaseError), impatient.transaction() as third:
            third.execute(sa.select(1))


def test_probes_of_a_hanging_part_use_one_thread_and_get_its_last_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(latest, "PATIENCE_S", 0.1)
    hangs, asked = threading.Event(), 0

    def ask() -> int:
        nonlocal asked
        asked += 1
        if asked > 1:
            hangs.wait(180)
        return asked

    async def scenario() -> None:
        part = Latest(ask, QueueError)
        assert await part.get() == 1
        assert await asyncio.gather(*(part.get() for _ in range(100))) == [1] * 100
        assert asked == 2
        monkeypatch.setattr(latest, "STALE_S", 0.0)
        with pytest.raises(QueueError):
            await part.get()
        hangs.set()
        monkeypatch.setattr(latest, "PATIENCE_S", 30)
        assert await part.get() >= 2

    asyncio.run(scenario())
