"""The API as callers see it: access rights, and the form of errors."""

import http.client
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.client import ApiError, MattingClient
from api.client.calls import ApiCall, reserve_uploads
from deploy.stack.stack import Stack
from shared import job_store
from shared.database import Database


@pytest.fixture
def stranger(stack: Stack) -> Iterator[MattingClient]:
    """A client with another key."""
    database = Database(stack.settings.database_url, process="tests")
    with database.transaction() as session:
        _key, secret = job_store.create_api_key(session, "stranger")
    database.close()
    with MattingClient(stack.address.api_url, secret) as client:
        yield client


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["detail"]
    assert body["remedy"]


def session_of(stack: Stack) -> httpx.Client:
    key = stack.secrets.api_key
    return httpx.Client(base_url=stack.address.api_url, headers={"Authorization": f"Bearer {key}"})


def test_only_health_and_docs_are_open(stack: Stack) -> None:
    with httpx.Client(base_url=stack.address.api_url) as anyone:
        for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
            assert anyone.get(path).status_code == 200, path
        for method, path in (
            ("GET", "/v1/jobs"),
            ("POST", "/v1/jobs"),
            ("GET", f"/v1/jobs/{uuid.uuid4()}"),
            ("GET", f"/v1/jobs/{uuid.uuid4()}/items"),
            ("POST", f"/v1/jobs/{uuid.uuid4()}/cancel"),
            ("GET", f"/v1/items/{uuid.uuid4()}/result"),
            ("POST", "/v1/uploads"),
        ):
            assert_problem(anyone.request(method, path), 401, "unauthorized")
        wrong = {"Authorization": "Bearer mtk_wrong"}
        assert_problem(anyone.get("/v1/jobs", headers=wrong), 401, "unauthorized")
        known = {"X-Api-Key": stack.secrets.api_key}
        assert anyone.get("/v1/jobs", headers=known).status_code == 200


def test_another_key_s_job_item_and_result_are_not_found(
    client: MattingClient, stranger: MattingClient, folder: Path
) -> None:
    job = client.wait(client.submit_files([folder / "x.jpg"])["id"])
    [item] = client.items(job["id"])
    for path in (
        f"/v1/jobs/{job['id']}",
        f"/v1/jobs/{job['id']}/items",
        f"/v1/items/{item['id']}",
        f"/v1/items/{item['id']}/result",
    ):
        with pytest.raises(ApiError) as caught:
            stranger.ask(ApiCall(path=path))
        assert caught.value.status == 404
    with pytest.raises(ApiError):
        stranger.cancel(job["id"])
    assert list(stranger.jobs()) == []
    own = {"keys": [{"key": "s3://photos/mine.jpg", "id": "MINE"}]}
    client.submit(own, metadata={"owner": "me"})
    assert [one["custom_id"] for one in client.find_items("MINE")] == ["MINE"]
    assert len(list(client.jobs(metadata={"owner": "me"}))) == 1
    assert list(stranger.find_items("MINE")) == []
    assert list(stranger.jobs(metadata={"owner": "me"})) == []


def test_another_key_s_upload_is_no_source(client: MattingClient, stranger: MattingClient) -> None:
    slot = client.ask(reserve_uploads(1))["uploads"][0]
    with pytest.raises(ApiError) as caught:
        stranger.submit({"uploads": [{"upload": slot["upload"], "name": "a.jpg"}]})
    assert caught.value.code == "forbidden-source"


@pytest.mark.parametrize(
    "source",
    [
        {"prefix": "s3://matting/"},
        {"prefix": "s3://matting/jobs/"},
        {"prefix": "s3://matting/job"},
        {"keys": ["jobs/x/results/y.png"]},
        {"keys": ["s3://matting/uploads/someone/x"]},
        {"keys": ["s3://elsewhere/x.jpg"]},
        {"keys": ["s3://photos/../matting/x.jpg"]},
        {"keys": ["s3://photos/%2e%2e/x.jpg"]},
    ],
)
def test_sources_outside_the_allowed_ones_are_refused(
    client: MattingClient, source: dict[str, object]
) -> None:
    with pytest.raises(ApiError) as caught:
        client.submit(source)
    assert (caught.value.status, caught.value.code) == (403, "forbidden-source")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"source": {}},
        {"source": {"keys": []}},
        {"source": {"keys": ["a"], "prefix": "b"}},
        {"source": {"keys": ["a"]}, "options": {"format": "gif"}},
        {"source": {"keys": ["a"]}, "options": {"format": "jpeg"}},
        {"source": {"keys": ["a"]}, "options": {"colour": "red"}},
        {"source": {"keys": ["a"]}, "priority": 10},
        {"source": {"keys": ["a"]}, "webhooks": 1},
        [],
    ],
)
def test_an_invalid_field_is_a_422_that_names_it(stack: Stack, body: object) -> None:
    with session_of(stack) as session:
        assert_problem(session.post("/v1/jobs", json=body), 422, "invalid-options")


def test_bodies_that_are_no_job_are_refused(stack: Stack) -> None:
    with session_of(stack) as session:
        json = {"Content-Type": "application/json"}
        assert_problem(session.post("/v1/jobs", content=b"{", headers=json), 422, "invalid-options")
        assert_problem(session.post("/v1/jobs", content=b"x"), 400, "bad-request")
        assert_problem(session.post("/v1/jobs", data={"a": "b"}), 400, "bad-request")
        form = {"Content-Type": "multipart/form-data"}
        assert session.post("/v1/jobs", content=b"--x", headers=form).status_code == 400


def test_a_body_that_is_too_large_is_refused_before_it_is_read(stack: Stack) -> None:
    address = stack.address.api_url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=120)
    connection.putrequest("POST", "/v1/jobs")
    connection.putheader("Authorization", f"Bearer {stack.secrets.api_key}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(10**13))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"request-too-large" in answer.read()
    connection.close()


def test_invalid_ids_and_cursors_are_refused(stack: Stack, client: MattingClient) -> None:
    job = client.submit({"prefix": "s3://photos/none/"})
    with session_of(stack) as session:
        assert_problem(session.get("/v1/jobs/nonsense"), 422, "invalid-options")
        assert_problem(session.get(f"/v1/jobs/{uuid.uuid4()}"), 404, "job-not-found")
        assert_problem(session.get(f"/v1/items/{uuid.uuid4()}/result"), 404, "item-not-found")
        assert_problem(session.get("/v1/nothing"), 404, "not-found")
        for path in ("/v1/jobs", f"/v1/jobs/{job['id']}/items"):
            for cursor in ("%ff", "!!!", "LTE", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5"):
                answer = session.get(path, params={"cursor": cursor})
                assert_problem(answer, 400, "invalid-cursor")


def test_files_can_come_with_the_request(stack: Stack, client: MattingClient, jpeg: bytes) -> None:
    files = [
        ("files", ("../../etc/passwd.jpg", jpeg)),
        ("files", ("b.jpg", jpeg)),
        ("files", ("b.jpg", jpeg)),
    ]
    with session_of(stack) as session:
        answer = session.post(
            "/v1/jobs",
            files=files,
            data={"options": '{"format": "webp"}', "metadata": '{"order": "7"}'},
        )
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
        bad = session.post("/v1/jobs", files=files[:1], data={"options": "{"})
        assert_problem(bad, 422, "invalid-options")
    job = client.wait(answer.json()["id"])
    assert job["counts"]["succeeded"] == 3
    assert job["metadata"] == {"order": "7"}
    assert [item["name"] for item in client.items(job["id"])] == [
        "etc/passwd.jpg",
        "b.jpg",
        "b.jpg",
    ]


def test_a_result_that_is_not_there_yet_is_a_conflict(client: MattingClient, stack: Stack) -> None:
    job = client.wait(client.submit({"keys": ["s3://photos/never.jpg"]})["id"])
    [item] = client.items(job["id"])
    with session_of(stack) as session:
        answer = session.get(f"/v1/items/{item['id']}/result")
    assert_problem(answer, 409, "result-not-ready")


def test_jobs_are_listed_newest_first_in_pages(stack: Stack, client: MattingClient) -> None:
    made = [client.submit({"prefix": f"s3://photos/page{n}/"})["id"] for n in range(3)]
    with session_of(stack) as session:
        first = session.get("/v1/jobs", params={"limit": 2}).json()
        assert [job["id"] for job in first["jobs"]] == made[:0:-1]
        second = session.get("/v1/jobs", params={"limit": 2, "cursor": first["next_cursor"]}).json()
        assert second["jobs"][0]["id"] == made[0]


def test_readiness_names_the_warm_worker(client: MattingClient) -> None:
    ready = client.readiness()
    assert ready["ready"], ready
    assert ready["workers"][0]["model"] == "builtin"
    assert ready["workers"][0]["configuration"] in ("onednn", "onednn-bf16", "plain")


def test_metrics_are_served(stack: Stack) -> None:
    text = httpx.get(f"{stack.address.api_url}/metrics").text
    assert "matting_queue_depth" in text


def test_the_key_is_in_no_log(stack: Stack) -> None:
    for log in stack.logs.iterdir():
        text = log.read_text(errors="replace")
        assert stack.secrets.api_key not in text, log
        assert stack.secrets.s3_secret_key not in text, log
