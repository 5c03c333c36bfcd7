"""The job commands of `matting`, from `submit` to `delete`."""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from api.client import Job
from api.client.calls import JobSettings
from api.schemas.sources import Feed
from deploy.commands.arguments import (
    DATA,
    AsJson,
    Data,
    FailOnReview,
    JobId,
    OptionPairs,
    attached_source,
    check_options,
    complete_job,
    connect,
    parse_job_id,
    parse_options,
    photo_beside,
    remote_source,
    resolve_photos,
    upload_journal,
)
from deploy.commands.downloads import contact_sheet, download, report
from deploy.commands.local_estimate import estimate_local
from deploy.commands.progress import (
    bar,
    byte_bar,
    console,
    follow,
    going_on,
    on_interruption,
    print_summary,
    print_table,
)
from deploy.commands.summary import Tally, tally
from deploy.commands.watch_folder import FolderWatch, watch_until_stopped
from deploy.terminal_text import escape
from shared.plurals import counted

MOST_LEFT_OUT_NAMED = 10_000
"""Files beside the photos that a job's report names; a job may have a limited number of rows."""

SENT_IS_KEPT = "what was sent is remembered: the same command goes on"


def submit(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Photos and folders; or one manifest (.csv, .tsv, .xml, .jsonl) or .zip, local or "
            "s3://; or one s3://bucket/prefix/; or https:// addresses."
        ),
    ],
    option: OptionPairs = None,
    feed: Annotated[
        Feed | None,
        typer.Option(help="Layout of the manifest. Default: found from its header."),
    ] = None,
    destination: Annotated[
        str | None,
        typer.Option(
            help="Also write each result to a key of yours, for example "
            "s3://shop/cutouts/{sku}.{ext}."
        ),
    ] = None,
    priority: Annotated[int, typer.Option(min=0, max=9, help="Priority; 9 runs first.")] = 5,
    wait: Annotated[bool, typer.Option(help="Wait until the job has ended.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Submit nothing; print what the job would need.")
    ] = False,
    fail_on_review: FailOnReview = False,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Submit photos as one job; print its id."""
    from deploy.commands.destination import check_destination, check_names

    options = parse_options(option or [])
    remote, attached = remote_source(sources), attached_source(sources)
    settings: JobSettings = {"options": options, "priority": priority}
    if destination is not None:
        settings["destination"] = destination = check_destination(destination)
    if feed is not None:
        settings["feed"] = feed.value
        if "manifest" not in (remote or {}) and (attached or ("", None))[0] != "manifest":
            raise typer.BadParameter("--feed needs a manifest (.csv, .tsv, .xml, .jsonl)")
    photos, left_out = None, 0
    if remote is None and attached is None:
        photos = resolve_photos([Path(source) for source in sources], with_clips=True)
        photos = replace(photos, files=[*photos.files, *photos.clips], clips=[])
        check_names(photos, check_options(options), destination)
        left_out = len(photos.left_out)
    with connect(data) as client:
        if dry_run:
            if attached is not None:
                raise typer.BadParameter("--dry-run takes photos, folders, s3:// and https://")
            if photos is not None:
                typer.echo(json.dumps(estimate_local(photos, client.jobs())))
            elif remote is not None:
                typer.echo(json.dumps(client.estimate(remote, **settings)))
            return
        if remote is not None:
            job = client.submit(remote, **settings)
        elif attached is not None:
            kind, path = attached
            if kind == "manifest" and (beside := photo_beside(path)):
                console.print(
                    f"[yellow]note[/] {escape(f'{path.name} names {beside}, a file beside it')}. "
                    "Names in a list are keys of objects in the service's storage: no file is sent."
                    f" To send the photos: matting submit {escape(str(path.parent))}",
                    soft_wrap=True,
                )
            with byte_bar("sending", path.stat().st_size) as progress:
                task = progress.task_ids[0]
                job = client.submit_attached(
                    kind,
                    path,
                    on_sent=lambda count: progress.advance(task, count),
                    **settings,
                )
        else:
            assert photos is not None
            journal = upload_journal(client, photos)
            told = (
                "what was sent is remembered: the same command goes on" if journal.is_kept else ""
            )
            with on_interruption(told), bar("sending", len(photos.files)) as progress:
                task = progress.task_ids[0]
                job = client.submit_files(
                    photos.files,
                    left_out=[
                        (one.name, one.reason) for one in photos.left_out[:MOST_LEFT_OUT_NAMED]
                    ],
                    journal=journal,
                    on_sent=lambda count: progress.advance(task, count),
                    **settings,
                )
        failed = 0
        if wait:
            with on_interruption(going_on(job["id"])):
                job = follow(client, job["id"])
            found = tally(client, job)
            console.print(escape(found.sentence()), soft_wrap=True)
            failed = _exit_status(job, found, fail_on_review=fail_on_review)
    _print_job(job, as_json=as_json)
    raise typer.Exit(1 if left_out else failed)


def watch_folder(
    folder: Annotated[Path, typer.Argument(help="Folder to watch, on a disk or a NAS.")],
    out: Annotated[Path, typer.Argument(help="Folder for the results and the record.")],
    option: OptionPairs = None,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 10,
    once: Annotated[
        bool, typer.Option("--once", help="Cut out what is there now, then stop.")
    ] = False,
    data: Data = DATA,
) -> None:
    """Cut out every photo that appears in a folder, each once, until Ctrl-C.

    Run it again to go on: photos that were sent are not sent again unless they change. With --once,
    the exit status is 1 if a photo has no result in the folder, or a file was left out.
    """
    options = parse_options(option or [])
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not a folder")
    watch = FolderWatch(folder, out)
    with connect(data) as client:
        while watch.look(client, options):
            pass
        if not once:
            console.print(f"watching {escape(str(folder))}; press Ctrl-C to stop", soft_wrap=True)
            watch_until_stopped(watch, client, options, every_s=every)
    raise typer.Exit(1 if watch.missed else 0)


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
                    _day_and_time(one["created_at"]),
                    *(str(one["counts"][name]) for name in ("total", "succeeded", "failed")),
                ]
                for one in jobs
            ]
            print_table(["job", "status", "created (UTC)", "total", "done", "failed"], rows)
            return
        found = client.job(parse_job_id(job))
        sentence = "" if as_json else tally(client, found).sentence()
    if as_json:
        typer.echo(json.dumps(found))
    else:
        print_summary(found, title=f"{found['id']}  {found['status']}  {found['progress']:.0%}")
        console.print(escape(sentence), soft_wrap=True)


def watch(
    job: JobId,
    fail_on_review: FailOnReview = False,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Show a job's progress until it has ended."""
    job_id = parse_job_id(job)
    with connect(data) as client:
        with on_interruption(going_on(job_id)):
            found = follow(client, job_id)
        counts = tally(client, found)
        console.print(escape(counts.sentence()), soft_wrap=True)
    _print_job(found, as_json=as_json)
    raise typer.Exit(_exit_status(found, counts, fail_on_review=fail_on_review))


def cancel(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Cancel a job. Images that have not started are skipped."""
    with connect(data) as client:
        _print_job(client.cancel(parse_job_id(job)), as_json=as_json)


def retry(
    job: JobId,
    include: Annotated[
        Literal["rejected"] | None,
        typer.Option(help="rejected: also process the images again that a reviewer rejected."),
    ] = None,
    option: OptionPairs = None,
    model: Annotated[
        str | None, typer.Option(help="Another model, for the rejected images.")
    ] = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Process a job's failed images again; with --include rejected also the rejected ones.

    --option and --model change the rejected images' options. Failed images keep theirs.
    """
    # They change each image's own options, so only the service can check them.
    options = parse_options(option or [], check=False)
    if (options or model) and include is None:
        raise typer.BadParameter("--option and --model need --include rejected")
    job_id = parse_job_id(job)
    with connect(data) as client:
        found = client.retry(job_id, include=include, options=options, model=model)
        retried, redone = found["retried"], found["redone"]
        while found["rejected_left"] and found["redone"]:
            found = client.retry(job_id, include=include, options=options, model=model)
            retried, redone = retried + found["retried"], redone + found["redone"]
    failed = found["counts"]["failed"]
    if retried:
        text = f"trying {counted(retried, 'failed image')} again"
    elif failed:
        text = f"{counted(failed, 'failed image')}, none of which can be tried again"
    else:
        text = "no image failed"
    rejected = found["review"]["rejected"]
    if include is not None:
        text += f"; making {counted(redone, 'rejected image')} again"
        if rejected > redone:
            text += f" ({rejected - redone:,} are being made already)"
    elif rejected:
        text += f"; {rejected:,} rejected: use --include rejected"
    console.print(escape(text), soft_wrap=True)
    _print_job(found, as_json=as_json)


def pause(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Pause a job. Images that have not started wait until `resume`."""
    with connect(data) as client:
        _print_job(client.pause(parse_job_id(job)), as_json=as_json)


def resume(job: JobId, as_json: AsJson = False, data: Data = DATA) -> None:
    """Resume a paused job."""
    with connect(data) as client:
        _print_job(client.resume(parse_job_id(job)), as_json=as_json)


def delete(
    job: JobId,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    data: Data = DATA,
) -> None:
    """Delete a job, its results and its uploads. Asks before, unless --yes is given."""
    with connect(data) as client:
        found = client.job(parse_job_id(job))
        results = counted(found["counts"]["succeeded"], "result")
        results += f" ({found['output_bytes'] / 1e6:.1f} MB)"
        if not yes:
            if not sys.stdin.isatty():
                raise typer.BadParameter("there is no terminal to ask on: add --yes")
            question = f"Delete the job {found['id']} with {results}? It can't be undone."
            typer.confirm(question, abort=True)
        client.delete(found["id"])
    console.print(f"deleted {found['id']}: {results}, and what was uploaded for it", soft_wrap=True)


COMMANDS = (
    submit,
    watch_folder,
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


def _exit_status(job: Job, found: Tally, *, fail_on_review: bool = False) -> int:
    """0 if every image succeeded, and the source was read to its end."""
    if fail_on_review and (found.to_check or found.unmet):
        return 1
    counts = job["counts"]
    return 0 if counts["succeeded"] == counts["total"] > 0 and job["error"] is None else 1


def _day_and_time(timestamp: str) -> str:
    """`11-26 10:03`, or the date if it is of another year; short, for windows of 80 columns."""
    when = datetime.fromisoformat(timestamp)
    return f"{when:%m-%d %H:%M}" if when.year == datetime.now(UTC).year else f"{when:%Y-%m-%d}"
