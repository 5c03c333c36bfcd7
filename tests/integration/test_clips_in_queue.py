"""Clips on their way through the queue: in segments that any worker takes, joined once."""

import errno
import io
import json
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY

from shared import job_store
from shared.database import Database, now
from shared.errors import MattingError, StorageError
from shared.job_store import NewItem
from shared.jobs import ItemKind, ItemStatus, JobStatus
from shared.kept_files import thumbnails_key
from shared.models import Delivery, Item, Job
from shared.object_url import ObjectUrl
from shared.options import Options
from shared.settings import Settings
from shared.storage import Storage
from shared.web import Web, WebLimits
from shared.webhooks import Event
from tests.integration.stored_jobs import (
    LEASE_S,
    assert_counters_match_rows,
    expire_leases,
    new_key,
    read,
)
from tests.integration.test_batch_runner import Threshold
from tests.waiting import eventually
from worker.concurrency.fifo_lock import FifoLock
from worker.concurrency.pixel_budget import PixelBudget
from worker.concurrency.shared_exclusive_lock import SharedExclusiveLock
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.pipeline import clips
from worker.pipeline.photo_sources import PhotoSources
from worker.pipeline.pipeline import Pipeline
from worker.video import encoders
from worker.video.steady import REACH

FRAMES, SEGMENT_FRAMES, SEGMENTS = 50, 20, 3


ON_POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
"""For tests that ask nothing of a database that the others don't ask of both."""


class Counting(Threshold):
    """A predictor without a network that counts frames."""

    batch_sizes = (1, 4)
    streams = 1
    frames = 0

    def predict_many(self, prepared: Any) -> Any:
        self.frames += len(prepared)
        self.on_predict(prepared)
        return super().predict_many(prepared)

    def on_predict(self, prepared: Any) -> None:
        """For tests that intervene."""


class Noting(PixelBudget):
    """A budget that notes what was taken, and what is held."""

    most = held = 0

    def acquire(self, pixels: int) -> int:
        taken = super().acquire(pixels)
        self.most, self.held = max(self.most, taken), self.held + taken
        return taken

    def release(self, pixels: int) -> None:
        super().release(pixels)
        self.held -= pixels


class Workers:
    """Two workers on one database and storage."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        self.database, self.storage = database, storage
        self.predictor = Counting()
        self.budget = Noting(settings.max_decoded_pixels)
        self.web = Web(WebLimits.of(settings))
        sources = PhotoSources(storage, self.web)
        self.pipelines = []
        self.runners = []
        self.stops: list[threading.Event] = []
        self.isolations: list[SharedExclusiveLock] = []
        for name in ("w1", "w2"):
            stops, isolation, turn = threading.Event(), SharedExclusiveLock(), FifoLock()
            pipeline = Pipeline(
                self.predictor,
                sources,
                settings,
                publisher=sources,
                files=sources,
                stopping=stops,
                pixel_budget=self.budget,
                isolation=isolation,
                clip_turn=turn,
            )
            breaker = CircuitBreaker(storage.ping)
            self.stops.append(stops)
            self.isolations.append(isolation)
            self.pipelines.append(pipeline)
            self.runners.append(
                BatchRunner(
                    database,
                    pipeline,
                    settings,
                    name,
                    breaker,
                    stopping=stops,
                    isolation=isolation,
                    clip_turn=turn,
                )
            )

    def due(self, job_id: uuid.UUID) -> list[dict[str, str]]:
        """The messages that are due, of a job and of the segments of its clips."""
        with self.database.transaction() as session:
            parts = sa.select(Job.id).where(Job.of_job_id == job_id, Job.deleted_at.is_(None))
            jobs = [job_id, *session.scalars(parts.order_by(Job.id))]
            return [
                one.kwargs()
                for job in jobs
                for one in job_store.publishable(session, job, ahead=99, urls=99)
            ]

    def run(self, job_id: uuid.UUID, worker: int = 0, most: int = 99) -> list[str | None]:
        """Process what is due, once; returns words and codes."""
        results = self.runners[worker].run_many(self.due(job_id)[:most])
        return [one.code if isinstance(one, MattingError) else one for one in results]

    def segments(self, job_id: uuid.UUID) -> list[Item]:
        with self.database.transaction() as session:
            statement = sa.select(Item).join(Job, Job.id == Item.job_id)
            statement = statement.where(Job.of_job_id == job_id).order_by(Item.position)
            return list(session.scalars(statement))

    def clip(self, job_id: uuid.UUID) -> Item:
        with self.database.transaction() as session:
            statement = sa.select(Item).where(Item.job_id == job_id, Item.kind == ItemKind.CLIP)
            return session.scalars(statement).one()

    def close(self) -> None:
        for pipeline in self.pipelines:
            pipeline.close()
        self.web.close()


@pytest.fixture
def workers(
    database: Database, storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workers]:
    monkeypatch.setattr(clips, "SEGMENT_FRAMES", SEGMENT_FRAMES)
    quick = settings.model_copy(update={"retry_base_s": 0.001, "max_attempts": 2})
    workers = Workers(database, storage, quick)
    yield workers
    workers.close()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Three segments."""
    return encoded(tmp_path_factory.mktemp("film") / "film.mp4", FRAMES)


def encoded(file: Path, frames: int) -> bytes:
    """A red block that moves over grey, at 25 frames a second."""
    with av.open(str(file), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "10", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv444p"
        for number in range(frames):
            pixels = np.full((64, 96, 3), 120, np.uint8)
            pixels[16:48, 10 + number : 40 + number] = (230, 0, 0)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(stream.encode(None))
    return file.read_bytes()


def submit(
    workers: Workers, film: bytes, options: dict[str, Any] | None = None, photo: bytes | None = None
) -> uuid.UUID:
    return submit_files(workers, {"film.mp4": film} | ({"a.jpg": photo} if photo else {}), options)


def submit_files(
    workers: Workers,
    files: dict[str, bytes],
    options: dict[str, Any] | None = None,
    destination: str | None = None,
    url: str | None = None,
) -> uuid.UUID:
    storage, folder = workers.storage, uuid.uuid4().hex
    for name, data in files.items():
        storage.put(f"in/{folder}/{name}", data, "application/octet-stream")
    key = new_key(workers.database)
    with workers.database.transaction() as session:
        job = job_store.create_job(
            session,
            api_key_id=key,
            options=Options.model_validate(options or {}).model_dump(mode="json"),
            priority=5,
            labels={},
            source={"kind": "keys"},
            destination=destination,
        )
        base = url or f"s3://{storage.bucket}/in/{folder}"
        places = [f"{base}/{name}" for name in files]
        items = [NewItem(name=n, source=s) for n, s in zip(files, places, strict=True)]
        job_store.add_items(session, job.id, items)
        job_store.finish_expansion(session, job.id)
        return job.id


def failed_images(code: str) -> float:
    known = {"status": "failed", "code": code}
    return REGISTRY.get_sample_value("matting_images_total", known) or 0.0


def decoded(data: bytes) -> list[Any]:
    """The frames of a WebM with its alpha, as RGBA."""
    with av.open(io.BytesIO(data), "r") as file:
        context = av.CodecContext.create("libvpx-vp9", "r")
        frames = [frame for packet in file.demux(video=0) for frame in context.decode(packet)]
    return [frame.to_ndarray(format="rgba") for frame in frames]


def test_a_clip_is_cut_out_in_segments_and_joined_once(
    workers: Workers, film: bytes, jpeg: bytes
) -> None:
    job_id = submit(workers, film, photo=jpeg)
    messages = workers.due(job_id)
    assert {one["file"]: one["v"] for one in messages} == {"film.mp4": "5", "a.jpg": "1"}
    with workers.database.transaction() as session:
        sent = job_store.publishable(session, job_id, ahead=99)
        assert {one.name: one.by_url for one in sent} == {"film.mp4": True, "a.jpg": False}
    assert workers.run(job_id) == ["advanced", "succeeded"]
    assert {one["v"] for one in workers.due(job_id)} == {"5"}, "old workers leave them alone"
    with workers.database.transaction() as session:
        [part] = [one for one in job_store.open_jobs(session) if one.of_clip]
        assert (part.makes_version, part.express_left, part.has_urls) == (False, 0, True)
    assert workers.run(job_id, 1, most=1) == ["succeeded"]
    begun = workers.clip(job_id).clip
    assert begun is not None
    assert (begun["frames"], begun["frames_done"], begun["done"]) == (FRAMES, 20, 1)
    assert_counters_match_rows(workers.database, job_id)
    assert workers.run(job_id) == ["succeeded", "succeeded"]
    keys = [one.clip["mattes_key"] for one in workers.segments(job_id) if one.clip]
    assert len(set(keys)) == SEGMENTS
    assert workers.run(job_id, 1) == ["succeeded"]
    assert workers.run(job_id) == []
    assert workers.budget.most >= SEGMENT_FRAMES * 96 * 64, "clips count in the budget"
    assert workers.budget.held == 0

    done = workers.clip(job_id)
    assert (done.status, done.attempts, done.width, done.height) == ("succeeded", 2, 96, 64)
    assert done.clip is not None
    assert (done.clip["frames"], done.clip["seconds"]) == (FRAMES, 2.0)
    [output] = done.outputs or []
    assert output["name"] == "film.webm"
    frames = decoded(workers.storage.get(workers.storage.bucket, output["key"], 10**8))
    assert len(frames) == FRAMES
    for number in (0, 19, 20, 39, 40, 49):
        alpha = frames[number][..., 3]
        assert alpha[32, 25 + number] > 200, number
        assert alpha[5, 5] < 40, number
    both = workers.storage.get(workers.storage.bucket, thumbnails_key(done.result_key or ""), 10**7)
    with PIL.Image.open(io.BytesIO(both)) as poster:
        assert poster.format == "WEBP"
    job = read(workers.database, job_id)
    assert (job.status, job.succeeded) == (JobStatus.FINISHED, 2)
    assert_counters_match_rows(workers.database, job_id)
    with workers.database.transaction() as session:
        [usage] = job_store.usage_of(session, [job.api_key_id])
        assert (usage.images, usage.clip_seconds) == (2, 2.0)
        assert usage.megapixel_frames == pytest.approx(FRAMES * 96 * 64 / 1e6, abs=0.01)
        assert done.timings_ms is not None
        assert done.timings_ms["predict"] < done.timings_ms["decode"], "the network is quick here"


@ON_POSTGRESQL
def test_several_workers_matte_one_clip_and_a_dead_one_loses_its_segment_only(
    workers: Workers, film: bytes
) -> None:
    job_id = submit(workers, film)
    assert workers.run(job_id) == ["advanced"]
    ids = [(one.id, one.job_id) for one in workers.segments(job_id)]
    with workers.database.transaction() as session:
        [held] = job_store.claim_many(
            session, [ids[0][0]], job_ids=[ids[0][1]], owner="dead", lease_s=LEASE_S
        ).claims()
    assert workers.run(job_id, 1) == ["succeeded", "succeeded"], "two beside the held one"
    expire_leases(workers.database)
    with workers.database.transaction() as session:
        assert job_store.release_expired_leases(session, max_attempts=2) == 1
    assert [one.deaths for one in workers.segments(job_id)] == [1, 0, 0]
    counted = workers.predictor.frames
    assert workers.run(job_id) == ["succeeded"]
    assert workers.predictor.frames - counted <= SEGMENT_FRAMES + 2 * REACH
    assert workers.run(job_id) == ["succeeded"]
    done = workers.clip(job_id)
    assert (done.status, done.deaths) == ("succeeded", 0)
    with workers.database.transaction() as session:
        late = job_store.Settlement(claim=held)
        assert job_store.finish_many(session, [late]) == [job_store.SettlementState.STALE]
    [output] = done.outputs or []
    assert len(decoded(workers.storage.get(workers.storage.bucket, output["key"], 10**8))) == FRAMES


@ON_POSTGRESQL
def test_a_clip_fails_like_its_segment_and_goes_on_after_a_retry(
    workers: Workers, film: bytes
) -> None:
    job_id = submit(workers, film)
    workers.run(job_id)
    assert workers.run(job_id, most=2) == ["succeeded", "succeeded"]
    left = workers.segments(job_id)[2]
    before = failed_images("attempts-exhausted")
    for _ in range(2):
        with workers.database.transaction() as session:
            job_store.claim_many(
                session, [left.id], job_ids=[left.job_id], owner="d", lease_s=LEASE_S
            )
        expire_leases(workers.database)
        with workers.database.transaction() as session:
            job_store.release_expired_leases(session, max_attempts=2)
    clip = workers.clip(job_id)
    assert (clip.status, clip.error_code) == (ItemStatus.FAILED, "attempts-exhausted")
    assert failed_images("attempts-exhausted") - before == 1, "the clip, not its segment"
    job = read(workers.database, job_id)
    assert (job.status, job.failed) == (JobStatus.FINISHED, 1)
    assert_counters_match_rows(workers.database, job_id)
    with workers.database.transaction() as session:
        job_store.retry_failed(session, job_id)
    counted = workers.predictor.frames
    results = [workers.run(job_id) for _ in range(3)]
    assert results == [["advanced"], ["succeeded"], ["succeeded"]], "only the one that failed"
    assert workers.predictor.frames - counted <= SEGMENT_FRAMES + 2 * REACH
    assert_counters_match_rows(workers.database, job_id)


@ON_POSTGRESQL
def test_cancel_and_pause_hold_for_segments(workers: Workers, film: bytes) -> None:
    job_id = submit(workers, film)
    workers.run(job_id)
    messages = workers.due(job_id)
    with workers.database.transaction() as session:
        job_store.pause_job(session, job_id)
        assert not [one for one in job_store.open_jobs(session) if one.of_clip]
    assert workers.runners[0].run_many(messages) == [None] * SEGMENTS
    with workers.database.transaction() as session:
        job_store.resume_job(session, job_id)
    assert workers.run(job_id, most=1) == ["succeeded"]
    messages = workers.due(job_id)
    with workers.database.transaction() as session:
        job_store.cancel_job(session, job_id)
    assert workers.runners[0].run_many(messages) == [None] * 2
    assert workers.clip(job_id).status is ItemStatus.CANCELLED
    assert_counters_match_rows(workers.database, job_id)
    with workers.database.transaction() as session:
        parts = job_store.stop_versions(session, job_id, limit=9)
        assert (len(parts.removable), parts.in_use) == (1, False)


@ON_POSTGRESQL
def test_photos_behind_many_clips_do_not_wait(workers: Workers, film: bytes) -> None:
    key = new_key(workers.database)
    with workers.database.transaction() as session:
        job = job_store.create_job(
            session,
            api_key_id=key,
            options=Options().model_dump(mode="json"),
            priority=5,
            labels={},
            source={"kind": "keys"},
        )
        names = [*(f"{n}.mp4" for n in range(300)), "a.jpg", "b.jpg"]
        items = [NewItem(name=n, source=f"s3://b/{n}") for n in names]
        job_store.add_items(session, job.id, items)
        job_store.finish_expansion(session, job.id)
        sent = [one.name for one in job_store.publishable(session, job.id, ahead=256, urls=3)]
        assert sent == ["0.mp4", "1.mp4", "2.mp4", "a.jpg", "b.jpg"]
        sent = [one.name for one in job_store.publishable(session, job.id, ahead=256, urls=0)]
        assert sent == ["a.jpg", "b.jpg"]
        last = session.scalars(sa.select(Item).where(Item.name == "299.mp4")).one()
        last.name, last.position, last.not_before = "z.mp4", 999, now(session)  # another attempt
        session.flush()
        sent = [one.name for one in job_store.publishable(session, job.id, ahead=16, urls=0)]
        assert sent == ["a.jpg", "b.jpg"]
        last.not_before = None
        session.flush()
        rounds = []
        for _ in range(3):
            messages = job_store.publishable(session, job.id, ahead=256, urls=20)
            job_store.mark_published_many(session, messages)
            rounds.append([one.name for one in messages])
        clips = ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
        assert rounds == [[*clips, "a.jpg", "b.jpg"], [], []], "four of them at a time"
        rows = session.scalars(sa.select(Item).where(Item.kind == ItemKind.CLIP)).all()
        for row in rows:  # as after a retry: some have all mattes, the others lack one
            whole = row.name in ("7.mp4", "8.mp4", "9.mp4")
            row.clip = {"segments": 3, "done": 3 if whole else 2}
            row.published_at = None
        session.flush()
        again = []
        for _ in range(2):
            messages = job_store.publishable(session, job.id, ahead=256, urls=20)
            job_store.mark_published_many(session, messages)
            again.append({one.name for one in messages})
        assert again == [{*clips, "7.mp4", "8.mp4", "9.mp4"}, set()]


@ON_POSTGRESQL
def test_a_free_worker_takes_all_segments_and_one_that_stops_or_has_a_suspect_gives_its_own_back(
    workers: Workers, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(workers, film)
    workers.run(job_id)
    message = workers.due(job_id)[0]
    told: list[Any] = []

    lock, alone = workers.isolations[0], threading.Event()
    statuses: list[ItemStatus] = []

    def run_alone() -> None:
        with lock.exclusive():
            statuses.extend(one.status for one in workers.segments(job_id))
            alone.set()

    def ask_to_run_alone(*_: Any) -> None:
        if lock.exclusive_waits_s == 0 and not alone.is_set():
            threading.Thread(target=run_alone, daemon=True).start()
            eventually(lambda: lock.exclusive_waits_s > 0, "an image to wait")

    monkeypatch.setattr(clips, "LONGEST_HOLD_UP_S", 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers.predictor, "on_predict", ask_to_run_alone)
        workers.runners[0].run_each([message], lambda *one: told.append(one), urgent=False)
    assert told == [(0, None)]
    assert alone.wait(180)
    assert statuses == ["queued"] * 3, "nothing runs beside it"
    told.clear()

    def stop_at_once(item: Any, *_: Any) -> None:
        workers.stops[0].set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers.predictor, "on_predict", stop_at_once)
        workers.runners[0].run_each([message], lambda *one: told.append(one), urgent=False)
    assert told == [(0, None)]
    assert [(one.status, one.attempts) for one in workers.segments(job_id)] == [("queued", 0)] * 3
    workers.runners[1].run_each([message], lambda *one: told.append(one), urgent=False)
    assert told[1:] == [(0, "succeeded")]
    assert [one.status for one in workers.segments(job_id)] == ["succeeded"] * SEGMENTS
    assert workers.run(job_id, 1) == ["succeeded"]


@ON_POSTGRESQL
def test_mattes_that_are_gone_are_made_again(workers: Workers, film: bytes) -> None:
    job_id = submit(workers, film)
    assert workers.run(job_id) == ["advanced"]
    assert workers.run(job_id) == ["succeeded"] * SEGMENTS
    gone: dict[str, Any] = workers.segments(job_id)[2].clip or {}
    stem = gone["mattes_key"].removesuffix(".zip")
    kept = list(workers.storage.list_keys(stem))
    assert len(kept) == 3, "mattes, and the part: its file and its index"
    workers.storage.delete_many(kept)
    words = []
    while (status := workers.clip(job_id).status) is ItemStatus.QUEUED:
        words += workers.run(job_id)
    assert status is ItemStatus.SUCCEEDED, words
    assert len(words) == 4


@ON_POSTGRESQL
def test_a_join_copies_what_segments_encoded_and_goes_on_where_it_was_killed(
    workers: Workers, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded_frames: list[int] = []
    write = encoders._Video.write

    def noting(self: Any, pixels: Any, number: int) -> None:
        if broken and number == 30:
            raise SystemExit  # as if the worker died in the second part
        encoded_frames.append(number)
        write(self, pixels, number)

    monkeypatch.setattr(encoders._Video, "write", noting)
    broken: list[bool] = []
    job_id = submit(workers, film)
    words = [workers.run(job_id) for _ in range(3)]
    assert words == [["advanced"], ["succeeded"] * SEGMENTS, ["succeeded"]]
    assert encoded_frames == list(range(FRAMES)), "once, with the segments"
    cropped_id = submit(workers, film, {"crop": True, "clip_format": "mp4", "background": "white"})
    workers.run(cropped_id)
    encoded_frames.clear()
    assert workers.run(cropped_id) == ["succeeded"] * SEGMENTS
    assert encoded_frames == [], "the frame of the whole clip is not known yet"
    broken.append(True)
    with pytest.raises(SystemExit):
        workers.run(cropped_id)
    broken.clear()
    expire_leases(workers.database)
    with workers.database.transaction() as session:
        assert job_store.release_expired_leases(session, max_attempts=2) == 1
    encoded_frames.clear()
    assert workers.run(cropped_id, 1) == ["succeeded"]
    assert encoded_frames == list(range(20, FRAMES)), "the first part is kept"
    done = workers.clip(cropped_id)
    [output] = done.outputs or []
    data = workers.storage.get(workers.storage.bucket, output["key"], 10**8)
    with av.open(io.BytesIO(data), "r") as file:
        assert len([packet for packet in file.demux(video=0) if packet.size]) == FRAMES


@ON_POSTGRESQL
def test_a_clip_whose_facts_are_lost_begins_anew_and_keeps_its_mattes(
    workers: Workers, film: bytes
) -> None:
    job_id = submit(workers, film)
    assert workers.run(job_id) == ["advanced"]
    assert workers.run(job_id) == ["succeeded"] * SEGMENTS
    facts = [key for key in workers.storage.list_keys(f"jobs/{job_id}/") if "-facts.json" in key]
    assert len(facts) == 1
    workers.storage.delete_many(facts)
    matted = workers.predictor.frames
    words = []
    while (status := workers.clip(job_id).status) is ItemStatus.QUEUED:
        words += workers.run(job_id)
    assert status is ItemStatus.SUCCEEDED, words
    assert workers.predictor.frames == matted


@ON_POSTGRESQL
def test_another_file_at_its_place_begins_anew(
    workers: Workers, film: bytes, tmp_path: Path
) -> None:
    job_id = submit(workers, film)
    workers.run(job_id)
    place = workers.clip(job_id).source.removeprefix(f"s3://{workers.storage.bucket}/")
    workers.storage.put(place, b"\x00\x00\x00\x18ftypmp42" + bytes(300), "video/mp4")
    while workers.clip(job_id).status is ItemStatus.QUEUED:
        workers.run(job_id, 1)
    assert workers.clip(job_id).error_code == "temporarily-unavailable"
    with workers.database.transaction() as session:
        job_store.retry_failed(session, job_id)
    [code] = workers.run(job_id, 1)
    assert code in ("truncated-clip", "not-a-clip", "no-video-stream", "unsupported-clip")


@ON_POSTGRESQL
def test_a_clip_that_is_another_file_at_each_join_ends_and_a_retry_counts_anew(
    workers: Workers, film: bytes
) -> None:
    job_id = submit(workers, film)
    place = workers.clip(job_id).source.removeprefix(f"s3://{workers.storage.bucket}/")
    words: list[str | None] = []
    for padding in range(1, 9):
        words += workers.run(job_id, padding % 2, most=1)  # each keeps the file it has fetched
        with workers.database.transaction() as session:  # as if its segments were done
            row = session.scalars(sa.select(Item).where(Item.job_id == job_id)).one()
            row.clip = {**(row.clip or {}), "done": SEGMENTS}
            row.not_before = row.published_at = None
            if row.status is not ItemStatus.QUEUED:
                break
        box = (8 + padding).to_bytes(4, "big") + b"free" + bytes(padding)
        workers.storage.put(place, film + box, "video/mp4")
    clip = workers.clip(job_id)
    assert (clip.status, clip.error_code) == (ItemStatus.FAILED, "temporarily-unavailable"), words
    assert (clip.clip or {})["passes"] > 0
    with workers.database.transaction() as session:
        job_store.retry_failed(session, job_id)
    clip = workers.clip(job_id)
    assert (clip.attempts, (clip.clip or {})["passes"]) == (0, 0)


@ON_POSTGRESQL
def test_a_clip_that_takes_too_much_of_the_disk_fails_and_a_full_disk_is_tried_again(
    workers: Workers, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    clips_of_worker: Any = workers.pipelines[0]._clips

    def with_room(room_bytes: int) -> Any:
        return clips_of_worker._settings.model_copy(update={"clip_disk_bytes": room_bytes})

    job_id = submit(workers, film)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", full)
        assert workers.run(job_id) == ["disk-full"]
    assert workers.clip(job_id).status is ItemStatus.QUEUED
    with monkeypatch.context() as patch:
        patch.setattr(clips_of_worker, "_settings", with_room(len(film) - 1))
        while workers.clip(job_id).status is ItemStatus.QUEUED:
            workers.run(job_id)
    assert workers.clip(job_id).error_code == "clip-needs-room"
    job_id = submit(workers, film)
    workers.run(job_id)
    with monkeypatch.context() as patch:
        patch.setattr(clips_of_worker, "_settings", with_room(len(film) + 1))
        assert workers.run(job_id, most=1) == ["clip-needs-room"], "of a frame's matte"


@ON_POSTGRESQL
def test_clips_are_also_written_to_the_destination_and_take_places_by_what_they_are(
    workers: Workers, jpeg: bytes, tmp_path: Path
) -> None:
    film = encoded(tmp_path / "film.mp4", 5)
    folder = uuid.uuid4().hex
    files = {"film.mp4": film, "photo.gif": jpeg, "also.gif": jpeg, "also.jpg": jpeg}
    extra = {"name": "{stem}-white.{ext}", "background": "white"}
    options = {"output": "both", "extra_outputs": [extra]}
    before = failed_images("destination-collision")
    job_id = submit_files(workers, files, options, f"s3://photos/{folder}/{{stem}}.{{ext}}")
    while workers.run(job_id):
        pass
    with workers.database.transaction() as session:
        rows = session.scalars(sa.select(Item).where(Item.job_id == job_id)).all()
        ended = {one.name: (one.status.value, one.error_code) for one in rows}
    assert ended == {
        "film.mp4": ("succeeded", None),
        "photo.gif": ("succeeded", None),
        "also.gif": ("failed", "destination-collision"),
        "also.jpg": ("succeeded", None),
    }
    assert failed_images("destination-collision") - before == 1
    assert_counters_match_rows(workers.database, job_id)
    assert read(workers.database, job_id).status is JobStatus.FINISHED
    with workers.database.transaction() as session:  # a retry does not ask whose the place is
        assert job_store.count_retryable(session, job_id) == 0
    written = workers.storage.list_page(ObjectUrl("photos", f"{folder}/"), after=None)
    names = [f"{one}{end}" for one in ("also", "photo") for end in ("-alpha.png", "-white.png")]
    names += ["also.png", "photo.png", "film.webm", "film-alpha.mp4", "film-white.mp4"]
    assert sorted(written) == sorted(f"{folder}/{one}" for one in names)
    clip = next(one for one in rows if one.name == "film.mp4")
    for one in clip.outputs or ():
        place = ObjectUrl.parse(one["destination"], "")
        own = workers.storage.get(workers.storage.bucket, one["key"], 10**8)
        assert workers.storage.get(place.bucket, place.key, 10**8) == own
    webm = workers.storage.get("photos", f"{folder}/film.webm", 10**8)
    assert len(decoded(webm)) == 5


@ON_POSTGRESQL
def test_a_clip_that_fails_with_a_segment_counts_once_as_a_failed_image(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SegmentError(MattingError):
        code = "segment-tests"

    def fail(*_: Any) -> Any:
        raise SegmentError

    job_id = submit(workers, encoded(tmp_path / "film.mp4", 30))
    workers.run(job_id)
    with workers.database.transaction() as session:
        key_id = session.get_one(Job, job_id).api_key_id
        job_store.create_webhook(
            session,
            api_key_id=key_id,
            job_id=job_id,
            url="https://a.example",
            events=[Event.JOB_FINISHED],
            progress_percent=None,
            secret="",
        )
    with monkeypatch.context() as patch:
        patch.setattr(workers.predictor, "on_predict", fail)
        assert workers.run(job_id, most=1) == ["segment-tests"]
    assert failed_images("segment-tests") == 0, "the others are still matted, for a retry"
    assert workers.run(job_id) == ["succeeded"]
    assert failed_images("segment-tests") == 1
    assert workers.clip(job_id).error_code == "segment-tests"
    with workers.database.transaction() as session:
        assert [one.code for one in job_store.last_failures(session, limit=9)] == ["segment-tests"]
        [body] = session.scalars(sa.select(Delivery.body).where(Delivery.event == "job.finished"))
    assert json.loads(body)["data"]["counts"]["failed"] == 1


@ON_POSTGRESQL
def test_a_clip_on_a_slow_server_is_fetched_once_and_others_go_on_meanwhile(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = encoded(tmp_path / "film.mp4", 30)
    asked, answer = threading.Event(), threading.Event()
    fetched: list[str] = []

    def fetch(url: str, _max_bytes: int, into: Any) -> None:
        fetched.append(url)
        asked.set()
        assert answer.wait(180)
        into.write(film)

    monkeypatch.setattr(workers.web, "fetch_clip", fetch)
    slow_id = submit_files(workers, {"film.mp4": film}, url="https://slow.example")
    other_id = submit(workers, encoded(tmp_path / "short.mp4", 3))
    told: dict[str, list[Any]] = {"slow": [], "other": []}
    waiting = threading.Thread(
        target=workers.runners[0].run_each,
        args=(workers.due(slow_id), lambda *one: told["slow"].append(one)),
        kwargs={"urgent": False},
    )
    waiting.start()
    assert asked.wait(180)
    messages = workers.due(other_id)
    workers.runners[0].run_each(messages, lambda *one: told["other"].append(one), urgent=False)
    assert told == {"slow": [], "other": [(0, "succeeded")]}
    answer.set()
    waiting.join(180)
    assert told["slow"] == [(0, "advanced")]
    assert workers.run(slow_id, 1) == ["succeeded"] * 2

    def fail(*_: Any) -> Any:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(job_store, "finish_many", fail)
        workers.run(slow_id, 1)  # joined, and not recorded
    expire_leases(workers.database)
    with workers.database.transaction() as session:
        assert job_store.release_expired_leases(session, max_attempts=2) == 1
    assert workers.run(slow_id, 1) == ["succeeded"]
    assert workers.clip(slow_id).status is ItemStatus.SUCCEEDED
    assert fetched == ["https://slow.example/film.mp4"]
    kept = workers.storage.list_keys(f"jobs/{slow_id}/handover/")
    assert [one for one in kept if one.endswith("-clip")] == []


@ON_POSTGRESQL
def test_a_clip_by_url_that_cannot_be_copied_is_not_tried_for_ever(
    workers: Workers, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise StorageError("too large for this storage")

    monkeypatch.setattr(workers.web, "fetch_clip", lambda _url, _most, into: into.write(film))
    monkeypatch.setattr(Storage, "upload", refuse)
    job_id = submit_files(workers, {"film.mp4": film}, url="https://shop.example")
    for _ in range(20):
        workers.run(job_id, 0, most=1)
        with workers.database.transaction() as session:
            row = session.scalars(sa.select(Item).where(Item.job_id == job_id)).one()
            row.not_before = row.published_at = None
        if row.status is not ItemStatus.QUEUED:
            break
    assert (row.status, row.error_code) == (ItemStatus.FAILED, "storage-unavailable")
