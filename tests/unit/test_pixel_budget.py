"""The budget of decoded pixels: it is never exceeded, and every waiting thread gets its turn."""

import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from shared.errors import MattingError
from shared.options import Options, Profile
from shared.settings import Settings
from tests import bad_photos
from tests.colour_profiles import adobe_rgb
from tests.photo_files import drawn, saved
from tests.waiting import eventually
from worker.concurrency.pixel_budget import PixelBudget
from worker.imaging.arrays import Image
from worker.imaging.crop_and_canvas import MAX_CANVAS_PIXELS
from worker.imaging.decoding import DecodingCost, decoding_cost
from worker.imaging.finishing import FinishedFile, pixels_to_finish
from worker.imaging.kept_files import KeptFiles
from worker.imaging.prepared import PreparedImage
from worker.pipeline import transfers
from worker.pipeline.in_flight import InFlightImage
from worker.pipeline.pipeline import Pipeline, WorkItem
from worker.pipeline.transfers import Transfers
from worker.pipeline.work_items import Outcome, requested_outputs

WIDTH, HEIGHT = 400, 300
PIXELS = WIDTH * HEIGHT


def test_a_photo_larger_than_the_budget_gets_the_whole_budget_and_returns_it() -> None:
    pixel_budget = PixelBudget(100)
    assert pixel_budget.acquire(1_000) == 100
    assert not pixel_budget.try_acquire(1)
    pixel_budget.release(100)
    assert pixel_budget.try_acquire(100)


def test_waiting_threads_are_served_in_their_order() -> None:
    pixel_budget, order = PixelBudget(10), list[str]()
    assert pixel_budget.acquire(8) == 8

    def wait() -> None:
        pixel_budget.acquire(9)
        order.append("large")

    large = threading.Thread(target=wait)
    large.start()
    eventually(lambda: pixel_budget._waiting, "the large one to wait")
    assert not pixel_budget.try_acquire(1), "it fits, but another waits"
    pixel_budget.release(8)
    large.join(180)
    assert order == ["large"]


def test_many_threads_never_exceed_the_budget() -> None:
    pixel_budget, lock = PixelBudget(100), threading.Lock()
    held, most = 0, 0

    def work(seed: int) -> None:
        nonlocal held, most
        rng = np.random.default_rng(seed)
        for wanted in rng.integers(1, 130, 200):
            mine = pixel_budget.acquire(int(wanted))
            extra = int(rng.integers(0, 30))
            mine += extra if pixel_budget.try_acquire(extra) else 0
            with lock:
                held += mine
                most = max(most, held)
                assert held <= 100
                held -= mine
            pixel_budget.release(mine)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most > 50
    assert pixel_budget.try_acquire(100), "all came back"


class Counting:
    """A predictor that counts how many photos are decoded at a time."""

    def __init__(self) -> None:
        self.decoded = self.most = 0
        self._lock = threading.Lock()

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        with self._lock:
            self.decoded += 1
            self.most = max(self.most, self.decoded)
        return PreparedImage(image, (("resize", (image.shape[0], image.shape[1])),))

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[np.float32] | MattingError]:
        with self._lock:
            self.decoded -= len(prepared)
        return [one.image[..., 0].astype(np.float32) / np.float32(255) for one in prepared]


class Shelf:
    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.stored = files, set[str]()

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        return self.files[key]

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self.stored.add(key)


def items_of(shelf: Shelf) -> list[WorkItem]:
    return [
        WorkItem(
            item_id=key,
            bucket="b",
            key=key,
            options=Options(),
            outputs=requested_outputs(Options(), [f"r{key}"]),
        )
        for key in shelf.files
    ]


@pytest.mark.parametrize("pixel_budget", [1, 2 * PIXELS, 5 * PIXELS])
def test_a_batch_beyond_the_budget_is_split(jpeg: bytes, pixel_budget: int) -> None:
    assert decoding_cost(jpeg) == DecodingCost(WIDTH, HEIGHT, 1)
    assert decoding_cost(b"<html>").pixels == 0
    files = {f"{number}": jpeg for number in range(12)} | {"4": b"<html>", "7": jpeg[:900]}
    predictor, shelf = Counting(), Shelf(files)
    settings = Settings(max_decoded_pixels=pixel_budget, codec_threads=4, thumbnails=False)
    pipeline = Pipeline(predictor, shelf, settings)
    with ThreadPoolExecutor(3) as drivers:  # all batches share the budget
        batches = list(drivers.map(pipeline.run_many, [items_of(shelf)] * 3))
    pipeline.close()
    for outcomes in batches:
        codes = {one.item_id: one.error.code for one in outcomes if one.error}
        assert codes == {"4": "not-an-image", "7": "truncated-image"}
    assert len(shelf.stored) == 10
    assert predictor.most <= max(1, pixel_budget // PIXELS)


def coloured(mode: str) -> PIL.Image.Image:
    image = drawn(2_000, 1_500).convert("RGB")
    if mode == "RGBA":
        image.putalpha(PIL.Image.linear_gradient("L").resize(image.size))
    return image.convert(mode)


def test_no_photo_takes_more_memory_than_it_counts_for(tmp_path: Path) -> None:
    kinds = [("RGB", "JPEG"), ("RGB", "PNG"), ("CMYK", "JPEG"), ("RGBA", "WEBP")]
    paths = [tmp_path / f"{mode}.{kind}" for mode, kind in kinds]
    for path, (mode, kind) in zip(paths, kinds, strict=True):
        path.write_bytes(saved(coloured(mode), kind))
    paths.append(tmp_path / "adobe-rgb.jpeg")
    paths[-1].write_bytes(saved(coloured("RGB"), "JPEG", icc_profile=adobe_rgb()))
    assert decoding_cost(paths[-1].read_bytes()).times == 1, "as an ordinary photo"
    done = subprocess.run(
        [sys.executable, "-m", "tests.decoding_memory", *map(os.fspath, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    for path, kib in zip(paths, done.stdout.split(), strict=True):
        cost = decoding_cost(path.read_bytes())
        assert int(kib) * 1024 <= 11 * cost.pixels * cost.times, path


def test_outputs_whose_encoders_copy_count_more_unless_they_are_small() -> None:
    def needed(**options: object) -> int:
        return pixels_to_finish(Options.model_validate(options), 4_000, 2_500)

    assert needed() == needed(background="#ffffff", format="jpeg") == 10**7
    assert needed(format="webp") == 3 * 10**7
    assert needed(shadow="contact") == 2 * 10**7
    assert needed(shadow="contact", format="webp") == 4 * 10**7
    assert needed(format="webp", max_side_px=1_000) == 10**7 + 2 * 10**6
    assert needed(extra_outputs=[{"name": "small", "format": "avif"}]) == 3 * 10**7
    assert needed(preset="amazon") == 10**7 + 2 * 2_000**2


def test_a_canvas_counts_as_large_as_any_subject_makes_it() -> None:
    def needed(width: int, height: int, **options: object) -> int:
        return pixels_to_finish(Options.model_validate(options), width, height)

    assert needed(4_000, 2_500, canvas="9000x8000") == 9_000 * 8_000
    assert needed(4_000, 2_500, canvas="1:1") == 4_000**2
    assert needed(4_000, 2_500, canvas="1:1", scale=0.5) == 8_000**2
    assert needed(2_500, 4_000, canvas="2:1", scale=0.5) == MAX_CANVAS_PIXELS
    assert needed(4_000, 2_500, canvas="1:1", padding="25%", snap=True) == 8_000**2
    assert needed(4_000, 2_500, canvas="1:1", scale=0.5, max_side_px=1_000) == 10**7
    assert needed(9_000, 2, canvas="1:1") == 9_000**2
    assert decoding_cost(bad_photos.turned(6)) == DecodingCost(64, 96, 1)


class File(bytes):
    """A photo's file that tells how many there are."""

    alive = 0

    def __new__(cls, data: bytes) -> "File":
        cls.alive += 1
        return super().__new__(cls, data)

    def __del__(self) -> None:
        File.alive -= 1


class Watching(Counting):
    """A predictor that notes how many files are in memory."""

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[np.float32] | MattingError]:
        self.files = File.alive
        return super().predict_many(prepared)


class Fresh(Shelf):
    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        return File(self.files[key])


class Counted(Fresh):
    """A store that notes how many files are in memory when it is asked for another."""

    most = 0

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        self.most = max(self.most, File.alive)
        return super().get(bucket, key, max_bytes)


def test_a_batch_of_large_files_is_fetched_in_parts(
    jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "PART_BYTES", 3 * len(jpeg))
    shelf = Counted({f"{number}": jpeg for number in range(12)} | {"4": b"<html>"})
    settings = Settings(max_decoded_pixels=1, io_threads=1, thumbnails=False)  # most files wait
    pipeline = Pipeline(Counting(), shelf, settings)
    outcomes = pipeline.run_many(items_of(shelf))
    pipeline.close()
    assert [one.item_id for one in outcomes] == list(shelf.files)
    assert [one.item_id for one in outcomes if one.error] == ["4"]
    assert len(shelf.stored) == 11
    assert shelf.most <= 4


@pytest.mark.parametrize("way", ["run_many", "run_each"])
def test_files_of_decoded_photos_leave_the_memory(jpeg: bytes, way: str) -> None:
    predictor, shelf = Watching(), Fresh({f"{number}": jpeg for number in range(8)})
    settings = Settings(thumbnails=False, batch_wait_ms=5_000)
    pipeline = Pipeline(predictor, shelf, settings)
    items = items_of(shelf)
    if way == "run_many":
        pipeline.run_many(items)
    else:
        assert len(list(pipeline.run_each(items, urgent=True))) == 1
    pipeline.close()
    assert len(shelf.stored) == 8
    assert predictor.files <= 1, "that of the last photo"


class Holding(Counting):
    """A predictor that knows whether the pixels of a photo are still in memory."""

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        self.pixels = weakref.ref(image)
        return super().prepare(image, profile)


def test_pixels_of_a_photo_that_failed_leave_the_memory_before_its_error() -> None:
    too_long = Options.model_validate({"format": "webp"})
    shelf, predictor = Shelf({"1": saved(drawn(16_400, 8), "PNG")}), Holding()
    pipeline = Pipeline(predictor, shelf, Settings(thumbnails=False, second_model="none"))
    item = WorkItem(
        item_id="1",
        bucket="b",
        key="1",
        options=too_long,
        outputs=requested_outputs(too_long, ["r1"]),
    )
    [outcome] = pipeline.run_many([item])
    assert outcome.error is not None
    assert outcome.error.code == "output-too-large"
    assert predictor.pixels() is None
    pipeline.close()


def test_stored_files_leave_the_memory() -> None:
    options, shelf = Options(), Shelf({})
    item = WorkItem(
        item_id="1",
        bucket="b",
        key="1",
        options=options,
        outputs=requested_outputs(options, ["r1"]),
    )
    in_flight = InFlightImage(item, Outcome(item_id="1"))
    in_flight.files = [FinishedFile(data=b"x", width=1, height=1, name="1.png")]
    in_flight.kept = KeptFiles(wants_thumbnails=True, wants_matte=True, thumbnails=b"t", matte=b"m")
    transfers = Transfers(shelf, Settings(), None, None)
    transfers.put(in_flight).result()
    transfers.close()
    assert in_flight.outcome.outputs
    assert len(shelf.stored) == 3
    assert not in_flight.files
    assert in_flight.kept is None
