"""What a job of local photos would need, without sending one."""

import random
import statistics
from collections.abc import Iterable
from itertools import islice
from typing import Any

import PIL.Image

from api.client import Job
from deploy.local_photos import LocalPhotos

SAMPLE = 24
"""Photos whose headers are read; the others count as equal to these."""

SAMPLE_SEED = 0
RECENT_JOBS = 20


def estimate_local(photos: LocalPhotos, jobs: Iterable[Job]) -> dict[str, Any]:
    """Numbers as `POST /v1/jobs?dry_run=true` has them, and the bytes to send.

    `jobs`: the newest first; their rate is the expected one.
    """
    paths = [path for path, _ in photos.files]
    chosen = random.Random(SAMPLE_SEED).sample(paths, min(SAMPLE, len(paths)))  # noqa: S311
    sizes = []
    for path in chosen:
        try:
            with PIL.Image.open(path) as photo:
                sizes.append(photo.width * photo.height / 1e6)
        except (OSError, ValueError, PIL.Image.DecompressionBombError):
            continue  # such a photo fails alone
    megapixels = statistics.fmean(sizes) * len(paths) if sizes else None
    rates = [job["images_per_s"] for job in islice(jobs, RECENT_JOBS) if job["images_per_s"]]
    rate = statistics.median(rates) if rates else None
    return {
        "images": len(paths),
        "left_out": len(photos.left_out),
        "bytes": sum(path.stat().st_size for path in paths),
        "megapixels": round(megapixels, 1) if megapixels is not None else None,
        "sampled": len(sizes),
        "images_per_s": round(rate, 2) if rate else None,
        "seconds": round(len(paths) / rate, 1) if rate else None,
    }
