"""The service that an operator's command works on: of the settings, or of `matting up`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import SecretStr

from deploy.stack.address import StackAddress, StackSecrets, find_stack
from deploy.stack.ports import LOOPBACK, PORTS_FILE
from shared.errors import NoDatabaseError, NoStackError
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.database import Database

ServiceData = Annotated[
    Path,
    typer.Option(help="Data folder of the embedded stack. MATTING_DATABASE_URL takes precedence."),
]


def service_settings(data: Path, *, running: bool = False) -> Settings:
    """The settings of the environment if they name a database, else those of the embedded stack on
    the folder. `running`: the command needs its API or its storage too.

    Raises NoDatabaseError, NoStackError.
    """
    settings = Settings()
    if "database_url" in settings.model_fields_set:
        return settings
    file = data / "matting.db"
    if not file.is_file():
        raise NoDatabaseError(f"There is no database in {data.absolute()}")
    own: dict[str, Any] = {"database_url": f"sqlite:///{file.absolute()}"}
    try:
        address, known = find_stack(data)
    except NoStackError:
        if running:
            raise
        return settings.model_copy(update=own | _queue(data))
    return settings.model_copy(update=own | _queue(data) | _storage(address, known))


@contextmanager
def service_database(settings: Settings, *, process: str) -> Iterator["Database"]:
    """The database of the service. No file is made where there is none. Raises NoDatabaseError."""
    from shared.database import Database

    database = Database.of(settings, process=process)
    try:
        file = database.url.database
        if database.is_sqlite and file and not Path(file).is_file():
            raise NoDatabaseError(f"There is no database {Path(file).absolute()}")
        yield database
    finally:
        database.close()


def refuse_empty(database: "Database") -> None:
    """Raise NoDatabaseError if the database has no tables of the service."""
    if database.revisions()[0] is None:
        raise NoDatabaseError(
            f"The database {database.url.render_as_string()} has no tables of this service"
        )


def _queue(data: Path) -> dict[str, Any]:
    try:
        port = int(json.loads((data / PORTS_FILE).read_text())["redis"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {"redis_url": f"redis://{LOOPBACK}:{port}/0"}


def _storage(address: StackAddress, known: StackSecrets) -> dict[str, Any]:
    return {
        "s3_endpoint_url": address.s3_url,
        "s3_bucket": "matting",
        "s3_addressing": "auto",
        "s3_encryption": None,
        "s3_kms_key_id": None,
        "aws_access_key_id": SecretStr(known.s3_access_key),
        "aws_secret_access_key": SecretStr(known.s3_secret_key),
        "aws_session_token": None,
    }
