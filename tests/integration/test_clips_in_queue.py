"""Clips on their way through the queue: a segment a claim, joined once, on both databases."""

import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
import sqlalchemy as sa

from shared import job_store
from shared.database import Database
from shared.errors import MattingError
from shared.job_store import NewItem
from shared.jobs import ItemKind, ItemStatus, JobStatus
from shared.kept_files import thumbnails_key
from shared.models import Item
from shared.options import Options
from shared.settings import Settings
from shared.storage import Storage
from shared.web import Web, WebLimits
from tests.integration.stored_jobs import (
    LEASE_S,
    assert_counters_match_rows,
    expire_leases,
    item_ids,
    new_key,
    read,
)
from tests.integration.test_batch_runner import Threshold
from worker.consumer.batch_runner import BatchRunner
from worker.consumer.circuit_breaker import CircuitBreaker
from worker.pipeline import clips
from worker.pipeline.photo_sources import PhotoSources
from worker.pipeline.pipeline import Pipeline

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
        return super().predict_many(prepared)


class Workers:
    """Two workers on one database and storage."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        self.database, self.storage = database, storage
        self.predictor = Counting()
        self.web = Web(WebLimits.of(settings))
        sources = PhotoSources(storage, self.web)
        self.pipelines = []
        self.runners = []
        for name in ("w1", "w2"):
            pipeline = Pipeline(self.predictor, sources, settings, publisher=sources, files=sources)
            breaker = CircuitBreaker(storage.ping)
            self.pipelines.append(pipeline)
            self.runners.append(BatchRunner(database, pipeline, settings, name, breaker))

    def due(self, job_id: uuid.UUID) -> list[dict[str, str]]:
        """The messages that are due."""
        with self.database.transaction() as session:
            return [one.kwargs() for one in job_store.publishable(session, job_id, ahead=99)]

    def run(self, job_id: uuid.UUID, worker: int = 0) -> list[str | None]:
        """Process what is due, once; returns words and codes."""
        results = self.runners[worker].run_many(self.due(job_id))
        return [one.code if isinstance(one, MattingError) else one for one in results]

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
    """A red block that moves over grey: 2 s at 25 a second."""
    file = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(file), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "10", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv444p"
        for number in range(FRAMES):
            pixels = np.full((64, 96, 3), 120, np.uint8)
            pixels[16:48, 10 + number : 40 + number] = (230, 0, 0)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(stream.encode(None))
    return Path(file).read_bytes()


def submit(
    workers: Workers, film: bytes, options: dict[str, Any] | None = None, photo: bytes | None = None
) -> uuid.UUID:
    storage, folder = workers.storage, uuid.uuid4().hex
    files = {"film.mp4": film} | ({"a.jpg": photo} if photo else {})
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
        )
        places = [f"s3://{storage.bucket}/in/{folder}/{name}" for name in files]
        items = [NewItem(name=n, source=s) for n, s in zip(files, places, strict=True)]
        job_store.add_items(session, job.id, items)
        job_store.finish_expansion(session, job.id)
        return job.id


def decoded(data: bytes) -> list[Any]:
    """The frames of a WebM with its alpha, as RGBA."""
    with av.open(io.BytesIO(data), "r") as file:
        context = av.CodecContext.create("libvpx-vp9", "r")
        frames = [frame for packet in file.demux(video=0) for frame in context.decode(packet)]
    return [frame.to_ndarray(format="rgba") for frame in frames]


def test_a_clip_is_cut_out_segment_by_segment_and_joined_once(
    workers: Workers, film: bytes, jpeg: bytes
) -> None:
    job_id = submit(workers, film, photo=jpeg)
    messages = workers.due(job_id)
    assert {one["file"]: one["v"] for one in messages} == {"film.mp4": "4", "a.jpg": "1"}
    with workers.database.transaction() as session:
        sent = job_store.publishable(session, job_id, ahead=99)
        assert {one.name: one.by_url for one in sent} == {"film.mp4": True, "a.jpg": False}
    assert workers.run(job_id) == ["advanced", "succeeded"]
    begun = workers.clip(job_id).clip
    assert begun is not None
    assert (begun["frames"], begun["frames_done"], begun["done"]) == (FRAMES, 20, 1)
    assert_counters_match_rows(workers.database, job_id)
    assert [workers.run(job_id, worker) for worker in (1, 0)] == [["advanced"], ["advanced"]]
    assert workers.run(job_id, 1) == ["succeeded"]
    assert workers.run(job_id) == []

    done = workers.clip(job_id)
    assert (done.status, done.attempts, done.width, done.height) == ("succeeded", 4, 96, 64)
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


@ON_POSTGRESQL
def test_a_worker_that_dies_loses_its_segment_only(workers: Workers, film: bytes) -> None:
    job_id = submit(workers, film)
    workers.run(job_id)
    counted = workers.predictor.frames
    with workers.database.transaction() as session:
        ids = item_ids(workers.database, job_id)
        [held] = job_store.claim_many(session, ids, job_ids=[job_id], owner="dead", lease_s=LEASE_S)
    expire_leases(workers.database)
    with workers.database.transaction() as session:
        assert job_store.release_expired_leases(session, max_attempts=2) == 1
    assert workers.clip(job_id).deaths == 1
    results = [workers.run(job_id, 1) for _ in range(3)]
    assert results == [["advanced"], ["advanced"], ["succeeded"]]
    overlap = 2 * SEGMENT_FRAMES
    assert workers.predictor.frames - counted <= FRAMES - SEGMENT_FRAMES + overlap
    assert workers.clip(job_id).deaths == 0, "a clip that got on is no suspect"
    with workers.database.transaction() as session:
        late = job_store.Settlement(claim=held, clip_result={"seconds": 1.0, "frames": 1})
        assert job_store.finish_many(session, [late]) == [job_store.SettlementState.STALE]


@ON_POSTGRESQL
def test_a_clip_that_keeps_failing_ends_although_it_got_on(workers: Workers, film: bytes) -> None:
    """Claims that got on are no tries; the ones behind them are."""
    job_id = submit(workers, film)
    workers.run(job_id)
    workers.run(job_id)
    for _ in range(2):
        with workers.database.transaction() as session:
            ids = item_ids(workers.database, job_id)
            job_store.claim_many(session, ids, job_ids=[job_id], owner="d", lease_s=LEASE_S)
        expire_leases(workers.database)
        with workers.database.transaction() as session:
            job_store.release_expired_leases(session, max_attempts=2)
    assert workers.clip(job_id).status is ItemStatus.FAILED
    with workers.database.transaction() as session:
        job_store.retry_failed(session, job_id)
    assert workers.run(job_id) == ["advanced"], "it goes on where it was"
    state = workers.clip(job_id).clip
    assert state is not None
    assert state["done"] == SEGMENTS


@ON_POSTGRESQL
def test_a_clip_is_cancelled_between_segments(workers: Workers, film: bytes) -> None:
    job_id = submit(workers, film)
    workers.run(job_id)
    messages = workers.due(job_id)
    with workers.database.transaction() as session:
        job_store.cancel_job(session, job_id)
    assert workers.runners[0].run_many(messages) == [None]
    assert workers.clip(job_id).status is ItemStatus.CANCELLED
    assert_counters_match_rows(workers.database, job_id)


@ON_POSTGRESQL
def test_mattes_that_are_gone_are_made_again(workers: Workers, film: bytes) -> None:
    job_id = submit(workers, film)
    for _ in range(SEGMENTS):
        assert workers.run(job_id) == ["advanced"]
    item = workers.clip(job_id)
    workers.storage.delete_many([f"jobs/{job_id}/handover/{item.id}-matte-2.zip"])
    words = []
    while (status := workers.clip(job_id).status) is ItemStatus.QUEUED:
        words += workers.run(job_id)
    assert status is ItemStatus.SUCCEEDED, words
    assert len(words) == 3


@ON_POSTGRESQL
def test_another_file_at_its_place_begins_anew(
    workers: Workers, film: bytes, tmp_path: Path
) -> None:
    job_id = submit(workers, film)
    workers.run(job_id)
    place = workers.clip(job_id).source.removeprefix(f"s3://{workers.storage.bucket}/")
    with workers.database.transaction() as session:
        session.execute(sa.update(Item).where(Item.job_id == job_id).values(options=None))
    workers.storage.put(place, b"\x00\x00\x00\x18ftypmp42" + bytes(300), "video/mp4")
    [code] = workers.run(job_id, 1)
    assert code in ("truncated-clip", "not-a-clip", "no-video-stream", "unsupported-clip")
