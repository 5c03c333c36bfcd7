"""Watched prefixes on real S3 and both databases: each object once, whoever looks and dies."""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from api.background import watcher as module
from api.background.watcher import Watcher, is_photo_name
from shared import job_store
from shared.database import Database, now
from shared.errors import StorageError
from shared.models import ApiKey, Item, Job, Watch, WatchedObject
from shared.settings import Settings
from shared.storage import ListedObject, Storage
from tests.integration.stored_jobs import limit_images, new_key


@pytest.fixture
def bucket(settings: Settings) -> Iterator[Storage]:
    """The customer's bucket."""
    storage = Storage(settings.model_copy(update={"s3_bucket": "photos"}))
    yield storage
    storage.close()


@pytest.fixture
def folder(bucket: Storage) -> Iterator[str]:
    """A prefix of its own, removed at the end."""
    name = f"inbox-{uuid.uuid4().hex}/"
    yield name
    bucket.delete_many(list(bucket.list_keys(name)))


@pytest.fixture
def watcher(database: Database, storage: Storage, settings: Settings) -> Watcher:
    return Watcher(database, storage, settings)


def put(bucket: Storage, folder: str, *names: str, data: bytes = b"photo") -> None:
    for name in names:
        bucket.put(folder + name, data, "image/jpeg")


def new_watch(
    database: Database,
    folder: str,
    key: uuid.UUID | None = None,
    destination: str | None = None,
    **other: bool,
) -> Watch:
    values = {"existing": True, "ascending": False} | other
    with database.transaction() as session:
        return job_store.create_watch(
            session,
            api_key_id=key or job_store.create_api_key(session, "tests")[0].id,
            prefix=f"s3://photos/{folder}",
            options={},
            priority=5,
            labels={"shop": "north"},
            every_s=60,
            limit=20,
            destination=destination,
            **values,
        )


def look(database: Database, watcher: Watcher, watch: Watch, pages: int = 1) -> Watch:
    """Let the watch look now, these many pages; returns it as it is then."""
    for page in range(pages):
        with database.transaction() as session:
            found = session.get_one(Watch, watch.id)
            if page == 0 and found.next_look_at is not None:
                found.next_look_at = now(session)
        watcher.look(found)
    with database.transaction() as session:
        return session.get_one(Watch, watch.id)


def submitted(database: Database, folder: str) -> Counter[str]:
    """How often each object became an image."""
    with database.transaction() as session:
        sources = session.scalars(sa.select(Item.source).where(Item.source.contains(folder)))
        return Counter(source.partition(folder)[2] for source in sources)


def jobs(database: Database) -> list[Job]:
    with database.transaction() as session:
        return list(session.scalars(sa.select(Job).order_by(Job.id)))


def test_each_object_becomes_an_image_once_and_again_when_its_bytes_change(
    database: Database, watcher: Watcher, bucket: Storage, folder: str
) -> None:
    put(bucket, folder, "a.jpg", "sub/b.PNG", "no-ending", ".DS_Store", "list.csv", "page.pdf")
    bucket.put(f"{folder}empty.jpg", b"", "image/jpeg")
    watch = new_watch(database, folder)
    first = look(database, watcher, watch)
    assert submitted(database, folder) == {"a.jpg": 1, "sub/b.PNG": 1, "no-ending": 1}
    assert (first.submitted, first.left_out, first.objects, first.look_requests) == (3, 4, 7, 1)
    [job] = jobs(database)
    assert job.labels == {"shop": "north", "watch": str(watch.id)}
    assert (job.total, job.expanded_at is not None) == (3, True)
    with database.transaction() as session:
        names = session.scalars(sa.select(Item.name).order_by(Item.position)).all()
    assert sorted(names) == ["a.jpg", "no-ending", "sub/b.PNG"]

    put(bucket, folder, "c.jpg")
    put(bucket, folder, "a.jpg", data=b"another photo")
    second = look(database, watcher, watch)
    look(database, watcher, watch)
    assert submitted(database, folder) == {"a.jpg": 2, "sub/b.PNG": 1, "no-ending": 1, "c.jpg": 1}
    assert (second.submitted, second.left_out, len(jobs(database))) == (5, 4, 2)

    bucket.delete_many([f"{folder}c.jpg"])  # gone and back: new
    look(database, watcher, watch)
    put(bucket, folder, "c.jpg")
    look(database, watcher, watch)
    assert submitted(database, folder)["c.jpg"] == 2


def test_what_was_there_before_is_left_unless_it_is_asked_for(
    database: Database,
    watcher: Watcher,
    bucket: Storage,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EXISTED_FOR", timedelta(seconds=-60))  # everything is old
    put(bucket, folder, "old.jpg")
    watch = new_watch(database, folder, existing=False)
    look(database, watcher, watch)
    put(bucket, folder, "new.jpg")
    look(database, watcher, watch)
    assert submitted(database, folder) == {"new.jpg": 1}
    put(bucket, folder, "old.jpg", data=b"changed")
    look(database, watcher, watch)
    assert submitted(database, folder) == {"new.jpg": 1, "old.jpg": 1}


def test_a_look_of_many_pages_is_one_job_and_goes_on_after_a_crash(
    database: Database,
    watcher: Watcher,
    storage: Storage,
    settings: Settings,
    bucket: Storage,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_pages(monkeypatch, 2)
    put(bucket, folder, *(f"{number}.jpg" for number in range(5)))
    watch = new_watch(database, folder)
    look(database, watcher, watch)
    [job] = jobs(database)
    assert (job.total, job.expanded_at) == (2, None)
    with database.transaction() as session:
        assert job_store.unexpanded_jobs(session) == []  # nobody else lists it

    def dies(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job_store, "add_watched_page", dies)
        with pytest.raises(KeyboardInterrupt):
            look(database, watcher, watch)
    ended = look(database, Watcher(database, storage, settings), watch, 2)
    assert submitted(database, folder) == {f"{number}.jpg": 1 for number in range(5)}
    [job] = jobs(database)
    assert (job.total, job.expanded_at is not None) == (5, True)
    assert (ended.objects, ended.look_requests, ended.cursor) == (5, 3, None)


def test_two_processes_that_look_at_once_take_each_object_once(
    database: Database,
    storage: Storage,
    settings: Settings,
    bucket: Storage,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_pages(monkeypatch, 3)
    put(bucket, folder, *(f"{number}.jpg" for number in range(12)))
    watch = new_watch(database, folder)
    both = threading.Barrier(2)

    def looks() -> None:
        mine = Watcher(database, storage, settings)
        for _ in range(5):
            with database.transaction() as session:
                found = session.get_one(Watch, watch.id)
            both.wait(180)
            mine.look(found)
            both.wait(180)

    threads = [threading.Thread(target=looks) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert submitted(database, folder) == {f"{number}.jpg": 1 for number in range(12)}
    assert len(jobs(database)) == 1


def test_results_of_a_watch_have_keys_of_the_caller_and_a_collision_fails_one_photo_alone(
    database: Database, watcher: Watcher, bucket: Storage, folder: str
) -> None:
    template = "s3://matting/cutouts/{path}.{ext}"
    watcher._settings = watcher._settings.model_copy(update={"destinations": "s3://matting/"})
    put(bucket, folder, "a.jpg", "b.jpg", "b.png", "c.jpg", "d.jpg", "d.webp")
    watch = look(database, watcher, new_watch(database, folder, destination=template))
    assert (watch.error_code, watch.submitted) == (None, 6)
    [job] = jobs(database)
    assert (job.destination, job.queued, job.failed) == (template, 4, 2)
    with database.transaction() as session:
        failed = session.scalars(sa.select(Item).where(Item.error_code == "bad-result-name")).all()
        assert [item.name for item in failed] == ["b.png", "d.webp"]
        assert "would both be written to s3://matting/cutouts/b.png" in str(failed[0].error_detail)

    watcher._settings = watcher._settings.model_copy(update={"destinations": ""})
    assert look(database, watcher, watch).error_code == "forbidden-destination"


def test_a_notification_brings_the_next_look_forward_and_none_is_lost(
    database: Database, watcher: Watcher, bucket: Storage, folder: str
) -> None:
    watch = look(database, watcher, new_watch(database, folder))

    def ask(pause_s: float) -> float:
        with database.transaction() as session:
            job_store.ask_for_look(session, session.get_one(Watch, watch.id), pause_s=pause_s)
        with database.transaction() as session:
            return wait_of(database, session.get_one(Watch, watch.id))

    assert wait_of(database, watch) == pytest.approx(60, abs=20)
    assert ask(30) == pytest.approx(30, abs=20), "no sooner than this after the last look"
    assert ask(0) <= 0
    ask(0)  # while the look is due or in progress: one more follows
    again = look(database, watcher, watch)
    assert wait_of(database, again) == pytest.approx(10, abs=9)
    assert wait_of(database, look(database, watcher, watch)) == pytest.approx(60, abs=20)
    with database.transaction() as session:
        job_store.pause_watch(session, session.get_one(Watch, watch.id))
        job_store.ask_for_look(session, session.get_one(Watch, watch.id), pause_s=0)
        assert session.get_one(Watch, watch.id).next_look_at is None


def test_ascending_keys_are_listed_behind_the_last_one(
    database: Database, watcher: Watcher, bucket: Storage, folder: str
) -> None:
    put(bucket, folder, "2026-01.jpg", "2026-02.jpg")
    watch = new_watch(database, folder, ascending=True)
    look(database, watcher, watch)
    put(bucket, folder, "2026-03.jpg", "2025-12.jpg")
    assert look(database, watcher, watch).objects == 1
    assert submitted(database, folder) == {
        "2026-01.jpg": 1,
        "2026-02.jpg": 1,
        "2026-03.jpg": 1,
    }
    with database.transaction() as session:
        assert session.scalars(sa.select(WatchedObject)).all() == []


def test_when_the_quota_ends_the_rest_waits_for_more(
    database: Database, watcher: Watcher, bucket: Storage, folder: str
) -> None:
    key = new_key(database)
    limit_images(database, key, 2)
    put(bucket, folder, "a.jpg", "b.jpg", "c.txt", "d.jpg", "e.jpg")
    watch = new_watch(database, folder, key)
    told = look(database, watcher, watch)
    assert (told.error_code, told.submitted, told.left_out) == ("quota-exceeded", 2, 1)
    with database.transaction() as session:
        assert told.next_look_at is not None
        assert told.next_look_at > now(session) + timedelta(seconds=1)
        job_store.ask_for_look(session, session.get_one(Watch, watch.id), pause_s=0)
    with database.transaction() as session:  # notifications do not make it look in vain
        assert session.get_one(Watch, watch.id).next_look_at == told.next_look_at
    assert jobs(database)[0].expanded_at is not None
    look(database, watcher, watch)
    limit_images(database, key, 3)
    assert look(database, watcher, watch).error_code == "quota-exceeded"
    limit_images(database, key, None)
    assert look(database, watcher, watch).error_code is None
    names = ("a.jpg", "b.jpg", "d.jpg", "e.jpg")
    assert submitted(database, folder) == dict.fromkeys(names, 1)


def test_a_source_that_fails_is_told_and_asked_less_and_less(
    database: Database,
    watcher: Watcher,
    bucket: Storage,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = new_watch(database, folder)
    put(bucket, folder, "a.jpg")

    def unavailable(*_: object, **__: object) -> None:
        raise StorageError("away")

    waits: list[float] = []
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "list_objects", unavailable)
        for _ in range(8):
            failed = look(database, watcher, watch)
            waits.append(wait_of(database, failed))
    assert (failed.error_code, failed.error_detail) == ("storage-unavailable", "away")
    assert waits[:3] == pytest.approx([120, 240, 480], abs=30)
    assert waits[-1] == pytest.approx(3_600, abs=30)
    again = look(database, watcher, watch)
    assert (again.error_code, again.failures, again.submitted) == (None, 0, 1)

    monkeypatch.setattr(Storage, "list_objects", lambda *_, **__: ([], True))
    before = submitted(database, folder)
    assert look(database, watcher, watch).error_code == "storage-unavailable"
    monkeypatch.undo()
    look(database, watcher, watch)
    assert submitted(database, folder) == before, "nothing was forgotten"

    with database.transaction() as session:
        session.get_one(Watch, watch.id).prefix = "s3://elsewhere/"
    assert look(database, watcher, watch).error_code == "forbidden-source"
    gone = Watcher(
        database, watcher._storage, watcher._settings.model_copy(
            update={"source_buckets": "elsewhere"}
        )
    )  # fmt: skip
    assert look(database, gone, watch).error_code == "source-not-found"


def test_a_prefix_that_is_too_large_says_so(
    database: Database,
    watcher: Watcher,
    bucket: Storage,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_pages(monkeypatch, 2)
    watcher._settings = watcher._settings.model_copy(update={"watch_max_objects": 3})
    put(bucket, folder, *"abcdef")
    watch = new_watch(database, folder)
    assert look(database, watcher, watch, 2).error_code == "watch-too-large"
    assert jobs(database)[0].expanded_at is not None


def test_paused_deleted_and_revoked_watches_do_not_look(
    database: Database, watcher: Watcher, bucket: Storage, folder: str
) -> None:
    key = new_key(database)
    watch = new_watch(database, folder, key)
    put(bucket, folder, "a.jpg")
    assert len(due(database)) == 1
    with database.transaction() as session:
        session.get_one(ApiKey, key).revoked_at = now(session)
    assert due(database) == []
    with database.transaction() as session:
        session.get_one(ApiKey, key).revoked_at = None
        job_store.pause_watch(session, session.get_one(Watch, watch.id))
    look(database, watcher, watch)
    assert due(database) == []
    with database.transaction() as session:
        job_store.resume_watch(session, session.get_one(Watch, watch.id))
    look(database, watcher, watch)
    assert submitted(database, folder) == {"a.jpg": 1}
    with database.transaction() as session:
        job_store.delete_watch(session, session.get_one(Watch, watch.id))
        assert job_store.list_watches(session, api_key_id=key) == []
        assert job_store.remove_deleted_watches(session, limit=1) == 2
        assert job_store.remove_deleted_watches(session, limit=1) == 1
        assert job_store.remove_deleted_watches(session, limit=1) == 0
    assert len(jobs(database)) == 1


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("shoe.jpg", True),
        ("a/b/SHOE.JPEG", True),
        ("shoe", True),
        ("shoe.v2.heic", True),
        ("film.mp4", True),
        ("film.srt", False),
        (".hidden.jpg", False),
        ("a/.trash/shoe.jpg", False),
        ("folder/", False),
        ("shoe.jpg.part", False),
    ],
)
def test_names_tell_what_can_be_a_photo(name: str, taken: bool) -> None:
    assert is_photo_name(name) is taken


def in_pages(monkeypatch: pytest.MonkeyPatch, keys: int) -> None:
    """List this many keys at a time."""
    whole = Storage.list_objects

    def some(
        self: Storage, source: object, *, after: str | None, limit: int = keys
    ) -> tuple[list[ListedObject], bool]:
        return whole(self, source, after=after, limit=limit)  # type: ignore[arg-type]

    monkeypatch.setattr(Storage, "list_objects", some)


def due(database: Database) -> list[uuid.UUID]:
    with database.transaction() as session:
        return [watch.id for watch in job_store.due_watches(session, limit=10)]


def wait_of(database: Database, watch: Watch) -> float:
    with database.transaction() as session:
        moment: datetime = now(session)
    assert watch.next_look_at is not None
    return (watch.next_look_at - moment).total_seconds()
