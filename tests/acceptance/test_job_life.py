"""Actions on a running job: pause, resume, stop at the failure threshold, follow, delete."""

import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from api.client import ApiError, MattingClient
from api.routes.job_events import MAX_LISTENERS_OF_KEY
from deploy.stack.stack import Stack
from shared import job_store
from shared.database import Database
from shared.storage import Storage
from tests.acceptance.conftest import http_with
from tests.waiting import eventually


def many(folder: Path, count: int) -> list[tuple[Path, str]]:
    return [(folder / "x.jpg", f"{number}.jpg") for number in range(count)]


def test_a_paused_job_waits_and_continues(client: MattingClient, folder: Path) -> None:
    job_id = client.submit_files(many(folder, 80))["id"]
    client.pause(job_id)
    eventually(lambda: client.job(job_id)["counts"]["running"] == 0, "what was in flight")
    paused = client.job(job_id)
    assert paused["status"] == "paused"
    assert paused["counts"]["queued"] > 0
    other = client.wait(client.submit_files(many(folder, 2))["id"])
    assert other["counts"]["succeeded"] == 2, "others go on"
    assert client.job(job_id)["counts"] == paused["counts"]
    client.resume(job_id)
    assert client.wait(job_id)["counts"]["succeeded"] == 80


def test_a_job_with_too_many_failures_is_paused_with_a_reason_and_can_be_resumed(
    client: MattingClient, http: httpx.Client, bucket: Storage
) -> None:
    body = {
        "source": {"keys": [f"s3://photos/not-there/{number}.jpg" for number in range(300)]},
        "failure_share": 0.5,
        "failure_after": 10,
    }
    answer = http.post("/v1/jobs", json=body)
    *_, heard = client.events(answer.json()["id"])  # the streams end, like `wait`
    job = client.wait(answer.json()["id"])
    assert heard["status"] == job["status"] == "paused"
    assert job["error"]
    assert job["error"]["code"] == "too-many-failures"
    assert 10 <= job["counts"]["failed"] < 300
    assert client.resume(job["id"])["error"] is None
    again = client.wait(job["id"])
    assert again["counts"]["failed"] > job["counts"]["failed"], "it went on, and was stopped again"
    assert client.cancel(job["id"])["status"] == "cancelled"


def events(
    stack: Stack, job_id: str, last: str | None = None
) -> Iterator[tuple[str, str, dict[str, object]]]:
    headers = {"Authorization": f"Bearer {stack.secrets.api_key}"}
    if last is not None:
        headers["Last-Event-ID"] = last
    url = f"{stack.address.api_url}/v1/jobs/{job_id}/events"
    with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                yield fields["event"], fields["id"], json.loads(fields["data"])
                fields = {}


def test_events_report_progress_and_continue_after_a_break(
    client: MattingClient, stack: Stack, folder: Path
) -> None:
    job_id = client.submit_files(many(folder, 60))["id"]
    kind, first, job = next(events(stack, job_id))
    assert job["id"] == job_id
    rest = list(events(stack, job_id, first))
    assert [kind for kind, _, _ in rest][-1] == "end"
    assert first not in [state for _, state, _ in rest], "nothing that the listener has"
    counts = rest[-1][2]["counts"]
    assert isinstance(counts, dict)
    assert counts["succeeded"] == 60
    assert kind in ("progress", "end")


def test_one_key_s_event_streams_leave_threads_for_others(
    client: MattingClient, stack: Stack, folder: Path
) -> None:
    database = Database(stack.settings.database_url, process="tests")
    with database.transaction() as session:
        _key, other_secret = job_store.create_api_key(session, "another")
    database.close()
    keys = [f"s3://photos/not-there/{number}.jpg" for number in range(900)]
    job_id = client.submit({"keys": keys})["id"]
    assert client.pause(job_id)["status"] == "paused"
    with ExitStack() as closing:
        http = closing.enter_context(
            httpx.Client(
                base_url=stack.address.api_url,
                headers={"Authorization": f"Bearer {stack.secrets.api_key}"},
                limits=httpx.Limits(max_connections=None),
                timeout=240,
            )
        )

        def listen() -> httpx.Response:
            stream = http.stream("GET", f"/v1/jobs/{job_id}/events")
            return closing.enter_context(stream)

        def listen_once() -> int:
            with http.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
                return stream.status_code

        opened = [listen() for _ in range(MAX_LISTENERS_OF_KEY - 20)]
        with ThreadPoolExecutor(60) as threads:
            asked_at_once = list(threads.map(lambda _: listen(), range(60)))
        opened += [one for one in asked_at_once if one.status_code == 200]
        assert {one.status_code for one in opened} == {200}
        assert len(opened) == MAX_LISTENERS_OF_KEY, "also when many ask at once"
        lines = [one.iter_lines() for one in opened]  # a stream ends with its iterator
        assert {next(one) for one in lines} == {"retry: 2000"}
        refused = listen()
        assert refused.status_code == 503
        assert json.loads(refused.read())["code"] == "too-many-listeners"
        with MattingClient(stack.address.api_url, other_secret) as another:
            theirs = another.submit_files(many(folder, 1))["id"]
            path = f"/v1/jobs/{theirs}/events"
            with http_with(stack, other_secret) as other_http:
                assert other_http.get(path).status_code == 200, "others have room"
        opened[0].close()
        eventually(lambda: listen_once() == 200, "the place to be free again")
    client.delete(job_id)


def test_a_deleted_job_is_gone_with_its_files(
    client: MattingClient, http: httpx.Client, stack: Stack, folder: Path
) -> None:
    kept = client.wait(client.submit_files([folder / "x.jpg"])["id"])
    job = client.wait(client.submit_files(many(folder, 3))["id"])
    [item, *_] = client.items(job["id"])
    storage = Storage(stack.settings)
    uploads = item["source"].removeprefix(f"s3://{storage.bucket}/")
    assert list(storage.list_keys(f"jobs/{job['id']}/"))
    client.delete(job["id"])
    for path in (f"/v1/jobs/{job['id']}", f"/v1/items/{item['id']}/result"):
        assert http.get(path).status_code == 404
    assert job["id"] not in [one["id"] for one in client.jobs()]
    eventually(lambda: not list(storage.list_keys(f"jobs/{job['id']}/")), "its results to go")
    eventually(lambda: not list(storage.list_keys(uploads)), "its uploads to go")
    assert list(storage.list_keys(f"jobs/{kept['id']}/")), "others stay"
    with pytest.raises(ApiError):
        client.cancel(job["id"])
    storage.close()


def test_an_uploaded_zip_file_is_deleted_after_unpacking(
    client: MattingClient, stack: Stack, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "x.jpg", "a/x.jpg")
    job = client.wait(client.submit_attached("zip", path)["id"])
    assert job["counts"]["succeeded"] == 1
    storage = Storage(stack.settings)
    place = job["source"]["object"].removeprefix(f"s3://{storage.bucket}/")
    assert place.startswith("uploads/")
    eventually(lambda: not list(storage.list_keys(place)), "it to go")
    storage.close()


def test_a_running_job_can_be_deleted(client: MattingClient, stack: Stack, folder: Path) -> None:
    job_id = client.submit_files(many(folder, 60))["id"]
    eventually(lambda: client.job(job_id)["counts"]["running"], "the first batch")
    client.delete(job_id)
    storage = Storage(stack.settings)
    other = client.wait(client.submit_files([folder / "x.jpg"])["id"])
    assert other["counts"]["succeeded"] == 1
    eventually(lambda: not list(storage.list_keys(f"jobs/{job_id}/")), "its objects to go")
    storage.close()


def test_a_small_job_does_not_wait_for_a_big_one(client: MattingClient, folder: Path) -> None:
    big = client.submit_files(many(folder, 1_000), priority=9)["id"]
    eventually(lambda: client.job(big)["counts"]["succeeded"] > 0, "the big job to run")
    small = client.wait(client.submit_files(many(folder, 5))["id"], every_s=0.05)
    done = client.job(big)["counts"]["succeeded"]
    client.cancel(big)
    assert small["counts"]["succeeded"] == 5
    assert done < 1_000, "the big one was still at it"
