"""Listing deliveries and sending them again: through the API, the command and both clients."""

import asyncio
import json

import httpx
import pytest
from typer.testing import CliRunner, Result

from api.client import ApiError, AsyncMattingClient, MattingClient
from deploy.cli import app as cli
from tests.integration.webhooks.receiver import Receiver
from tests.integration.webhooks.service import (
    Api,
    cancelled_job,
    deliveries,
    registered,
)
from tests.waiting import eventually


def test_deliveries_are_listed_in_pages_and_counted(
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
    receiver.plans[path] = [500] * 99  # also if it is tried again before the command looks
    done = matting("test", webhook_id)
    assert (done.exit_code, "failed 500" in done.stdout) == (1, True), done
    receiver.plans[path].clear()
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
