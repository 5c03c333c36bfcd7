"""The command `matting`. Exit status 0: all images succeeded; 1: some failed; 2: wrong usage, or a
part that can't start.
"""

import json
import os
import signal
import sys
import threading
import uuid
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.markup import escape

from api.client import ApiError, MattingClient
from deploy.keys import keys_app
from deploy.local import Stack, find_stack
from deploy.models import models_app
from deploy.photos import SAMPLES, Photos, find_photos
from deploy.progress import bar, console, follow, print_summary, print_table
from deploy.tune import tune
from shared.database import Database
from shared.errors import MattingError
from shared.options import Options, Output
from shared.settings import Settings
from shared.storage import Storage

DATA = Path("matting-data")
PORT = 8000

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Bulk background removal."
)
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")
app.command()(tune)

Data = Annotated[Path, typer.Option(help="The embedded stack's data folder.")]
Job = Annotated[str, typer.Argument(help="The job's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the job as JSON.")]


@app.command()
def demo(
    paths: Annotated[list[Path] | None, typer.Argument(help="Photos or folders.")] = None,
    out: Annotated[Path, typer.Option(help="Where results go.")] = Path("out"),
) -> None:
    """Start everything, send photos through, write results and a contact sheet, stop everything."""
    from deploy.demo import run_demo

    raise typer.Exit(run_demo(_photos(paths or [SAMPLES]), out))


@app.command()
def up(
    data: Data = DATA,
    port: Annotated[int, typer.Option(help="Of the API; 0 takes a free one.")] = PORT,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
) -> None:
    """Keep the whole system running on this machine until Ctrl-C."""
    report = lambda part: console.print(f"  starting {part}")  # noqa: E731
    with Stack(data, api_port=port or None, workers=workers, report=report) as stack:
        console.print(f"API     {stack.address.api_url}/docs")
        console.print(f"Flower  {stack.address.flower_url}")
        console.print(f"Key     in {data}/secrets.json; `matting submit` finds it by itself")
        console.print("Ctrl-C stops everything; the jobs stay.")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            console.print("stopping: what is in flight is finished first")


@app.command()
def submit(
    sources: Annotated[list[str], typer.Argument(help="Photos, folders or s3://bucket/prefix/.")],
    option: Annotated[list[str] | None, typer.Option(help="K=V, e.g. format=webp.")] = None,
    priority: Annotated[int, typer.Option(min=0, max=9)] = 5,
    wait: Annotated[bool, typer.Option(help="Follow the job to its end.")] = False,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Submit photos as one bulk job; prints its id."""
    options = _options(option or [])
    remote = [source for source in sources if source.startswith("s3://")]
    with _client(data) as client:
        if remote:
            if len(sources) > 1:
                raise typer.BadParameter("give one s3:// prefix, or local files and folders")
            job = client.submit({"prefix": remote[0]}, options=options, priority=priority)
        else:
            photos = _photos([Path(source) for source in sources])
            with bar("sending", len(photos.files)) as progress:
                task = progress.task_ids[0]
                job = client.submit_files(
                    photos.files,
                    options=options,
                    priority=priority,
                    on_sent=lambda count: progress.advance(task, count),
                )
        if wait:
            job = follow(client, job["id"])
    _print_job(job, as_json=as_json)
    if wait:
        raise typer.Exit(_exit_status(job))


@app.command()
def status(
    job: Annotated[str | None, typer.Argument(help="The job's id; none lists the jobs.")] = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Show how a job stands, or list the jobs."""
    with _client(data) as client:
        if job is None:
            jobs = list(client.jobs())
            if as_json:
                typer.echo(json.dumps(jobs))
                return
            rows = [
                [
                    one["id"],
                    one["status"],
                    one["created_at"][:19],
                    *(str(one["counts"][name]) for name in ("total", "succeeded", "failed")),
                ]
                for one in jobs
            ]
            print_table(["job", "status", "created (UTC)", "total", "succeeded", "failed"], rows)
            return
        found = client.job(_job_id(job))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        print_summary(found, title=f"{found['id']}  {found['status']}  {found['progress']:.0%}")


@app.command()
def watch(job: Job, as_json: AsJson = False, data: Data = DATA) -> None:
    """Follow a job to its end."""
    with _client(data) as client:
        found = follow(client, _job_id(job))
    _print_job(found, as_json=as_json)
    raise typer.Exit(_exit_status(found))


@app.command()
def cancel(job: Job, as_json: AsJson = False, data: Data = DATA) -> None:
    """Stop a job: what no worker has begun will not be done."""
    with _client(data) as client:
        _print_job(client.cancel(_job_id(job)), as_json=as_json)


@app.command()
def retry(job: Job, as_json: AsJson = False, data: Data = DATA) -> None:
    """Try the failed images of a job again."""
    with _client(data) as client:
        _print_job(client.retry(_job_id(job)), as_json=as_json)


@app.command()
def download(
    job: Job,
    folder: Annotated[Path, typer.Argument(help="Where results go.")],
    data: Data = DATA,
) -> None:
    """Fetch the results of a job; run it again to go on where it broke off."""
    with _client(data) as client:
        found = client.job(_job_id(job))
        with bar("fetching", found["counts"]["succeeded"]) as progress:
            task = progress.task_ids[0]
            results = client.download(
                found["id"], folder, on_done=lambda *_: progress.advance(task)
            )
    typer.echo(f"{len(results)} results in {folder}")
    raise typer.Exit(0 if len(results) == found["counts"]["total"] else 1)


@app.command("contact-sheet")
def contact_sheet(
    job: Job,
    out: Annotated[Path, typer.Option(help="Where the pages go.")] = Path("pages"),
    review: Annotated[bool, typer.Option(help="Only what is marked for review.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most this many images.")] = 240,
    data: Data = DATA,
) -> None:
    """Pages of before | after to scan by eye, and a gallery.html that stands alone."""
    from deploy.review_pages import write_pages

    with _client(data) as client:
        found = client.job(_job_id(job))
        wanted = found["review"]["needs_review"] if review else found["counts"]["succeeded"]
        with bar("drawing", min(limit, wanted)) as progress:
            task = progress.task_ids[0]
            files = write_pages(
                client,
                found["id"],
                out,
                review="flagged" if review else None,
                limit=limit,
                on_done=lambda count: progress.advance(task, count),
            )
    if not files:
        typer.echo("there is nothing to show")
        return
    typer.echo(f"{min(limit, wanted)} of {wanted} images in {len(files) - 1} pages: {files[-1]}")


@app.command()
def cutout(
    paths: Annotated[list[Path], typer.Argument(help="Photos or folders.")],
    out: Annotated[Path, typer.Option(help="Where results go.")],
    alpha_only: Annotated[bool, typer.Option(help="The matte alone, as grey PNG.")] = False,
    option: Annotated[list[str] | None, typer.Option(help="K=V, e.g. format=webp.")] = None,
) -> None:
    """Cut out photos right here, with no server and no queue."""
    from deploy.cutout import cut_out_files

    wanted = _options(option or [])
    if alpha_only:
        wanted["output"] = Output.ALPHA
    settings = Settings(log_level="WARNING")
    _quiet(settings)
    failed = cut_out_files(_photos(paths), out, Options.model_validate(wanted), settings)
    raise typer.Exit(1 if failed else 0)


@app.command()
def doctor(data: Data = DATA) -> None:
    """Check every part, and say how to fix what fails."""
    from deploy.doctor import examine

    _quiet(Settings(log_level="ERROR"))
    findings = examine(data)
    for finding in findings:
        mark = "[green]ok[/]  " if finding.ok else "[red]fail[/]"
        console.print(f"{mark} {finding.part:<14} {escape(finding.detail)}")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 2)


@app.command()
def migrate() -> None:
    """Bring the database of MATTING_DATABASE_URL to the newest revision."""
    database = Database(Settings().database_url, process="migrate")
    try:
        database.migrate()
        typer.echo(f"at revision {database.revisions()[0]}")
    finally:
        database.close()


@app.command()
def prepare() -> None:
    """Before the first start in production: tables and bucket."""
    migrate()
    storage = Storage(Settings())
    try:
        storage.ensure_bucket()
        typer.echo(f"bucket {storage.bucket} is there")
    finally:
        storage.close()


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
    except (ApiError, FileNotFoundError, httpx.TransportError) as error:
        console.print(f"[red]error[/] {escape(str(error))}")
        status = 2
    sys.exit(status or 0)


CLICK_ERRORS: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
"""Every kind of wrong usage; Typer brings its own copy of Click and exports only some of it."""


def _photos(paths: list[Path]) -> Photos:
    photos = find_photos(paths)
    if photos.skipped:
        console.print(f"{photos.skipped} files that are no photos by their names are left out")
    if not photos.files:
        raise typer.BadParameter(f"there are no photos in {', '.join(map(str, paths))}")
    return photos


def _options(pairs: list[str]) -> dict[str, Any]:
    """K=V pairs, V may be JSON; the service checks them, so that both say the same."""
    split = [pair.partition("=") for pair in pairs]
    if any(not separator for _, separator, _ in split):
        raise typer.BadParameter("options are K=V, e.g. --option format=webp")
    return {key: _value(value) for key, _, value in split}


def _value(text: str) -> Any:
    """Lists, objects and truth values are written as JSON; everything else is text."""
    if text[:1] in ("[", "{") or text in ("true", "false", "null"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise typer.BadParameter(f"{text} is not JSON: {error}") from error
    return text


def _client(data: Path) -> MattingClient:
    """MATTING_API_URL and MATTING_API_KEY, or the embedded stack that runs on the data folder."""
    url, key = os.environ.get("MATTING_API_URL"), os.environ.get("MATTING_API_KEY")
    if url and key:
        return MattingClient(url, key)
    address, secrets = find_stack(data)
    return MattingClient(address.api_url, secrets.api_key)


def _job_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a job id") from error


def _print_job(job: dict[str, Any], *, as_json: bool) -> None:
    typer.echo(json.dumps(job) if as_json else job["id"])


def _exit_status(job: dict[str, Any]) -> int:
    return 0 if job["counts"]["succeeded"] == job["counts"]["total"] else 1


def _quiet(settings: Settings) -> None:
    from shared.telemetry import configure_logging

    configure_logging(settings)
