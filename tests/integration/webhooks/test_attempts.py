"""Delivery attempts as a receiver sees them: signed, repeated, limited in time, given up."""

import uuid
from datetime import datetime

import httpx
import pytest
from standardwebhooks import WebhookVerificationError

from api.schemas.webhooks import JobEvent
from shared.database import Database
from shared.models import Webhook
from shared.webhooks import new_secret
from tests.integration.webhooks.receiver import DRIP, HANG, Receiver
from tests.integration.webhooks.service import (
    Api,
    cancelled_job,
    code_of,
    deliveries,
    finished_job,
    registered,
    settled,
)
from tests.waiting import eventually


def test_the_end_of_a_job_is_sent_signed_and_listed(
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
    # The body follows the documentation and has the job's figures.
    JobEvent.model_validate_json(received.body)
    job = caller.get(f"/v1/jobs/{job_id}").json()
    assert told["data"]["counts"]["failed"] == 1
    assert told["data"]["metadata"] == {"season": "spring"}
    assert {name: job[name] for name in told["data"]} == told["data"]


def test_a_failed_delivery_is_sent_again_unchanged(
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


@pytest.mark.parametrize(
    ("busy", "least_s"),
    [((429, "3"), 3.0), ((503, "86400"), 4.0), ((500, "86400"), 0.0)],
    ids=["asked", "asked for a day", "asked with no reason to"],
)
def test_retry_after_is_respected_within_limits(
    caller: httpx.Client,
    receiver: Receiver,
    path: str,
    busy: tuple[int, str],
    least_s: float,
) -> None:
    made = registered(caller, receiver.url(path))
    receiver.plans[path] = [busy]
    cancelled_job(caller)
    eventually(lambda: len(deliveries(caller)[0]["log"]) >= 1, "the first attempt to be noted")
    quiet = caller.get(f"/v1/webhooks/{made['id']}").json()["quiet_until"]
    assert (quiet is not None) == (busy[0] != 500)
    cancelled_job(caller)
    eventually(lambda: len(deliveries(caller, status="delivered")) == 2, "both to be delivered")
    later, first = deliveries(caller)
    failed, repeated = [datetime.fromisoformat(one["at"]) for one in first["log"]]
    assert (repeated - failed).total_seconds() >= least_s
    [other] = [datetime.fromisoformat(one["at"]) for one in later["log"]]
    assert (other - failed).total_seconds() >= least_s, "the second job's end is held back too"


def test_an_undeliverable_event_is_given_up(
    caller: httpx.Client, receiver: Receiver, path: str, migrated_postgresql: Database
) -> None:
    made = registered(caller, receiver.url(path))
    with migrated_postgresql.transaction() as session:
        webhook = session.get_one(Webhook, uuid.UUID(made["id"]))
        webhook.secrets = [{"secret": "not one", "until": None}]
    cancelled_job(caller)
    delivery = settled(caller)
    assert (delivery["status"], delivery["attempts"]) == ("failed", 4)
    assert {one["detail"] for one in delivery["log"]} == {"Something went wrong inside the service"}
    assert receiver.received[path] == []


def test_status_410_disables_the_webhook_until_the_caller_enables_it(
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


def test_a_redirect_is_a_failure_and_attempts_end(
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
def test_no_attempt_takes_longer_than_its_time_limit(
    caller: httpx.Client, receiver: Receiver, path: str, way: str
) -> None:
    registered(caller, receiver.url(path))
    receiver.plans[path] = [way]
    cancelled_job(caller)
    delivery = settled(caller)
    assert [one["outcome"] for one in delivery["log"]] == ["failed", "delivered"]
    assert 3_900 < delivery["log"][0]["duration_ms"] < 120_000, "the receiver ends never by itself"
    assert "could not be reached" in delivery["log"][0]["detail"]


def test_a_slow_receiver_delays_no_other(
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


def test_events_are_sent_although_the_process_was_killed(
    api: Api, caller: httpx.Client, receiver: Receiver, path: str
) -> None:
    made = registered(caller, receiver.url(path))
    receiver.plans[path] = [HANG]
    job_id = cancelled_job(caller)
    eventually(lambda: receiver.received[path], "the first attempt")
    api.kill()  # while the receiver holds the request, before its result is recorded
    api.start()
    delivery = settled(caller)
    assert (delivery["status"], delivery["attempts"], len(delivery["log"])) == ("delivered", 2, 1)
    assert [one["id"] for one in deliveries(caller, job_id=job_id)] == [delivery["id"]]
    first, second = receiver.received[path]
    assert first.id == second.id == delivery["id"]
    second.verified(made["secret"])
