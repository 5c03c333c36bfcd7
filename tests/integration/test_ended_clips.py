"""Clips whose job is cancelled or deleted, and clips that are made again: what they cost, and that
nothing of them is left.
"""

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from api.background.sweeper import Sweeper
from shared import job_store
from shared.job_store import NewVersion
from shared.jobs import ItemStatus, MadeBy
from shared.models import Item, Job, Usage, new_id
from shared.options import Options
from shared.settings import Settings
from tests.integration.stored_jobs import assert_counters_match_rows, read
from tests.integration.test_clips_in_queue import (
    FRAMES,
    ON_POSTGRESQL,
    SEGMENTS,
    Workers,
    decoded,
    failed_images,
    film,
    submit,
    workers,
)
from worker.pipeline import clips
from worker.video import encoders
from worker.video.join import join

__all__ = ["film", "workers"]

CROPPED = {"crop": True}
"""With it the join encodes."""


def used(workers: Workers, job_id: uuid.UUID) -> Usage:
    key = read(workers.database, job_id).api_key_id
    with workers.database.transaction() as session:
        [month] = job_store.usage_of(session, [key])
        return month


@ON_POSTGRESQL
def test_a_clip_costs_the_time_of_the_device_once_also_if_it_is_cancelled(
    workers: Workers, film: bytes
) -> None:
    job_id = submit(workers, film)
    assert workers.run(job_id) == ["advanced"]
    assert workers.run(job_id) == ["succeeded"] * SEGMENTS
    facts = [key for key in workers.storage.list_keys(f"jobs/{job_id}/") if "-facts.json" in key]
    workers.storage.delete_many(facts)  # so it begins anew, and what it took stays counted
    while workers.clip(job_id).status is ItemStatus.QUEUED:
        workers.run(job_id)
    whole_ms = (workers.clip(job_id).timings_ms or {})["predict"]
    assert whole_ms > 0
    assert used(workers, job_id).device_ms == pytest.approx(whole_ms, abs=0.1)
    assert read(workers.database, job_id).predict_ms == pytest.approx(whole_ms, abs=0.1)

    job_id = submit(workers, film)
    workers.run(job_id)
    assert workers.run(job_id, most=2) == ["succeeded"] * 2
    spent_ms = sum((one.timings_ms or {}).get("predict", 0.0) for one in workers.segments(job_id))
    with workers.database.transaction() as session:
        job_store.cancel_job(session, job_id)
    assert spent_ms > 0
    month = used(workers, job_id)
    assert (month.images, month.clip_seconds) == (0, 0)
    assert month.device_ms == pytest.approx(spent_ms, abs=0.1)
    assert read(workers.database, job_id).predict_ms == pytest.approx(spent_ms, abs=0.1)


@ON_POSTGRESQL
def test_a_join_whose_mattes_went_with_its_cancelled_job_ends_as_cancelled(
    workers: Workers, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(workers, film)
    workers.run(job_id)
    assert workers.run(job_id) == ["succeeded"] * SEGMENTS
    folder = f"jobs/{workers.segments(job_id)[0].job_id}/"
    before = failed_images("temporarily-unavailable")

    def too_late(*given: Any, **named: Any) -> Any:
        with workers.database.transaction() as session:
            job_store.cancel_job(session, job_id)
        workers.storage.delete_many(list(workers.storage.list_keys(folder)))
        return join(*given, **named)

    monkeypatch.setattr(clips, "join", too_late)
    assert workers.run(job_id) == ["cancelled"]
    clip = workers.clip(job_id)
    assert (clip.status, clip.error_code, clip.error_detail) == (ItemStatus.CANCELLED, None, None)
    assert failed_images("temporarily-unavailable") == before
    assert_counters_match_rows(workers.database, job_id)


@ON_POSTGRESQL
@pytest.mark.parametrize("end", [job_store.cancel_job, job_store.delete_job])
def test_what_a_join_stores_after_its_job_has_ended_is_removed(
    workers: Workers, film: bytes, settings: Settings, monkeypatch: pytest.MonkeyPatch, end: Any
) -> None:
    write = encoders._Video.write
    job_id = submit(workers, film, CROPPED)
    workers.run(job_id)
    assert workers.run(job_id) == ["succeeded"] * SEGMENTS
    parts_id = workers.segments(job_id)[0].job_id
    sweeper = Sweeper(workers.database, workers.storage, settings)
    swept: list[int] = []

    def sweep_first(self: Any, pixels: Any, number: int) -> None:
        if not swept:
            with workers.database.transaction() as session:
                end(session, job_id)
            swept.append(sweeper.sweep())
        write(self, pixels, number)

    monkeypatch.setattr(encoders._Video, "write", sweep_first)
    assert workers.run(job_id) == ["succeeded"]
    assert swept == [0], "the join still reads the mattes and stores parts"
    sweeper.sweep()
    assert list(workers.storage.list_keys(f"jobs/{parts_id}/")) == []
    with workers.database.transaction() as session:
        assert session.get(Job, parts_id) is None


@ON_POSTGRESQL
def test_a_clip_that_is_cut_into_segments_is_made_again_and_goes_with_its_job(
    workers: Workers, film: bytes, settings: Settings
) -> None:
    job_id = submit(workers, film)
    while workers.clip(job_id).status is ItemStatus.QUEUED:
        workers.run(job_id)
    first = workers.clip(job_id)
    asked = Options.model_validate(CROPPED).model_dump(mode="json")
    new = NewVersion(job_id=new_id(), item_id=new_id(), made_by=MadeBy.NETWORK, options=asked)
    key = read(workers.database, job_id).api_key_id
    with workers.database.transaction() as session:
        job_store.begin_version(session, first.id, new, api_key_id=key, kept=5)
    words = [workers.run(new.job_id) for _ in range(3)]
    assert words == [["advanced"], ["succeeded"] * SEGMENTS, ["succeeded"]]
    with workers.database.transaction() as session:
        shown = session.get_one(Item, first.id)
        assert (shown.version, shown.redo, (shown.clip or {})["frames"]) == (2, None, FRAMES)
        [output] = shown.outputs or []
    frames = decoded(workers.storage.get(workers.storage.bucket, output["key"], 10**8))
    assert len(frames) == FRAMES
    assert frames[0].shape[1] < 96, "cropped"
    assert_counters_match_rows(workers.database, job_id)
    with workers.database.transaction() as session:
        restored, _ = job_store.restore_version(session, first.id, 1, api_key_id=key)
        assert (restored.version, restored.outputs) == (1, first.outputs)
    month = used(workers, job_id)
    assert (month.images, month.clip_seconds) == (2, 4.0)
    with workers.database.transaction() as session:
        jobs = list(session.scalars(sa.select(Job.id)))
        job_store.delete_job(session, job_id)
    sweeper = Sweeper(workers.database, workers.storage, settings)
    while sweeper.sweep():
        pass
    with workers.database.transaction() as session:
        assert list(session.scalars(sa.select(Job.id))) == []
    assert [key for one in jobs for key in workers.storage.list_keys(f"jobs/{one}/")] == []
