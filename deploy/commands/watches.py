"""`matting watches`: prefixes in S3 whose new objects are cut out by the service."""

import json
import uuid
from typing import Annotated

import typer

from api.client import Watch
from deploy.commands.arguments import DATA, Data, OptionPairs, connect, parse_options
from deploy.commands.progress import console, print_table
from deploy.terminal_text import escape
from shared.plurals import counted

watches_app = typer.Typer(
    no_args_is_help=True, help="Watch prefixes in S3: new photos are cut out by themselves."
)

WatchId = Annotated[
    str, typer.Argument(help="Watch id, the first column of `matting watches list`.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@watches_app.command()
def create(
    prefix: Annotated[str, typer.Argument(help="s3://bucket/prefix/ or bucket/prefix/.")],
    option: OptionPairs = None,
    destination: Annotated[
        str | None,
        typer.Option(
            help="Also write each result to a key of yours, for example "
            "s3://shop/cutouts/{path}.{ext}."
        ),
    ] = None,
    priority: Annotated[int, typer.Option(min=0, max=9, help="Priority; 9 runs first.")] = 5,
    every: Annotated[int, typer.Option(min=1, help="Seconds between two looks.")] = 60,
    existing: Annotated[
        bool, typer.Option("--existing", help="Also cut out what is there already.")
    ] = False,
    ascending: Annotated[
        bool,
        typer.Option(
            "--ascending",
            help="New keys always sort after earlier ones, such as dates: each look is cheap.",
        ),
    ] = False,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Watch a prefix and print the watch's id. Each look that finds new photos submits a job.

    The service does it: nothing needs to run here. `matting watch-folder` watches a folder on this
    machine.
    """
    from deploy.commands.destination import check_destination

    options = parse_options(option or [])
    with connect(data) as client:
        made = client.watches.create(
            prefix,
            options=options,
            destination=check_destination(destination) if destination else None,
            priority=priority,
            every_s=every,
            existing=existing,
            ascending=ascending,
        )
    _print(made, as_json=as_json)
    console.print(
        escape(
            f"watching {made['prefix']}: a look every {every:,} s, "
            f"{made['requests_per_hour']:,.0f} listing requests an hour"
        ),
        soft_wrap=True,
    )
    if not existing:
        console.print("Photos that are older than a minute stay as they are; --existing takes them")


@watches_app.command("list")
def list_watches(as_json: AsJson = False, data: Data = DATA) -> None:
    """List the watches."""
    with connect(data) as client:
        found = client.watches.list()
    if as_json:
        typer.echo(json.dumps(found))
        return
    rows = [
        [
            one["id"],
            one["prefix"],
            _state(one),
            str(one["counts"]["submitted"]),
            str(one["counts"]["left_out"]),
            (one["last_look_at"] or "")[:19],
        ]
        for one in found
    ]
    print_table(["watch", "prefix", "state", "photos", "left out", "last look (UTC)"], rows)


@watches_app.command()
def show(watch: WatchId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Show a watch: what it found, why it fails, and its jobs, newest first."""
    with connect(data) as client:
        found = client.watches.get(_parse_id(watch))
        if as_json:
            typer.echo(json.dumps(found))
            return
        jobs = [one["id"] for one in client.jobs(metadata={"watch": found["id"]})]
    counts = found["counts"]
    to = f" -> {found['destination']}" if found["destination"] else ""
    photos, others = counted(counts["submitted"], "photo"), counted(counts["left_out"], "file")
    text = f"{found['prefix']}{to}: {_state(found)}; {photos} submitted, {others} left out; "
    requests = f"{found['requests_per_hour']:,.0f} listing requests an hour"
    console.print(escape(text + requests), soft_wrap=True)
    if found["error"]:
        text = f"{found['error']['detail']} {found['error']['remedy']}"
        console.print(escape(text), soft_wrap=True)
    for job in jobs:
        typer.echo(job)


@watches_app.command()
def pause(watch: WatchId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Stop looking until `resume`."""
    with connect(data) as client:
        _print(client.watches.pause(_parse_id(watch)), as_json=as_json)


@watches_app.command()
def resume(watch: WatchId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Look again, at once; also after a failure. What came meanwhile is cut out."""
    with connect(data) as client:
        _print(client.watches.resume(_parse_id(watch)), as_json=as_json)


@watches_app.command()
def look(watch: WatchId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Look soon instead of waiting for the next time."""
    with connect(data) as client:
        _print(client.watches.look(_parse_id(watch)), as_json=as_json)


@watches_app.command()
def delete(watch: WatchId, data: Data = DATA) -> None:
    """Delete a watch. Its jobs and their results stay."""
    with connect(data) as client:
        client.watches.delete(_parse_id(watch))
    console.print(f"deleted the watch {watch}; its jobs and results stay", soft_wrap=True)


def _state(watch: Watch) -> str:
    error = watch["error"]
    return f"{watch['status']}: {error['code']}" if error else watch["status"]


def _print(watch: Watch, *, as_json: bool) -> None:
    typer.echo(json.dumps(watch) if as_json else watch["id"])


def _parse_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a watch's id") from error
