"""Forged messages in Redis: none runs code, none ends the worker, none comes back."""

import base64
import json
import os
import pickle
import uuid
from pathlib import Path
from typing import Any

import redis

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.queue import QUEUE, TASK
from tests.waiting import eventually

OURS = b'[[], {"item": "x", "job": "y"}, {}]'
"""A body of the right form. Only the batch notices that its ids are invalid."""


class Trap:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


def message(body: bytes, *, kind: str = "application/json", **headers: Any) -> bytes:
    """An entry of Redis as Celery writes it."""
    number = str(uuid.uuid4())
    ours = {"lang": "py", "task": TASK, "id": number, "argsrepr": "()", "kwargsrepr": "{}"}
    properties = {
        "correlation_id": number,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": QUEUE},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-type": kind,
        "content-encoding": "binary" if "serialize" in kind else "utf-8",
        "headers": ours | headers,
        "properties": properties,
    }
    return json.dumps(envelope).encode()


def hostile(folder: Path) -> dict[str, bytes]:
    """Forged messages, each by what is wrong with it."""
    trap = pickle.dumps(Trap(folder))
    yaml = f"!!python/object/apply:os.mkdir ['{folder}']".encode()
    links = {"errbacks": [{"task": "os.mkdir", "args": [str(folder)], "kwargs": {}}]}
    return {
        "pickle": message(trap, kind="application/x-python-serialize"),
        "pickle that says it is JSON": message(trap),
        "yaml": message(yaml, kind="application/x-yaml"),
        "no list": message(b"{}"),
        "a number": message(b"1"),
        "nothing": message(b""),
        "too short": message(b"[]"),
        "arguments that are a word": message(b'[[], "x", {}]'),
        "arguments by position": message(json.dumps([["x"], {}, {}]).encode()),
        "too deep": message(b"[" * 60_000),
        "too long": message(b'[[], {"item": "' + b"a" * 1_000_000 + b'"}, {}]'),
        "another task": message(OURS, task="os.mkdir"),
        "no task": message(OURS, task=None),
        "no id": message(OURS, id=None),
        "an id that is none": message(OURS, id=["x"]),
        # The worker accepts the following bodies. Their headers or links are wrong.
        "for another century": message(OURS, eta="2099-01-01T00:00:00"),
        "at no time": message(OURS, eta="never", expires="x", timelimit="y", retries="z"),
        "with links": message(json.dumps([[], {"item": 7}, links]).encode()),
    }


def test_no_message_runs_anything_or_ends_the_worker(
    stack: Stack, client: MattingClient, folder: Path, tmp_path: Path
) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists(), "the trap works"

    (worker,) = (one for one in stack.workers if one.alive())
    before = worker.log.stat().st_size
    broker = redis.Redis.from_url(stack.settings.redis_url)
    left = broker.hlen("unacked")  # an entry of a worker that an earlier test killed
    messages = hostile(tmp_path / "caught")
    for one in messages.values():
        broker.lpush(QUEUE, one)
    job = client.wait(client.submit_files([folder / "x.jpg"])["id"])
    assert job["counts"]["succeeded"] == 1

    eventually(
        lambda: not broker.llen(QUEUE) and broker.hlen("unacked") <= left,
        "every message to be settled: none may stay and come again",
    )
    broker.close()
    assert worker.alive()
    assert not (tmp_path / "caught").exists()
    said = worker.log.read_bytes()[before:].decode()
    assert said.count("message-refused") == len(messages), said
    assert "Traceback" not in said
