"""Listing sources in the background, when the database fails or the job ends half-way."""

import errno
import io
import os
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.sources import expansion
from api.sources.expansion import PREFIXES_AT_ONCE, Expander
from api.sources.list_text import MAX_LINE_CHARS
from api.sources.zip_listing import PHOTOS_PER_PAGE, STORE_THREADS, ZIPS_AT_ONCE
from shared import database as module
from shared import job_store
from shared.database import Database
from shared.errors import DatabaseError
from shared.jobs import ItemKind
from shared.models import Item, Job
from shared.object_url import ObjectUrl
from shared.options import Options
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


def submit(database: Database, storage: Storage, jpeg: bytes, photos: int = PHOTOS) -> uuid.UUID:
    """A job of a zip file that is listed in three pages, or has fewer photos."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("0.mp4", CLIP)
        for number in range(1, photos):
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
    while not total(impatient, job_id):  # the zip file is downloaded meanwhile
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


def list_of_rows(
    database: Database, storage: Storage, lines: str, quota: int | None = None
) -> uuid.UUID:
    """A job of a list."""
    place = f"lists/{uuid.uuid4()}.jsonl"
    storage.put(place, lines.encode(), "application/jsonl")
    with database.transaction() as session:
        key, _ = job_store.create_api_key(session, "tests", images_per_month=quota)
        return job_store.create_job(
            session,
            api_key_id=key.id,
            options=Options().model_dump(mode="json"),
            priority=5,
            labels={},
            source={"kind": "manifest", "object": f"s3://{storage.bucket}/{place}"},
        ).id


def rows(numbers: range) -> str:
    return "".join(f'{{"key": "s3://photos/{number}.jpg"}}\n' for number in numbers)


@pytest.mark.parametrize(
    ("lines", "quota", "code", "total"),
    [
        (
            rows(range(3)) + "x" * 3 * MAX_LINE_CHARS + "\n" + rows(range(3, 6)),
            None,
            "bad-manifest",
            3,
        ),
        (rows(range(5)), 3, "quota-exceeded", 2),
    ],
    ids=["damaged", "beyond the quota"],
)
def test_an_error_that_could_not_be_recorded_is_met_again(
    lines: str, quota: int | None, code: str, total: int,
    database: Database, storage: Storage, settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """No page is left out, and no list counts as complete that was not read to its end."""
    monkeypatch.setattr("api.sources.listing.ROWS_PER_PAGE", 2)
    finish, refused = job_store.finish_expansion, 0

    def finish_at_second_try(*given: Any) -> None:
        nonlocal refused
        refused += 1
        if refused == 1:
            raise DatabaseError
        finish(*given)

    monkeypatch.setattr(job_store, "finish_expansion", finish_at_second_try)
    job_id = list_of_rows(database, storage, lines, quota)
    expander = Expander(database, storage, settings)
    while not expanded(database, job_id):
        with suppress(DatabaseError):
            expander.expand_page(job_id)
    with database.transaction() as session:
        job = session.get_one(Job, job_id)
        assert (refused, job.error_code, job.total) == (2, code, total)


class Slow(Storage):
    """The real storage, which takes longer than a lease to deliver a zip file."""

    downloads = 0

    def stream(self, bucket: str, key: str) -> Generator[bytes]:
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
        eventually(lambda: expanded(database, job_id), "the job to be listed")
        for one in two:
            one.stop()
    assert Slow.downloads == 1


class Hanging(Storage):
    """The real storage, which stores nothing until it may."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.asked, self.may_go_on = threading.Event(), threading.Event()

    def put(self, key: str, data: bytes | bytearray, content_type: str) -> None:
        if "/inputs/" in key:
            self.asked.set()
            assert self.may_go_on.wait(180)
        super().put(key, data, content_type)


def test_a_stop_while_the_storage_hangs_ends_no_job(
    database: Database, settings: Settings, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.periodic_task.STOP_S", 0.1)
    with closing(Hanging(settings)) as storage:
        job_id = submit(database, storage, jpeg)
        expander = Expander(database, storage, settings)
        expander.start()
        assert storage.asked.wait(180)
        expander.stop()
        storage.may_go_on.set()
        expander._thread.join(180)
        assert not expander._thread.is_alive()
        assert zip_bytes(database, storage, job_id) > 0, "it is still there"
        with database.transaction() as session:
            job = session.get_one(Job, job_id)
            assert (job.expanded_at, job.error_code) == (None, None)
        other = Expander(database, storage, settings)
        while not expanded(database, job_id):
            other.expand_page(job_id)
    assert total(database, job_id) == PHOTOS


class Counting(Storage):
    """The real storage; it notes which zip files are downloaded."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.downloads: list[str] = []

    def stream(self, bucket: str, key: str) -> Generator[bytes]:
        self.downloads.append(key)
        yield from super().stream(bucket, key)


def test_two_processes_share_the_zip_files_of_a_key_and_download_each_once(
    database: Database, settings: Settings, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.sources.places.KEPT_S", 0)
    monkeypatch.setattr("api.sources.zip_listing.PHOTOS_PER_PAGE", 2)
    with closing(Counting(settings)) as storage:
        jobs = [submit(database, storage, jpeg, photos=8) for _ in range(ZIPS_AT_ONCE)]
        with database.transaction() as session:  # all of one key, which may have half the places
            key = session.get_one(Job, jobs[0]).api_key_id
            session.execute(sa.update(Job).values(api_key_id=key))
        two = [Expander(database, storage, settings) for _ in range(2)]

        def rounds() -> bool:
            for one in two:
                one.round()
            return all(expanded(database, job_id) for job_id in jobs)

        eventually(rounds, "the jobs to be listed")
        assert len(storage.downloads) == len(jobs)


class NotingPages(Storage):
    """The real storage; it notes which prefixes are listed."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.listed: list[str] = []

    def list_page(self, source: ObjectUrl, *, after: str | None) -> list[str]:
        self.listed.append(source.key)
        return super().list_page(source, after=after)


def test_many_prefixes_of_one_key_hold_up_no_other_key(
    database: Database, settings: Settings, jpeg: bytes
) -> None:
    def prefix(api_key_id: uuid.UUID) -> uuid.UUID:
        source = {"kind": "prefix", "prefix": f"s3://{storage.bucket}/{folder}/"}
        values: dict[str, Any] = {"options": {}, "priority": 5, "labels": {}, "source": source}
        with database.transaction() as session:
            return job_store.create_job(session, api_key_id=api_key_id, **values).id

    with closing(NotingPages(settings)) as storage:
        folder = uuid.uuid4().hex
        for number in range(3):
            storage.put(f"{folder}/{number}.jpg", jpeg, "image/jpeg")
        with database.transaction() as session:
            keys = [job_store.create_api_key(session, name)[0].id for name in ("one", "other")]
        jobs = [prefix(keys[0]) for _ in range(3 * PREFIXES_AT_ONCE)]
        other = prefix(keys[1])
        expander = Expander(database, storage, settings)
        expander.round()
        assert total(database, other) == 3, "it had its turn in the first round"
        assert len(storage.listed) <= PREFIXES_AT_ONCE

        def rounds() -> bool:
            expander.round()
            return all(expanded(database, job_id) for job_id in [*jobs, other])

        eventually(rounds, "the jobs to be listed")
        assert {total(database, job_id) for job_id in jobs} == {3}


def expanded(database: Database, job_id: uuid.UUID) -> bool:
    with database.transaction() as session:
        return session.get_one(Job, job_id).expanded_at is not None


def total(database: Database, job_id: uuid.UUID) -> int:
    with database.transaction() as session:
        return session.get_one(Job, job_id).total


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


def test_a_zip_file_that_is_downloaded_holds_up_no_other_job(
    database: Database, settings: Settings, jpeg: bytes
) -> None:
    """Also the round ends meanwhile, and a cancelled job's download ends early."""
    go_on = threading.Event()

    class Hanging(Storage):
        def stream(self, bucket: str, key: str) -> Generator[bytes]:
            if key.endswith(".zip"):
                assert go_on.wait(180)
            yield from super().stream(bucket, key)

    with closing(Hanging(settings)) as storage:
        packed, cancelled = (submit(database, storage, jpeg) for _ in range(2))
        small = list_of_rows(database, storage, rows(range(3)))
        expander = Expander(database, storage, settings)
        while not expanded(database, small):
            expander.round()
        assert not go_on.is_set()
        assert not expanded(database, packed)
        with database.transaction() as session:
            job_store.cancel_job(session, cancelled)
        assert expander.round() > 0, "it waits, and does not ask again and again"
        go_on.set()
        eventually(lambda: expander.round() >= 0 and expanded(database, packed), "the zip file")
    with database.transaction() as session:
        assert session.get_one(Job, packed).total == PHOTOS


def test_many_zip_files_and_lists_open_few_threads_files_and_connections(
    database: Database, storage: Storage, settings: Settings, jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("api.sources.listing.ROWS_PER_PAGE", 1)
    monkeypatch.setattr("api.sources.places.KEPT_S", 0.0)
    monkeypatch.setattr(expansion, "LISTS_AT_ONCE", 2)
    zips = [submit(database, storage, jpeg, photos=3) for _ in range(ZIPS_AT_ONCE + 2)]
    lists = [list_of_rows(database, storage, rows(range(3))) for _ in range(5)]
    threads, files = threading.active_count(), open_files_without_a_name()
    expander = Expander(database, storage, settings)
    while not all(expanded(database, job_id) for job_id in zips + lists):
        expander.round()
        assert open_files_without_a_name() <= files + ZIPS_AT_ONCE
        assert threading.active_count() <= threads + ZIPS_AT_ONCE + STORE_THREADS
        assert len(expander._listings) <= ZIPS_AT_ONCE + 2
    with database.transaction() as session:
        for job_id in zips + lists:
            job = session.get_one(Job, job_id)
            assert (job.total, job.error_code) == (3, None)


def test_a_shortage_of_the_machine_ends_no_listing(
    database: Database, storage: Storage, settings: Settings, jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    short = [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread")]

    def file(*_: object) -> Any:
        if len(short) == 2:
            raise short.pop(0)
        return tempfile.SpooledTemporaryFile()

    job_id = submit(database, storage, jpeg, photos=3)
    expander = Expander(database, storage, settings)
    submit_one = expander._zips._storing.submit

    def refuse(*given: Any) -> Any:
        if short:
            raise short.pop(0)
        return submit_one(*given)

    monkeypatch.setattr(tempfile, "TemporaryFile", file)
    monkeypatch.setattr(expander._zips._storing, "submit", refuse)
    while not expanded(database, job_id):
        expander.round()
    assert short == []
    with database.transaction() as session:
        job = session.get_one(Job, job_id)
        assert (job.total, job.failed, job.error_code) == (3, 0, None)
