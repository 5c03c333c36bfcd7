"""Callers without a key or with another's key, one row per attack."""

import re
import uuid

import httpx
import pytest

from shared import job_store
from tests.acceptance.hostile.api import Api, assert_refused
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)

OPEN = {"/healthz", "/readyz", "/metrics"}


def routes(anyone: httpx.Client) -> list[tuple[str, str]]:
    """Every method and path of the API's own description."""
    paths = anyone.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def filled(path: str, **values: str) -> str:
    """A path with ids filled in."""
    return re.sub(r"{(\w+)}", lambda found: values.get(found[1], str(uuid.uuid4())), path)


def test_no_route_but_health_and_docs_answers_without_a_key(anyone: httpx.Client) -> None:
    closed = [(method, path) for method, path in routes(anyone) if path not in OPEN]
    assert len(closed) > 25
    for method, path in closed:
        for twist in (path, path + "/", path.replace("/v1", "//v1"), path.upper()):
            status = anyone.request(method, filled(twist, index="1")).status_code
            # remove.bg's API uses 403.
            expected = 403 if path.startswith("/v1.0") else 401
            assert status in (expected, *(() if twist == path else (307, 404, 405))), (
                method,
                twist,
            )
        for other in ("HEAD", "OPTIONS", "TRACE", "BREW"):
            assert anyone.request(other, filled(path, index="1")).status_code in (401, 403, 405)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer"},
        {"Authorization": "bearer x y"},
        {"Authorization": "Bearer null"},
        {"Authorization": "Bearer mtk_' OR 1=1 --"},
        {"Authorization": "Bearer " + "x" * 30_000},
        {"Authorization": b"Bearer \xff\xfe\x80"},
        {"Authorization": "Basic bXRrX3g6"},
        {"X-Api-Key": ""},
        {"X-Api-Key": b"\xc3\x28"},
        {"X-Api-Key": "mtk_*"},
        {"X-Forwarded-For": "127.0.0.1", "X-Original-URL": "/healthz"},
        {"Cookie": "api_key=mtk_x; session=1"},
    ],
)
def test_an_invalid_key_opens_nothing(
    anyone: httpx.Client, headers: dict[str, str | bytes]
) -> None:
    given = [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers.items()
    ]
    assert_refused(anyone.get("/v1/jobs", headers=given), 401)


def test_a_key_is_valid_only_in_the_header_and_complete(api: Api, anyone: httpx.Client) -> None:
    assert_refused(anyone.get("/v1/jobs", params={"api_key": api.key, "token": api.key}), 401)
    for nearly in (api.key[:-1], api.key + "x", api.key.swapcase(), f" {api.key[4:]}"):
        with api.caller(nearly) as client:
            assert_refused(client.get("/v1/jobs"), 401)


def test_the_database_stores_no_key_and_a_revoked_key_is_invalid(api: Api) -> None:
    with api.database.transaction() as session:
        key, secret = job_store.create_api_key(session, "soon gone")
        rows = session.connection().exec_driver_sql("SELECT * FROM api_keys").fetchall()
    assert secret not in str(rows)
    assert api.key not in str(rows)
    with api.caller(secret) as client:
        assert client.get("/v1/jobs").status_code == 200
        with api.database.transaction() as session:
            job_store.revoke_api_key(session, key.id)
        # Another process revoked it, so the API may know it as valid for a second.
        eventually(lambda: client.get("/v1/jobs").status_code != 200, "the refusal")
        assert_refused(client.get("/v1/jobs"), 401)


def test_other_keys_data_is_not_found(api: Api, owner: httpx.Client) -> None:
    job = owner.post("/v1/jobs", json={"source": {"keys": ["s3://photos/a.jpg"]}}).json()
    items = owner.get(f"/v1/jobs/{job['id']}/items").json()["items"]
    hook = owner.post("/v1/webhooks", json={"url": "https://shop.example/hook"})
    assert hook.status_code in (200, 201), hook.text
    ids = {"job_id": job["id"], "item_id": items[0]["id"], "webhook_id": hook.json()["id"]}
    ids |= {"index": "0", "number": "1", "delivery_id": str(uuid.uuid4())}
    bodies: dict[str, dict[str, str]] = {"/v1/items/{item_id}/review": {"verdict": "accept"}}
    bodies["/v1/items/{item_id}/redo"] = {}
    bodies["/v1/webhooks/{webhook_id}"] = {"url": "https://evil.example/"}
    with api.caller(api.strangers_key) as stranger:
        asked = [one for one in routes(stranger) if "{" in one[1]]
        assert len(asked) >= 20
        for method, path in asked:
            with stranger.stream(method, filled(path, **ids), json=bodies.get(path)) as answer:
                answer.read()
                # keys are for administrators: others are refused before any key is looked up
                refused = 403 if path.startswith("/v1/keys/") else 404
                assert answer.status_code == refused, (method, path, answer.text)
        listed = stranger.get("/v1/jobs").json()["jobs"]
        assert job["id"] not in [one["id"] for one in listed]
        assert stranger.get("/v1/webhooks").json()["webhooks"] == []
        for params in ({"job_id": ids["job_id"]}, {"webhook_id": ids["webhook_id"]}):
            deliveries = stranger.get("/v1/deliveries", params=params)
            assert deliveries.status_code == 404 or deliveries.json()["deliveries"] == []
    after = owner.get(f"/v1/jobs/{job['id']}").json()
    assert (after["status"], after["counts"]) == (job["status"], job["counts"])
    assert owner.get(f"/v1/webhooks/{ids['webhook_id']}").json()["url"] == hook.json()["url"]


def test_another_key_s_idempotency_key_reveals_nothing(api: Api, owner: httpx.Client) -> None:
    headers = {"Idempotency-Key": "the same"}
    body = {"source": {"keys": ["s3://photos/a.jpg"]}}
    mine = owner.post("/v1/jobs", json=body, headers=headers).json()
    with api.caller(api.strangers_key) as stranger:
        theirs = stranger.post("/v1/jobs", json=body, headers=headers).json()
    assert theirs["id"] != mine["id"]


def test_another_key_s_upload_is_refused_in_every_source(api: Api, owner: httpx.Client) -> None:
    handle = owner.post("/v1/uploads", json={"count": 1}).json()["uploads"][0]["upload"]
    sources = [
        {"uploads": [{"upload": handle, "name": "a.jpg"}]},
        {"keys": [handle]},
        {"keys": [f"s3://matting/{handle}"]},
        {"manifest": handle},
        {"zip": handle},
        {"prefix": f"s3://matting/{handle[:-4]}"},
    ]
    with api.caller(api.strangers_key) as stranger:
        for source in sources:
            assert_refused(stranger.post("/v1/jobs", json={"source": source}), 403)
        picture = {"background": f"s3://matting/{handle}"}
        behind = {"source": {"keys": ["s3://photos/a.jpg"]}, "options": picture}
        assert_refused(stranger.post("/v1/jobs", json=behind), 403)
