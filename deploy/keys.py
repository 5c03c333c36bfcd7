"""`matting keys`: API keys of the database at hand."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from deploy.progress import print_table
from shared import job_store
from shared.database import Database
from shared.errors import NotFoundError, StackError
from shared.settings import Settings

keys_app = typer.Typer(no_args_is_help=True, help="API keys; only their hash is stored.")

Data = Annotated[
    Path, typer.Option(help="The embedded stack's folder; MATTING_DATABASE_URL comes first.")
]
DATA = Path("matting-data")


@keys_app.command()
def create(name: Annotated[str, typer.Argument(help="Whose it is.")], data: Data = DATA) -> None:
    """Make a key and print it: the only time that it is seen."""
    with _database(data) as database, database.transaction() as session:
        _key, secret = job_store.create_api_key(session, name)
    typer.echo(secret)


@keys_app.command("list")
def list_keys(data: Data = DATA) -> None:
    """Show the keys, without their secrets."""
    with _database(data) as database, database.transaction() as session:
        rows = [
            [
                str(key.id),
                key.name,
                f"{key.hint}…",
                f"{key.created_at:%Y-%m-%d %H:%M}",
                f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "",
            ]
            for key in job_store.list_api_keys(session)
        ]
    print_table(["id", "name", "key", "created (UTC)", "revoked (UTC)"], rows)


@keys_app.command()
def revoke(key: Annotated[str, typer.Argument(help="The key's id.")], data: Data = DATA) -> None:
    """Make a key useless from now on; its jobs stay."""
    try:
        key_id = uuid.UUID(key)
    except ValueError as error:
        raise typer.BadParameter("the id is the first column of `matting keys list`") from error
    with _database(data) as database, database.transaction() as session:
        if job_store.revoke_api_key(session, key_id) is None:
            raise NotFoundError(f"There is no key {key_id}")
    typer.echo(f"{key_id} is revoked")


@contextmanager
def _database(data: Path) -> Iterator[Database]:
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
