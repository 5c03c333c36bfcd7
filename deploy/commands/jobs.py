"""The job commands of `matting`, from `submit` to `report`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from api.client import Item, Job
from deploy.commands.arguments import (
    DATA,
    AsJson,
    Data,
    JobId,
    OptionPairs,
    Overwrite,
    attached_source,
    complete_job,
    connect,
    parse_job_id,
    parse_options,
    remote_source,
    resolve_photos,
    upload_journal,
)
from deploy.commands.progress import (
    bar,
    byte_bar,
    console,
    follow,
    print_not_downloaded,
    print_summary,
    print_table,
)


def submit(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Photos and folders; or one manifest (.csv, .jsonl) or .zip, local or s3://; "
            "or one s3://bucket/prefix/; or https:// addresses."
        ),
    ],
    option: OptionPairs = None,
    priority: Annotated[int, typer.Option(min=0, max=9, help="Priority; 9 runs first.")] = 5,
    wait: Annotated[bool, typer.Option(help="Wait until the job has ended.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Submit nothing; print what the job would need.")
    ] = False,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Submit photos as one job; print its id."""
    options = parse_options(option or [])
    remote, attached = remote_source(sources), attached_source(sources)
    left_out = 0
    with connect(data) as client:
        if dry_run:
            if remote is None:
                raise typer.BadParameter("--dry-run needs s3:// or https:// sources")
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
            photos = resolve_photos([Path(source) for source in sources])
            left_out = len(photos.left_out)
            with bar("sending", len(photos.files)) as progress:
                task = progress.task_ids[0]
                job = client.submit_files(
                    photos.files,
                    options=options,
                    priority=priority,
                    journal=upload_journal(client, photos),
                    on_sent=lambda count: progress.advance(task, count),
                )
        if wait:
            job = follow(client, job["id"])
    _print_job(job, as_json=as_json)
    failed = _exit_status(job) if wait else 0
    raise typer.Exit(1 if left_out else failed)


def status(
    job: Annotated[
        str | None,
        typer.Argument(help="The job's id. Default: all jobs.", autocompletion=complete_job),
    ] = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Show the status of a job, or list all jobs."""
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
        found = client.job(parse_job_id(job))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        print_summary(found, title=f"{found['id']}  {found['status']}  {found['progress']:.0%}")


def watch(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Show a job's progress until it has ended."""
    with connect(data) as client:
        found = follow(client, parse_job_id(job))
    _print_job(found, as_json=as_json)
    raise typer.Exit(_exit_status(found))


def cancel(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Cancel a job. Images that have not started are skipped."""
    with connect(data) as client:
        _print_job(client.cancel(parse_job_id(job)), as_json=as_json)


def retry(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Process a job's failed images again."""
    with connect(data) as client:
        _print_job(client.retry(parse_job_id(job)), as_json=as_json)


def pause(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Pause a job. Images that have not started wait until `resume`."""
    with connect(data) as client:
        _print_job(client.pause(parse_job_id(job)), as_json=as_json)


def resume(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Resume a paused job."""
    with connect(data) as client:
        _print_job(client.resume(parse_job_id(job)), as_json=as_json)


def delete(job: JobId, data: Data = DATA) -> None:
    """Delete a job, its results and its uploads."""
    with connect(data) as client:
        client.delete(parse_job_id(job))


def report(
    job: JobId,
    file: Annotated[Path, typer.Argument(help="Output file, NAME.csv or NAME.jsonl.")],
    data: Data = DATA,
) -> None:
    """Write a report with a row for each image.

    It includes the columns of your manifest.
    """
    with connect(data) as client:
        client.report(parse_job_id(job), file)


def download(
    job: JobId,
    folder: Annotated[Path, typer.Argument(help="Folder for the results.")],
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the names as JSON.")] = False,
    data: Data = DATA,
) -> None:
    """Download the results of a job. Run it again to continue an interrupted download.

    Another file that is there is not replaced, unless you say --overwrite.
    """
    missed: list[str] = []

    def fail(item: Item, error: Exception) -> None:
        missed.append(item["name"])
        print_not_downloaded(item, error)

    with connect(data) as client:
        found = client.job(parse_job_id(job))
        with bar("fetching", found["counts"]["succeeded"]) as progress:
            task = progress.task_ids[0]
            results = client.download(
                found["id"],
                folder,
                on_done=lambda *_: progress.advance(task),
                on_failed=fail,
                overwrite=overwrite,
            )
    if as_json:
        files = [{"name": item["name"], "path": str(path)} for item, path in results]
        typer.echo(json.dumps({"results": files, "missed": missed}))
    else:
        typer.echo(f"{len(results)} results in {folder}")
        if missed:
            console.print(f"{len(missed)} results could not be downloaded")
    raise typer.Exit(0 if len(results) == found["counts"]["total"] else 1)


def contact_sheet(
    job: JobId,
    out: Annotated[Path, typer.Option(help="Folder for the pages.")] = Path("pages"),
    review: Annotated[bool, typer.Option(help="Only images that need a review.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of images.")] = 240,
    data: Data = DATA,
) -> None:
    """Write before | after pages of a job.

    Writes PNG pages, and gallery.html with embedded images.
    """
    from deploy.sheets.review_pages import write_pages

    with connect(data) as client:
        found = client.job(parse_job_id(job))
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
        typer.echo("There are no images to show")
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
"""All job commands, in the order that `matting --help` shows."""


def _print_job(job: Job, *, as_json: bool) -> None:
    typer.echo(json.dumps(job) if as_json else job["id"])


def _exit_status(job: Job) -> int:
    return 0 if job["counts"]["succeeded"] == job["counts"]["total"] else 1
