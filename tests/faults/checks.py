"""Checks what must hold after every job: row by row, object by object."""

import struct
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import sqlalchemy as sa

from shared.jobs import SETTLED, ItemKind, ItemStatus
from shared.models import Item, Job
from tests.faults.system import System


def photo(number: int) -> bytes:
    """A small JPEG with a size of its own, so that a swapped result is noticed."""
    width, height = size_of(number)
    image = np.full((height, width, 3), 220, np.uint8)
    cv2.circle(image, (width // 2, height // 2), min(width, height) // 3, (30, 40, 60), -1)
    return bytes(cv2.imencode(".jpg", image)[1])


def size_of(number: int) -> tuple[int, int]:
    """Width and height of the photo with this number."""
    return 64 + number % 61, 64 + number // 61


@dataclass(frozen=True)
class Finding:
    """The problems of a finished job."""

    items: int
    lost: int
    """Items that are not settled, or that succeeded without an object or with another image's
    object.
    """
    drift: int
    """Counters that differ from the rows."""
    twice: int
    """Items that were recorded more than once: counters beyond the number of images, objects
    without an item.
    """
    failed: int
    again: int
    """Images that were computed more than once."""
    deaths: int = 0
    """Worker deaths that were counted against images."""

    @property
    def clean(self) -> bool:
        """Whether the promise held."""
        return self.lost == self.drift == self.twice == 0


def check(system: System, job_id: uuid.UUID, expected: int) -> Finding:
    """Check every row and every object of a job that has ended."""
    with system.database.transaction() as session:
        job = session.get_one(Job, job_id)
        items = session.scalars(sa.select(Item).where(Item.job_id == job_id)).all()
    rows = Counter(item.status for item in items)
    drift = sum(abs(getattr(job, status.value) - rows[status]) for status in ItemStatus)
    unsettled = [item for item in items if item.status not in SETTLED]
    done = [item for item in items if item.status is ItemStatus.SUCCEEDED]
    with ThreadPoolExecutor(8) as pool:
        right = list(pool.map(lambda item: _right_object(system, item), done))
    objects = set(system.storage.list_keys(f"jobs/{job_id}/results/"))
    settled = job.succeeded + job.failed + job.cancelled
    return Finding(
        items=len(items),
        lost=expected - len(items) + len(unsettled) + right.count(False),
        drift=drift + abs(job.total - len(items)),
        twice=max(0, settled - expected) + len(objects) - len(_keys(items, objects)),
        failed=rows[ItemStatus.FAILED],
        again=sum(item.attempts > 1 for item in items),
        deaths=sum(item.deaths for item in items),
    )


def _keys(items: Sequence[Item], objects: set[str]) -> set[str]:
    """Keys of the objects that are some item's result."""
    known = {one for item in items for one in _files(item)}
    return objects & known


def _files(item: Item) -> list[str]:
    place = f"jobs/{item.job_id}/results/{item.id}"
    if item.kind is ItemKind.TURNTABLE:
        return [f"{place}.webp", f"{place}/1.json", f"{place}/2.mp4"]
    return [f"{place}.png"]


def _right_object(system: System, item: Item) -> bool:
    assert item.result_key is not None
    data = system.storage.get(system.storage.bucket, item.result_key, 1 << 24)
    if item.kind is ItemKind.TURNTABLE:
        return data[8:12] == b"WEBP"
    number = int(item.name.partition(".")[0].rpartition("/")[2])
    return data[:4] == b"\x89PNG" and struct.unpack(">II", data[16:24]) == size_of(number)
