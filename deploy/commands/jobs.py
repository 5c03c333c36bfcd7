"""The commands about jobs, from `submit` to `report`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from api.client import Item, Job
from deploy.commands.arguments import (
    DATA,
    AsJson,
    Data,
    JobId,
    OptionPairs,
    attached_source,
    complete_job,
    connect,
    job_id_of,
    journal_of,
    options_of,
    photos_of,
    remote_source,
)
from deploy.commands.progress import bar, byte_bar, console, follow, print_summary, print_table


def submit(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Photos and folders; or one s3://bucket/prefix/, manifest (.csv, .jsonl) or .zip, "
            "here or in s3://; or https:// addresses."
        ),
    ],
    option: OptionPairs = None,
    priority: Annotated[int, typer.Option(min=0, max=9)] = 5,
    wait: Annotated[bool, typer.Option(help="Follow the job to its end.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say what it would take.")] = False,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Submit photos as one bulk job; prints its id."""
    options = options_of(option or [])
    remote, attached = remote_source(sources), attached_source(sources)
    with connect(data) as client:
        if dry_run:
            if remote is None:
                raise typer.BadParameter("--dry-run takes s3:// or https:// sources")
            typer.echo(json.dumps(client.estimate(remote, options=options)))
            return
        if remote is not None:
            job = client.submit(remote, options=options, priority=priority)
        elif attached is not None:
            kind, path = attached
            with byte_bar("sending", path.stat().st_size) as progress:
                task = progress.task_ids[0]
                job = client.submit_attached(
                    kind,
                    path,
                    options=options,
                    priority=priority,
                    on_sent=lambda count: progress.advance(task, count),
                )
        else:
            photos = photos_of([Path(source) for source in sources])
            with bar("sending", len(photos.files)) as progress:
                task = progress.task_ids[0]
                job = client.submit_files(
                    photos.files,
                    options=options,
                    priority=priority,
                    journal=journal_of(client, photos),
                    on_sent=lambda count: progress.advance(task, count),
                )
        if wait:
            job = follow(client, job["id"])
    _print_job(job, as_json=as_json)
    if wait:
        raise typer.Exit(_exit_status(job))


def status(
    job: Annotated[
        str | None,
        typer.Argument(help="The job's id; none lists the jobs.", autocompletion=complete_job),
    ] = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Show how a job stands, or list the jobs."""
    with connect(data) as client:
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
        found = client.job(job_id_of(job))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        print_summary(found, title=f"{found['id']}  {found['status']}  {found['progress']:.0%}")


def watch(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Follow a job to its end."""
    with connect(data) as client:
        found = follow(client, job_id_of(job))
    _print_job(found, as_json=as_json)
    raise typer.Exit(_exit_status(found))


def cancel(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Stop a job: what no worker has begun will not be done."""
    with connect(data) as client:
        _print_job(client.cancel(job_id_of(job)), as_json=as_json)


def retry(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Try the failed images of a job again."""
    with connect(data) as client:
        _print_job(client.retry(job_id_of(job)), as_json=as_json)


def pause(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Hold a job: what no worker has begun waits."""
    with connect(data) as client:
        _print_job(client.pause(job_id_of(job)), as_json=as_json)


def resume(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Go on with a paused job."""
    with connect(data) as client:
        _print_job(client.resume(job_id_of(job)), as_json=as_json)


def delete(job: JobId, data: Data = DATA) -> None:
    """Delete a job with its results and uploads."""
    with connect(data) as client:
        client.delete(job_id_of(job))


def report(
    job: JobId,
    file: Annotated[Path, typer.Argument(help="NAME.csv or NAME.jsonl.")],
    data: Data = DATA,
) -> None:
    """Write what became of every image, with your own columns."""
    with connect(data) as client:
        client.report(job_id_of(job), file)


def download(
    job: JobId,
    folder: Annotated[Path, typer.Argument(help="Where results go.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the names as JSON.")] = False,
    data: Data = DATA,
) -> None:
    """Fetch the results of a job; run it again to go on where it broke off."""
    missed: list[str] = []

    def fail(item: Item, error: Exception) -> None:
        missed.append(item["name"])
        console.print(f"[red]missed[/] {escape(item['name'])}: {escape(str(error))}")

    with connect(data) as client:
        found = client.job(job_id_of(job))
        with bar("fetching", found["counts"]["succeeded"]) as progress:
            task = progress.task_ids[0]
            results = client.download(
                found["id"], folder, on_done=lambda *_: progress.advance(task), on_failed=fail
            )
    if as_json:
        files = [{"name": item["name"], "path": str(path)} for item, path in results]
        typer.echo(json.dumps({"results": files, "missed": missed}))
    else:
        typer.echo(f"{len(results)} results in {folder}")
        if missed:
            console.print(f"{len(missed)} could not be fetched: run it again")
    raise typer.Exit(0 if len(results) == found["counts"]["total"] else 1)


def contact_sheet(
    job: JobId,
    out: Annotated[Path, typer.Option(help="Where the pages go.")] = Path("pages"),
    review: Annotated[bool, typer.Option(help="Only what is marked for review.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most this many images.")] = 240,
    data: Data = DATA,
) -> None:
    """Pages of before | after to scan by eye, and a gallery.html that stands alone."""
    from deploy.sheets.review_pages import write_pages

    with connect(data) as client:
        found = client.job(job_id_of(job))
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


COMMANDS = (
    submit,
    status,
    watch,
    cancel,
    pause,
    resume,
    retry,
    delete,
    download,
    report,
    contact_sheet,
)
"""In the order of the help."""


def _print_job(job: Job, *, as_json: bool) -> None:
    typer.echo(json.dumps(job) if as_json else job["id"])


def _exit_status(job: Job) -> int:
    return 0 if job["counts"]["succeeded"] == job["counts"]["total"] else 1
