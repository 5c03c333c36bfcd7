"""The commands that write a job's results to local files: download, report, contact-sheet."""

import json
from pathlib import Path
from typing import Annotated

import typer

from api.client import Item
from deploy.commands.arguments import DATA, Data, JobId, Overwrite, connect, parse_job_id
from deploy.commands.progress import bar, byte_bar, console, print_not_downloaded
from shared.plurals import counted


def report(
    job: JobId,
    file: Annotated[Path, typer.Argument(help="Output file, NAME.csv or NAME.jsonl.")],
    data: Data = DATA,
) -> None:
    """Write a report with a row for each image.

    It includes the columns of your manifest.
    """
    if file.suffix not in (".csv", ".jsonl") and not file.is_relative_to("/dev"):
        raise typer.BadParameter(f"{file} would become a list: name it .csv or .jsonl")
    with connect(data) as client:
        client.report(parse_job_id(job), file)


def download(
    job: JobId,
    folder: Annotated[
        Path, typer.Argument(help="Folder for the results; with --zip, the name of the zip file.")
    ],
    as_zip: Annotated[
        bool, typer.Option("--zip", help="Write one zip file of all results but rejected ones.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the names as JSON.")] = False,
    data: Data = DATA,
) -> None:
    """Download the results of a job. Run it again to continue an interrupted download.

    A file that is there already is replaced only with --overwrite.
    """
    if as_zip:
        _download_zip(parse_job_id(job), folder, data)
        return
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
        typer.echo(f"{counted(len(results), 'result')} in {folder}")
        if missed:
            console.print(
                f"{counted(len(missed), 'result')} could not be downloaded", soft_wrap=True
            )
    if without := found["counts"]["total"] - len(results) - len(missed):
        have = "has" if without == 1 else "have"
        console.print(
            f"{counted(without, 'image')} {have} no result: see `matting status {found['id']}`",
            soft_wrap=True,
        )
    raise typer.Exit(0 if len(results) == found["counts"]["total"] else 1)


def _download_zip(job_id: str, path: Path, data: Path) -> None:
    if path.exists():
        raise typer.BadParameter(f"{path} exists: choose another name")
    with connect(data) as client:
        found = client.job(job_id)
        # Its size is not known before, but close to that of the results.
        with byte_bar("fetching", found["output_bytes"]) as progress:
            task = progress.task_ids[0]
            client.archive(job_id, path, on_bytes=lambda count: progress.advance(task, count))
    typer.echo(f"wrote {path}: {path.stat().st_size:,} bytes")


def contact_sheet(
    job: JobId,
    out: Annotated[Path, typer.Option(help="Folder for the pages.")] = Path("pages"),
    review: Annotated[bool, typer.Option(help="Only images that need a review.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of images.")] = 240,
    data: Data = DATA,
) -> None:
    """Write pages that show each photo beside its result.

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
    pages = counted(len(files) - 1, "page")
    typer.echo(f"{min(limit, wanted)} of {counted(wanted, 'image')} in {pages}: {files[-1]}")
