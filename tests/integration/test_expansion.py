"""Listing sources in the background, when the database fails or the job ends half-way."""

import io
import os
import time
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.sources import expansion
from api.sources.expansion import Expander
from api.sources.listing import PHOTOS_PER_PAGE
from shared import database as module
from shared import job_store
from shared.database import Database
from shared.errors import DatabaseError
from shared.jobs import ItemKind
from shared.models import Item, Job
from shared.object_url import ObjectUrl
from shared.settings import Settings
from shared.storage import Storage
from tests.waiting import eventually

PHOTOS = 2 * PHOTOS_PER_PAGE + 1
CLIP = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 9_000


@pytest.fixture
def impatient(migrated_postgresql: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """PostgreSQL that reports a lock conflict at once instead of waiting."""
    monkeypatch.setattr(module, "LOCK_TIMEOUT_MS", 200)
    url = migrated_postgresql.url.render_as_string(hide_password=False)
    database = Database(url, process="tests")
    yield database
    database.close()


def submit(database: Database, storage: Storage, jpeg: bytes) -> uuid.UUID:
    """A job of a zip file that is listed in three pages."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("0.mp4", CLIP)
        for number in range(1, PHOTOS):
            archive.writestr(f"{number}.jpg", jpeg)
    place = f"uploads/key/{uuid.uuid4()}.zip"
    storage.put(place, packed.getvalue(), "application/zip")
    values: dict[str, Any] = {"options": {}, "priority": 5, "labels": {}}
    values["source"] = {"kind": "zip", "object": f"s3://{storage.bucket}/{place}"}
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "tests")
        return job_store.create_job(session, api_key_id=key.id, **values).id


def open_files_without_a_name() -> int:
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += "(deleted)" in os.readlink(entry)
        except OSError:  # the pages that list them
            continue
    return found


def test_a_page_that_was_not_written_is_listed_again(
    impatient: Database, migrated_postgresql: Database, storage: Storage, settings: Settings,
    jpeg: bytes,
) -> None:  # fmt: skip
    job_id = submit(impatient, storage, jpeg)
    expander = Expander(impatient, storage, settings)
    assert expander.expand_page(job_id)
    with migrated_postgresql.transaction() as session:
        session.execute(sa.select(Job).where(Job.id == job_id).with_for_update())
        with pytest.raises(DatabaseError):
            expander.expand_page(job_id)
    while expander.expand_page(job_id):
        pass
    with impatient.transaction() as session:
        job = session.get_one(Job, job_id)
        assert (job.total, job.error_code) == (PHOTOS, None)
        items = {one.name: one for one in session.scalars(sa.select(Item).filter_by(job_id=job_id))}
    assert set(items) == {"0.mp4", *(f"{number}.jpg" for number in range(1, PHOTOS))}
    clip = items["0.mp4"]
    assert clip.kind is ItemKind.CLIP
    assert storage.get(storage.bucket, ObjectUrl.parse(clip.source, "").key, 10**8) == CLIP


def test_a_job_that_ends_while_it_is_listed_leaves_no_file_open(
    database: Database, storage: Storage, settings: Settings, jpeg: bytes
) -> None:
    before = open_files_without_a_name()
    job_id = submit(database, storage, jpeg)
    expander = Expander(database, storage, settings)
    expander.round()
    assert open_files_without_a_name() == before + 1
    with database.transaction() as session:
        job_store.cancel_job(session, job_id)
    expander.round()
    assert open_files_without_a_name() == before


def test_a_prefix_lists_its_photos_and_no_system_files(
    database: Database, storage: Storage, settings: Settings, jpeg: bytes
) -> None:
    prefix = f"spring-{uuid.uuid4().hex}/"
    never = ["list.csv", ".DS_Store", "a/Thumbs.db", "a/._shoe.jpg", "__MACOSX/shoe.jpg"]
    never += ["a_$folder$", "shoe.xmp", "@eaDir/shoe.jpg", "desktop.ini"]
    for name in ["shoe.jpg", "a/bag.HEIC", "a/readme.txt", *never]:
        storage.put(prefix + name, jpeg, "image/jpeg")
    with database.transaction() as session:
        job_id = job_store.create_job(
            session,
            api_key_id=job_store.create_api_key(session, "tests")[0].id,
            options={},
            priority=5,
            labels={},
            source={"kind": "prefix", "prefix": f"s3://{storage.bucket}/{prefix}"},
        ).id
    expander = Expander(database, storage, settings)
    while expander.expand_page(job_id):
        pass
    with database.transaction() as session:
        names = session.scalars(sa.select(Item.name).where(Item.job_id == job_id))
        assert sorted(names) == ["a/bag.HEIC", "a/readme.txt", "shoe.jpg"]
        assert session.get_one(Job, job_id).expanded_at is not None


class Slow(Storage):
    """The real storage, which takes longer than a lease to deliver a zip file."""

    downloads = 0

    def stream(self, bucket: str, key: str) -> Iterator[bytes]:
        Slow.downloads += 1
        yield from super().stream(bucket, key)
        time.sleep(1.5 * expansion.LEASE_S)


def test_a_job_whose_zip_file_takes_long_to_fetch_is_listed_by_one_process(
    database: Database, settings: Settings, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "LEASE_S", 4.0)
    monkeypatch.setattr(expansion, "IDLE_S", 0.1)
    Slow.downloads = 0
    with closing(Slow(settings)) as storage:
        job_id = submit(database, storage, jpeg)
        two = [Expander(database, storage, settings) for _ in range(2)]
        for one in two:
            one.start()
        eventually(lambda: expanded(database, job_id), "the job to be listed", 60)
        for one in two:
            one.stop()
    assert Slow.downloads == 1


def expanded(database: Database, job_id: uuid.UUID) -> bool:
    with database.transaction() as session:
        return session.get_one(Job, job_id).expanded_at is not None


def zip_bytes(database: Database, storage: Storage, job_id: uuid.UUID) -> int:
    with database.transaction() as session:
        place = session.get_one(Job, job_id).source["object"]
    return storage.size(storage.bucket, place.partition(f"{storage.bucket}/")[2])


def test_zip_files_that_fit_one_at_a_time_are_listed_one_at_a_time(
    database: Database, storage: Storage, settings: Settings, jpeg: bytes
) -> None:
    jobs = [submit(database, storage, jpeg) for _ in range(3)]
    room = int(1.5 * zip_bytes(database, storage, jobs[0]))
    small = settings.model_copy(update={"archive_disk_bytes": room})
    expander, before = Expander(database, storage, small), open_files_without_a_name()
    while not all(expanded(database, job_id) for job_id in jobs):
        expander.round()
        assert open_files_without_a_name() <= before + 1
    with database.transaction() as session:
        found = [session.get_one(Job, job_id) for job_id in jobs]
        assert [(job.total, job.error_code) for job in found] == [(PHOTOS, None)] * 3


def test_a_zip_file_that_does_not_fit_on_the_disk_is_not_fetched(
    database: Database, storage: Storage, settings: Settings, jpeg: bytes
) -> None:
    job_id = submit(database, storage, jpeg)
    room = zip_bytes(database, storage, job_id) - 1
    small = settings.model_copy(update={"archive_disk_bytes": room})
    Expander(database, storage, small).round()
    with database.transaction() as session:
        job = session.get_one(Job, job_id)
        assert (job.total, job.error_code) == (0, "archive-too-large")
