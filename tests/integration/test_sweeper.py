"""The sweeper removes expired jobs with their files, and uploads that no job names."""

import io
import time
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from api.background import named_uploads
from api.background.orphaned_objects import ORPHAN_AGE, remove_orphans
from api.background.sweeper import Sweeper
from api.routes import job_report, pages
from api.sources.expansion import Expander
from shared import job_store
from shared.database import Database, Session, now
from shared.errors import JobNotFoundError, RemovalRefusedError
from shared.job_store import NewItem
from shared.models import Item, Job, Watch
from shared.settings import Settings
from shared.storage import Storage


@pytest.fixture
def files(storage: Storage) -> Iterator[Storage]:
    """The service's bucket, emptied."""
    storage.delete_many(list(storage.list_keys("")))
    yield storage
    storage.delete_many(list(storage.list_keys("")))


def sweep(database: Database, storage: Storage, settings: Settings, days: float) -> int:
    kept = settings.model_copy(update={"retention_days": days})
    return Sweeper(database, storage, kept).sweep()


def submit(database: Database, sources: list[str], **given: Any) -> uuid.UUID:
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "tests")
        values = {"options": {}, "priority": 5, "labels": {}, "source": {"kind": "keys"}, **given}
        job = job_store.create_job(session, api_key_id=key.id, **values)
        job_store.add_items(session, job.id, [NewItem(name=s, source=s) for s in sources])
        job_store.finish_expansion(session, job.id)
        return job.id


def watch(session: Session, api_key_id: uuid.UUID, options: dict[str, Any]) -> None:
    job_store.create_watch(
        session,
        api_key_id=api_key_id,
        prefix="s3://photos/inbox/",
        options=options,
        priority=5,
        labels={},
        every_s=60,
        existing=False,
        ascending=False,
        limit=9,
    )


def end(database: Database, job_id: uuid.UUID, *, days_ago: float) -> None:
    with database.transaction() as session:
        job_store.cancel_job(session, job_id)
        ended = now(session) - timedelta(days=days_ago)
        session.execute(sa.update(Job).where(Job.id == job_id).values(finished_at=ended))


def test_only_jobs_that_ended_long_ago_expire_with_their_files(
    database: Database, files: Storage, settings: Settings
) -> None:
    old, young, going = (submit(database, ["s3://photos/a.jpg"]) for _ in range(3))
    for job_id in (old, young, going):
        files.put(f"jobs/{job_id}/results/a.png", b"x", "image/png")
    end(database, old, days_ago=31)
    end(database, young, days_ago=29)
    assert sweep(database, files, settings, 30) == 1
    left = {key.split("/")[1] for key in files.list_keys("jobs/")}
    assert left == {str(young), str(going)}
    with database.transaction() as session:
        assert set(session.scalars(sa.select(Job.id))) == {young, going}
        assert old not in set(session.scalars(sa.select(Item.job_id)))


@pytest.mark.parametrize(
    ("days", "gone"),
    [(0, set()), (1, set()), (1e-9, {"lost"})],
    ids=["no limit", "younger", "older"],
)
def test_uploads_that_no_job_names_expire(
    database: Database, files: Storage, settings: Settings, days: float, gone: set[str]
) -> None:
    names = ("photo", "list", "behind", "behind-one", "behind-watched", "lost")
    urls = {name: f"s3://{files.bucket}/uploads/key/{name}" for name in names}
    for name in names:
        files.put(f"uploads/key/{name}", b"x", "image/jpeg")
    submit(
        database,
        [urls["photo"]],
        options={"background": {"image": urls["behind"]}},
        source={"kind": "manifest", "object": urls["list"]},
    )
    own = {"background": {"image": urls["behind-one"]}}
    with database.transaction() as session:
        session.execute(sa.update(Item).values(options=own))
        watched = {"background": {"image": urls["behind-watched"]}}
        watch(session, session.scalars(sa.select(Job)).one().api_key_id, watched)
    assert sweep(database, files, settings, days) == 0
    left = {key.rpartition("/")[2] for key in files.list_keys("uploads/")}
    assert left == set(names) - gone


def test_a_deleted_job_leaves_the_uploads_that_are_backgrounds_of_others(
    database: Database, files: Storage, settings: Settings
) -> None:
    names = ("both", "watched", "own")
    urls = {name: f"s3://{files.bucket}/uploads/key/{name}" for name in names}
    for name in names:
        files.put(f"uploads/key/{name}", b"x", "image/jpeg")
    first = submit(database, list(urls.values()))
    submit(database, ["s3://photos/a.jpg"], options={"background": {"image": urls["both"]}})
    with database.transaction() as session:
        key_id = session.get_one(Job, first).api_key_id
        watch(session, key_id, {"background": {"image": urls["watched"]}})
        job_store.delete_job(session, first)
    assert sweep(database, files, settings, 30) == 1
    left = {key.rpartition("/")[2] for key in files.list_keys("uploads/")}
    assert left == {"both", "watched"}


def test_a_deleted_job_takes_the_photos_that_are_also_its_own_backgrounds(
    database: Database, files: Storage, settings: Settings
) -> None:
    """Without a limit of days nothing else would ever delete them."""
    names = ("of-job", "of-version", "of-one", "shared")
    urls = {name: f"s3://{files.bucket}/uploads/key/{name}" for name in names}
    behind = {name: {"background": {"image": url}} for name, url in urls.items()}
    for name in names:
        files.put(f"uploads/key/{name}", b"x", "image/jpeg")
    first = submit(database, list(urls.values()), options=behind["of-job"])
    version = submit(database, [urls["of-one"]], options=behind["of-version"])
    with database.transaction() as session:
        session.execute(sa.update(Job).where(Job.id == version).values(of_job_id=first))
        one = sa.update(Item).where(Item.job_id == first, Item.source == urls["of-one"])
        session.execute(one.values(options=behind["of-one"]))
        another = sa.update(Item).where(Item.job_id == first, Item.source == urls["shared"])
        session.execute(another.values(options=behind["shared"]))
    submit(database, ["s3://photos/a.jpg"], options=behind["shared"])
    with database.transaction() as session:
        job_store.delete_job(session, first)
    assert sweep(database, files, settings, 0) >= 1
    assert list(files.list_keys("uploads/")) == ["uploads/key/shared"]


def test_a_deleted_job_takes_the_photos_that_were_backgrounds_of_deleted_jobs_and_watches(
    database: Database, files: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named_uploads, "MOST_NAMES", 3)
    url = f"s3://{files.bucket}/uploads/key/one"
    files.put("uploads/key/one", b"x", "image/jpeg")
    behind = {"background": {"image": url}}
    sweeper = Sweeper(database, files, settings.model_copy(update={"retention_days": 0}))
    first, second, third = (submit(database, [url]) for _ in range(3))
    others = [submit(database, ["s3://photos/a.jpg"], options=behind) for _ in range(2)]
    with database.transaction() as session:
        watch(session, session.get_one(Job, first).api_key_id, behind)
        job_store.delete_job(session, first)
    assert sweeper.sweep() == 1
    assert list(files.list_keys("uploads/")), "others name it"
    with database.transaction() as session:
        for job_id in (*others, second):
            job_store.delete_job(session, job_id)
    assert sweeper.sweep() == 3
    assert list(files.list_keys("uploads/")), "the watch names it"
    with database.transaction() as session:
        job_store.delete_watch(session, session.scalars(sa.select(Watch)).one())
        job_store.delete_job(session, third)
    assert sweeper.sweep() == 1
    assert not list(files.list_keys("uploads/"))


def test_an_upload_that_very_many_jobs_have_as_their_background_stays(
    database: Database, files: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the newest of these jobs are known."""
    monkeypatch.setattr(named_uploads, "MOST_NAMES", 2)
    url = f"s3://{files.bucket}/uploads/key/one"
    files.put("uploads/key/one", b"x", "image/jpeg")
    behind = {"background": {"image": url}}
    sweeper = Sweeper(database, files, settings.model_copy(update={"retention_days": 0}))
    first = submit(database, [url])
    others = [submit(database, ["s3://photos/a.jpg"], options=behind) for _ in range(3)]
    with database.transaction() as session:
        for job_id in (first, *others[1:]):
            job_store.delete_job(session, job_id)
    assert sweeper.sweep() == 3
    assert list(files.list_keys("uploads/"))


def test_a_report_of_a_job_that_is_removed_meanwhile_does_not_look_complete(
    database: Database, files: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "ROWS_AT_ONCE", 1)
    job_id = submit(database, [f"s3://photos/{number}.jpg" for number in range(3)])
    with database.transaction() as session:
        job = session.get_one(Job, job_id)
    resources: Any = SimpleNamespace(database=database, storage=files)
    assert len(list(job_report.json_lines(resources, job))) == 3
    lines = job_report.json_lines(resources, job)
    next(lines)
    with database.transaction() as session:
        job_store.delete_job(session, job_id)
    assert sweep(database, files, settings, 30) == 1
    with pytest.raises(JobNotFoundError):
        list(lines)


def test_a_zip_file_that_two_jobs_name_stays_until_both_are_gone(
    database: Database, files: Storage, settings: Settings, jpeg: bytes
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/x.jpg", jpeg)
    files.put("uploads/key/photos.zip", packed.getvalue(), "application/zip")
    source = {"kind": "zip", "object": f"s3://{files.bucket}/uploads/key/photos.zip"}
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "tests")
        values: dict[str, Any] = {"options": {}, "priority": 5, "labels": {}, "source": source}
        jobs = [job_store.create_job(session, api_key_id=key.id, **values).id for _ in range(2)]
    expander, sweeper = Expander(database, files, settings), Sweeper(database, files, settings)
    for job_id in jobs:
        while expander.expand_page(job_id):
            pass
        with database.transaction() as session:
            assert session.get_one(Job, job_id).total == 1
    for job_id in jobs:
        assert list(files.list_keys("uploads/")) == ["uploads/key/photos.zip"]
        with database.transaction() as session:
            job_store.delete_job(session, job_id)
        assert sweeper.sweep() == 1
    assert list(files.list_keys("")) == []


def test_old_objects_without_a_job_are_removed(database: Database, files: Storage) -> None:
    known, deleted = (submit(database, ["s3://photos/a.jpg"]) for _ in range(2))
    lost, under_way = uuid.uuid4(), uuid.uuid4()
    for job_id in (known, deleted, lost):
        for number in range(2):
            files.put(f"jobs/{job_id}/inputs/{number:06d}", b"x", "image/jpeg")
    files.put("jobs/a-folder-of-someone-else/x", b"x", "image/jpeg")
    with database.transaction() as session:
        job_store.delete_job(session, deleted)
    every = set(files.list_keys("jobs/"))
    remove_orphans(database, files, datetime.now(UTC) - ORPHAN_AGE, go_on=lambda: True)
    assert set(files.list_keys("jobs/")) == every, "a submission may still be under way"

    time.sleep(1.1)  # the storage only has whole seconds
    between = datetime.now(UTC)
    files.put(f"jobs/{under_way}/inputs/000001", b"x", "image/jpeg")
    remove_orphans(database, files, between, go_on=lambda: False)
    assert set(files.list_keys("jobs/")) > every, "another process sweeps by now"
    remove_orphans(database, files, between, go_on=lambda: True)
    left = {key.split("/")[1] for key in files.list_keys("jobs/")}
    assert left == {str(known), str(deleted), str(under_way), "a-folder-of-someone-else"}


def test_a_job_whose_files_the_storage_keeps_holds_up_no_other(
    database: Database,
    files: Storage,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, other = (submit(database, ["s3://photos/a.jpg"]) for _ in range(2))
    for job_id, days in ((kept, 9), (other, 8)):
        files.put(f"jobs/{job_id}/results/a.png", b"x", "image/png")
        end(database, job_id, days_ago=days)
    remove = Storage.delete_many

    def refuses(storage: Storage, keys: Sequence[str]) -> None:
        if any(str(kept) in key for key in keys):
            raise RemovalRefusedError("The storage did not remove it: AccessDenied")
        remove(storage, keys)

    sweeper = Sweeper(database, files, settings.model_copy(update={"retention_days": 5}))
    monkeypatch.setattr(Storage, "delete_many", refuses)
    assert sweeper.sweep() == 1
    assert [key for key in files.list_keys("jobs/") if str(other) in key] == []
    monkeypatch.undo()
    sweeper._put_aside.wait(kept, 0)
    assert sweeper.sweep() == 1
    assert list(files.list_keys("jobs/")) == []


def test_a_job_waits_for_the_segments_of_a_version_of_its_items_and_holds_up_no_other(
    database: Database, files: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, version_id, part_id = (submit(database, ["s3://photos/a.jpg"]) for _ in range(3))

    def set_values(job_id: uuid.UUID, **values: Any) -> None:
        with database.transaction() as session:
            session.execute(sa.update(Job).where(Job.id == job_id).values(**values))

    set_values(version_id, of_job_id=job_id)
    set_values(part_id, of_job_id=version_id, queued=0, running=1)
    end(database, job_id, days_ago=9)
    looks, stop_versions = 0, job_store.stop_versions

    def counting(*given: Any, **named: Any) -> Any:
        nonlocal looks
        looks += 1
        assert looks < 9, "it looks again and again"
        return stop_versions(*given, **named)

    monkeypatch.setattr(job_store, "stop_versions", counting)
    sweeper = Sweeper(database, files, settings.model_copy(update={"retention_days": 5}))
    assert sweeper.sweep() == 0
    assert looks == 2
    set_values(part_id, running=0)
    sweeper._put_aside.wait(job_id, 0)
    looks = 0
    assert sweeper.sweep() >= 1
    with database.transaction() as session:
        assert [session.get(Job, one) for one in (job_id, version_id, part_id)] == [None] * 3
