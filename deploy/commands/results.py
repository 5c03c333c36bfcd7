"""The command `matting redo`."""

import json
import uuid
from typing import Annotated

import typer

from deploy.commands.arguments import DATA, Data, OptionPairs, connect, parse_options
from deploy.terminal_text import printable


def redo(
    item: Annotated[str, typer.Argument(help="The image's id, as in `matting report`.")],
    option: OptionPairs = None,
    model: Annotated[str | None, typer.Option(help="Another model.")] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait for the new result.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the image as JSON.")] = False,
    data: Data = DATA,
) -> None:
    """Make the result of one image again, with other options or another model.

    Options that you leave out stay as they were. If it fails, the earlier result stays.
    """
    try:
        item_id = str(uuid.UUID(item))
    except ValueError as error:
        raise typer.BadParameter(f"{item!r} is not the id of an image") from error
    with connect(data) as client:
        found = client.results.redo(
            item_id, options=parse_options(option or [], check=False), model=model
        )
        if not no_wait:
            found = client.results.wait(item_id)
    made = found["redo"]
    problem = made["error"] if made else None
    if as_json:
        typer.echo(json.dumps(found))
    elif problem:
        typer.echo(printable(f"version {found['version']} stays: {problem['detail']}"))
    elif made:
        typer.echo(f"version {made['number']} is being made")
    else:
        typer.echo(printable(f"{found['name']}: version {found['version']}"))
    raise typer.Exit(1 if problem else 0)
