"""Privacy requests, disk usage by key, and what an upgrade meets."""

import json
import uuid
from pathlib import Path

import pytest

from api.background.sweeper import Sweeper
from deploy.commands.disk_usage import disk_usage
from deploy.commands.purge import _wait, parse_labels, run_purge
from deploy.commands.upgrade_check import run_upgrade_check
from shared import job_store
from shared.database import Database
from shared.errors import KeyNotFoundError, StackError
from shared.job_store import NewItem
from shared.queue import Celery, Message, publish_many, waiting_versions
from shared.settings import Settings
from shared.storage import Storage
from tests.integration.stored_jobs import new_job


@pytest.fixture
def tenants(settings: Settings, storage: Storage) -> dict[str, tuple[uuid.UUID, uuid.UUID]]:
    """Two keys with one job each, with files. Returns key and job of each."""
    database = Database(settings.database_url, process="tests")
    database.migrate()
    for old in storage.list_keys("jobs/"):
        storage.delete_many([old])
    for old in storage.list_keys("uploads/"):
        storage.delete_many([old])
    made = {}
    for name in ("leaves", "stays"):
        with database.transaction() as session:
            key, _ = job_store.create_api_key(session, name)
            upload = f"s3://{storage.bucket}/uploads/{key.id}/photo.jpg"
            job = job_store.create_job(
                session,
                api_key_id=key.id,
                options={},
                priority=5,
                labels={"customer": name},
                source={"kind": "uploads"},
            )
            job_store.add_items(session, job.id, [NewItem(name="photo.jpg", source=upload)])
            job_store.finish_expansion(session, job.id)
            made[name] = (key.id, job.id)
        for place in (f"jobs/{job.id}/0/result.png", f"jobs/{job.id}/0/thumbnail.webp"):
            storage.put(place, b"x" * 1000, "image/png")
        for file in ("photo.jpg", "never-used.jpg"):
            storage.put(f"uploads/{key.id}/{file}", b"x" * 500, "image/jpeg")
    database.close()
    return made


@pytest.mark.parametrize("by", ["key", "label"])
def test_a_customer_is_removed_and_the_report_says_so(
    by: str,
    tenants: dict[str, tuple[uuid.UUID, uuid.UUID]],
    settings: Settings,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.background.sweeper.SWEEP_EVERY_S", 0.2)
    key_id, job_id = tenants["leaves"]
    database = Database(settings.database_url, process="tests")
    sweeper = Sweeper(database, storage, settings)
    sweeper.start()
    try:
        report = run_purge(
            settings,
            key_id=key_id if by == "key" else None,
            labels={"customer": "leaves"} if by == "label" else {},
            wait_s=60,
        )
    finally:
        sweeper.stop()
    assert report.complete
    assert (report.jobs, report.images) == ([str(job_id)], 1)
    assert list(storage.list_keys(f"jobs/{job_id}/")) == []
    left = [name.rpartition("/")[2] for name in storage.list_keys(f"uploads/{key_id}/")]
    # a label is of jobs: what no job of it used belongs to the key
    assert left == ([] if by == "key" else ["never-used.jpg"])
    with database.transaction() as session:
        assert job_store.jobs_left(session, [job_id, tenants["stays"][1]]) == [tenants["stays"][1]]
        assert (job_store.get_api_key(session, key_id) is None) == (by == "key")
        assert job_store.images_of_jobs(session, [tenants["stays"][1]]) == 1
    assert len(list(storage.list_keys(f"uploads/{tenants['stays'][0]}/"))) == 2
    told = json.loads(report.as_json())
    assert told["elsewhere"]
    assert "photo.jpg" not in report.as_json(), "the report is kept longer than the photos"
    database.close()


def test_a_purge_that_nobody_finishes_says_what_is_left(
    tenants: dict[str, tuple[uuid.UUID, uuid.UUID]], settings: Settings
) -> None:
    key_id, job_id = tenants["leaves"]
    report = run_purge(settings, key_id=key_id, labels={}, wait_s=0)  # no API runs
    assert not report.complete
    assert report.jobs_left == [str(job_id)]
    assert report.objects_left == 4
    again = run_purge(settings, key_id=key_id, labels={}, wait_s=0)  # its key is revoked by now
    assert again.jobs == report.jobs
    assert (again.jobs_left, again.objects_left) == ([str(job_id)], 4)


def test_a_key_may_have_more_jobs_than_a_statement_has_parameters(
    migrated_postgresql: Database,
) -> None:
    job_id = new_job(migrated_postgresql, 3)
    ids = [job_id, *(uuid.uuid4() for _ in range(66_000))]
    with migrated_postgresql.transaction() as session:
        assert job_store.images_of_jobs(session, ids) == 3
    assert _wait(migrated_postgresql, ids, 0) == [job_id]


def test_a_purge_waits_for_the_jobs_of_all_pages(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.commands.purge.PAGE_JOBS", 1)
    database = Database(settings.database_url, process="tests")
    database.migrate()
    ids = [new_job(database, 0) for _ in range(4)]
    for removed in (ids[0], ids[2]):
        with database.transaction() as session:
            job_store.delete_job(session, removed)
            job_store.remove_job(session, removed)
    assert _wait(database, ids, 0) == [ids[1], ids[3]]
    database.close()


def test_wrong_names_are_refused(settings: Settings) -> None:
    Database(settings.database_url, process="tests").migrate()
    with pytest.raises(KeyNotFoundError):
        run_purge(settings, key_id=uuid.uuid4(), labels={}, wait_s=0)
    with pytest.raises(StackError, match="NAME=VALUE"):
        parse_labels(["customer"])


def test_disk_usage_is_listed_by_key(
    tenants: dict[str, tuple[uuid.UUID, uuid.UUID]], settings: Settings, storage: Storage
) -> None:
    storage.put(f"jobs/{uuid.uuid4()}/0/result.png", b"x" * 7, "image/png")
    storage.put("jobs/odd", b"x" * 2, "image/png")
    found = disk_usage(settings)
    for name in tenants:
        assert (found[name].jobs, found[name].objects, found[name].bytes) == (1, 4, 3000)
    assert (found["?"].objects, found["?"].bytes) == (2, 9)


def test_an_upgrade_check_names_tables_workers_and_messages(
    settings: Settings,
    queue: Celery,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "matting.db").touch()
    assert run_upgrade_check(settings) == 0
    said = capsys.readouterr().out
    assert "migration     0001  The first tables" in said, "before the first start"

    database = Database(settings.database_url, process="tests")
    database.migrate()
    with database.transaction() as session:
        job_store.register_worker(session, "w-1", {"version": "0.0.9"})
    database.close()
    messages = [
        Message(item_id=uuid.uuid4(), job_id=uuid.uuid4(), name="a.jpg", priority=priority)
        for priority in (0, 5, 9)
    ]
    publish_many(queue, messages)
    assert waiting_versions(queue) == {"1": 3}
    with queue.connection_for_write() as connection:
        connection.default_channel.client.rpush("matting", b"garbage")  # type: ignore[attr-defined]
    assert run_upgrade_check(settings) == 0
    said = capsys.readouterr().out
    assert "tables        up to date" in said
    assert "workers       1 of version 0.0.9" in said
    assert "4 messages; this version cannot read 1" in said
