"""Waiting time for one photo on an idle and on a busy system: python -m tests.benchmarks.single.

It sends 20 photos one by one to POST /v1.0/removebg on the idle embedded stack with the built-in
model. It sends 20 more while a job of 3,000 images runs. It also prints the time of the stages
alone, by the service's own timings.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.storage import Storage
from tests.benchmarks.photos import draw, jpeg
from tests.benchmarks.report import report

ASKED = 20
BACKLOG = 3_000
SIZE = (1_000, 1_000)


def main() -> None:
    """Headline: the median on the busy system, in ms."""
    photos = [jpeg(draw(SIZE, seed)) for seed in range(8)]
    with (
        tempfile.TemporaryDirectory() as scratch,
        Stack(Path(scratch) / "data", env={"MATTING_LOG_LEVEL": "WARNING"}) as stack,
        httpx.Client(
            base_url=stack.address.api_url,
            headers={"X-Api-Key": stack.secrets.api_key},
            timeout=60,
        ) as session,
        MattingClient(stack.address.api_url, stack.secrets.api_key) as client,
    ):
        _ask(session, photos[0], 0)
        idle_ms = [_ask(session, photos[n % 8], n) for n in range(1, ASKED + 1)]
        job = client.job(next(client.jobs())["id"])
        storage = Storage(stack.settings)
        keys = [f"photos/{number:04}.jpg" for number in range(BACKLOG)]
        for number, key in enumerate(keys):
            storage.put(key, photos[number % 8] + number.to_bytes(3, "big"), "image/jpeg")
        storage.close()
        bulk = client.submit({"keys": keys})["id"]
        while client.job(bulk)["counts"]["succeeded"] < 100:
            time.sleep(0.1)
        busy_ms = [_ask(session, photos[n % 8], 100 + n) for n in range(ASKED)]
        after = client.job(bulk)
        client.cancel(bulk)
    if not after["counts"]["queued"]:
        raise SystemExit("the job was done before the photos: nothing was measured")
    details: dict[str, Any] = {
        "idle_ms": _spread(idle_ms),
        "busy_ms": _spread(busy_ms),
        "stages_ms": job["timings_ms"],
        "bulk_images_per_s": after["images_per_s"],
    }
    report("single", details["busy_ms"]["median"], target=None, unit="ms", details=details)


def _ask(session: httpx.Client, photo: bytes, number: int) -> float:
    """Milliseconds until the whole answer has arrived."""
    # every photo differs, so no result is reused
    data = photo + b"single" + number.to_bytes(3, "big")
    started = time.perf_counter()
    answer = session.post(
        "/v1.0/removebg", files={"image_file": ("photo.jpg", data)}, data={"size": "auto"}
    )
    answer.raise_for_status()
    return (time.perf_counter() - started) * 1e3


def _spread(times_ms: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(times_ms)), "max": round(max(times_ms))}


if __name__ == "__main__":
    main()
