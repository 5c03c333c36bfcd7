"""Every route that the description lists: none without a key, none to what is another's.

A route that is added is asked as well; nothing has to be remembered.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.app import app
from api.client import MattingClient
from deploy.local import Stack
from shared import job_store
from shared.database import Database

OPEN = {"/healthz", "/readyz", "/metrics"}
"""For who runs the service; deploy keeps them on its own network."""

BODIES = {"/v1/items/{item_id}/review": {"verdict": "reject"}}
"""Of those that need one to come as far as to the id."""


def operations() -> Iterator[tuple[str, str]]:
    for path, methods in app.openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path


@pytest.fixture(scope="module")
def stranger(stack: Stack) -> Iterator[httpx.Client]:
    database = Database(stack.settings.database_url, process="tests")
    with database.transaction() as session:
        _key, secret = job_store.create_api_key(session, "stranger to every route")
    database.close()
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=stack.address.api_url, headers=headers) as http:
        yield http


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer mtk_no-such-key"}])
def test_no_route_without_a_key(stack: Stack, headers: dict[str, str]) -> None:
    asked = 0
    with httpx.Client(base_url=stack.address.api_url, headers=headers) as anyone:
        for method, path in operations():
            filled = path.replace("{index}", "0")
            for name in ("job_id", "item_id", "webhook_id", "delivery_id"):
                filled = filled.replace(f"{{{name}}}", str(uuid.uuid4()))
            assert "{" not in filled, f"{path}: this test knows no such parameter"
            answer = anyone.request(method, filled)
            status = answer.status_code
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"], path
            if path in OPEN:
                assert status == 200, path
                continue
            refused = 403 if path.startswith("/v1.0/") else 401  # as remove.bg's clients know it
            assert status == refused, (method, path)
            asked += 1
    assert asked > 20


def test_what_is_another_s_is_not_there(
    stack: Stack, client: MattingClient, stranger: httpx.Client, folder: Path
) -> None:
    job = client.wait(client.submit_files([folder / "x.jpg"])["id"])
    [item] = client.items(job["id"])
    asked = 0
    for method, path in operations():
        if not ("{job_id}" in path or "{item_id}" in path):
            continue
        filled = path.format(job_id=job["id"], item_id=item["id"], index=0)
        answer = stranger.request(method, filled, json=BODIES.get(path))
        assert answer.status_code == 404, (method, path, answer.text)
        assert answer.json()["code"] in ("job-not-found", "item-not-found")
        if method == "GET" and "{index}" not in path:  # the request is right: it is the key
            assert client._http.get(filled).status_code in (200, 307), path
        asked += 1
    assert asked > 10
    assert client.job(job["id"]) == job, "nothing of it changed"
    assert next(iter(client.items(job["id"]))) == item
