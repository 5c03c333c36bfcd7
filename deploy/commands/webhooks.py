"""`matting webhooks`: who is told what happens to jobs, and what they were told."""

import json
import time
import uuid
from itertools import islice
from typing import Annotated, Literal

import typer

from api.client import Delivery, MadeWebhook, MattingClient
from deploy.commands.arguments import DATA, Data, connect
from deploy.commands.progress import console, print_table

webhooks_app = typer.Typer(
    no_args_is_help=True, help="Be told when jobs end (Standard Webhooks), and see what was told."
)

WATCH_S = 60
"""Longer than one attempt may take."""

WebhookId = Annotated[str, typer.Argument(help="First column of `matting webhooks list`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@webhooks_app.command()
def create(
    url: Annotated[str, typer.Argument(help="What is told, by POST.")],
    event: Annotated[
        list[str] | None,
        typer.Option(help="job.finished, job.cancelled or job.paused; several times. None: all."),
    ] = None,
    progress: Annotated[
        int | None, typer.Option(min=1, max=50, help="Also tell every so many percent.")
    ] = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Register an address and print its secret: the only time that it is seen."""
    with connect(data) as client:
        made = client.webhooks.create(url, events=event or None, progress_percent=progress)
    _print_secret(made, as_json=as_json)


@webhooks_app.command("list")
def list_webhooks(as_json: AsJson = False, data: Data = DATA) -> None:
    """Show the webhooks of all jobs."""
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
    print_table(["webhook", "url", "state", "events", "progress", "last told (UTC)"], rows)


@webhooks_app.command()
def rotate(webhook: WebhookId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Exchange the secret; the old one signs along for a day."""
    with connect(data) as client:
        made = client.webhooks.rotate(_id(webhook))
    _print_secret(made, as_json=as_json)


@webhooks_app.command()
def enable(webhook: WebhookId, data: Data = DATA) -> None:
    """Switch one on again that was switched off."""
    with connect(data) as client:
        client.webhooks.change(_id(webhook), enabled=True)


@webhooks_app.command()
def disable(webhook: WebhookId, data: Data = DATA) -> None:
    """Switch one off; what it was still to be told is given up."""
    with connect(data) as client:
        client.webhooks.change(_id(webhook), enabled=False)


@webhooks_app.command()
def delete(webhook: WebhookId, data: Data = DATA) -> None:
    """Remove one with its deliveries."""
    with connect(data) as client:
        client.webhooks.delete(_id(webhook))


@webhooks_app.command("test")
def send_test(webhook: WebhookId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Send `webhook.test` and say how it went: status 0 when the receiver took it."""
    with connect(data) as client:
        sent = client.webhooks.test(_id(webhook))
        _print_outcome(_tried(client, sent, before=0), as_json=as_json)


@webhooks_app.command()
def deliveries(
    webhook: Annotated[str | None, typer.Option(help="Of this webhook.")] = None,
    job: Annotated[str | None, typer.Option(help="About this job.")] = None,
    status: Annotated[
        Literal["pending", "delivered", "failed"] | None, typer.Option(help="In this state.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Show what was told or is to be told, newest first."""
    with connect(data) as client:
        every = client.webhooks.deliveries(
            webhook_id=_id(webhook) if webhook else None,
            job_id=_id(job) if job else None,
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
            _how(one),
            (one["next_attempt_at"] or "")[:19],
            one["created_at"][:19],
        ]
        for one in found
    ]
    headings = ["delivery", "event", "job", "status", "attempts", "last", "next (UTC)"]
    print_table([*headings, "created (UTC)"], rows)


@webhooks_app.command()
def redeliver(
    delivery: Annotated[str, typer.Argument(help="First column of `deliveries`.")],
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Send a delivery again and say how it went: status 0 when the receiver took it."""
    with connect(data) as client:
        before = client.webhooks.delivery(_id(delivery))
        sent = client.webhooks.redeliver(before["id"])
        _print_outcome(_tried(client, sent, before=before["attempts"]), as_json=as_json)


def _tried(client: MattingClient, sent: Delivery, *, before: int) -> Delivery:
    """The delivery after its next attempt."""
    deadline = time.monotonic() + WATCH_S
    found = sent
    while time.monotonic() < deadline:
        found = client.webhooks.delivery(sent["id"])
        if found["attempts"] > before and found["log"] != sent["log"]:
            break
        time.sleep(0.2)
    return found


def _how(delivery: Delivery) -> str:
    """Its last attempt in a few words."""
    if not delivery["log"]:
        return ""
    last = delivery["log"][-1]
    return " ".join(str(part) for part in (last["outcome"], last["http_status"]) if part)


def _print_outcome(delivery: Delivery, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(delivery))
    else:
        detail = delivery["log"][-1]["detail"] if delivery["log"] else "no attempt yet"
        typer.echo(" ".join(part for part in (delivery["id"], _how(delivery), detail) if part))
    raise typer.Exit(0 if delivery["status"] == "delivered" else 1)


def _print_secret(made: MadeWebhook, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(made))
    else:
        typer.echo(f"{made['id']} {made['secret']}")
        console.print("Keep the secret: it is not shown again.")


def _id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not an id") from error
