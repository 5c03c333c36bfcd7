"""`matting review`: goes through the results that need a look, on the terminal."""

import json
import sys
import tempfile
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from api.client import Item, MattingClient
from deploy.commands.arguments import DATA, Data, JobId, connect, parse_job_id
from deploy.commands.progress import console, print_table
from deploy.terminal_text import escape
from shared.jobs import Reason, Verdict
from shared.plurals import counted

REASONS = {
    Reason.EMPTY: "almost nothing was found",
    Reason.FULL: "almost the whole photo was kept",
    Reason.CUT: "the edge of the photo cuts the subject",
    Reason.PARTS: "the subject has several separate parts",
    Reason.SOFT: "large areas are half transparent",
    Reason.LOW_CONTRAST: "subject and background have nearly the same colour",
    Reason.UNSURE: "the mirrored photo gives a different result",
    Reason.BLURRED: "the photo is out of focus",
    Reason.SMALL: "the photo has few pixels",
    Reason.OUTSIDE: "the subject does not fit the common frame of its group",
    Reason.INCOMPLETE: "the turntable lacks photos of its group",
    Reason.REDONE: "made again, because the result before was rejected",
}
"""What each reason means."""

KEYS = "[a]ccept, [r]eject, [o]pen again, open the [p]hoto, [s]kip, [q]uit"


def review(
    job: JobId,
    accept: Annotated[
        list[str] | None, typer.Option(help="Accept the image with this id. Repeatable.")
    ] = None,
    reject: Annotated[
        list[str] | None, typer.Option(help="Reject the image with this id. Repeatable.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="Note that is stored with a verdict.")] = None,
    as_list: Annotated[
        bool, typer.Option("--list", help="Only list what needs a review, with reasons.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="List it as JSON.")] = False,
    viewer: Annotated[bool, typer.Option(help="Open each result in this machine's viewer.")] = True,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of images.")] = 1_000,
    data: Data = DATA,
) -> None:
    """Look at the results that need a review, one by one; accept or reject them."""
    job_id = parse_job_id(job)
    with connect(data) as client:
        verdicts = [(one, Verdict.ACCEPT) for one in accept or []]
        verdicts += [(one, Verdict.REJECT) for one in reject or []]
        for item_id, verdict in verdicts:
            client.review(_parse_item_id(item_id), verdict.value, note=note)
        if verdicts:
            console.print(f"stored {counted(len(verdicts), 'verdict')}", soft_wrap=True)
            return
        pending = islice(client.items(job_id, review="pending"), limit)
        if as_json:
            typer.echo(json.dumps(list(pending)))
        elif as_list or not sys.stdin.isatty():
            rows = [[one["id"], one["name"], "; ".join(_why(one))] for one in pending]
            print_table(["image", "name", "why"], rows)
        else:
            _ask_about_each(client, list(pending), note, viewer=viewer)


def _ask_about_each(
    client: MattingClient, items: list[Item], note: str | None, *, viewer: bool
) -> None:
    stored = 0
    with tempfile.TemporaryDirectory(prefix="matting-review-") as folder:
        for number, item in enumerate(items, 1):
            console.print(
                f"\n[bold]{number} of {len(items)}[/]  {escape(item['name'])}", soft_wrap=True
            )
            for why in _why(item):
                console.print(f"  {escape(why)}", soft_wrap=True)
            result = Path(folder) / f"{number}.{item['result_format']}"
            result.write_bytes(client.content(f"/v1/items/{item['id']}/result"))
            if viewer:
                typer.launch(str(result))
            verdict = _ask(client, item, result)
            if verdict is None:
                break
            if verdict:
                client.review(item["id"], verdict, note=note)
                stored += 1
    console.print(
        f"stored {counted(stored, 'verdict')}; images without one: {len(items) - stored:,}"
    )


def _ask(client: MattingClient, item: Item, result: Path) -> str | None:
    """The verdict; empty: skipped; None: no more images."""
    while True:
        key = typer.prompt(KEYS, err=True).strip().lower()[:1]
        if key == "o":
            typer.launch(str(result))
        elif key == "p":
            photo = result.with_name(f"photo-{result.stem}{Path(item['name']).suffix}")
            photo.write_bytes(client.content(f"/v1/items/{item['id']}/source"))
            typer.launch(str(photo))
        elif key in ("a", "r", "s"):
            return {"a": Verdict.ACCEPT.value, "r": Verdict.REJECT.value, "s": ""}[key]
        elif key == "q":
            return None


def _why(item: Item) -> Iterator[str]:
    """The reasons and the unmet rules in words."""
    known = {reason.value: words for reason, words in REASONS.items()}
    for reason in item["review_reasons"]:
        yield known.get(reason, reason)
    for output in item["outputs"]:
        yield from output["unmet"]


def _parse_item_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not an image's id") from error
