"""Simulates N workers with a million images: python -m tests.benchmarks.capacity.

An event simulation of everything between a submitted job and the workers: one publisher that fills
up each job's share of the queue, lanes, prefetch and batches. It shows how many workers still help,
and how long a small job waits beside a large one. The rates come from this folder's README.
"""

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

from shared.jobs import EXPRESS_IMAGES
from shared.settings import Settings
from tests.benchmarks.report import report

PUBLISH_PER_S = 10_000
"""Messages per second that one publisher sends."""

CHUNK = 64
"""Messages that the simulated publisher sends before other events are handled."""

IN_FLIGHT = 3
WORKERS = (1, 10, 100)
SECONDS = 90
SMALL_JOB, SMALL_EVERY_S = 40, 3.0
"""Images of a customer's small job, and seconds between two such jobs."""


@dataclass(frozen=True)
class Kind:
    """A kind of worker and its speed."""

    name: str
    images_per_s: float
    batch: int


CPU = Kind("cpu, 4 cores", 40, 8)
GPU = Kind("gpu, a V100", 99, 32)


@dataclass
class _Job:
    waiting: int
    """Images that have no message in the queue yet."""
    arrived_s: float
    left: int
    sent: int = 0
    outstanding: int = 0
    ended_s: float | None = None


@dataclass
class _Worker:
    held: deque[_Job] = field(default_factory=deque)
    """Prefetched images, in the order of their arrival."""
    busy: bool = False


@dataclass
class Found:
    """The result of one simulation."""

    images_per_s: float
    busy: float
    """Share of the time in which the workers compute."""
    small_median_s: float
    small_p95_s: float


def simulate(kind: Kind, workers: int, *, adaptive: bool, seed: int = 1) -> Found:
    """Simulate 90 s of one endless job and regular small ones."""
    chance = random.Random(seed)
    room = kind.batch * IN_FLIGHT
    ahead = Settings().publish_ahead
    if adaptive:
        ahead = max(ahead, 2 * room * workers)
    crew = [_Worker() for _ in range(workers)]
    large = _Job(waiting=10**9, arrived_s=0, left=10**9)
    smalls: list[_Job] = []
    express: deque[_Job] = deque()
    normal: deque[_Job] = deque()
    hungry = deque(crew)
    """Workers with free places, in the order in which they asked for messages."""
    events: list[tuple[float, int, str, _Worker | None]] = [
        (0.0, 0, "publish", None),
        (SMALL_EVERY_S, 1, "submit", None),
    ]
    count, done, busy_s, budget = 1, 0, 0.0, 0

    def push(when: float, what: str, worker: _Worker | None = None) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (when, count, what, worker))

    def publish(job: _Job, most: int) -> int:
        """Send messages, like the request that submits a job or the reconciler."""
        sent = max(0, min(most, job.waiting))
        for _ in range(sent):
            (express if job.sent < EXPRESS_IMAGES else normal).append(job)
            job.sent += 1
        job.waiting -= sent
        job.outstanding += sent
        return sent

    def feed(now: float) -> None:
        """Give messages to workers until no worker has a free place or no message is left."""
        while hungry and (express or normal):
            worker = hungry.popleft()
            worker.held.append((express or normal).popleft())
            if len(worker.held) < room:
                hungry.append(worker)
            begin(worker, now)

    def begin(worker: _Worker, now: float) -> None:
        nonlocal busy_s
        if worker.busy or not worker.held:
            return
        worker.busy = True
        size = min(kind.batch, len(worker.held))
        spent = size / kind.images_per_s * chance.uniform(0.8, 1.2)
        busy_s += spent
        push(now + spent, f"{size}", worker)

    while events and events[0][0] < SECONDS:
        now, _, what, worker = heapq.heappop(events)
        if what == "submit":
            smalls.append(_Job(SMALL_JOB, now, SMALL_JOB))
            publish(smalls[-1], SMALL_JOB)
            push(now + SMALL_EVERY_S, "submit")
        elif worker is None:
            # The reconciler reads once how many messages the job may have, sends them all, and
            # pauses.
            budget = budget or max(0, ahead - large.outstanding)
            sent = publish(large, min(budget, CHUNK))
            budget -= sent
            pause_s = 0 if budget else Settings().publish_every_ms / 1e3
            push(now + sent / PUBLISH_PER_S + pause_s, "publish")
        else:
            worker.busy = False
            full = len(worker.held) >= room
            for _ in range(int(what)):
                job = worker.held.popleft()
                job.outstanding -= 1
                job.left -= 1
                done += 1
                if not job.left:
                    job.ended_s = now
            if full:
                hungry.append(worker)
            begin(worker, now)
        feed(now)
    waits = sorted(job.ended_s - job.arrived_s for job in smalls if job.ended_s is not None)
    return Found(
        images_per_s=done / SECONDS,
        busy=busy_s / SECONDS / workers,
        small_median_s=waits[len(waits) // 2],
        small_p95_s=waits[int(len(waits) * 0.95)],
    )


def main() -> None:
    """Print a table. The headline is the speed of 100 GPU workers divided by 100 times that
    of one.
    """
    share = 0.0
    rows = []
    for kind in (CPU, GPU):
        for workers in WORKERS:
            for adaptive in (False, True):
                found = simulate(kind, workers, adaptive=adaptive)
                rows.append(
                    {
                        "worker": kind.name,
                        "workers": workers,
                        "adaptive": adaptive,
                        "images_per_s": round(found.images_per_s),
                        "busy": round(found.busy, 3),
                        "hours_per_million": round(1e6 / found.images_per_s / 3600, 2),
                        "small_job_median_s": round(found.small_median_s, 1),
                        "small_job_p95_s": round(found.small_p95_s, 1),
                    }
                )
                print(rows[-1])
                share = found.images_per_s / (kind.images_per_s * workers)
    report("capacity", share, target=None, unit="of 100 GPU workers' rate", details={"rows": rows})


if __name__ == "__main__":
    main()
