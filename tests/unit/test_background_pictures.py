"""Background pictures: each is read once, failures are remembered too, and a slow picture delays no
other image.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import (
    BackgroundUnreadableError,
    MattingError,
    SourceNotFoundError,
    StorageError,
)
from shared.options import Options
from shared.settings import Settings
from tests.integration.test_batch_runner import Threshold
from tests.waiting import eventually
from worker.imaging.arrays import Image
from worker.imaging.prepared import PreparedImage
from worker.pipeline import background_pictures
from worker.pipeline.background_pictures import BackgroundPictures
from worker.pipeline.pipeline import Outcome, Pipeline, WorkItem
from worker.pipeline.work_items import requested_outputs


class Shelf:
    """A storage with one photo under every key, and pictures in the bucket `backs`."""

    def __init__(self, photo: bytes) -> None:
        self.photo = photo
        self.pictures: dict[str, bytes] = {}
        self.read = Counter[str]()
        self.hangs = threading.Event()
        """Pictures whose name begins with `slow` arrive only after this is set."""
        self.stored: dict[str, bytes] = {}

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        if bucket != "backs":
            return self.photo
        self.read[key] += 1
        if key.startswith("slow"):
            assert self.hangs.wait(180)
        if key not in self.pictures:
            raise SourceNotFoundError(key)
        return self.pictures[key]

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self.stored[key] = data


@pytest.fixture
def shelf(jpeg: bytes) -> Iterator[Shelf]:
    shelf = Shelf(jpeg)
    yield shelf
    shelf.hangs.set()


@pytest.fixture
def pipeline(shelf: Shelf) -> Iterator[Pipeline]:
    pipeline = Pipeline(Threshold(), shelf, Settings(codec_threads=2, thumbnails=False))
    yield pipeline
    shelf.hangs.set()
    pipeline.close()


def batch(count: int, *backgrounds: str) -> list[WorkItem]:
    """Items whose options name these pictures: the first for the main output, the others for extra
    outputs. Without names they are plain cut-outs.
    """
    urls = [f"s3://backs/{name}" for name in backgrounds]
    asked: dict[str, object] = {"background": urls[0]} if urls else {}
    asked["extra_outputs"] = [
        {"name": f"{{stem}}-{number}.{{ext}}", "background": url}
        for number, url in enumerate(urls[1:])
    ]
    options = Options.model_validate(asked)

    def keys(number: int) -> list[str]:
        of = "-".join([f"r{number}", *backgrounds])
        return [of, *(f"{of}-{extra}" for extra in range(len(urls) - 1))]

    return [
        WorkItem(
            item_id=f"{number}",
            bucket="photos",
            key=f"{number}",
            outputs=requested_outputs(options, keys(number)),
            options=options,
        )
        for number in range(count)
    ]


def codes(outcomes: list[Outcome]) -> set[str | None]:
    return {one.error.code if one.error else None for one in outcomes}


def solid(colour: tuple[int, int, int], side: int = 40) -> bytes:
    picture = np.full((side, side, 3), colour, np.uint8)
    return bytes(cv2.imencode(".png", picture)[1])


@pytest.mark.parametrize("damaged", [None, b"<html>", b"\xff\xd8\xff damaged", b""])
@pytest.mark.parametrize("names", [("bad",), ("good", "bad")])
def test_an_unreadable_picture_is_read_once_for_all_images_of_the_job(
    pipeline: Pipeline, shelf: Shelf, damaged: bytes | None, names: tuple[str, ...]
) -> None:
    shelf.pictures["good"] = solid((1, 2, 3))
    if damaged is not None:
        shelf.pictures["bad"] = damaged
    for _ in range(3):
        assert codes(pipeline.run_many(batch(8, *names))) == {"background-unreadable"}
    assert shelf.read["bad"] == 1


def test_a_missing_picture_is_read_again_after_a_while(
    pipeline: Pipeline, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_pictures, "FAILURE_KEPT_S", 0.01)
    assert codes(pipeline.run_many(batch(1, "late"))) == {"background-unreadable"}
    shelf.pictures["late"] = solid((0, 0, 250))
    deadline = time.monotonic() + 20
    while codes(pipeline.run_many(batch(1, "late"))) != {None}:
        assert time.monotonic() < deadline
    result = cv2.imdecode(np.frombuffer(shelf.stored["r0-late"], np.uint8), cv2.IMREAD_UNCHANGED)
    assert result is not None
    assert result[0, 0].tolist() == [0, 0, 250]


def test_a_hanging_picture_delays_only_its_own_images(pipeline: Pipeline, shelf: Shelf) -> None:
    shelf.pictures |= {"slow": solid((9, 9, 9)), "quick": solid((8, 8, 8))}
    with ThreadPoolExecutor(1) as driver:
        held = driver.submit(pipeline.run_many, batch(8, "slow"))
        eventually(lambda: shelf.read["slow"] == 1, "the picture to be asked for")
        assert codes(pipeline.run_many(batch(8))) == {None}
        assert codes(pipeline.run_many(batch(8, "quick"))) == {None}
        assert not held.done()
        shelf.hangs.set()
        assert codes(held.result(180)) == {None}
    assert shelf.read == {"slow": 1, "quick": 1}


def test_other_images_of_the_batch_do_not_wait_for_a_hanging_picture(
    pipeline: Pipeline, shelf: Shelf
) -> None:
    shelf.pictures["slow"] = solid((9, 9, 9))
    both = batch(2, "slow") + batch(2)
    with ThreadPoolExecutor(1) as driver:
        held = driver.submit(pipeline.run_many, both)
        eventually(lambda: len(shelf.stored) == 2, "the images that need no picture")
        shelf.hangs.set()
        assert codes(held.result(180)) == {None}


def test_simultaneous_requests_share_one_read_and_storage_errors_are_not_cached() -> None:
    asked, errors = Counter[str](), [StorageError()]
    go = threading.Event()

    def read(bucket: str, key: str) -> Image:
        asked[key] += 1
        assert go.wait(180)
        if errors:
            raise errors.pop()
        return np.zeros((2, 2, 3), np.uint8)

    pictures = BackgroundPictures(read)
    together = [pictures.load("s3://backs/x") for _ in range(20)]
    go.set()
    for one in together:
        with pytest.raises(StorageError):
            one.result(180)
    eventually(lambda: pictures.load("s3://backs/x").exception(180) is None, "the picture")
    assert asked["x"] == 2
    pictures.close()


def made(side: int) -> Callable[[str, str], Image]:
    return lambda _bucket, key: np.zeros((side, side, 3), np.uint8)


def test_many_pictures_stay_within_the_cache_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background_pictures, "KEPT_BYTES", 5 * 100 * 100 * 3)
    monkeypatch.setattr(background_pictures, "KEPT_ENTRIES", 50)
    pictures = BackgroundPictures(made(100))
    for number in range(30):
        assert pictures.load(f"s3://backs/{number}").result(180).shape == (100, 100, 3)
    pictures.close()
    kept = [entry.picture.result().nbytes for entry in pictures._entries.values()]
    assert sum(kept) <= background_pictures.KEPT_BYTES
    assert len(kept) == 5

    def missing(bucket: str, key: str) -> Image:
        raise SourceNotFoundError(key)

    nothing = BackgroundPictures(missing)
    for number in range(200):
        with pytest.raises(BackgroundUnreadableError, match=f"backs/{number}"):
            nothing.load(f"s3://backs/{number}").result(180)
    nothing.close()
    assert len(nothing._entries) <= 50


class Spy(Threshold):
    """Counts how many images are predicted at a time."""

    def __init__(self) -> None:
        self.most = 0

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[np.float32] | MattingError]:
        self.most = max(self.most, len(prepared))
        return super().predict_many(prepared)


def on_canvas(count: int) -> list[WorkItem]:
    options = Options.model_validate({"canvas": "600x500"})
    return [
        replace(one, options=options, outputs=requested_outputs(options, [one.item_id]))
        for one in batch(count)
    ]


@pytest.mark.parametrize(
    ("asked", "together"),
    [
        (batch(6), 6),
        (batch(6, "large"), 3),  # all images share the picture
        ([batch(1, f"large{number}")[0] for number in range(6)], 1),
        (on_canvas(6), 2),
    ],
    ids=["plain", "one picture", "a picture each", "canvas"],
)
def test_pictures_and_canvases_count_in_the_pixel_budget(
    shelf: Shelf, asked: list[WorkItem], together: int
) -> None:
    """A photo has 400 × 300 pixels, a picture 600 × 600."""
    shelf.pictures = {
        name: solid((7, 7, 7), 600) for name in ("large", *(f"large{n}" for n in range(6)))
    }
    predictor = Spy()
    pipeline = Pipeline(predictor, shelf, Settings(max_decoded_pixels=6 * 400 * 300))
    # otherwise the pictures are not loaded yet in the measured run
    if any(one.options.background for one in asked):
        pipeline.run_many(asked)
        predictor.most = 0
    assert codes(pipeline.run_many(asked)) == {None}
    pipeline.close()
    assert predictor.most == together
