"""Webhooks and their secrets: creation, rotation, a job's own webhook, and other keys' webhooks."""

import json
import uuid

import httpx
import pytest
from standardwebhooks import WebhookVerificationError

from shared.webhooks import new_secret
from tests.integration.webhooks.receiver import Receiver
from tests.integration.webhooks.service import (
    Api,
    cancelled_job,
    code_of,
    deliveries,
    registered,
    settled,
)
from tests.waiting import eventually


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


def test_a_replaced_secret_still_signs_for_a_while(
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


def test_a_job_s_own_webhook_gets_events_of_that_job_only(
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
    # In a multipart request the webhook is a text part.
    fields = {"webhook": json.dumps(webhook)}
    row = b"key,url\na.jpg,https://shop.example/a.jpg\n"  # it fails: only one of them may be given
    files = {"manifest": ("list.csv", row)}
    assert caller.post("/v1/jobs", files=files, data=fields).status_code == 202
    eventually(lambda: len(receiver.received[path]) == 2, "the second job's end")
    for wrong in ("whsec_short", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "A" * 120):
        body = {"source": {"keys": ["a"]}, "webhook": {**webhook, "secret": wrong}}
        answer = caller.post("/v1/jobs", json=body)
        assert code_of(answer, 422) == "invalid-options"
        assert wrong not in answer.text


def test_another_key_s_webhooks_are_not_found(
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


def test_the_number_of_webhooks_per_key_is_limited(
    caller: httpx.Client, receiver: Receiver
) -> None:
    kept = [registered(caller, receiver.url("/x"))["id"] for _ in range(2)]
    body = {"url": receiver.url("/x")}
    assert code_of(caller.post("/v1/webhooks", json=body), 409) == "too-many-webhooks"
    assert caller.delete(f"/v1/webhooks/{kept[0]}").status_code == 204
    registered(caller, receiver.url("/x"))
