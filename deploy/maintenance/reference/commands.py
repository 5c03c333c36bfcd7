"""The page of the command `matting`, written by Typer's own generator."""

import typer
from typer.cli import get_docs_for_click

from deploy.cli import app
from deploy.maintenance.reference.markdown import NOTE


def commands_page() -> str:
    """Every command with its arguments and options."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="matting")
    title, _, rest = text.partition("\n")
    return f"{title}\n\n{NOTE}\n{rest}".rstrip() + "\n"
