"""`matting keys`: creates, lists and revokes API keys directly in the database."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.commands.arguments import DATA
from deploy.commands.progress import console, print_table
from deploy.commands.service import (
    ServiceData,
    refuse_empty,
    service_database,
    service_settings,
)
from shared.errors import ForbiddenSourceError, KeyNotFoundError
from shared.jobs import Scope

if TYPE_CHECKING:
    from shared.database import Database
    from shared.models import ApiKey

keys_app = typer.Typer(no_args_is_help=True, help="Manage API keys. Only their hash is stored.")

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


@keys_app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the key's owner or purpose.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="Scope of the key. Repeatable. Default: submit and read."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="Allowed source, `s3://bucket/prefix/`. Repeatable. Default: all."),
    ] = None,
    destination: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder that results may be written to, `s3://bucket/folder/`. Repeatable. "
            "Default: all that MATTING_DESTINATIONS allows, or none for a key with --source."
        ),
    ] = None,
    rate: Annotated[
        int | None, typer.Option(min=1, help="Requests per minute. Default: from the settings.")
    ] = None,
    quota: Annotated[
        int | None, typer.Option(min=0, help="Images per month (UTC). Default: no limit.")
    ] = None,
    as_json: AsJson = False,
    data: ServiceData = DATA,
) -> None:
    """Create a key and print it. It can't be shown again."""
    from shared import job_store

    if not name.strip():
        raise typer.BadParameter("the key needs a name: of its owner or its purpose")
    sources = [_parse_source(text) for text in source] if source else None
    with _open_database(data) as database, database.transaction() as session:
        key, secret = job_store.create_api_key(
            session,
            name,
            scopes=scope or None,
            sources=sources,
            destinations=[_parse_source(text) for text in destination] if destination else None,
            requests_per_min=rate,
            images_per_month=quota,
        )
        made = {"id": str(key.id), "name": name, "key": secret}
    if as_json:
        typer.echo(json.dumps(made))
        return
    # Scripts read the secret from standard output, so it stands there alone.
    typer.echo(secret)
    console.print(f"Key {made['id']}. Its secret is shown only once: keep it.", soft_wrap=True)


@keys_app.command("list")
def list_keys(as_json: AsJson = False, data: ServiceData = DATA) -> None:
    """List the keys and their usage this month."""
    from shared import job_store

    with _open_database(data) as database, database.transaction() as session:
        keys = job_store.list_api_keys(session)
        month = job_store.month_of(datetime.now(UTC))
        used = {
            row.api_key_id: row.images
            for row in job_store.usage_of(session, [key.id for key in keys])
            if row.month == month
        }
        if as_json:
            typer.echo(json.dumps([_key_as_json(key, used.get(key.id, 0)) for key in keys]))
            return
        rows = [
            [
                str(key.id),
                key.name,
                f"{key.hint}…",
                " ".join(key.scopes or ["submit", "read"]),
                " ".join(key.sources or ["all"]),
                " ".join(key.destinations or ["none" if key.sources else "all"]),
                str(key.requests_per_min or ""),
                f"{used.get(key.id, 0)} of {_quota_text(key.images_per_month)}",
                f"{key.created_at:%Y-%m-%d %H:%M}",
                f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "",
            ]
            for key in keys
        ]
    headings = ["id", "name", "key", "scopes", "sources", "destinations", "requests/min"]
    print_table([*headings, "images this month", "created (UTC)", "revoked (UTC)"], rows)


@keys_app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id.")], data: ServiceData = DATA
) -> None:
    """Revoke a key. Its jobs are kept."""
    from shared import job_store

    try:
        key_id = uuid.UUID(key)
    except ValueError as error:
        raise typer.BadParameter(
            "not an id; use the first column of `matting keys list`"
        ) from error
    with _open_database(data) as database, database.transaction() as session:
        if job_store.revoke_api_key(session, key_id) is None:
            raise KeyNotFoundError(f"There is no key {key_id}")
    typer.echo(f"{key_id} is revoked")


def _key_as_json(key: "ApiKey", used: int) -> dict[str, Any]:
    return {
        "id": str(key.id),
        "name": key.name,
        "hint": key.hint,
        "scopes": key.scopes or ["submit", "read"],
        "sources": key.sources,
        "destinations": key.destinations,
        "requests_per_min": key.requests_per_min,
        "images_per_month": key.images_per_month,
        "images_this_month": used,
        "created_at": key.created_at.isoformat(),
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }


def _parse_source(text: str) -> str:
    """Normalise an allowed source to `s3://bucket/` or `s3://bucket/prefix/`."""
    from shared.object_url import folder_limit

    try:
        return folder_limit(text)
    except ForbiddenSourceError as error:
        raise typer.BadParameter(f"{text!r} is not s3://bucket or s3://bucket/prefix/") from error


def _quota_text(images: int | None) -> str:
    return "unlimited" if images is None else str(images)


@contextmanager
def _open_database(data: Path) -> Iterator["Database"]:
    with service_database(service_settings(data), process="keys") as database:
        refuse_empty(database)
        yield database
