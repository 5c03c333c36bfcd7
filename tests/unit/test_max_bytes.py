"""The option `max_bytes`: the best quality that fits, in few tries with a time limit each."""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from shared.errors import MattingError
from shared.groups import TurntableFrame, TurntableWork
from shared.marketplaces import RULES, Market
from shared.options import Options, Profile
from shared.settings import Settings
from tests.unit.test_render import photo
from worker.concurrency.watchdog import Watchdog
from worker.imaging import encoding
from worker.imaging.arrays import Image
from worker.imaging.decoding import DecodedImage
from worker.imaging.encoding import encode
from worker.imaging.finishing import finish_matte
from worker.imaging.prepared import PreparedImage
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.work_items import WorkItem, requested_outputs


def test_a_file_that_never_fits_says_so() -> None:
    image, matte = photo()
    height, width = matte.shape
    asked = {"format": "jpeg", "background": "#ffffff", "max_bytes": 10_000}
    extra = [{"name": "b.{ext}", "format": "jpeg", "background": "#ffffff", "max_side_px": 16}]
    options = Options.model_validate(asked | {"extra_outputs": extra})
    large, small = finish_matte(DecodedImage(image, width, height), matte, options)
    assert large.unmet == (f"The file has {len(large.data):,} bytes; `max_bytes` is 10,000",)
    assert small.unmet == ()


@pytest.mark.parametrize("subject", [True, False])
def test_a_file_that_never_fits_says_so_beside_the_rules_of_a_marketplace(subject: bool) -> None:
    image, matte = photo()
    height, width = matte.shape
    asked = {"format": "jpeg", "background": "#ffffff", "max_bytes": 10_000, "market": "ebay"}
    [file] = finish_matte(
        DecodedImage(image, width, height), matte * subject, Options.model_validate(asked)
    )
    said = f"The file has {len(file.data):,} bytes; `max_bytes` is 10,000"
    assert file.unmet[0] == said
    assert ("There is no subject in the picture" in file.unmet) is not subject


def test_a_limit_that_a_marketplace_has_too_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    image, matte = photo()
    height, width = matte.shape
    monkeypatch.setitem(RULES, Market.EBAY, replace(RULES[Market.EBAY], max_bytes=10_000))
    asked = {"format": "jpeg", "background": "#ffffff", "max_bytes": 10_000, "market": "ebay"}
    [file] = finish_matte(DecodedImage(image, width, height), matte, Options.model_validate(asked))
    about_bytes = [one for one in file.unmet if "bytes" in one]
    assert about_bytes == [f"The file has {len(file.data):,} bytes; eBay accepts at most 10,000"]


def fitted(pixels: Image, asked: dict[str, Any]) -> tuple[bytes, int]:
    """The file, and how often something was encoded for it."""
    tries: list[None] = []
    data = encode(pixels, Options.model_validate(asked), goes_on=lambda: tries.append(None))
    return data, len(tries)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_max_bytes_gives_the_best_quality_that_fits_in_few_tries(kind: str) -> None:
    asked = {"format": kind, "background": "#ffffff", "quality": 95}
    pixels, _ = photo()
    each = [fitted(pixels, asked | {"quality": quality})[0] for quality in range(20, 96)]
    for share in (0.95, 0.6, 0.3, 0.16):
        limit = int(share * len(each[-1]))
        found, tries = fitted(pixels, asked | {"max_bytes": limit})
        fits = [data for data in each if len(data) <= limit]
        assert found == (fits or each)[-1 if fits else 0]
        assert tries <= 8


def test_a_large_picture_is_tried_a_few_times_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "LARGE_PIXELS", 1)
    pixels, _ = photo()
    for quality, limit in ((100, 60_000), (95, 20_000), (60, 25_000)):
        asked = {"format": "jpeg", "background": "#ffffff", "quality": quality}
        found, tries = fitted(pixels, asked | {"max_bytes": limit})
        assert limit * 0.9 < len(found) <= limit
        assert tries <= 7


def test_what_never_fits_has_the_lowest_quality_or_the_one_asked_for() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (400, 400, 3), np.uint8)
    for quality, lowest in ((95, 20), (20, 20), (21, 20), (10, 10)):
        asked = {"format": "jpeg", "background": "#ffffff", "quality": quality}
        found, _ = fitted(pixels, asked | {"max_bytes": 10_000})
        assert found == fitted(pixels, asked | {"quality": lowest})[0]


class Restarts(Watchdog):
    """A watchdog that counts how often a stage's time begins anew."""

    def __init__(self) -> None:
        super().__init__(60)
        self.of: Counter[str] = Counter()

    @contextmanager
    def watching(
        self, item_id: str | None, stage: str, limit_s: float | None = None
    ) -> Iterator[Callable[[], None]]:
        yield lambda: self.of.update([stage])


class Everything:
    """A store with one photo, and a predictor that takes all of it for the subject."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def get(self, bucket: str, key: str, max_bytes: int) -> bytes:
        return self.data

    def put(self, key: str, data: bytes, content_type: str) -> None:
        pass

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        return PreparedImage(image, (("resize", (image.shape[0], image.shape[1])),))

    def predict_many(
        self, prepared: Sequence[PreparedImage]
    ) -> list[NDArray[np.float32] | MattingError]:
        return [np.ones(one.shape, np.float32) for one in prepared]


def png() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(photo(300, 200)[0]).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize("way", ["run_many", "run_each"])
def test_each_file_and_each_try_has_the_time_limit_for_itself(way: str) -> None:
    one = {"format": "webp", "max_bytes": 10_000}
    options = Options.model_validate(
        one | {"extra_outputs": [{"name": f"{n}.{{ext}}", **one} for n in range(3)]}
    )
    world, watchdog = Everything(png()), Restarts()
    item = WorkItem(
        item_id="1",
        bucket="b",
        key="k",
        options=options,
        outputs=requested_outputs(options, list("abcd")),
    )
    settings = Settings(second_model="none")
    with closing(Pipeline(world, world, settings, watchdog=watchdog)) as pipeline:
        if way == "run_many":
            [outcome] = pipeline.run_many([item])
        else:
            [[outcome]] = pipeline.run_each([item], urgent=True)
    assert outcome.error is None
    assert watchdog.of["finish"] >= 4 * 3
    assert watchdog.of["batch"] == watchdog.of["finish"]


def test_each_file_of_a_turntable_has_the_time_limit_for_itself() -> None:
    world, watchdog = Everything(png()), Restarts()
    frames = tuple(TurntableFrame(key=f"{n}.png", name=f"{n}.png", item_id="2") for n in range(2))
    item = WorkItem(
        item_id="1",
        bucket="b",
        key="k",
        options=Options(),
        outputs=requested_outputs(Options(), ["x.webp"]),
        group=TurntableWork(group="shoe", frames=frames, missing=0),
    )
    with closing(Pipeline(world, world, Settings(batch_size=1), watchdog=watchdog)) as pipeline:
        [outcome] = pipeline.run_many([item])
    assert outcome.error is None
    assert watchdog.of == {"finish": 1}, "between the animation and the film"
