"""Webhooks as a receiver meets them: a real API process, a real receiver, standardwebhooks."""

import asyncio
import json
import os
import secrets
import signal
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from typer.testing import CliRunner, Result

from api.client import ApiError, AsyncMattingClient, MattingClient
from api.webhook_schemas import JobEvent
from deploy.cli import app as cli
from deploy.processes import Process, free_port, start, wait_until
from shared import job_store
from shared.database import Database
from shared.webhooks import new_secret

T = TypeVar("T")

pytestmark = pytest.mark.timeout(60)

QUICK = {
    "MATTING_ALLOW_PRIVATE_ADDRESSES": "true",
    "MATTING_WEBHOOK_RETRIES_S": "0.1, 0.1, 0.1",
    "MATTING_WEBHOOK_TIMEOUT_S": "1",
    "MATTING_WEBHOOK_OVERLAP_S": "4",
    "MATTING_MAX_WEBHOOKS_PER_KEY": "2",
}
HANG, DRIP = "hang", "drip"


@dataclass(frozen=True)
class Received:
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        return Webhook(secret).verify(self.body, self.headers)


class Receiver(ThreadingHTTPServer):
    """Answers each path with what is planned for it, and then with 204."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plans: defaultdict[str, list[int | str]] = defaultdict(list)
        self.received: defaultdict[str, list[Received]] = defaultdict(list)
        self.released = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        plan = self.server.plans[self.path]
        answer = plan.pop(0) if plan else 204
        self.server.received[self.path].append(Received(headers, body))
        if answer == HANG:
            self.server.released.wait(20)
            return
        if answer == DRIP:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not self.server.released.wait(0.2):
                try:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                except OSError:
                    return
            return
        self.send_response(int(answer))
        if answer == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Api:
    """A process of the service, and keys to it."""

    def __init__(self, folder: Path, env: dict[str, str], database: Database) -> None:
        self._folder, self._env, self._database = folder, env, database
        self.port = free_port()
        self.log = folder / "api.log"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "api.app:app", "--port", str(self.port)]
        command += ["--log-level", "warning", "--no-access-log"]
        self.process: Process = start(
            "api", command, log=self.log, folder=self._folder, env=self._env
        )
        wait_until(self._answers, self.process, timeout_s=30)

    def kill(self) -> None:
        self.process.popen.send_signal(signal.SIGKILL)
        self.process.popen.wait(10)

    def key(self) -> str:
        with self._database.transaction() as session:
            return job_store.create_api_key(session, "shop")[1]

    def caller(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key()}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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
    """A client with a key of its own, so that no test hears another's jobs."""
    with api.caller() as client:
        yield client


@pytest.fixture
def path() -> str:
    """Of the receiver, for one test."""
    return f"/{secrets.token_hex(4)}"


def eventually(look: Callable[[], T | None], what: str, timeout_s: float = 20) -> T:
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)
    return found


def registered(caller: httpx.Client, url: str, **more: Any) -> dict[str, Any]:
    answer = caller.post("/v1/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def finished_job(caller: httpx.Client) -> str:
    """A job that ends by itself where no worker runs: its only row names no image."""
    answer = caller.post(
        "/v1/jobs",
        files={"manifest": ("list.csv", b"key,sku\n,RED-40\n")},
        data={"metadata": '{"season":"spring"}'},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def cancelled_job(caller: httpx.Client, **more: Any) -> str:
    answer = caller.post("/v1/jobs", json={"source": {"keys": ["a.jpg"]}, **more})
    assert answer.status_code == 202, answer.text
    job_id = str(answer.json()["id"])
    assert caller.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    return job_id


def deliveries(caller: httpx.Client, **query: str) -> list[dict[str, Any]]:
    answer = caller.get("/v1/deliveries", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["deliveries"]
    return found


def settled(caller: httpx.Client, **query: str) -> dict[str, Any]:
    """The newest delivery, when nothing more happens to it."""

    def look() -> dict[str, Any] | None:
        found = deliveries(caller, **query)
        return found[0] if found and found[0]["status"] != "pending" else None

    return eventually(look, "the delivery to be settled")


def code_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["code"])


def test_the_end_of_a_job_is_told_signed_and_listed(
    caller: httpx.Client, receiver: Receiver, path: str
) -> None:
    made = registered(caller, receiver.url(path))
    assert made["secret"].startswith("whsec_")
    job_id = finished_job(caller)
    delivery = settled(caller, job_id=job_id)
    assert (delivery["status"], delivery["attempts"]) == ("delivered", 1)
    assert delivery["webhook_id"] == made["id"]
    assert [one["outcome"] for one in delivery["log"]] == ["delivered"]

    [received] = receiver.received[path]
    assert received.headers["content-type"] == "application/json"
    assert received.id == delivery["id"]
    told = received.verified(made["secret"])
    assert told == delivery["payload"]
    assert told["type"] == "job.finished"
    with pytest.raises(WebhookVerificationError):
        received.verified(new_secret())
    # The body is as described, and says what the job says.
    JobEvent.model_validate_json(received.body)
    job = caller.get(f"/v1/jobs/{job_id}").json()
    assert told["data"]["counts"]["failed"] == 1
    assert told["data"]["metadata"] == {"season": "spring"}
    assert {name: job[name] for name in told["data"]} == told["data"]


def test_a_secret_is_shown_once_and_never_logged(
    api: Api, caller: httpx.Client, receiver: Receiver, path: str
) -> None:
    made = registered(caller, receiver.url(path))
    shown = [
        caller.get("/v1/webhooks").text,
        caller.get(f"/v1/webhooks/{made['id']}").text,
        caller.patch(f"/v1/webhooks/{made['id']}", json={"progress_percent": 10}).text,
    ]
    caller.post(f"/v1/webhooks/{made['id']}/test")
    shown.append(json.dumps(settled(caller)))
    given = registered(caller, receiver.url(path), secret=new_secret())
    assert caller.post("/v1/webhooks", json={"url": "http://x", "secret": given["secret"][:20]})
    shown.append(api.log.read_text())
    for text in shown:
        assert made["secret"] not in text
        assert given["secret"] not in text
    assert '"progress_percent":10' in shown[2]


def test_a_receiver_that_stumbles_hears_the_same_again(
    caller: httpx.Client, receiver: Receiver, path: str
) -> None:
    made = registered(caller, receiver.url(path))
    receiver.plans[path] = [500, 503]
    cancelled_job(caller)
    delivery = settled(caller)
    assert (delivery["status"], delivery["attempts"]) == ("delivered", 3)
    assert [(one["outcome"], one["http_status"]) for one in delivery["log"]] == [
        ("failed", 500),
        ("failed", 503),
        ("delivered", 204),
    ]
    heard = receiver.received[path]
    assert len({(one.id, one.body) for one in heard}) == 1
    for one in heard:
        assert one.verified(made["secret"])["type"] == "job.cancelled"


def test_gone_switches_off_until_the_caller_switches_on(
    caller: httpx.Client, receiver: Receiver, path: str
) -> None:
    made = registered(caller, receiver.url(path))
    address = f"/v1/webhooks/{made['id']}"
    receiver.plans[path] = [410]
    cancelled_job(caller)
    delivery = settled(caller)
    assert (delivery["status"], delivery["log"][-1]["outcome"]) == ("failed", "gone")
    webhook = caller.get(address).json()
    assert (webhook["enabled"], webhook["disabled_reason"]) == (False, "gone")
    cancelled_job(caller)
    assert len(deliveries(caller)) == 1, "it is not told of what happens meanwhile"
    again = f"/v1/deliveries/{delivery['id']}/redeliver"
    assert code_of(caller.post(again), 409) == "webhook-disabled"
    assert code_of(caller.post(f"{address}/test"), 409) == "webhook-disabled"
    assert caller.patch(address, json={"enabled": True}).json()["enabled"]
    assert caller.post(again).status_code == 202
    assert settled(caller)["status"] == "delivered"
    assert len({one.id for one in receiver.received[path]}) == 1


def test_a_redirect_is_a_failure_and_the_ladder_ends(
    caller: httpx.Client, receiver: Receiver, path: str
) -> None:
    made = registered(caller, receiver.url(path))
    receiver.plans[path] = [302] * 10
    cancelled_job(caller)
    delivery = settled(caller)
    assert (delivery["status"], delivery["attempts"]) == ("failed", 4)
    assert {one["http_status"] for one in delivery["log"]} == {302}
    assert receiver.received["/elsewhere"] == []
    webhook = caller.get(f"/v1/webhooks/{made['id']}").json()
    assert (webhook["enabled"], webhook["disabled_reason"]) == (False, "failing")


@pytest.mark.parametrize("way", [HANG, DRIP])
def test_no_receiver_holds_an_attempt_longer_than_its_time(
    caller: httpx.Client, receiver: Receiver, path: str, way: str
) -> None:
    registered(caller, receiver.url(path))
    receiver.plans[path] = [way]
    cancelled_job(caller)
    delivery = settled(caller)
    assert [one["outcome"] for one in delivery["log"]] == ["failed", "delivered"]
    assert 900 < delivery["log"][0]["duration_ms"] < 5_000
    assert "could not be reached" in delivery["log"][0]["detail"]


def test_a_slow_receiver_holds_up_no_one_else(
    api: Api, caller: httpx.Client, receiver: Receiver, path: str
) -> None:
    registered(caller, receiver.url(path))
    receiver.plans[path] = [HANG] * 12
    with api.caller() as other:
        registered(other, receiver.url(f"{path}-other"))
        for _ in range(3):
            cancelled_job(caller)
        eventually(lambda: receiver.received[path], "the slow one to be told")
        cancelled_job(other)
        assert settled(other)["status"] == "delivered"
    assert len(deliveries(caller, status="pending")) == 3, "the slow one is still at its first"


def test_an_exchanged_secret_signs_along_for_a_while(
    caller: httpx.Client, receiver: Receiver, path: str
) -> None:
    made = registered(caller, receiver.url(path))
    address = f"/v1/webhooks/{made['id']}"
    new = caller.post(f"{address}/rotate").json()
    assert new["secret"] != made["secret"]
    assert new["old_secret_until"]
    caller.post(f"{address}/test")
    settled(caller)
    [both] = receiver.received[path]
    assert len(both.headers["webhook-signature"].split(" ")) == 2
    for secret in (made["secret"], new["secret"]):
        assert both.verified(secret)["type"] == "webhook.test"

    def over() -> bool:
        return caller.get(address).json()["old_secret_until"] is None

    eventually(over, "the overlap to end")
    caller.post(f"{address}/test")
    settled(caller)
    late = receiver.received[path][-1]
    late.verified(new["secret"])
    with pytest.raises(WebhookVerificationError):
        late.verified(made["secret"])


def test_a_job_s_own_webhook_hears_of_that_job_alone(
    caller: httpx.Client, receiver: Receiver, path: str
) -> None:
    secret = new_secret()
    webhook = {"url": receiver.url(path), "secret": secret}
    job_id = cancelled_job(caller, webhook=webhook)
    cancelled_job(caller)
    assert settled(caller)["job_id"] == job_id
    [received] = receiver.received[path]
    assert received.verified(secret)["data"]["id"] == job_id
    assert caller.get("/v1/webhooks").json()["webhooks"] == []
    # With files, it is a text part.
    fields = {"webhook": json.dumps(webhook)}
    files = {"manifest": ("list.csv", b"key\n,\n")}
    assert caller.post("/v1/jobs", files=files, data=fields).status_code == 202
    eventually(lambda: len(receiver.received[path]) == 2, "the second job's end")
    for wrong in ("whsec_short", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "A" * 120):
        body = {"source": {"keys": ["a"]}, "webhook": {**webhook, "secret": wrong}}
        answer = caller.post("/v1/jobs", json=body)
        assert code_of(answer, 422) == "invalid-options"
        assert wrong not in answer.text


def test_what_is_another_key_s_is_not_there(
    api: Api, caller: httpx.Client, receiver: Receiver, path: str
) -> None:
    made = registered(caller, receiver.url(path))
    caller.post(f"/v1/webhooks/{made['id']}/test")
    delivery = settled(caller)
    with api.caller() as other:
        for method, address in (
            ("GET", f"/v1/webhooks/{made['id']}"),
            ("PATCH", f"/v1/webhooks/{made['id']}"),
            ("DELETE", f"/v1/webhooks/{made['id']}"),
            ("POST", f"/v1/webhooks/{made['id']}/rotate"),
            ("POST", f"/v1/webhooks/{made['id']}/test"),
            ("GET", f"/v1/deliveries/{delivery['id']}"),
            ("POST", f"/v1/deliveries/{delivery['id']}/redeliver"),
            ("GET", f"/v1/deliveries/{uuid.uuid4()}"),
        ):
            body = {"enabled": False} if method == "PATCH" else None
            code = code_of(other.request(method, address, json=body), 404)
            assert code == ("webhook" if "/webhooks/" in address else "delivery") + "-not-found"
        assert other.get("/v1/webhooks").json()["webhooks"] == []
        assert deliveries(other, webhook_id=made["id"]) == []
        cancelled_job(other)
    assert len(deliveries(caller)) == 1, "another's job is not told"


def test_a_key_has_so_many_webhooks_and_no_more(caller: httpx.Client, receiver: Receiver) -> None:
    kept = [registered(caller, receiver.url("/x"))["id"] for _ in range(2)]
    body = {"url": receiver.url("/x")}
    assert code_of(caller.post("/v1/webhooks", json=body), 409) == "too-many-webhooks"
    assert caller.delete(f"/v1/webhooks/{kept[0]}").status_code == 204
    registered(caller, receiver.url("/x"))


def test_what_happened_is_told_though_the_process_is_killed(
    api: Api, caller: httpx.Client, receiver: Receiver, path: str
) -> None:
    made = registered(caller, receiver.url(path))
    receiver.plans[path] = [HANG]
    job_id = cancelled_job(caller)
    eventually(lambda: receiver.received[path], "the first attempt")
    api.kill()  # while the receiver has it, and nothing is noted
    api.start()
    delivery = settled(caller)
    assert (delivery["status"], delivery["attempts"], len(delivery["log"])) == ("delivered", 2, 1)
    assert [one["id"] for one in deliveries(caller, job_id=job_id)] == [delivery["id"]]
    first, second = receiver.received[path]
    assert first.id == second.id == delivery["id"]
    second.verified(made["secret"])


def test_deliveries_come_in_pages_and_can_be_counted(
    api: Api, caller: httpx.Client, receiver: Receiver, path: str
) -> None:
    registered(caller, receiver.url(path))
    jobs = [cancelled_job(caller) for _ in range(5)]
    eventually(lambda: len(deliveries(caller, status="delivered")) == 5, "all to be delivered")
    seen, query = [], {"limit": "2"}
    while True:
        page = caller.get("/v1/deliveries", params=query).json()
        seen += [one["job_id"] for one in page["deliveries"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == jobs[::-1]
    order = [json.loads(one.body)["data"]["id"] for one in receiver.received[path]]
    assert order == jobs, "in the order in which they happened"
    metrics = caller.get("/metrics").text
    assert 'matting_webhook_deliveries_total{outcome="delivered"}' in metrics


def test_the_command_and_both_clients_do_the_same(api: Api, receiver: Receiver, path: str) -> None:
    key, url = api.key(), f"http://127.0.0.1:{api.port}"
    environment = {"MATTING_API_URL": url, "MATTING_API_KEY": key}

    def matting(*arguments: str) -> Result:
        return CliRunner(env=environment).invoke(cli, ["webhooks", *arguments])

    webhook_id, secret = matting("create", receiver.url(path), "--progress", "25").stdout.split()
    listed = matting("list").stdout
    assert receiver.url(path) in listed
    assert secret not in listed
    receiver.plans[path] = [500]
    done = matting("test", webhook_id)
    assert (done.exit_code, "failed 500" in done.stdout) == (1, True), done
    done = matting("redeliver", done.stdout.split()[0], "--json")
    assert (done.exit_code, json.loads(done.stdout)["status"]) == (0, "delivered"), done
    new = json.loads(matting("rotate", webhook_id, "--json").stdout)["secret"]
    receiver.received[path][-1].verified(secret)
    with MattingClient(url, key) as client:
        job = client.submit(
            {"keys": ["a.jpg"]},
            webhook={"url": receiver.url(f"{path}-own"), "secret": secret},
            failure_share=1,
        )
        client.cancel(job["id"])
        eventually(
            lambda: list(client.webhooks.deliveries(job_id=job["id"], status="delivered")), "it"
        )
        receiver.received[path][-1].verified(new)
    assert job["id"] in matting("deliveries", "--job", job["id"]).stdout

    async def asynchronously() -> None:
        async with AsyncMattingClient(url, key) as client:
            found = [one async for one in client.webhooks.deliveries(webhook_id=webhook_id)]
            assert [one["event"] for one in found] == ["job.cancelled", "webhook.test"]
            assert (await client.webhooks.redeliver(found[0]["id"]))["id"] == found[0]["id"]
            assert not (await client.webhooks.change(webhook_id, enabled=False))["enabled"]
            with pytest.raises(ApiError) as caught:
                await client.webhooks.test(webhook_id)
            assert caught.value.code == "webhook-disabled"
            await client.webhooks.delete(webhook_id)
            assert await client.webhooks.list() == []

    asyncio.run(asynchronously())
    assert isinstance(matting("delete", webhook_id).exception, ApiError)
    assert matting("test", "nonsense").exit_code == 2
