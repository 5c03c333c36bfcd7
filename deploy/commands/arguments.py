"""What a person writes on the command line, checked and made into what the code takes."""

import hashlib
import json
import os
import uuid
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import typer

from api.client import ApiError, Journal, MattingClient
from api.client.uploading import forget_old
from deploy.commands.progress import console
from deploy.local_photos import LocalPhotos, find_photos
from deploy.stack.address import find_stack
from shared.errors import MattingError

DATA = Path("matting-data")

Data = Annotated[Path, typer.Option(help="The embedded stack's data folder.")]
COMPLETED_JOBS = 20
"""The newest, that a shell offers to complete an id with."""


def complete_job(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the newest jobs, and what to know them by."""
    try:
        with connect(Path(ctx.params.get("data") or DATA)) as client:
            return [
                (job["id"], f"{job['status']}, {job['counts']['total']} images")
                for job in islice(client.jobs(), COMPLETED_JOBS)
                if job["id"].startswith(incomplete)
            ]
    except (MattingError, ApiError, httpx.TransportError):  # nothing runs: nothing to offer
        return []


JobId = Annotated[str, typer.Argument(help="The job's id.", autocompletion=complete_job)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the job as JSON.")]
OptionPairs = Annotated[list[str] | None, typer.Option(help="K=V, e.g. format=webp.")]


def photos_of(paths: list[Path]) -> LocalPhotos:
    """The photos that paths mean. Raises BadParameter when there are none."""
    photos = find_photos(paths)
    if photos.skipped:
        console.print(f"{photos.skipped} files that are no photos by their names are left out")
    if not photos.files:
        raise typer.BadParameter(f"there are no photos in {', '.join(map(str, paths))}")
    return photos


def options_of(pairs: list[str]) -> dict[str, Any]:
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


def remote_source(sources: list[str]) -> dict[str, Any] | None:
    """What the service can read by itself; None: the sources are local. Raises BadParameter."""
    if all(source.startswith(("http://", "https://")) for source in sources):
        return {"urls": sources}
    if not any(source.startswith(("s3://", "http://", "https://")) for source in sources):
        return None
    if len(sources) > 1:
        raise typer.BadParameter("give one s3:// source, or https:// addresses, or local files")
    [source] = sources
    return {_KINDS.get(Path(source).suffix.lower(), "prefix"): source}


def attached_source(sources: list[str]) -> tuple[Literal["manifest", "zip"], Path] | None:
    """The kind and path of a local manifest or zip file; None: the sources are photos."""
    kind = _KINDS.get(Path(sources[0]).suffix.lower()) if len(sources) == 1 else None
    return (kind, Path(sources[0])) if kind and Path(sources[0]).is_file() else None


_KINDS: dict[str, Literal["manifest", "zip"]] = {
    ".csv": "manifest",
    ".jsonl": "manifest",
    ".zip": "zip",
}


def connect(data: Path) -> MattingClient:
    """MATTING_API_URL and MATTING_API_KEY, or the embedded stack that runs on the data folder."""
    url, key = os.environ.get("MATTING_API_URL"), os.environ.get("MATTING_API_KEY")
    if url and key:
        return MattingClient(url, key)
    address, secrets = find_stack(data)
    return MattingClient(address.api_url, secrets.api_key)


def job_id_of(text: str) -> str:
    """A job's id. Raises BadParameter."""
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a job id") from error


def journal_of(client: MattingClient, photos: LocalPhotos) -> Journal:
    """The journal of sending just these photos to just this service: in `XDG_STATE_HOME`."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    what = json.dumps([client.identity, *sorted(str(path.resolve()) for path, _ in photos.files)])
    digest = hashlib.sha256(what.encode()).hexdigest()
    folder = state / "matting"
    forget_old(folder)
    return Journal(folder / f"{digest[:32]}.jsonl")
