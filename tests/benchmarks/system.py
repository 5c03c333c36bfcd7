"""CPU cost of the whole system compared with its stages: python -m tests.benchmarks.system.

It divides two figures for a job of 512 × 512 JPEGs and a tiny network. The first is the CPU time of
every process of the embedded stack (API, Redis, worker, S3, database, Flower). The second is the
CPU time of one process that runs the same stages (fetch, decode, predict, review, finish, encode,
store) on the same objects one by one, with the same files beside each result, plus the S3 server's
time for it.
"""

import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import cv2

from api.client import MattingClient
from deploy.stack.stack import Stack
from shared.errors import MattingError
from shared.kept_files import output_with_matte
from shared.options import Options
from shared.settings import Settings
from shared.storage import Storage
from tests.benchmarks.photos import draw, jpeg
from tests.benchmarks.report import report
from tests.benchmarks.tiny import export
from worker.imaging.decoding import decode
from worker.imaging.false_holes import fill_false_holes
from worker.imaging.finishing import finish
from worker.imaging.kept_files import KeptFiles
from worker.imaging.matte_metrics import measure
from worker.inference.predictor import load_predictor

IMAGES = 600
PHOTOS = 12
SIZE = (512, 512)
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that these processes and their threads have used so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def whole_system(stack: Stack, keys: list[str]) -> dict[str, float]:
    """CPU-ms per image of each process, and images/s, from submission to the job's end."""
    processes = stack.processes
    with MattingClient(stack.address.api_url, stack.secrets.api_key) as client:
        client.wait(client.submit({"keys": keys[:PHOTOS]})["id"])
        before = {name: cpu_s([pid]) for name, pid in processes.items()}
        started = time.perf_counter()
        job = client.wait(client.submit({"keys": keys})["id"])
        elapsed_s = time.perf_counter() - started
    if job["counts"]["succeeded"] != len(keys):
        raise SystemExit(f"the job failed: {job['counts']}")
    per_image = {
        name: (cpu_s([pid]) - before[name]) / len(keys) * 1e3 for name, pid in processes.items()
    }
    return {name: round(ms, 2) for name, ms in per_image.items()} | {
        "images_per_s": round(len(keys) / elapsed_s, 1)
    }


def bare_loop(stack: Stack, settings: Settings, keys: list[str]) -> dict[str, float]:
    """CPU-ms per image of one process that runs the stages, and of the S3 server for it."""
    cv2.setNumThreads(1)
    storage = Storage(settings)
    predictor = load_predictor(settings)
    options = Options()
    s3 = stack.processes["s3"]

    def one(key: str) -> None:
        data = storage.get(settings.s3_bucket, key, settings.max_image_bytes)
        decoded = decode(data, settings)
        prepared = predictor.prepare(decoded.image, options.profile)
        (alpha,) = predictor.predict_many([prepared])
        if isinstance(alpha, MattingError):
            raise alpha
        measure(alpha, prepared, min(decoded.width, decoded.height))
        kept = KeptFiles(
            wants_thumbnails=settings.thumbnails,
            wants_matte=settings.keep_mattes and output_with_matte(options) is None,
        )
        filled = fill_false_holes(prepared.without_padding(alpha), decoded.small).alpha
        (file,) = finish(decoded, prepared, filled, options, kept=kept)
        storage.put(f"bare/{key}.png", file.data, "image/png")
        if kept.thumbnails is not None:
            storage.put(f"bare/{key}.webp", kept.thumbnails, "image/webp")
        if kept.matte is not None:
            storage.put(f"bare/{key}-matte.png", kept.matte, "image/png")

    for key in keys[:PHOTOS]:
        one(key)
    own, server = time.process_time(), cpu_s([s3])
    for key in keys:
        one(key)
    loop = (time.process_time() - own) / len(keys) * 1e3
    served = (cpu_s([s3]) - server) / len(keys) * 1e3
    predictor.close()
    storage.close()
    return {"loop": round(loop, 2), "s3": round(served, 2)}


def main() -> None:
    """Headline: CPU-ms per image of the system divided by those of the bare loop."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = export(folder / "model")
        env = {"MATTING_MODEL": str(model), "MATTING_LOG_LEVEL": "WARNING"}
        with Stack(folder / "data", env=env) as stack:
            settings = stack.settings
            storage = Storage(settings)
            photos = [jpeg(draw(SIZE, seed)) for seed in range(PHOTOS)]
            keys = [f"photos/{number:04}.jpg" for number in range(IMAGES)]
            for number, key in enumerate(keys):
                # Each photo gets other bytes after its end, so no result is reused.
                data = photos[number % PHOTOS] + number.to_bytes(2, "big")
                storage.put(key, data, "image/jpeg")
            storage.close()
            bare = bare_loop(stack, settings, keys)
            print("bare loop:", bare)
            system = whole_system(stack, keys)
            print("system:", system)
    rate = system.pop("images_per_s")
    flower = system.pop("flower")
    details = {
        "images": IMAGES,
        "images_per_s": rate,
        "system_cpu_ms": system,
        "bare_cpu_ms": bare,
        "flower_cpu_ms": flower,
    }
    ratio = (sum(system.values()) + flower) / sum(bare.values())
    report("system", ratio, target="<= 1.4", unit="CPU-s / bare loop's", details=details)


if __name__ == "__main__":
    main()
