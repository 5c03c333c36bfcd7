"""`matting webhooks`: manages webhooks and shows their deliveries."""

import json
import time
import uuid
from itertools import islice
from typing import Annotated, Literal

import typer

from api.client import Delivery, MadeWebhook, MattingClient
from deploy.commands.arguments import DATA, Data, connect
from deploy.commands.progress import console, print_table

webhooks_app = typer.Typer(no_args_is_help=True, help="Manage webhooks and their deliveries.")

ATTEMPT_WAIT_S = 60
"""Waiting time for an attempt, longer than an attempt's own time limit."""

WebhookId = Annotated[
    str, typer.Argument(help="Webhook id, the first column of `matting webhooks list`.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@webhooks_app.command()
def create(
    url: Annotated[str, typer.Argument(help="URL that receives the events by POST.")],
    event: Annotated[
        list[str] | None,
        typer.Option(help="job.finished, job.cancelled or job.paused. Repeatable. Default: all."),
    ] = None,
    progress: Annotated[
        int | None, typer.Option(min=1, max=50, help="Also report progress in steps of N percent.")
    ] = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Register a URL and print its secret. The secret can't be shown again."""
    with connect(data) as client:
        made = client.webhooks.create(url, events=event or None, progress_percent=progress)
    _print_secret(made, as_json=as_json)


@webhooks_app.command("list")
def list_webhooks(as_json: AsJson = False, data: Data = DATA) -> None:
    """List the webhooks that apply to all jobs."""
    with connect(data) as client:
        found = client.webhooks.list()
    if as_json:
        typer.echo(json.dumps(found))
        return
    rows = [
        [
            one["id"],
            one["url"],
            "on" if one["enabled"] else f"off: {one['disabled_reason']}",
            " ".join(name.removeprefix("job.") for name in one["events"]),
            f"{one['progress_percent']} %" if one["progress_percent"] else "",
            (one["last_delivered_at"] or "")[:19],
        ]
        for one in found
    ]
    print_table(["webhook", "url", "state", "events", "progress", "last delivery (UTC)"], rows)


@webhooks_app.command()
def rotate(webhook: WebhookId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Replace the secret. The old one stays valid for a day."""
    with connect(data) as client:
        made = client.webhooks.rotate(_parse_id(webhook))
    _print_secret(made, as_json=as_json)


@webhooks_app.command()
def enable(webhook: WebhookId, data: Data = DATA) -> None:
    """Enable a webhook that was disabled."""
    with connect(data) as client:
        client.webhooks.change(_parse_id(webhook), enabled=True)


@webhooks_app.command()
def disable(webhook: WebhookId, data: Data = DATA) -> None:
    """Disable a webhook. Its pending deliveries are dropped."""
    with connect(data) as client:
        client.webhooks.change(_parse_id(webhook), enabled=False)


@webhooks_app.command()
def delete(webhook: WebhookId, data: Data = DATA) -> None:
    """Delete a webhook and its deliveries."""
    with connect(data) as client:
        client.webhooks.delete(_parse_id(webhook))


@webhooks_app.command("test")
def send_test(webhook: WebhookId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Send a test event and show the outcome.

    The exit status is 0 if the receiver accepted it.
    """
    with connect(data) as client:
        sent = client.webhooks.test(_parse_id(webhook))
        _print_outcome(_wait_for_attempt(client, sent, before=0), as_json=as_json)


@webhooks_app.command()
def deliveries(
    webhook: Annotated[str | None, typer.Option(help="Only of this webhook.")] = None,
    job: Annotated[str | None, typer.Option(help="Only about this job.")] = None,
    status: Annotated[
        Literal["pending", "delivered", "failed"] | None,
        typer.Option(help="Only with this status."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of deliveries.")] = 100,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """List deliveries, newest first."""
    with connect(data) as client:
        every = client.webhooks.deliveries(
            webhook_id=_parse_id(webhook) if webhook else None,
            job_id=_parse_id(job) if job else None,
            status=status,
        )
        found = list(islice(every, limit))
    if as_json:
        typer.echo(json.dumps(found))
        return
    rows = [
        [
            one["id"],
            one["event"],
            one["job_id"] or "",
            one["status"],
            str(one["attempts"]),
            _last_attempt(one),
            (one["next_attempt_at"] or "")[:19],
            one["created_at"][:19],
        ]
        for one in found
    ]
    headings = ["delivery", "event", "job", "status", "attempts", "last attempt", "next (UTC)"]
    print_table([*headings, "created (UTC)"], rows)


@webhooks_app.command()
def redeliver(
    delivery: Annotated[str, typer.Argument(help="Delivery id, the first column of `deliveries`.")],
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Send a delivery again and show the outcome.

    The exit status is 0 if the receiver accepted it.
    """
    with connect(data) as client:
        before = client.webhooks.delivery(_parse_id(delivery))
        sent = client.webhooks.redeliver(before["id"])
        _print_outcome(_wait_for_attempt(client, sent, before=before["attempts"]), as_json=as_json)


def _wait_for_attempt(client: MattingClient, sent: Delivery, *, before: int) -> Delivery:
    """Wait for the delivery's next attempt; returns the delivery."""
    deadline = time.monotonic() + ATTEMPT_WAIT_S
    found = sent
    while time.monotonic() < deadline:
        found = client.webhooks.delivery(sent["id"])
        if found["attempts"] > before and found["log"] != sent["log"]:
            break
        time.sleep(0.2)
    return found


def _last_attempt(delivery: Delivery) -> str:
    """Outcome and HTTP status of the last attempt."""
    if not delivery["log"]:
        return ""
    last = delivery["log"][-1]
    return " ".join(str(part) for part in (last["outcome"], last["http_status"]) if part)


def _print_outcome(delivery: Delivery, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(delivery))
    else:
        detail = delivery["log"][-1]["detail"] if delivery["log"] else "no attempt yet"
        typer.echo(
            " ".join(part for part in (delivery["id"], _last_attempt(delivery), detail) if part)
        )
    raise typer.Exit(0 if delivery["status"] == "delivered" else 1)


def _print_secret(made: MadeWebhook, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(made))
    else:
        typer.echo(f"{made['id']} {made['secret']}")
        console.print("Store the secret now: it is not shown again.")


def _parse_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not an id") from error
