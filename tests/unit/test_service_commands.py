"""Operators' commands: which system they work on, and what they say where there is none."""

import fcntl
import json
import shutil
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli import app
from deploy.commands.arguments import connect
from deploy.commands.disk_usage import disk_usage
from deploy.commands.service import service_settings
from deploy.stack.address import (
    ADDRESS_FILE,
    LOCK_FILE,
    SECRETS_FILE,
    StackSecrets,
    find_stack,
    read_secrets,
    write_secrets,
)
from deploy.stack.data_folder import lock_folder
from deploy.stack.ports import PORTS_FILE
from deploy.stack.stack import Stack
from shared.database import Database
from shared.errors import (
    DatabaseError,
    DataDamagedError,
    NoDatabaseError,
    NoStackError,
    SetupError,
    StackRunningError,
)
from shared.settings import Settings

AWAY = "postgresql+psycopg://matting@127.0.0.1:1/matting"


def call(*arguments: str) -> tuple[int, str]:
    """Exit status and all output of a command, with errors as the command line maps them."""
    done = CliRunner().invoke(app, arguments)
    if isinstance(done.exception, SetupError):
        return 2, done.exception.message
    return done.exit_code, done.output


@pytest.mark.parametrize(
    "command",
    [
        ["upgrade-check"],
        ["disk-usage"],
        ["purge", "--yes", "--label", "a=b"],
        ["keys", "list"],
        ["keys", "create", "shop"],
    ],
    ids=lambda command: command[0],
)
def test_without_a_database_a_command_says_so_and_makes_no_file(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, said = call(*command, "--data", str(tmp_path / "nothing"))
    assert status == 2
    assert "matting up" in said
    assert "--data" in said
    monkeypatch.setenv("MATTING_DATABASE_URL", "sqlite:///elsewhere.db")
    assert call(*command)[0] == 2
    assert not list(tmp_path.iterdir())


def test_the_commands_find_the_system_of_a_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matting.db").touch()
    (tmp_path / PORTS_FILE).write_text(json.dumps({"redis": 1234}))
    stopped = service_settings(tmp_path)
    assert stopped.redis_url == "redis://127.0.0.1:1234/0"
    with pytest.raises(NoStackError):
        service_settings(tmp_path, running=True)
    (tmp_path / ADDRESS_FILE).write_text(
        json.dumps({"api_url": "http://a", "flower_url": "http://f", "s3_url": "http://s"})
    )
    (tmp_path / SECRETS_FILE).write_text(
        json.dumps({"s3_access_key": "x", "s3_secret_key": "y", "api_key": "z"})
    )
    found = service_settings(tmp_path, running=True)
    assert found.database_url == f"sqlite:///{tmp_path / 'matting.db'}"
    assert found.s3_endpoint_url == "http://s"
    assert found.aws_secret_access_key is not None
    assert found.aws_secret_access_key.get_secret_value() == "y"
    monkeypatch.setenv("MATTING_DATABASE_URL", AWAY)
    assert service_settings(tmp_path).database_url == AWAY


def test_a_stack_that_was_killed_is_not_taken_for_a_running_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ADDRESS_FILE).write_text(
        json.dumps({"api_url": "http://127.0.0.1:1", "flower_url": "", "s3_url": ""})
    )
    (tmp_path / SECRETS_FILE).write_text(
        json.dumps({"s3_access_key": "x", "s3_secret_key": "y", "api_key": "z"})
    )
    with (tmp_path / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert find_stack(tmp_path)[1].api_key == "z"
    with pytest.raises(NoStackError, match="killed"):
        find_stack(tmp_path)


def test_a_start_waits_for_a_command_that_looks_whether_one_runs(tmp_path: Path) -> None:
    with (tmp_path / LOCK_FILE).open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        letting_go = threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN))
        letting_go.start()
        with lock_folder(tmp_path), pytest.raises(StackRunningError):
            lock_folder(tmp_path)
        letting_go.join()


@pytest.mark.parametrize("text", ["", "{", '{"api_key": "z"}'])
def test_damaged_secrets_are_named_before_anything_starts(text: str, tmp_path: Path) -> None:
    """A full disk or a power cut may leave them."""
    (tmp_path / SECRETS_FILE).write_text(text)
    with pytest.raises(DataDamagedError, match=SECRETS_FILE), Stack(tmp_path):
        pass


def test_secrets_are_for_their_owner_whatever_an_interrupted_start_left(tmp_path: Path) -> None:
    (tmp_path / f"{SECRETS_FILE}.part").write_text("{")
    known = StackSecrets("x", "y", "z")
    write_secrets(tmp_path, known)
    assert read_secrets(tmp_path) == known
    [file] = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [
        ("http://shop.example", "", "MATTING_API_KEY is not"),
        ("", "mtk_x", "MATTING_API_URL is not"),
        ("shop.example:8000", "mtk_x", "http://"),
    ],
)
def test_half_an_address_is_no_other_system(
    url: str, key: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack that runs in this folder must not get what was meant for another system."""
    monkeypatch.setenv("MATTING_API_URL", url)
    monkeypatch.setenv("MATTING_API_KEY", key)
    with pytest.raises(NoStackError, match=said):
        connect(tmp_path)


def test_a_database_without_tables_is_named(tmp_path: Path) -> None:
    (tmp_path / "matting.db").touch()
    with pytest.raises(NoDatabaseError, match="no tables"):
        disk_usage(Settings(database_url=f"sqlite:///{tmp_path / 'matting.db'}"))


def test_migrate_says_where_it_made_a_database(
    tmp_path: Path, migrated_sqlite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def copied(self: Database) -> None:
        shutil.copyfile(migrated_sqlite, tmp_path / "matting.db")

    monkeypatch.setattr(Database, "migrate", copied)
    assert f"Made {tmp_path / 'matting.db'}" in call("migrate")[1]
    assert "Made" not in call("migrate")[1]


@pytest.mark.parametrize("method", ["migrate", "unapplied", "revisions"])
def test_a_database_that_is_away_is_one_sentence(method: str) -> None:
    database = Database(AWAY, process="tests")
    with pytest.raises(DatabaseError, match="did not answer"):
        getattr(database, method)()


def test_without_a_terminal_purge_asks_for_its_option() -> None:
    status, said = call("purge", "--label", "customer=4711")
    assert (status, "add --yes" in said) == (2, True)


def test_a_key_needs_a_name() -> None:
    assert call("keys", "create", " ")[0] == 2
