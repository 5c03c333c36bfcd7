"""How long a small job waits while a big one runs: python -m tests.benchmarks.fairness.

The embedded stack processes a job of 10,000 images at the highest priority, with a tiny network so
that the system's own cost shows. About every second a job of 5 images at the lowest priority
arrives. The unit is the time in which the worker processes one batch of the big job.
"""

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from api.client import Job, MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.benchmarks.photos import draw, jpeg
from tests.benchmarks.report import report
from tests.benchmarks.tiny import export

BACKLOG = 10_000
SMALL = 5
JOBS = 12
WARM_UP = 200
SIZE = (256, 256)
BATCH = 8


def store(storage: Storage) -> list[str]:
    """Store photos with different bytes, so that no result is reused. Returns their keys."""
    photos = [jpeg(draw(SIZE, seed)) for seed in range(8)]
    keys = [f"photos/{number:05}.jpg" for number in range(BACKLOG + JOBS * SMALL)]

    def put(number: int) -> None:
        data = photos[number % len(photos)] + number.to_bytes(3, "big")
        storage.put(keys[number], data, "image/jpeg")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(len(keys))))
    return keys


def took_s(job: Job) -> float:
    """Seconds from a job's acceptance to its end, by the service's own clock."""
    assert job["finished_at"] is not None
    ended = datetime.fromisoformat(job["finished_at"])
    return (ended - datetime.fromisoformat(job["created_at"])).total_seconds()


def main() -> None:
    """Headline: the time of the slowest small job, in batch times."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        env = {
            "MATTING_MODEL": str(export(folder / "model")),
            "MATTING_BATCH_SIZE": str(BATCH),
            "MATTING_LOG_LEVEL": "WARNING",
        }
        with Stack(folder / "data", env=env) as stack:
            storage = Storage(stack.settings)
            keys = store(storage)
            storage.close()
            with MattingClient(stack.address.api_url, stack.secrets.api_key) as client:
                big = client.submit({"keys": keys[:BACKLOG]}, priority=9)["id"]
                while _done(client.job(big)) < WARM_UP:
                    time.sleep(0.05)
                done, started = _done(client.job(big)), time.perf_counter()
                small = []
                for number in range(JOBS):
                    first = BACKLOG + number * SMALL
                    job = client.submit({"keys": keys[first : first + SMALL]}, priority=0)
                    small.append(client.wait(job["id"], every_s=0.2))
                    time.sleep(0.7)
                elapsed_s = time.perf_counter() - started
                after = client.job(big)
                client.cancel(big)
    if any(job["counts"]["succeeded"] != SMALL for job in small) or after["counts"]["failed"]:
        raise SystemExit("an image failed")
    if not after["counts"]["queued"]:
        raise SystemExit("the big job was done before the small ones: nothing was measured")
    images = _done(after) - done + JOBS * SMALL
    batch_s = BATCH * elapsed_s / images
    waited = [took_s(job) / batch_s for job in small]
    details = {
        "left_waiting": after["counts"]["queued"],
        "images_per_s": round(images / elapsed_s, 1),
        "batch_ms": round(batch_s * 1e3),
        "median": round(statistics.median(waited), 1),
        "small_job_ms": [round(took_s(job) * 1e3) for job in small],
    }
    report("fairness", max(waited), target="about 5", unit="batches' times", details=details)


def _done(job: Job) -> int:
    return job["counts"]["succeeded"] + job["counts"]["failed"]


if __name__ == "__main__":
    main()
