"""Webhooks of the whole installed system: workers finish jobs; internal addresses are refused."""

import socket
from pathlib import Path

import pytest

from api.client import ApiError, MattingClient
from deploy.stack.stack import Stack
from shared import job_store
from shared.database import Database
from shared.webhooks import Event, new_secret
from tests.waiting import eventually


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "2130706433"]
)
def test_no_webhook_reaches_the_internal_network(client: MattingClient, host: str) -> None:
    for ask in (
        lambda url: client.webhooks.create(url),
        lambda url: client.submit(
            {"keys": ["a.jpg"]}, webhook={"url": url, "secret": new_secret()}
        ),
    ):
        with pytest.raises(ApiError) as caught:
            ask(f"http://{host}/hook")
        assert (caught.value.status, caught.value.code) == (403, "forbidden-webhook")


def test_a_name_that_resolves_to_an_internal_address_later_is_refused_then(
    stack: Stack, client: MattingClient, folder: Path
) -> None:
    """A worker finished the job, so no API process saw its end. The delivery must exist all the
    same.
    """
    database = Database(stack.settings.database_url, process="tests")
    with socket.create_server(("127.0.0.1", 0)) as inside, database.transaction() as session:
        key = job_store.find_api_key(session, stack.secrets.api_key)
        assert key is not None
        webhook = job_store.create_webhook(
            session,
            api_key_id=key.id,
            url=f"http://127.0.0.1:{inside.getsockname()[1]}/",
            events=[Event.JOB_FINISHED],
            progress_percent=None,
            secret=new_secret(),
        )
    database.close()
    job = client.wait(client.submit_files([folder / "x.jpg"])["id"])
    of_job = {"job_id": job["id"], "webhook_id": str(webhook.id)}
    eventually(lambda: list(client.webhooks.deliveries(**of_job, status="failed")), "the attempt")
    [delivery] = client.webhooks.deliveries(**of_job)
    assert delivery["payload"]["data"]["counts"]["succeeded"] == 1
    [attempt] = delivery["log"]
    assert (attempt["outcome"], attempt["http_status"]) == ("refused", None)
    assert "not public" in attempt["detail"]
    client.webhooks.delete(str(webhook.id))
