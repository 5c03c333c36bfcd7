"""Keys that the command creates, and what the API allows each of them."""

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from api.client import ApiError, MattingClient
from deploy.stack.processes import program
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.acceptance.test_api import assert_problem


@pytest.fixture
def new_key(stack: Stack) -> Iterator["KeyMaker"]:
    with ExitStack() as closing:
        yield KeyMaker(stack, closing)


class KeyMaker:
    def __init__(self, stack: Stack, closing: ExitStack) -> None:
        self._stack, self._closing = stack, closing

    def __call__(self, *flags: str) -> MattingClient:
        command = [program("matting"), "keys", "create", "shop", "--data", str(self._stack.data)]
        made = subprocess.run([*command, *flags], capture_output=True, text=True, check=True)
        url = self._stack.address.api_url
        self.secret = made.stdout.strip()
        return self._closing.enter_context(MattingClient(url, self.secret))

    def raw(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.secret}"}
        url = self._stack.address.api_url
        return self._closing.enter_context(httpx.Client(base_url=url, headers=headers))


@pytest.fixture
def admin(stack: Stack) -> Iterator[httpx.Client]:
    """The stack's own key, which may do everything."""
    headers = {"Authorization": f"Bearer {stack.secrets.api_key}"}
    with httpx.Client(base_url=stack.address.api_url, headers=headers) as client:
        yield client


def test_a_key_can_do_only_what_its_scopes_allow(new_key: KeyMaker, jpeg: bytes) -> None:
    new_key("--scope", "read")
    reader = new_key.raw()
    assert reader.get("/v1/jobs").status_code == 200
    files = {"files": ("x.jpg", jpeg)}
    assert_problem(reader.post("/v1/jobs", files=files), 403, "scope-missing")
    assert_problem(reader.get("/v1/usage?every_key=true"), 403, "scope-missing")
    new_key("--scope", "submit")
    sender = new_key.raw()
    assert sender.post("/v1/jobs", files=files).status_code == 202
    assert_problem(sender.get("/v1/jobs"), 403, "scope-missing")
    new_key("--scope", "admin")
    every = new_key.raw().get("/v1/usage?every_key=true")
    assert every.status_code == 200, every.text


def test_a_key_reads_its_own_folders_only(new_key: KeyMaker, bucket: Storage, jpeg: bytes) -> None:
    for key in ("shop/a.jpg", "shopping/b.jpg", "other/c.jpg"):
        bucket.put(key, jpeg, "image/jpeg")
    client = new_key("--source", "s3://photos/shop")
    job = client.wait(client.submit({"prefix": "s3://photos/shop/"})["id"])
    assert job["counts"]["succeeded"] == 1
    for source in (
        {"prefix": "s3://photos/"},
        {"prefix": "s3://photos/shop"},
        {"prefix": "s3://matting/elsewhere/"},
        {"keys": ["s3://photos/shopping/b.jpg"]},
        {"keys": ["s3://photos/shop/../other/c.jpg"]},
        {"keys": ["s3://photos/other/c.jpg"]},
    ):
        with pytest.raises(ApiError) as caught:
            client.submit(source)
        assert caught.value.code == "forbidden-source", source
    bucket.put("shop/list.csv", b"key\ns3://photos/other/c.jpg\n", "text/csv")
    job = client.wait(client.submit({"manifest": "s3://photos/shop/list.csv"})["id"])
    [item] = client.items(job["id"])
    assert item["error"] is not None
    assert item["error"]["code"] == "forbidden-source"


def test_an_operator_makes_and_revokes_keys_by_the_api(admin: httpx.Client, stack: Stack) -> None:
    wanted = {"name": "shop", "scopes": ["read"], "sources": ["s3://photos/shop"],
              "destinations": ["s3://photos/out/"]}  # fmt: skip
    answer = admin.post("/v1/keys", json=wanted)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["scopes"], made["sources"]) == (["read"], ["s3://photos/shop/"])
    assert made["destinations"] == ["s3://photos/out/"]
    secret = made.pop("key")
    assert made in admin.get("/v1/keys").json()["keys"], "and the list has no secret"
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=stack.address.api_url, headers=headers) as shop:
        assert shop.get("/v1/jobs").status_code == 200
        for method, path in (
            ("GET", "/v1/keys"),
            ("GET", "/v1/failures"),
            ("POST", "/v1/keys"),
            ("POST", f"/v1/keys/{made['id']}/revoke"),
        ):
            body = {"name": "x"} if path == "/v1/keys" and method == "POST" else None
            assert_problem(shop.request(method, path, json=body), 403, "scope-missing")
        revoked = admin.post(f"/v1/keys/{made['id']}/revoke")
        assert revoked.status_code == 200, revoked.text
        assert revoked.json()["revoked_at"]
        assert_problem(shop.get("/v1/jobs"), 401, "unauthorized")
    assert_problem(admin.post(f"/v1/keys/{uuid.uuid4()}/revoke"), 404, "key-not-found")
    wrong: tuple[dict[str, object], ...] = (
        {"sources": ["s3://photos/../x"]}, {"scopes": []}, {"scopes": ["root"]}, {"name": " "},
        {"name": "a\x00"}, {"images_per_month": -1}, {"requests_per_min": 10**12}, {"limit": 1},
    )  # fmt: skip
    for change in wrong:
        assert admin.post("/v1/keys", json=wanted | change).status_code in (403, 422), change


def test_a_limited_operator_makes_no_key_without_its_limits(
    admin: httpx.Client, stack: Stack
) -> None:
    limited = {"name": "limited", "scopes": ["admin"], "images_per_month": 5}
    secret = admin.post("/v1/keys", json=limited).json()["key"]
    refused = httpx.post(
        f"{stack.address.api_url}/v1/keys",
        headers={"Authorization": f"Bearer {secret}"},
        json={"name": "more"},
    )
    assert_problem(refused, 403, "scope-missing")


def test_an_operator_sees_the_last_failures_of_all_keys(
    admin: httpx.Client, stack: Stack, tmp_path: Path
) -> None:
    photo = tmp_path / "page.jpg"
    photo.write_bytes(b"<html>not found</html>")
    secret = admin.post("/v1/keys", json={"name": "shop"}).json()["key"]
    with MattingClient(stack.address.api_url, secret) as client:
        job = client.submit_files([(photo, "page.jpg")])
        client.wait(job["id"])
        (item,) = client.items(job["id"])
        problem = item["error"]
        assert problem is not None
        failures = admin.get("/v1/failures").json()["failures"]
        (mine,) = [one for one in failures if one["job_id"] == job["id"]]
        assert (mine["code"], mine["name"], mine["api_key"]) == ("not-an-image", "page.jpg", "shop")
        assert (mine["item_id"], mine["remedy"]) == (item["id"], problem["remedy"])
        times = [one["failed_at"] for one in failures]
        assert times == sorted(times, reverse=True)
        client.delete(job["id"])
    left = admin.get("/v1/failures").json()["failures"]
    assert job["id"] not in [one["job_id"] for one in left]


def test_the_rate_limit_is_reported_and_enforced(new_key: KeyMaker) -> None:
    new_key("--rate", "3")
    caller = new_key.raw()
    left = [caller.get("/v1/jobs").headers["x-ratelimit-remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    answer = caller.get("/v1/jobs")
    assert_problem(answer, 429, "rate-limited")
    assert 0 < int(answer.headers["retry-after"]) <= 20
    assert answer.headers["ratelimit-policy"] == '"key";q=3;w=60'


def test_the_quota_counts_succeeded_images(new_key: KeyMaker, folder: Path) -> None:
    client = new_key("--quota", "3")
    job = client.wait(client.submit_files([folder / "x.jpg", folder / "page.jpg"])["id"])
    assert (job["counts"]["succeeded"], job["counts"]["failed"]) == (1, 1)
    with pytest.raises(ApiError) as caught:
        client.submit_files([folder / "x.jpg", folder / "x.png", folder / "cut.jpg"])
    assert (caught.value.status, caught.value.code) == (402, "quota-exceeded")
    usage = new_key.raw().get("/v1/usage").json()
    assert (usage["images_per_month"], usage["images_left"]) == (3, 2)
    [month] = usage["months"]
    assert month["images"] == 1
    assert month["megapixels"] == job["megapixels"] > 0
    assert month["device_s"] > 0
    assert usage["jobs"][0] == {
        "job_id": job["id"],
        "images": 1,
        "megapixels": month["megapixels"],
        "device_s": month["device_s"],
    }


def test_no_key_is_ever_in_a_log(stack: Stack, new_key: KeyMaker, jpeg: bytes) -> None:
    new_key()
    caller = new_key.raw()
    secret = new_key.secret
    caller.post("/v1/jobs", content=b"{", headers={"content-type": "application/json"})
    caller.get(f"/v1/jobs?cursor={secret}")
    caller.post("/v1/jobs", files={"files": ("x.jpg", jpeg)})
    wrong = "mtk_" + "w" * 43
    httpx.get(f"{stack.address.api_url}/v1/jobs", headers={"X-Api-Key": wrong})
    logs = "".join(path.read_text(errors="replace") for path in stack.logs.glob("*.log"))
    assert logs, "there is something to look through"
    settings = stack.settings
    assert settings.aws_secret_access_key is not None
    for hidden in (
        secret,
        wrong,
        stack.secrets.api_key,
        settings.aws_secret_access_key.get_secret_value(),
    ):
        assert hidden not in logs
