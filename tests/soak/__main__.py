"""Sends tens of thousands of images through the embedded stack: python -m tests.soak [--images N].

It runs rounds of jobs by prefix, zip and upload. Some photos are bad, some were sent before, and
some event listeners disconnect early. After each round it waits until the system is idle and reads
everything that could grow. It fails if something grew beyond its limit, an image was lost, or
anything was left behind. The network is tiny, so that the system's own cost shows.
"""

import argparse
import json
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np
import sqlalchemy as sa

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.database import Database
from shared.models import Item, Job
from shared.object_url import ObjectUrl
from shared.storage import Storage
from tests.benchmarks.photos import draw, jpeg
from tests.benchmarks.tiny import export
from tests.clips import moving_square, write
from tests.soak.audit import audit
from tests.soak.gauges import Gauges, Meter

ZIPPED, UPLOADED = 500, 100
"""Images of a round that come in a zip file, and as uploads. The rest lies in the bucket."""
CLIPS, CLIP_FRAMES = 2, 150
"""Clips of a round, in the zip file, and their frames: each is cut into segments."""
BAD_EVERY = 100
PADDING_BYTES = 20_000
"""Bytes behind each photo of the zip. Boto sends a zip of 10 MB in several parts."""

GROWTH_MB = {"worker-1": 48.0, "api": 32.0, "redis": 8.0, "s3": 64.0, "flower": 32.0}
"""Allowed growth of each process from the middle of the run to its end. The S3 server's is a cache
of its listing; the others' is heap noise.
"""
GROWTH_THREADS = 2
GROWTH_FDS = 8
"""Allowed growth of open descriptors: connections come and go."""

REST_S = 60

LISTENERS = 20
"""Event streams of a round whose listeners disconnect early."""


def photo(number: int, faces: list[bytes]) -> bytes:
    """A photo that differs from all others. One in a hundred is cut off."""
    face = faces[number % len(faces)]
    if number % BAD_EVERY == BAD_EVERY - 1:
        return face[: 300 + number % 200]
    # Different bytes after the picture's end, where no decoder reads.
    return face + number.to_bytes(4, "big")


def main() -> None:
    """Print a line per round and a verdict. Exits with 1 if something grew or was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        temporary = folder / "data" / "tmp"
        temporary.mkdir(parents=True)
        env = {
            "MATTING_MODEL": str(export(folder / "model")),
            "MATTING_LOG_LEVEL": "ERROR",
            "TMPDIR": str(temporary),
        }
        with Stack(folder / "data", env=env, report=print) as stack:
            problems = soak(stack, images=arguments.images, rounds=arguments.rounds)
    print("\n".join(problems) or "nothing grew, nothing was lost, nothing was left")
    sys.exit(bool(problems))


def soak(stack: Stack, *, images: int, rounds: int) -> list[str]:
    """Run the rounds. Returns the problems."""
    settings = stack.settings
    storage = Storage(settings)
    database = Database(settings.database_url, process="soak")
    meter = Meter(stack.data, settings, stack.processes)
    each = images // rounds - ZIPPED - UPLOADED
    faces = [jpeg(draw((72, 96), seed)) for seed in range(12)]
    print(f"putting {each:,} photos into the bucket ...")
    with ThreadPoolExecutor(8) as pool:
        keys = (f"photos/{number:05}.jpg" for number in range(each))
        data = (photo(number, faces) for number in range(each))
        list(pool.map(lambda key, one: storage.put(key, one, "image/jpeg"), keys, data))
    jobs = ObjectUrl(storage.bucket, "jobs/")
    assert meter.sees_multipart_uploads()
    marks: list[Gauges] = []
    with MattingClient(stack.address.api_url, stack.secrets.api_key) as client:
        for number in range(1, rounds + 1):
            started = time.monotonic()
            submit_round(client, faces, number, stack)
            took_s = time.monotonic() - started
            assert wait_for(lambda: meter.messages_left() == 0), "messages are left"
            marks.append(meter.read(number * (images // rounds)))
            tell(marks[-1], images / rounds / took_s)
        assert wait_for(lambda: segments_left(database) == 0), "segments of clips are left"
        findings = audit(database, storage.bucket, meter.objects("jobs/"))
        print(json.dumps(asdict(findings)))
        started = time.monotonic()
        for job in list(client.jobs()):
            client.delete(job["id"])
        emptied = wait_for(lambda: not storage.list_page(jobs, after=None), timeout_s=1_800)
        print(f"deleted in {time.monotonic() - started:.0f} s")
    marks.append(meter.read(images))
    tell(marks[-1], 0)
    problems = [] if findings.clean() else [f"lost, drifted or left: {findings}"]
    if not emptied:
        problems.append("objects of deleted jobs are left")
    if not wait_for(lambda: rows_left(database) == 0):
        problems.append(f"{rows_left(database)} rows of deleted jobs are left")
    problems += grown(marks[len(marks) // 2 - 1], marks[-2])
    meter.close()
    database.close()
    storage.close()
    return problems


def submit_round(client: MattingClient, faces: list[bytes], number: int, stack: Stack) -> None:
    """Submit three jobs at a time. Every fourth round repeats photos, so their results are
    reused.
    """
    shade = number - 1 if number % 4 == 0 else number
    options = {"format": "jpeg", "background": f"#{shade * 1_000:06x}"}
    first = 1_000_000 * number
    with tempfile.TemporaryDirectory(dir=stack.data.parent) as scratch:
        zipped = Path(scratch) / "photos.zip"
        rng = np.random.default_rng(number)
        with zipfile.ZipFile(zipped, "w") as archive:
            for one in range(ZIPPED):
                padding = rng.bytes(PADDING_BYTES)
                archive.writestr(f"{one}.jpg", photo(first + one * BAD_EVERY, faces) + padding)
            for one in range(CLIPS):
                film = write(Path(scratch) / f"{one}.mp4", moving_square(CLIP_FRAMES))
                archive.write(film, film.name)
        files = Path(scratch) / "files"
        files.mkdir()
        for one in range(UPLOADED):
            (files / f"{one}.jpg").write_bytes(photo(first + 500_000 + one, faces))
        jobs = [
            client.submit({"prefix": "photos/"}, options=options),
            client.submit_attached("zip", zipped, options=options),
            client.submit_files(sorted(files.iterdir()), options=options),
        ]
        for job in jobs:
            listen_and_leave(stack, job["id"])
        for job in jobs:
            ended = client.wait(job["id"])
            counts = ended["counts"]
            assert ended["status"] == "finished", ended
            assert counts["succeeded"] + counts["failed"] == counts["total"] > 0, ended


def listen_and_leave(stack: Stack, job_id: str) -> None:
    """Read a few events and disconnect, like a browser whose page is closed. Read the report to its
    end.
    """
    url = f"{stack.address.api_url}/v1/jobs/{job_id}"
    headers = {"Authorization": f"Bearer {stack.secrets.api_key}"}
    with httpx.Client(headers=headers, timeout=30, trust_env=False) as http:
        for _ in range(LISTENERS):
            with http.stream("GET", f"{url}/events") as events:
                assert next(events.iter_lines()).startswith("retry:")
        assert http.get(f"{url}/report.csv").status_code == 200


def segments_left(database: Database) -> int:
    """The number of jobs that hold segments of clips; they go when the clip is done."""
    with database.transaction() as session:
        parts = sa.select(sa.func.count()).select_from(Job).where(Job.of_job_id.is_not(None))
        return session.scalar(parts) or 0


def rows_left(database: Database) -> int:
    """The numbers of jobs and images in the database."""
    with database.transaction() as session:
        return sum(
            session.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in (Job, Item)
        )


def tell(mark: Gauges, rate: float) -> None:
    """Print one line of JSON."""
    parts = {
        name: [round(one.rss_mb), one.fds, one.threads] for name, one in mark.processes.items()
    }
    rest = asdict(mark) | {"processes": parts, "images_per_s": round(rate, 1)}
    shown = {key: round(one, 1) if isinstance(one, float) else one for key, one in rest.items()}
    print(json.dumps(shown), flush=True)


def grown(middle: Gauges, end: Gauges) -> list[str]:
    """Everything that grew beyond its limit or was left behind."""
    problems = []
    for name, one in end.processes.items():
        before = middle.processes[name]
        more_mb = one.rss_mb - before.rss_mb
        if more_mb > GROWTH_MB[name]:
            problems.append(f"{name}: {more_mb:.0f} MB more after {end.images - middle.images:,}")
        if one.threads - before.threads > GROWTH_THREADS:
            problems.append(f"{name}: {before.threads} threads became {one.threads}")
        if one.fds - before.fds > GROWTH_FDS:
            problems.append(f"{name}: {before.fds} descriptors became {one.fds}")
    if set(end.redis_keys) - set(middle.redis_keys):
        problems.append(f"Redis keys: {sorted(set(end.redis_keys) - set(middle.redis_keys))}")
    if end.multipart_uploads:
        problems.append(f"{end.multipart_uploads} multipart uploads were left")
    if end.temporary_files:
        problems.append(f"{end.temporary_files} temporary files were left")
    return problems


def wait_for(check: Callable[[], bool], *, timeout_s: float = REST_S) -> bool:
    """Whether the condition became true within the time."""
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


if __name__ == "__main__":
    main()
