"""The command `matting`. Exit status 0: all images succeeded; 1: some failed; 2: wrong usage, or a
part that can't start.

What is heavy is imported by the command that needs it: a shell that completes a word starts all of
this, and `matting status` needs neither the database's nor the worker's libraries.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from pydantic import ValidationError
from rich.markup import escape

from api.client import ApiError
from deploy.commands import jobs as job_commands
from deploy.commands.arguments import DATA, Data, OptionPairs, options_of, photos_of
from deploy.commands.keys import keys_app
from deploy.commands.models import models_app
from deploy.commands.progress import console
from deploy.commands.webhooks import webhooks_app
from deploy.local_photos import SAMPLES
from shared.errors import MattingError
from shared.options import Options, Output
from shared.settings import Settings

PORT = 8000

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Bulk background removal."
)
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")
app.add_typer(webhooks_app, name="webhooks")


@app.command()
def demo(
    paths: Annotated[list[Path] | None, typer.Argument(help="Photos or folders.")] = None,
    out: Annotated[Path, typer.Option(help="Where results go.")] = Path("out"),
) -> None:
    """Start everything, send photos through, write results and a contact sheet, stop everything."""
    from deploy.commands.demo import run_demo

    raise typer.Exit(run_demo(photos_of(paths or [SAMPLES]), out))


@app.command()
def up(
    data: Data = DATA,
    port: Annotated[int, typer.Option(help="Of the API; 0 takes a free one.")] = PORT,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
) -> None:
    """Keep the whole system running on this machine until Ctrl-C."""
    from deploy.stack.stack import Stack

    report = lambda line: console.print(f"  {escape(line)}")  # noqa: E731
    with Stack(data, api_port=port or None, workers=workers, report=report) as stack:
        console.print(f"API     {stack.address.api_url}/docs")
        console.print(f"Flower  {stack.address.flower_url}")
        bucket = stack.settings.s3_bucket
        for line in (
            f"S3      {stack.address.s3_url}, bucket {bucket}",
            f"        its files, to look at: {data}/s3/{bucket}",
            f"Keys    of API and S3 in {data}/secrets.json; `matting submit` finds them by itself",
        ):
            console.print(escape(line), soft_wrap=True)
        console.print("Ctrl-C stops everything; the jobs stay.")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            console.print("stopping: what is in flight is finished first")


for _command in job_commands.COMMANDS:
    app.command()(_command)


@app.command()
def cutout(
    paths: Annotated[list[Path], typer.Argument(help="Photos or folders.")],
    out: Annotated[Path, typer.Option(help="Where results go.")],
    alpha_only: Annotated[bool, typer.Option(help="The matte alone, as grey PNG.")] = False,
    option: OptionPairs = None,
) -> None:
    """Cut out photos right here, with no server and no queue."""
    from deploy.commands.cutout import cut_out_files

    wanted = options_of(option or [])
    if alpha_only:
        wanted["output"] = Output.ALPHA
    settings = Settings(log_level="WARNING")
    _quiet(settings)
    try:
        options = Options.model_validate(wanted)
    except ValidationError as error:
        raise typer.BadParameter(_described(error)) from error
    failed = cut_out_files(photos_of(paths), out, options, settings)
    raise typer.Exit(1 if failed else 0)


@app.command()
def doctor(data: Data = DATA) -> None:
    """Check every part, and say how to fix what fails."""
    from deploy.doctor.examination import examine

    _quiet(Settings(log_level="ERROR"))
    findings = examine(data)
    for finding in findings:
        mark = "[green]ok[/]  " if finding.ok else "[red]fail[/]"
        console.print(f"{mark} {finding.part:<14} {escape(finding.detail)}", soft_wrap=True)
        if finding.fix:
            console.print(f"     fix: {escape(finding.fix)}", soft_wrap=True, style="bold")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 2)


@app.command()
def migrate() -> None:
    """Bring the database of MATTING_DATABASE_URL to the newest revision."""
    from shared.database import Database

    database = Database(Settings().database_url, process="migrate")
    try:
        database.migrate()
        typer.echo(f"at revision {database.revisions()[0]}")
    finally:
        database.close()


@app.command()
def prepare() -> None:
    """Before each start in production: refuse weak secrets, then make tables and bucket."""
    from deploy.stack.weak_secrets import refuse_weak_secrets
    from shared.storage import Storage

    settings = Settings()
    refuse_weak_secrets(settings, os.environ)
    migrate()
    storage = Storage(settings)
    try:
        storage.ensure_bucket()
        typer.echo(f"bucket {storage.bucket} is there")
    finally:
        storage.close()


@app.command()
def tune(
    out: Annotated[
        Path | None, typer.Option(help="The file; none: where the worker looks for it.")
    ] = None,
    measure_s: Annotated[
        float | None, typer.Option(min=0.01, help="Seconds for each cell.")
    ] = None,
) -> None:
    """Find the batch size and the number of streams this machine runs best with."""
    from deploy.commands.tune import run_tune
    from worker.inference.sweep import MEASURE_S

    run_tune(out, measure_s or MEASURE_S)


def main() -> None:
    """The console script: errors become one line and status 2."""
    # Set here for both: a shell starts background jobs with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        status = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        console.print("stopped")
        status = 130
    except CLICK_ERRORS as error:
        error.show()
        status = 2
    except MattingError as error:
        console.print(f"[red]error[/] {escape(f'{error.message} [{error.code}]')}")
        status = 2
    except ValidationError as error:
        console.print(f"[red]error[/] {escape(f'The settings are wrong: {_described(error)}')}")
        status = 2
    except BrokenPipeError:  # who reads our output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (ApiError, OSError, httpx.TransportError) as error:
        console.print(f"[red]error[/] {escape(str(error))}")
        status = 2
    sys.exit(status or 0)


def _described(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()
    )


CLICK_ERRORS: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
"""Every kind of wrong usage; Typer brings its own copy of Click and exports only some of it."""


def _quiet(settings: Settings) -> None:
    from shared.telemetry import configure_logging

    configure_logging(settings)
