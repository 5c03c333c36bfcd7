"""Refused submissions leave nothing behind, and the number of open removebg calls is limited."""

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import sqlalchemy as sa

from shared import job_store
from shared.settings import Settings
from shared.storage import Storage
from tests.acceptance.hostile.api import REMOVEBG_CALLS, Api, assert_refused

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def jobs_folder(s3: dict[str, str]) -> Iterator[Storage]:
    storage = Storage(Settings.model_validate(s3))
    yield storage
    storage.close()


@pytest.fixture
def poor(api: Api) -> Iterator[httpx.Client]:
    """A caller whose quota has two images left."""
    with api.database.transaction() as session:
        _, secret = job_store.create_api_key(session, f"poor {uuid.uuid4()}", images_per_month=2)
    with api.caller(secret) as client:
        yield client


def stored(storage: Storage) -> set[str]:
    return set(storage.list_keys("jobs/"))


def test_submissions_that_are_refused_leave_no_objects(
    poor: httpx.Client, owner: httpx.Client, jobs_folder: Storage, jpeg: bytes
) -> None:
    before = stored(jobs_folder)
    photo = {"image_file": ("x.jpg", jpeg)}
    three = [("files", (f"{number}.jpg", jpeg)) for number in range(3)]
    assert_refused(poor.post("/v1/jobs", files=three), 402)
    long_list = {"keys": [f"s3://photos/{number}.jpg" for number in range(1_500)]}
    assert_refused(poor.post("/v1/jobs", json={"source": long_list}), 402)
    behind = {"bg_image_file": ("b.jpg", jpeg)}
    for fields in ({"roi": "x"}, {"crop_margin": "wide"}, {"size": "huge"}, {"scale": "1000%"}):
        answer = owner.post("/v1.0/removebg", files=photo | behind, data=fields)
        assert answer.status_code == 400, answer.text
    bad_background = {"bg_image_file": ("b.jpg", b"<html>")}
    assert owner.post("/v1.0/removebg", files=photo | bad_background).status_code == 400
    assert poor.post("/v1/jobs", files=three[:2]).status_code == 202
    after = stored(jobs_folder)
    answer = poor.post("/v1.0/removebg", files=photo | behind)
    assert answer.status_code == 402, answer.text
    unknown = {"source": {"prefix": "s3://photos/"}}
    assert_refused(poor.post("/v1/jobs", json=unknown), 402)
    assert len(after - before) == 2
    assert stored(jobs_folder) == after


def test_a_database_that_fails_in_the_middle_leaves_no_objects(
    api: Api, owner: httpx.Client, jobs_folder: Storage, jpeg: bytes
) -> None:
    before = stored(jobs_folder)
    many = [f"s3://photos/{number}.jpg" for number in range(1_500)]
    with api.database.engine.connect() as connection, connection.begin():
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(sa.text("LOCK TABLE jobs IN SHARE MODE"))
        with ThreadPoolExecutor(2) as pool:  # writing gives up after 4 s
            files = pool.submit(owner.post, "/v1/jobs", files={"files": ("x.jpg", jpeg)})
            keys = pool.submit(owner.post, "/v1/jobs", json={"source": {"keys": many}})
            assert_refused(files.result(), 503)
            assert_refused(keys.result(), 503)
            assert files.result().headers["retry-after"]
    assert stored(jobs_folder) == before


def test_the_same_submission_many_times_at_once_is_one_job_with_its_files(
    owner: httpx.Client, api: Api, jobs_folder: Storage, jpeg: bytes
) -> None:
    before = stored(jobs_folder)
    headers = {"Idempotency-Key": str(uuid.uuid4())}

    def submit(_: int) -> httpx.Response:
        with api.caller() as client:
            return client.post("/v1/jobs", files={"files": ("x.jpg", jpeg)}, headers=headers)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(submit, range(6)))
    assert {answer.status_code for answer in answers} == {202}
    [job_id] = {answer.json()["id"] for answer in answers}
    assert {key.split("/")[1] for key in stored(jobs_folder) - before} == {job_id}


def test_the_idempotency_key_of_a_deleted_job_can_be_used_again(owner: httpx.Client) -> None:
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"source": {"keys": ["s3://photos/a.jpg"]}}
    first = owner.post("/v1/jobs", json=body, headers=headers).json()["id"]
    again = owner.post("/v1/jobs", json=body, headers=headers)
    assert (again.json()["id"], again.headers["idempotent-replayed"]) == (first, "true")
    other = {"source": {"keys": ["s3://photos/b.jpg"]}}
    assert_refused(owner.post("/v1/jobs", json=other, headers=headers), 422)
    assert owner.delete(f"/v1/jobs/{first}").status_code == 204
    second = owner.post("/v1/jobs", json=body, headers=headers)
    assert second.status_code == 202
    assert second.json()["id"] != first
    assert "idempotent-replayed" not in second.headers
    assert owner.get(f"/v1/jobs/{second.json()['id']}").status_code == 200
    third = owner.post("/v1/jobs", json=body, headers=headers)
    assert third.json()["id"] == second.json()["id"]


def test_too_many_removebg_calls_get_a_retry_after(
    api: Api, owner: httpx.Client, jpeg: bytes
) -> None:
    def call(key: str) -> httpx.Response:
        with api.caller(key) as client:
            return client.post("/v1.0/removebg", files={"image_file": ("x.jpg", jpeg)})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(call, [api.key] * 10 + [api.strangers_key] * 10))
    statuses = Counter(answer.status_code for answer in answers)
    # No worker runs, so accepted calls wait until their time limit.
    assert statuses[504] <= REMOVEBG_CALLS
    assert statuses[504] >= REMOVEBG_CALLS // 2
    assert statuses[429] + statuses[503] == 20 - statuses[504]
    assert statuses[429] > 0
    for answer in answers:
        assert (answer.status_code == 504) or int(answer.headers["retry-after"]) > 0
        assert json.loads(answer.text)["errors"][0]["code"]
    later = call(api.key)
    assert later.status_code == 504, "what had its answer makes room"
