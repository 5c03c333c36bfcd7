"""Shared command-line arguments: parsing, validation, shell completion, and the API connection."""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import typer
from pydantic import ValidationError

from api.client import ApiError, Journal, MattingClient
from api.client.uploading import remove_expired_journals
from deploy.commands.options import complete_option
from deploy.commands.progress import SHOWN_FAILURES, console
from deploy.commands.written_files import state_folder
from deploy.local_photos import LeftOut, LocalPhotos, find_photos
from deploy.stack.address import find_stack
from deploy.terminal_text import escape
from shared.errors import MattingError, NoStackError
from shared.errors.base import said_with
from shared.options import Options
from shared.photo_kinds import PHOTO_ENDINGS
from shared.plurals import counted
from shared.validation_words import describe_validation

DATA = Path("matting-data")

Data = Annotated[Path, typer.Option(help="Data folder of the embedded stack.")]
COMPLETION_JOBS = 20
"""Number of newest jobs that shell completion offers."""


def complete_job(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Shell completion: ids of the newest jobs, with a description of each."""
    try:
        with connect(Path(ctx.params.get("data") or DATA)) as client:
            return [
                (job["id"], f"{job['status']}, {job['counts']['total']} images")
                for job in islice(client.jobs(), COMPLETION_JOBS)
                if job["id"].startswith(incomplete)
            ]
    except (MattingError, ApiError, httpx.TransportError):  # the service isn't running
        return []


JobId = Annotated[str, typer.Argument(help="The job's id.", autocompletion=complete_job)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the job as JSON.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results that are there already.")
]
OptionPairs = Annotated[
    list[str] | None,
    typer.Option(
        help="Option as NAME=VALUE, e.g. format=webp. Repeatable. `matting options` lists them.",
        autocompletion=complete_option,
    ),
]
FailOnReview = Annotated[
    bool,
    typer.Option(
        "--fail-on-review",
        help="Exit with 1 if a result needs a review, or misses a rule of a market.",
    ),
]


def resolve_photos(
    paths: list[Path], *, but_for: Path | None = None, with_clips: bool = False
) -> LocalPhotos:
    """Find the photos under the given paths, and print what is left out.

    `but_for`: a folder that is not searched. `with_clips`: find clips too. Raises BadParameter when
    nothing is found.
    """
    # The head of each file is read, which takes a while for thousands of files on a NAS.
    with console.status(f"looking for photos in {escape(', '.join(map(str, paths[:3])))} …"):
        photos = find_photos(paths, but_for=but_for, with_clips=with_clips)
    print_left_out(photos.left_out)
    if not photos.files and not photos.clips:
        raise typer.BadParameter(f"no photos found in {', '.join(map(str, paths))}")
    return photos


def print_left_out(left_out: Sequence[LeftOut]) -> None:
    """Name the files that are left out, why, and what to do with them."""
    for one in left_out[:SHOWN_FAILURES]:
        text = (
            said_with(f"{one.name}: {one.reason}", one.remedy)
            if one.remedy
            else (f"{one.name}: {one.reason}")
        )
        console.print(f"[yellow]left out[/] {escape(text)}", soft_wrap=True)
    others = sum(one.remedy is None for one in left_out)
    if left_out:
        what = "one of them" if len(left_out) > 1 else "it"
        remedy = f". If {what} should be cut out, export it as JPEG, PNG or TIFF" if others else ""
        console.print(f"{counted(len(left_out), 'file')} left out{remedy}", soft_wrap=True)


def parse_options(pairs: list[str], *, check: bool = True) -> dict[str, Any]:
    """Parse NAME=VALUE pairs, and check them before anything is sent.

    Raises BadParameter for a pair without `=`, a value with broken JSON, and options that the
    service would refuse.
    """
    split = [pair.partition("=") for pair in pairs]
    if any(not separator for _, separator, _ in split):
        raise typer.BadParameter("write options as NAME=VALUE, e.g. --option format=webp")
    options = {key: _parse_value(value) for key, _, value in split}
    if check:
        check_options(options)
    return options


def check_options(options: dict[str, Any]) -> Options:
    """The checked options. Raises BadParameter."""
    try:
        return Options.model_validate(options)
    except ValidationError as error:
        hint = "`matting options` lists all options"
        text = describe_validation(error, Options)
        raise typer.BadParameter(f"{text}\n{hint}") from error


def _parse_value(text: str) -> Any:
    """Parse a value: lists, objects, true, false and null are JSON, everything else is text."""
    if text[:1] in ("[", "{") or text in ("true", "false", "null"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise typer.BadParameter(f"{text} is not valid JSON: {error}") from error
    return text


def remote_source(sources: list[str]) -> dict[str, Any] | None:
    """The API `source` for s3:// and http(s):// arguments; None if all sources are local.

    Raises BadParameter for a mixture.
    """
    if all(source.startswith(("http://", "https://")) for source in sources):
        return {"urls": sources}
    if not any(source.startswith(("s3://", "http://", "https://")) for source in sources):
        return None
    if len(sources) > 1:
        raise typer.BadParameter("pass one s3:// source, or https:// addresses, or local files")
    [source] = sources
    return {_KINDS.get(Path(source).suffix.lower(), "prefix"): source}


def attached_source(sources: list[str]) -> tuple[Literal["manifest", "zip"], Path] | None:
    """The kind and path of a local manifest or zip file; None if the sources are photos.

    Raises BadParameter for a list among other sources, and for a workbook.
    """
    for source in sources:
        ending = Path(source).suffix.lower()
        if ending in WORKBOOKS:
            raise typer.BadParameter(
                f"{source} is an Excel file: save it as CSV UTF-8, and submit that"
            )
        if len(sources) > 1 and _KINDS.get(ending) == "manifest" and ending != ".txt":
            raise typer.BadParameter(
                f"{source} is a list of photos: submit it alone, or the photos without it"
            )
    kind = _KINDS.get(Path(sources[0]).suffix.lower()) if len(sources) == 1 else None
    return (kind, Path(sources[0])) if kind and Path(sources[0]).is_file() else None


def photo_beside(manifest: Path) -> str | None:
    """The first cell in the beginning of a list that names a photo beside it on this machine."""
    with manifest.open("rb") as file:
        text = file.read(LIST_SAMPLE_BYTES).decode("utf-8", "replace")
    for cell in re.split(r"[\r\n,;\t\"<>]+", text):
        name = cell.strip()
        if Path(name).suffix.lower() in PHOTO_ENDINGS and len(name) < 500:
            try:
                if (manifest.parent / name).is_file():
                    return name
            except (OSError, ValueError):
                continue
    return None


LIST_SAMPLE_BYTES = 64 * 1024

WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".xlsb", ".ods", ".numbers")

_KINDS: dict[str, Literal["manifest", "zip"]] = {
    ".csv": "manifest",
    ".tsv": "manifest",
    ".txt": "manifest",
    ".xml": "manifest",
    ".jsonl": "manifest",
    ".ndjson": "manifest",
    ".zip": "zip",
}


def connect(data: Path) -> MattingClient:
    """A client for MATTING_API_URL and MATTING_API_KEY, or for the embedded stack on the folder.

    Raises NoStackError, also if only one of the two is set: another system was meant.
    """
    url, key = os.environ.get("MATTING_API_URL"), os.environ.get("MATTING_API_KEY")
    if url and key:
        if not url.startswith(("http://", "https://")):
            raise NoStackError(
                f"MATTING_API_URL is {url}, which begins with no http:// or https://"
            )
        return MattingClient(url, key)
    if url or key:
        names = (
            ("MATTING_API_URL", "MATTING_API_KEY")
            if url
            else ("MATTING_API_KEY", "MATTING_API_URL")
        )
        raise NoStackError("{} is set, but {} is not".format(*names))
    address, secrets = find_stack(data)
    return MattingClient(address.api_url, secrets.api_key)


def parse_job_id(text: str) -> str:
    """Check a job id. Raises BadParameter."""
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a job id") from error


def upload_journal(client: MattingClient, photos: LocalPhotos) -> Journal:
    """The upload journal for exactly these photos and this service, in `XDG_STATE_HOME`.

    It lets an interrupted submission continue. Where it can't be written, that is told, and the
    journal exists in memory only.
    """
    what = json.dumps([client.identity, *sorted(str(path.resolve()) for path, _ in photos.files)])
    digest = hashlib.sha256(what.encode()).hexdigest()
    folder = state_folder()
    try:
        remove_expired_journals(folder)
        return Journal(folder / f"{digest[:32]}.jsonl")
    except OSError as error:
        text = escape(f"{error}. So an interrupted upload would begin anew.")
        console.print(f"[yellow]note:[/] {text}", soft_wrap=True)
        return Journal(None)
