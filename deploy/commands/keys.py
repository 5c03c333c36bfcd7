"""`matting keys`: API keys of the database at hand."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.commands.progress import print_table
from shared.errors import ForbiddenSourceError, NotFoundError, StackError
from shared.jobs import Scope
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.database import Database
    from shared.models import ApiKey

keys_app = typer.Typer(no_args_is_help=True, help="API keys; only their hash is stored.")

Data = Annotated[
    Path, typer.Option(help="The embedded stack's folder; MATTING_DATABASE_URL comes first.")
]
DATA = Path("matting-data")
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


@keys_app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may do; several times for several. None: submit and read."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="`s3://bucket/prefix/` that it may name as a source; several times."),
    ] = None,
    rate: Annotated[
        int | None, typer.Option(min=1, help="Requests a minute. None: as the settings say.")
    ] = None,
    quota: Annotated[
        int | None, typer.Option(min=0, help="Images a calendar month (UTC). None: no limit.")
    ] = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Make a key and print it: the only time that it is seen."""
    from shared import job_store

    sources = [_source(text) for text in source] if source else None
    with _database(data) as database, database.transaction() as session:
        key, secret = job_store.create_api_key(
            session,
            name,
            scopes=scope or None,
            sources=sources,
            requests_per_min=rate,
            images_per_month=quota,
        )
        made = {"id": str(key.id), "name": name, "key": secret}
    typer.echo(json.dumps(made) if as_json else secret)


@keys_app.command("list")
def list_keys(as_json: AsJson = False, data: Data = DATA) -> None:
    """Show the keys, without their secrets, and what they used this month."""
    from shared import job_store

    with _database(data) as database, database.transaction() as session:
        keys = job_store.list_api_keys(session)
        month = job_store.month_of(datetime.now(UTC))
        used = {
            row.api_key_id: row.images
            for row in job_store.usage_of(session, [key.id for key in keys])
            if row.month == month
        }
        if as_json:
            typer.echo(json.dumps([_as_json(key, used.get(key.id, 0)) for key in keys]))
            return
        rows = [
            [
                str(key.id),
                key.name,
                f"{key.hint}…",
                " ".join(key.scopes or ["submit", "read"]),
                " ".join(key.sources or ["all"]),
                str(key.requests_per_min or ""),
                f"{used.get(key.id, 0)} of {_limit(key.images_per_month)}",
                f"{key.created_at:%Y-%m-%d %H:%M}",
                f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "",
            ]
            for key in keys
        ]
    headings = ["id", "name", "key", "scopes", "sources", "requests/min", "images this month"]
    print_table([*headings, "created (UTC)", "revoked (UTC)"], rows)


@keys_app.command()
def revoke(key: Annotated[str, typer.Argument(help="The key's id.")], data: Data = DATA) -> None:
    """Make a key useless from now on; its jobs stay."""
    from shared import job_store

    try:
        key_id = uuid.UUID(key)
    except ValueError as error:
        raise typer.BadParameter("the id is the first column of `matting keys list`") from error
    with _database(data) as database, database.transaction() as session:
        if job_store.revoke_api_key(session, key_id) is None:
            raise NotFoundError(f"There is no key {key_id}")
    typer.echo(f"{key_id} is revoked")


def _as_json(key: "ApiKey", used: int) -> dict[str, Any]:
    return {
        "id": str(key.id),
        "name": key.name,
        "hint": key.hint,
        "scopes": key.scopes or ["submit", "read"],
        "sources": key.sources,
        "requests_per_min": key.requests_per_min,
        "images_per_month": key.images_per_month,
        "images_this_month": used,
        "created_at": key.created_at.isoformat(),
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }


def _source(text: str) -> str:
    """As keys are compared with it: a whole bucket or a folder of it, with the slash at the end."""
    from shared.object_url import ObjectUrl

    try:
        url = ObjectUrl.parse(text, "")
    except ForbiddenSourceError as error:
        raise typer.BadParameter(f"{text!r} is not s3://bucket or s3://bucket/prefix/") from error
    return str(url) if str(url).endswith("/") else f"{url}/"


def _limit(images: int | None) -> str:
    return "any" if images is None else str(images)


@contextmanager
def _database(data: Path) -> Iterator["Database"]:
    from shared.database import Database

    url = os.environ.get("MATTING_DATABASE_URL")
    if url is None:
        file = data / "matting.db"
        if not file.exists():
            raise StackError(f"There is no database in {data}: run `matting up` first")
        url = f"sqlite:///{file.absolute()}"
    database = Database(Settings(database_url=url).database_url, process="keys")
    try:
        yield database
    finally:
        database.close()
