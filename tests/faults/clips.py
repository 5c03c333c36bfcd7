"""A clip whose workers are killed in the middle of segments."""

import io
import random
import time
import uuid
from pathlib import Path

import av
import cv2
import numpy as np
import sqlalchemy as sa

from shared.jobs import ItemStatus
from shared.models import Item, Job
from tests.faults.checks import Finding
from tests.faults.driving import Trial, settled, submit, wait_for_end
from tests.faults.faults import WORKERS, kill_a_worker
from tests.faults.system import System
from tests.waiting import eventually

CLIPS = "SIGKILL of a worker that has a clip"


def put_film(system: System, folder: Path, frames: int) -> str:
    """Store a clip of this many frames; returns its key."""
    file = folder / "film.mp4"
    with av.open(str(file), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "25", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(frames):
            pixels = np.full((64, 96, 3), 220, np.uint8)
            cv2.circle(pixels, (20 + number % 56, 32), 16, (30, 40, 60), -1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(stream.encode(None))
    system.storage.put("in/film.mp4", file.read_bytes(), "video/mp4")
    return "in/film.mp4"


def kill_workers_of_a_clip(system: System, key: str) -> Item:
    """Kill a worker that mattes a segment of a clip, and then one that mattes another segment;
    returns the ended item.
    """
    job_id = submit(system, [key])
    seen: set[uuid.UUID] = set()

    def holder() -> tuple[str, uuid.UUID] | None:
        assert item_of(system, job_id).status is not ItemStatus.SUCCEEDED, "it was too quick"
        with system.database.transaction() as session:
            held = sa.select(Item.lease_owner, Item.id).join(Job, Job.id == Item.job_id)
            held = held.where(Job.of_job_id == job_id, Item.status == ItemStatus.RUNNING)
            rows = session.execute(held).all()
        return next(
            (
                (name, item_id)
                for owner, item_id in rows
                for name in WORKERS
                if item_id not in seen and f"-{system.parts[name].popen.pid}-" in (owner or "")
            ),
            None,
        )

    for _ in range(2):
        name, segment = eventually(holder, "a worker to hold a segment", every_s=0.02)
        seen.add(segment)
        system.kill(name)
        system.start_worker(name)
    wait_for_end(system, job_id)
    return item_of(system, job_id)


def kill_workers_while_a_clip_is_cut_out(
    system: System, key: str, frames: int, injections: int, luck: random.Random
) -> Trial:
    """SIGKILL for a worker at random moments of a clip: while it is cut, matted or joined."""
    started = time.monotonic()
    job_id = submit(system, [key])
    done, recovery_s = 0, list[float]()
    while done < injections:
        time.sleep(luck.uniform(0, 4))
        _, over = settled(system, job_id)
        if over:
            break
        recovery_s.append(kill_a_worker(system, luck) or 0.0)
        done += 1
    wait_for_end(system, job_id)
    item = item_of(system, job_id)
    right = item.status is not ItemStatus.SUCCEEDED or frames_of(system, item) == frames
    with system.database.transaction() as session:
        job = session.get_one(Job, job_id)
        drift = abs(getattr(job, item.status.value) - 1) + abs(job.total - 1) + job.running
    objects = list(system.storage.list_keys(f"jobs/{job_id}/results/{item.id}.webm"))
    finding = Finding(
        items=1,
        lost=int(not right),
        drift=drift,
        twice=max(0, len(objects) - 1),
        failed=int(item.status is ItemStatus.FAILED),
        again=int(item.attempts > 2),  # it is cut, and joined
        deaths=item.deaths,
    )
    return Trial(CLIPS, finding, done, recovery_s, time.monotonic() - started)


def item_of(system: System, job_id: uuid.UUID) -> Item:
    """The only item of a job."""
    with system.database.transaction() as session:
        return session.scalars(sa.select(Item).where(Item.job_id == job_id)).one()


def frames_of(system: System, item: Item) -> int:
    """The frames of a clip's result, counted by decoding it."""
    data = system.storage.get(system.storage.bucket, item.result_key or "", 1 << 28)
    with av.open(io.BytesIO(data), "r") as file:
        return sum(1 for _ in file.decode(video=0))
