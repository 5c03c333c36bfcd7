"""Groups of photos on their way through the queue: twice each, exactly once recorded, on both
databases.
"""

import io
import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import av
import cv2
import numpy as np
import PIL.Image
import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database
from shared.errors import MattingError
from shared.groups import MAX_GROUP_PHOTOS, NEVER, Measured
from shared.job_store import NewItem, NewVersion, Settlement, SettlementState, groups
from shared.jobs import ItemKind, ItemStatus, JobStatus, MadeBy
from shared.models import Item, ItemGroup, Job, new_id
from shared.options import Options
from shared.settings import Settings
from shared.storage import Storage
from tests.integration.stored_jobs import (
    LEASE_S,
    assert_counters_match_rows,
    expire_leases,
    finish,
    item_ids,
    limit_images,
    new_key,
    read,
)
from tests.integration.test_batch_runner import Flaky, Threshold
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.pipeline.pipeline import Pipeline

TURNTABLE = {"crop": True, "crop_margin": "10%", "turntable": True}


ON_POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
"""For tests that ask nothing of a database that the others don't ask of both."""


class Workers:
    """Workers on one database and storage."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        self.database, self.storage = database, storage
        self.store = Flaky(storage, 0)
        self.pipeline = Pipeline(Threshold(), self.store, settings)
        breaker = CircuitBreaker(storage.ping)
        self.runner = BatchRunner(database, self.pipeline, settings, "w1", breaker)
        self.settings = settings

    def due(self, job_id: uuid.UUID) -> list[dict[str, str]]:
        """The messages that are due."""
        with self.database.transaction() as session:
            return [one.kwargs() for one in job_store.publishable(session, job_id, ahead=99)]

    def run(self, job_id: uuid.UUID) -> list[str | None]:
        """Process what is due, once; returns words and codes."""
        results = self.runner.run_many(self.due(job_id))
        return [one.code if isinstance(one, MattingError) else one for one in results]

    def look(self, job_id: uuid.UUID) -> None:
        """What the thread `job-changes` does."""
        with self.database.transaction() as session:
            assert job_id in job_store.grouping_jobs(session, limit=9)
        while True:
            with self.database.transaction() as session:
                if not job_store.continue_grouping(session, job_id):
                    return


@pytest.fixture
def workers(database: Database, storage: Storage, settings: Settings) -> Iterator[Workers]:
    quick = settings.model_copy(update={"retry_base_s": 0.001, "max_attempts": 2})
    workers = Workers(database, storage, quick)
    yield workers
    workers.pipeline.close()


@pytest.fixture
def key(database: Database) -> uuid.UUID:
    return new_key(database)


def photo(left: int, width: int) -> bytes:
    """A red block on grey, as PNG."""
    pixels = np.full((300, 400, 3), 120, np.uint8)
    pixels[100:250, left : left + width] = (0, 0, 220)
    return bytes(cv2.imencode(".png", pixels)[1])


def submit(
    workers: Workers,
    key: uuid.UUID,
    photos: dict[str, bytes],
    options: dict[str, Any],
    group: str | None = "shoe",
) -> uuid.UUID:
    storage = workers.storage
    folder = uuid.uuid4().hex
    for name, data in photos.items():
        storage.put(f"in/{folder}/{name}", data, "image/png")
    with workers.database.transaction() as session:
        job = job_store.create_job(
            session,
            api_key_id=key,
            options=Options.model_validate(options).model_dump(mode="json"),
            priority=5,
            labels={},
            source={"kind": "keys"},
        )
        items = [
            NewItem(name=name, source=f"s3://{storage.bucket}/in/{folder}/{name}", group=group)
            for name in photos
        ]
        job_store.add_items(session, job.id, items)
        job_store.finish_expansion(session, job.id)
        return job.id


def rows(database: Database, job_id: uuid.UUID) -> list[Item]:
    with database.transaction() as session:
        statement = sa.select(Item).where(Item.job_id == job_id).order_by(Item.position)
        return list(session.scalars(statement))


THREE = {"1.png": photo(150, 100), "2.png": photo(120, 160), "10.png": photo(170, 60)}


def test_photos_of_a_group_get_one_frame_and_a_turntable(workers: Workers, key: uuid.UUID) -> None:
    job_id = submit(workers, key, THREE, TURNTABLE)
    assert workers.run(job_id) == ["waiting"] * 3
    assert [(one.status, one.result_key) for one in rows(workers.database, job_id)[:3]] == [
        (ItemStatus.QUEUED, None)
    ] * 3
    assert_counters_match_rows(workers.database, job_id)
    assert workers.run(job_id) == ["succeeded"] * 3
    assert read(workers.database, job_id).status is JobStatus.RUNNING
    assert workers.run(job_id) == ["succeeded"]
    assert workers.run(job_id) == []
    done = rows(workers.database, job_id)
    assert [one.attempts for one in done] == [2, 2, 2, 1]
    assert {one.matte_model for one in done[:3]} == {"builtin"}
    assert all((one.timings_ms or {})["predict"] > 0 for one in done[:3])
    sizes = []
    for one in done[:3]:
        data = workers.storage.get(workers.storage.bucket, one.result_key or "", 10**7)
        with PIL.Image.open(io.BytesIO(data)) as picture:
            sizes.append(picture.size)
            alpha = np.asarray(picture)[..., 3]
        assert int(np.nonzero((alpha > 127).any(1))[0][-1]) == 164, "the common baseline"
    assert set(sizes) == {(192, 180)}, "the widest subject of 160 x 150 and its margin"
    job = read(workers.database, job_id)
    assert (job.status, job.succeeded, job.total) == (JobStatus.FINISHED, 4, 4)
    assert job.pixels == 3 * 400 * 300
    assert_counters_match_rows(workers.database, job_id)
    with workers.database.transaction() as session:
        [usage] = job_store.usage_of(session, [key])
        assert (usage.images, usage.pixels) == (3, 3 * 400 * 300)


@ON_POSTGRESQL
def test_a_group_whose_frame_fails_ends_alone(
    workers: Workers, key: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = submit(workers, key, THREE, TURNTABLE)
    good = submit(workers, new_key(workers.database), {"x.png": photo(10, 50)}, {}, group=None)

    def fails(_: object) -> None:
        raise ValueError("no frame")

    monkeypatch.setattr(groups, "common_frame", fails)
    messages = [*workers.due(bad), *workers.due(good)]
    assert workers.runner.run_many(messages) == ["waiting"] * 3 + ["succeeded"]
    assert [(one.status, one.error_code, one.deaths) for one in rows(workers.database, bad)] == [
        (ItemStatus.FAILED, "internal-error", 0)
    ] * 3
    assert [(one.attempts, one.deaths) for one in rows(workers.database, good)] == [(1, 0)]
    assert read(workers.database, bad).status is JobStatus.FINISHED
    for job_id in (bad, good):
        assert_counters_match_rows(workers.database, job_id)
    assert workers.due(bad) == []


def turntable_of(workers: Workers, job_id: uuid.UUID) -> tuple[Item, Any, dict[str, Any]]:
    """The turntable's item, its animation and its JSON."""
    [item] = [one for one in rows(workers.database, job_id) if one.kind is ItemKind.TURNTABLE]
    assert item.outputs is not None
    bucket = workers.storage.bucket
    webp, viewer = (workers.storage.get(bucket, one["key"], 10**7) for one in item.outputs[:2])
    return item, PIL.Image.open(io.BytesIO(webp)), json.loads(viewer)


@ON_POSTGRESQL
def test_a_turntable_shows_the_results_in_order(workers: Workers, key: uuid.UUID) -> None:
    options = {**TURNTABLE, "group_by": "folder"}
    names = {f"shoe/{name}": THREE[name] for name in ("1.png", "10.png", "2.png")}
    job_id = submit(workers, key, {**names, "alone.png": photo(10, 50)}, options, group=None)
    assert [one["v"] for one in workers.due(job_id)] == ["4", "4", "4", "1"]
    results = [workers.run(job_id) for _ in range(3)]
    assert results == [["waiting"] * 3 + ["succeeded"], ["succeeded"] * 3, ["succeeded"]]
    item, picture, viewer = turntable_of(workers, job_id)
    assert (item.name, item.position, item.group_name) == ("shoe/turntable", 5, "shoe")
    assert [one["name"] for one in item.outputs or []] == [
        "shoe/turntable.webp",
        "shoe/turntable.json",
        "shoe/turntable.mp4",
    ]
    film = workers.storage.get(workers.storage.bucket, (item.outputs or [])[2]["key"], 10**7)
    with av.open(io.BytesIO(film), "r") as opened:
        colours = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
    assert [one.shape for one in colours] == [(180, 192, 3)] * 3
    assert colours[0][2, 2].min() > 245, "transparent places are white"
    assert colours[0][90, 96].tolist() == pytest.approx([220, 0, 0], abs=25)
    assert viewer["images"] == ["1.png", "2.png", "10.png"]
    assert (viewer["width"], viewer["height"], viewer["count"]) == (192, 180, 3)
    assert (picture.n_frames, picture.size) == (3, (192, 180))
    widths = []
    for number in range(3):
        picture.seek(number)
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        widths.append(int((alpha > 127).any(0).sum()))
    assert widths == pytest.approx([100, 160, 60], abs=2)
    with workers.database.transaction() as session:
        assert rows(workers.database, job_id)[0].group_name is not None
        assert session.get_one(Job, job_id).turntables_left == 0


def test_a_failed_photo_does_not_hold_the_others(workers: Workers, key: uuid.UUID) -> None:
    photos = {**THREE, "bad.png": THREE["1.png"][:500]}
    job_id = submit(workers, key, photos, TURNTABLE)
    assert workers.run(job_id) == ["waiting"] * 3 + ["truncated-image"]
    assert workers.run(job_id) == ["succeeded"] * 3
    assert workers.run(job_id) == ["succeeded"]
    item, picture, viewer = turntable_of(workers, job_id)
    assert (picture.n_frames, viewer["missing"], item.review_reasons) == (3, 1, ["incomplete"])

    # The photo is mended and tried again: the frame stays, and the turntable is made again.
    with workers.database.transaction() as session:
        frame = session.get_one(ItemGroup, (job_id, "shoe")).frame
        place = session.scalars(sa.select(Item.source).where(Item.name == "bad.png")).one()
    folder = place.removeprefix(f"s3://{workers.storage.bucket}/")
    workers.storage.put(folder, photo(140, 120), "image/png")
    with workers.database.transaction() as session:
        job_store.retry_failed(session, job_id)
    assert_counters_match_rows(workers.database, job_id)
    assert read(workers.database, job_id).turntables_left == 1
    assert workers.run(job_id) == ["succeeded"], "in one go: the frame is known"
    assert workers.run(job_id) == ["succeeded"]
    workers.look(job_id)
    assert workers.run(job_id) == []
    item, picture, viewer = turntable_of(workers, job_id)
    assert (picture.n_frames, viewer["missing"], item.review_reasons) == (4, 0, None)
    with workers.database.transaction() as session:
        assert session.get_one(ItemGroup, (job_id, "shoe")).frame == frame
        assert job_store.usage_of(session, [key])[0].images == 4
    assert read(workers.database, job_id).status is JobStatus.FINISHED
    assert_counters_match_rows(workers.database, job_id)


@ON_POSTGRESQL
def test_a_group_of_which_all_fail_ends_and_can_be_retried(
    workers: Workers, key: uuid.UUID
) -> None:
    job_id = submit(workers, key, {"a.png": b"", "b.png": b""}, TURNTABLE)
    assert workers.run(job_id) == ["empty-file"] * 2
    job = read(workers.database, job_id)
    assert (job.status, job.total, job.failed) == (JobStatus.FINISHED, 2, 2)
    for one in rows(workers.database, job_id):
        place = one.source.removeprefix(f"s3://{workers.storage.bucket}/")
        workers.storage.put(place, photo(100, 100), "image/png")
    with workers.database.transaction() as session:
        job_store.retry_failed(session, job_id)
    assert [workers.run(job_id) for _ in range(3)] == [
        ["waiting"] * 2,
        ["succeeded"] * 2,
        ["succeeded"],
    ]


@ON_POSTGRESQL
def test_a_message_that_comes_again_while_its_item_waits_does_nothing(
    workers: Workers, key: uuid.UUID
) -> None:
    job_id = submit(workers, key, THREE, TURNTABLE)
    messages = workers.due(job_id)
    assert workers.runner.run_many(messages[:2]) == ["waiting"] * 2
    assert workers.runner.run_many(messages[:2]) == [None] * 2
    assert workers.runner.run_many([messages[2], messages[2]]) == ["waiting"] * 2
    assert workers.runner.run_many(messages) == ["succeeded"] * 3
    assert workers.runner.run_many(messages) == [None] * 3
    assert [one.attempts for one in rows(workers.database, job_id)] == [2, 2, 2, 0]


def claim_all(database: Database, job_id: uuid.UUID) -> list[job_store.Claim]:
    with database.transaction() as session:
        return job_store.claim_many(
            session, item_ids(database, job_id), job_ids=[job_id], owner="w", lease_s=LEASE_S
        ).claims()


BOX = Measured(width=40, height=30, box=(0.2, 0.2, 0.8, 0.9))


@ON_POSTGRESQL
def test_two_workers_that_record_the_last_two_photos_at_once_let_all_go_on(
    workers: Workers, key: uuid.UUID, database: Database
) -> None:
    for _ in range(5):
        job_id = submit(workers, key, THREE, TURNTABLE)
        claims = claim_all(database, job_id)
        finish(database, [Settlement(claim=claims[0], measured=BOX)])
        both = threading.Barrier(2)

        def record(one: job_store.Claim, both: threading.Barrier = both) -> None:
            both.wait()
            finish(database, [Settlement(claim=one, measured=BOX)])

        threads = [threading.Thread(target=record, args=(one,)) for one in claims[1:]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = rows(database, job_id)
        assert [one.not_before == NEVER for one in found] == [False, False, False, True]
        assert len(workers.due(job_id)) == 3
        assert_counters_match_rows(database, job_id)


@ON_POSTGRESQL
def test_a_late_worker_cannot_record_a_first_pass_again(
    workers: Workers, key: uuid.UUID, database: Database
) -> None:
    job_id = submit(workers, key, {"1.png": THREE["1.png"]}, TURNTABLE)
    late = claim_all(database, job_id)
    expire_leases(database)
    with database.transaction() as session:
        assert job_store.release_expired_leases(session, max_attempts=3) == 1
    assert workers.run(job_id) == ["waiting"]
    states = finish(database, [Settlement(claim=late[0], measured=BOX)])
    assert states == [SettlementState.STALE]
    assert workers.run(job_id) == ["succeeded"]


@ON_POSTGRESQL
def test_a_photo_whose_workers_died_does_not_hold_the_others(
    workers: Workers, key: uuid.UUID, database: Database
) -> None:
    job_id = submit(workers, key, THREE, TURNTABLE)
    messages = workers.due(job_id)
    workers.runner.run_many(messages[:2])
    for _ in range(2):
        claim_all(database, job_id)
        expire_leases(database)
        with database.transaction() as session:
            assert job_store.release_expired_leases(session, max_attempts=2) == 1
    assert [one.status.value for one in rows(database, job_id)] == ["queued", "queued", "failed"]
    assert workers.due(job_id) == []
    workers.look(job_id)
    assert workers.run(job_id) == ["succeeded"] * 2
    assert workers.run(job_id) == ["succeeded"]
    assert read(database, job_id).status is JobStatus.FINISHED


@ON_POSTGRESQL
def test_a_second_pass_whose_worker_died_is_done_again(
    workers: Workers, key: uuid.UUID, database: Database
) -> None:
    """The first pass does not count as a try."""
    job_id = submit(workers, key, THREE, TURNTABLE)
    workers.run(job_id)
    claims = claim_all(database, job_id)
    assert len(claims) == 3
    expire_leases(database)
    with database.transaction() as session:
        assert job_store.release_expired_leases(session, max_attempts=2) == 3
    assert workers.run(job_id) == ["succeeded"] * 3


def test_nobody_goes_on_before_the_source_is_listed(workers: Workers, key: uuid.UUID) -> None:
    storage, database = workers.storage, workers.database
    places = {}
    for name, data in THREE.items():
        places[name] = f"in/{uuid.uuid4().hex}.png"
        storage.put(places[name], data, "image/png")
    with database.transaction() as session:
        job = job_store.create_job(
            session,
            api_key_id=key,
            options=Options.model_validate(TURNTABLE).model_dump(mode="json"),
            priority=5,
            labels={},
            source={"kind": "manifest"},
        )
        job_id = job.id

    def add(name: str) -> None:
        with database.transaction() as session:
            source = f"s3://{storage.bucket}/{places[name]}"
            job_store.add_page(
                session, job_id, [NewItem(name=name, source=source, group="g")], cursor=name
            )

    add("1.png")
    assert workers.run(job_id) == ["waiting"]
    assert workers.due(job_id) == []
    add("2.png")
    assert workers.run(job_id) == ["waiting"]
    with database.transaction() as session:
        job_store.finish_expansion(session, job_id)
    assert workers.due(job_id) == []
    workers.look(job_id)
    assert workers.run(job_id) == ["succeeded"] * 2


def test_cancel_and_pause_hold_for_waiting_photos(workers: Workers, key: uuid.UUID) -> None:
    job_id = submit(workers, key, THREE, TURNTABLE)
    messages = workers.due(job_id)
    workers.runner.run_many(messages[:2])
    with workers.database.transaction() as session:
        job_store.pause_job(session, job_id)
    assert workers.runner.run_many(messages) == [None] * 3
    with workers.database.transaction() as session:
        job_store.resume_job(session, job_id)
    running = claim_all(workers.database, job_id)
    assert len(running) == 1
    with workers.database.transaction() as session:
        job_store.cancel_job(session, job_id)
    states = finish(workers.database, [Settlement(claim=running[0], measured=BOX)])
    assert states == [SettlementState.CANCELLED]
    assert [one.status.value for one in rows(workers.database, job_id)] == ["cancelled"] * 3
    assert_counters_match_rows(workers.database, job_id)
    with workers.database.transaction() as session:
        assert job_store.images_left(session, key) is None


@ON_POSTGRESQL
def test_a_turntable_uses_no_quota(workers: Workers, key: uuid.UUID) -> None:
    limit_images(workers.database, key, 4)
    job_id = submit(workers, key, THREE, TURNTABLE)
    workers.run(job_id)
    with workers.database.transaction() as session:
        assert job_store.images_left(session, key) == 1
    workers.run(job_id)
    with workers.database.transaction() as session:
        assert job_store.images_left(session, key) == 1
    workers.run(job_id)
    with workers.database.transaction() as session:
        assert job_store.images_left(session, key) == 1


def test_a_version_of_a_photo_keeps_the_frame_and_one_of_the_turntable_is_made_anew(
    workers: Workers, key: uuid.UUID, database: Database
) -> None:
    job_id = submit(workers, key, THREE, TURNTABLE)
    for _ in range(3):
        workers.run(job_id)
    narrow, *_, turntable = rows(database, job_id)

    def redo(item_id: uuid.UUID, options: dict[str, Any]) -> uuid.UUID:
        new = NewVersion(
            job_id=new_id(),
            item_id=new_id(),
            made_by=MadeBy.NETWORK,
            options=Options.model_validate(options).model_dump(mode="json"),
        )
        with database.transaction() as session:
            job_store.begin_version(session, item_id, new, api_key_id=key, kept=5)
        return new.job_id

    made = redo(narrow.id, {**TURNTABLE, "background": "#ffffff"})
    assert workers.due(made)[0]["v"] == "4"
    assert workers.run(made) == ["succeeded"]
    shown = rows(database, job_id)[0]
    assert shown.version == 2
    data = workers.storage.get(workers.storage.bucket, shown.result_key or "", 10**7)
    with PIL.Image.open(io.BytesIO(data)) as picture:
        assert (picture.size, picture.mode) == ((192, 180), "RGB")
    assert workers.run(redo(turntable.id, {"format": "jpeg", "background": "red"})) == ["succeeded"]
    item, picture, _ = turntable_of(workers, job_id)
    assert (item.version, picture.format, picture.n_frames) == (2, "WEBP", 3)
    assert np.asarray(picture.convert("RGBA"))[0, 0].tolist()[3] == 255, "the new result is white"


@pytest.mark.parametrize("loss", ["replaced", "gone"])
@ON_POSTGRESQL
def test_a_photo_is_matted_again_if_its_stored_matte_is_of_no_use(
    workers: Workers, key: uuid.UUID, loss: str
) -> None:
    job_id = submit(workers, key, THREE, TURNTABLE)
    workers.run(job_id)
    first = rows(workers.database, job_id)[0]
    if loss == "replaced":
        place = first.source.removeprefix(f"s3://{workers.storage.bucket}/")
        workers.storage.put(place, photo(130, 40), "image/png")
    else:
        key_of_matte = f"jobs/{job_id}/handover/{first.id}-matte.png"
        workers.storage.delete_many([key_of_matte])
    assert workers.run(job_id) == ["succeeded"] * 3
    done = rows(workers.database, job_id)[0]
    data = workers.storage.get(workers.storage.bucket, done.result_key or "", 10**7)
    with PIL.Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (192, 180)
        width = int((np.asarray(picture)[..., 3] > 127).any(0).sum())
    assert width == pytest.approx(40 if loss == "replaced" else 100, abs=2)


@ON_POSTGRESQL
def test_photos_beyond_the_limit_of_a_group_fail(workers: Workers, key: uuid.UUID) -> None:
    with workers.database.transaction() as session:
        job = job_store.create_job(
            session, api_key_id=key, options={}, priority=5, labels={}, source={"kind": "keys"}
        )
        items = [
            NewItem(name=f"{n}", source=f"s3://p/{n}", group="g")
            for n in range(MAX_GROUP_PHOTOS + 1)
        ]
        job_store.add_items(session, job.id, items[:2])
        job_store.add_items(session, job.id, items[2:])
        failed = session.scalars(sa.select(Item).where(Item.status == ItemStatus.FAILED)).all()
        assert [(one.name, one.error_code) for one in failed] == [("1000", "group-too-large")]


@ON_POSTGRESQL
def test_groups_are_removed_in_pages(workers: Workers, key: uuid.UUID) -> None:
    job_id = submit(workers, key, THREE, {})
    with workers.database.transaction() as session:
        assert job_store.remove_groups(session, job_id, limit=9) == 1
        assert job_store.remove_groups(session, job_id, limit=9) == 0
