"""The command line `matting`: its subcommands, and how errors become messages and exit statuses.

Exit status 0: all images succeeded. 1: some failed; with --fail-on-review also if a result needs a
review. 2: wrong usage, or a component can't start. 130: stopped by Ctrl-C.

Each subcommand imports its heavy libraries itself. Shell completion runs this module for every
word, and `matting status` needs neither the database's nor the worker's libraries.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from api.client import ApiError
from deploy.commands import jobs as job_commands
from deploy.commands.arguments import (
    DATA,
    Data,
    FailOnReview,
    OptionPairs,
    Overwrite,
    resolve_photos,
)
from deploy.commands.keys import keys_app
from deploy.commands.models import models_app
from deploy.commands.options import options
from deploy.commands.progress import console
from deploy.commands.results import redo
from deploy.commands.review import review
from deploy.commands.service import ServiceData, service_settings
from deploy.commands.watches import watches_app
from deploy.commands.webhooks import webhooks_app
from deploy.local_photos import SAMPLES
from deploy.stack.ports import LOOPBACK, http_url, network_address
from deploy.terminal_text import escape, escape_lines, printable_lines
from shared.errors import MattingError
from shared.settings import Settings

PORT = 8000

STOPPED = 130
"""The exit status after Ctrl-C."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Bulk background removal.\n\nOne photo: `matting cutout shoe.jpg --out cut.png`. Many: "
    "`matting up` in one terminal; in another `matting submit photos/ --wait`, then "
    "`matting download JOB out/`.",
)
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")
app.add_typer(watches_app, name="watches")
app.add_typer(webhooks_app, name="webhooks")


@app.command()
def demo(
    paths: Annotated[list[Path] | None, typer.Argument(help="Photos or folders.")] = None,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the results.")] = Path(
        "out"
    ),
) -> None:
    """Cut out photos and draw a contact sheet.

    Starts the whole system on this machine first, and stops it afterwards.
    """
    from deploy.commands.demo import run_demo

    raise typer.Exit(run_demo(resolve_photos(paths or [SAMPLES], but_for=out), out))


@app.command()
def up(
    data: Data = DATA,
    port: Annotated[int, typer.Option(help="Port of the API; 0 picks a free one.")] = PORT,
    host: Annotated[
        str,
        typer.Option(help="Address that API and S3 listen on; 0.0.0.0 for the whole network."),
    ] = LOOPBACK,
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 1,
) -> None:
    """Run the whole system until Ctrl-C."""
    from deploy.commands.console_link import console_link
    from deploy.stack.stack import Stack
    from shared.settings import Settings

    Settings()  # a wrong variable is told before anything starts

    def report(line: str) -> None:
        console.print(f"  {escape(line)}", soft_wrap=True)

    with Stack(
        data,
        host=host,
        api_port=port or None,
        workers=workers,
        samples=SAMPLES,
        report=report,
    ) as stack:
        link = console_link(stack.address.api_url, stack.secrets.api_key)
        console.print(f"Console {escape(link)}", soft_wrap=True)
        console.print("        opens signed in, once, within 15 minutes")
        console.print(f"API     {stack.address.api_url}/docs")
        console.print(f"Flower  {stack.address.flower_url}")
        bucket = stack.settings.s3_bucket
        for line in (
            f"S3      {stack.address.s3_url}, bucket {bucket}",
            f"        stored as files in {data}/s3/{bucket}; sample photos in samples/",
            f"Keys    for API and S3 in {data}/secrets.json; `matting submit` finds them there",
        ):
            console.print(escape(line), soft_wrap=True)
        if host != LOOPBACK:
            url = escape(http_url(network_address(host), httpx.URL(stack.address.api_url).port))
            console.print(
                f"[yellow]Warning[/] {url} can be reached from your network,"
                " without encryption. Whoever has a key can submit photos and fetch results. For"
                " the internet put a proxy with TLS before it.",
                soft_wrap=True,
            )
            console.print(f"Key     {escape(stack.secrets.api_key)}", soft_wrap=True)
        console.print("Press Ctrl-C to stop. Jobs are kept.")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            console.print("stopping: images in progress are finished first")


for _command in (*job_commands.COMMANDS, redo):
    app.command()(_command)


@app.command()
def cutout(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Photos, clips or folders; `-` reads a photo from standard input."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results, or the name of the result of one photo or clip."
        ),
    ] = None,
    fail_on_review: FailOnReview = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as JSON.")
    ] = False,
    alpha_only: Annotated[
        bool, typer.Option(help="Write only the matte, as a greyscale PNG.")
    ] = False,
    previews: Annotated[
        bool,
        typer.Option(
            "--previews", help="Write a poster and a strip for scrubbing beside each clip."
        ),
    ] = False,
    overwrite: Overwrite = False,
    option: OptionPairs = None,
) -> None:
    """Cut out photos and clips without server and queue.

    Run it again to go on after Ctrl-C: complete results are kept. Any other file is replaced only
    with --overwrite, and a photo never. `-` without --out writes to standard output.
    """
    from deploy.commands.cutout_arguments import run_cutout

    settings = Settings(log_level="WARNING")
    _configure_logging(settings)
    raise typer.Exit(
        run_cutout(
            paths,
            out,
            option or [],
            settings,
            alpha_only=alpha_only,
            overwrite=overwrite,
            as_json=as_json,
            fail_on_review=fail_on_review,
            previews=previews,
        )
    )


app.command()(options)
app.command()(review)


@app.command()
def doctor(data: Data = DATA) -> None:
    """Check every component and show fixes."""
    from deploy.doctor.run_checks import run_checks

    _configure_logging(Settings(log_level="ERROR"))
    findings = run_checks(data)
    for finding in findings:
        mark = "[green]ok[/]  " if finding.ok else "[red]fail[/]"
        console.print(f"{mark} {finding.part:<14} {escape_lines(finding.detail)}", soft_wrap=True)
        if finding.fix:
            console.print(f"     fix: {escape_lines(finding.fix)}", soft_wrap=True, style="bold")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 2)


@app.command()
def migrate() -> None:
    """Migrate the database to the newest schema.

    MATTING_DATABASE_URL names the database, or MATTING_DATABASE_DIRECT_URL if that is a pooler.
    """
    from shared.database import Database

    settings = Settings()
    url = settings.database_direct_url or settings.database_url
    database = Database(url, process="migrate")
    file = Path(database.url.database or "").absolute() if database.is_sqlite else None
    made = file is not None and not file.exists()
    try:
        database.migrate()
        if made:
            typer.echo(f"Made {file}; MATTING_DATABASE_URL names another database")
        typer.echo(f"The database is at revision {database.revisions()[0]}")
    finally:
        database.close()


@app.command()
def prepare() -> None:
    """Prepare a start in production.

    Rejects weak secrets and a Redis Cluster, migrates the database, and creates the bucket.
    """
    from deploy.stack.weak_secrets import refuse_weak_secrets
    from shared.redis_connection import refuse_cluster
    from shared.storage import Storage

    settings = Settings()
    refuse_weak_secrets(settings, os.environ)
    refuse_cluster(settings)
    migrate()
    storage = Storage(settings)
    try:
        storage.ensure_bucket()
        typer.echo(f"Bucket {storage.bucket} exists")
    finally:
        storage.close()


@app.command(name="upgrade-check")
def upgrade_check(data: ServiceData = DATA) -> None:
    """Say what an upgrade to this version will meet.

    Run it with the new version before `matting migrate`: settings, migrations, workers, messages.
    """
    from deploy.commands.upgrade_check import run_upgrade_check

    raise typer.Exit(run_upgrade_check(service_settings(data)))


@app.command(name="disk-usage")
def disk_usage(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    data: ServiceData = DATA,
) -> None:
    """List the objects of each API key in the bucket."""
    import json
    from dataclasses import asdict

    from deploy.commands.disk_usage import disk_usage as used_by
    from deploy.commands.progress import print_table

    found = used_by(service_settings(data, running=True))
    if as_json:
        typer.echo(json.dumps({name: asdict(used) for name, used in found.items()}))
        return
    rows = [
        [name, f"{used.jobs:,}", f"{used.objects:,}", f"{used.bytes / 1e9:,.2f}"]
        for name, used in sorted(found.items(), key=lambda one: -one[1].bytes)
    ]
    print_table(["key", "jobs", "objects", "GB"], rows)


@app.command()
def purge(
    key: Annotated[str | None, typer.Option(help="Id of the customer's API key.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE in the metadata of the customer's jobs. Repeatable."),
    ] = None,
    wait_s: Annotated[float, typer.Option(min=0, help="Longest wait for the removal.")] = 3600,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: ServiceData = DATA,
) -> None:
    """Remove everything of a customer, and print a report as JSON.

    The jobs of a key, or with a label, with photos, results and rows; of a key also its uploads,
    and the key is revoked. The API must run: it removes the files. Run it again if the status is 1.
    """
    import uuid

    from deploy.commands.purge import parse_labels, run_purge

    if key is None and not label:
        raise typer.BadParameter("name a --key or a --label")
    labels = parse_labels(label or [])
    try:
        key_id = uuid.UUID(key) if key else None
    except ValueError as error:
        raise typer.BadParameter("not an id; `matting keys list` has it") from error
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to ask on: add --yes")
    settings = service_settings(data, running=True)
    if not yes:
        typer.confirm(
            "This removes jobs, photos and results for good. Go on?", abort=True, err=True
        )
    report = run_purge(settings, key_id=key_id, labels=labels, wait_s=wait_s)
    typer.echo(report.as_json())
    raise typer.Exit(0 if report.complete else 1)


@app.command()
def worker() -> None:
    """Run a worker, or one for each device in MATTING_DEVICES.

    One port (MATTING_WORKER_METRICS_PORT) answers for all of them. A worker that ends is started
    again.
    """
    from deploy.commands.worker import run_worker

    run_worker()


@app.command()
def tune(
    out: Annotated[
        Path | None, typer.Option(help="Output file. Default: the file that the worker reads.")
    ] = None,
    measure_s: Annotated[
        float | None, typer.Option(min=0.01, help="Seconds for each measurement.")
    ] = None,
) -> None:
    """Find the fastest settings for this machine.

    Measures batch sizes and numbers of streams, and writes the best ones to a file.
    """
    from deploy.commands.tune import run_tune
    from worker.inference.sweep import MEASURE_S

    run_tune(out, measure_s or MEASURE_S)


def main() -> None:
    """Run the command line; print errors as one line and exit with their status."""
    # Set explicitly, because a shell starts background jobs with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        status = app(standalone_mode=False)
        if status == STOPPED:  # Typer makes it of Ctrl-C
            console.print("stopped")
    except (typer.Abort, KeyboardInterrupt):
        console.print("stopped")
        status = STOPPED
    except CLICK_ERRORS as error:
        # Typer puts these words before what Pydantic says of a value.
        error.message = printable_lines(error.message.replace("Value error, ", ""))
        error.show()
        status = 2
    except MattingError as error:
        console.print(
            f"[red]error:[/] {escape_lines(f'{error.message} [{error.code}]')}", soft_wrap=True
        )
        status = 2
    except BrokenPipeError:  # the reader of the output has closed it, for example `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (ApiError, OSError, httpx.TransportError) as error:
        console.print(f"[red]error:[/] {escape_lines(str(error))}", soft_wrap=True)
        status = 2
    sys.exit(status or 0)


CLICK_ERRORS: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
"""Base class of all usage errors. Typer bundles its own copy of Click and doesn't export it."""


def _configure_logging(settings: Settings) -> None:
    from shared.telemetry import configure_logging

    configure_logging(settings)
