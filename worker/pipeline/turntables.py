"""Makes the turntable of a group from the results of its photos: an animated WebP, a JSON that
names the pictures for 360° viewers, and an MP4 on white.
"""

import io
import json
import posixpath
import tempfile
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import PIL.Image

from shared.clip_format import ClipFormat
from shared.errors import EmptyGroupError, EncodingFailedError
from shared.groups import TurntableFrame, TurntableWork
from shared.jobs import Reason
from shared.kept_files import thumbnails_key
from shared.rendition import Rendition
from shared.settings import Settings
from worker.concurrency.pixel_budget import PixelBudget
from worker.concurrency.thread_pool import SmallestBatchFirstPool
from worker.concurrency.watchdog import Watchdog
from worker.imaging.arrays import Image
from worker.imaging.colours import to_srgb
from worker.imaging.kept_files import thumbnail
from worker.imaging.samples import Samples
from worker.pipeline.in_flight import InFlightImage
from worker.pipeline.transfers import Transfers
from worker.pipeline.work_items import StoredOutput
from worker.video.encoders import encoder_for
from worker.video.facts import ClipFacts

MAX_SIDE_PX = 1_000
"""Longer side of a turntable: what shops show."""

MAX_PIXELS = 40_000_000
"""Of all pictures together, which are in memory at once: 160 MB. More pictures are smaller."""

TURN_MS = 4_000
"""Time of one turn."""

FRAME_MS = (40, 500)
"""Shortest and longest time of a picture: 25 a second are smooth."""

WEBP_METHOD = 2
"""A third of the time of libwebp's default, for files that are a twentieth larger."""

FETCHED_AHEAD = 2
"""Files in memory at a time: one may have hundreds of megabytes."""

ENCODER_THREADS = 1
"""It runs in a codec thread, of which there is one for each core."""


class Turntables:
    """Makes turntables. As thread-safe as what it is made of."""

    def __init__(
        self,
        transfers: Transfers,
        codecs: SmallestBatchFirstPool,
        pixel_budget: PixelBudget,
        watchdog: Watchdog,
        settings: Settings,
    ) -> None:
        self._transfers = transfers
        self._codecs = codecs
        self._pixel_budget = pixel_budget
        self._watchdog = watchdog
        self._settings = settings

    def make(self, in_flight: InFlightImage) -> None:
        """Make and store the files of a turntable; an error is the item's."""
        work = in_flight.item.group
        assert isinstance(work, TurntableWork)
        files = in_flight.stage("finish", lambda: self._files(in_flight, work))
        if files is not None:
            in_flight.stage("store", lambda: self._store(in_flight, work, files))

    def _files(self, in_flight: InFlightImage, work: TurntableWork) -> "_Files":
        if not work.frames:
            raise EmptyGroupError(f"None of {work.missing:,} photos has a result")
        one_result = self._settings.max_image_pixels  # of which one is decoded at a time
        held = self._pixel_budget.acquire(MAX_PIXELS + one_result)
        try:
            size: tuple[int, int] | None = None
            pictures: list[Image] = []
            for data in self._fetched(in_flight, work.frames):
                shrink = self._codecs.submit(in_flight.of, shrunk, data, size, len(work.frames))
                pictures.append(shrink.result())
                size = size or (pictures[0].shape[1], pictures[0].shape[0])
            encode = self._codecs.submit(in_flight.of, self._encoded, in_flight, work, pictures)
            return encode.result()
        finally:
            self._pixel_budget.release(held)

    def _fetched(
        self, in_flight: InFlightImage, frames: tuple[TurntableFrame, ...]
    ) -> Iterator[bytes]:
        """The files of the pictures in their order; a few are fetched ahead."""
        waiting: deque[Future[bytes]] = deque()
        left = iter(frames)
        for frame in islice(left, FETCHED_AHEAD):
            waiting.append(self._transfers.read(in_flight, frame.key))
        while waiting:
            data = waiting.popleft().result()
            for frame in islice(left, 1):
                waiting.append(self._transfers.read(in_flight, frame.key))
            yield data

    def _encoded(
        self, in_flight: InFlightImage, work: TurntableWork, pictures: list[Image]
    ) -> "_Files":
        """Encode all files; each has the time limit for itself."""
        with self._watchdog.watching(in_flight.item.item_id, "finish") as turned:
            frame_ms = min(max(round(TURN_MS / len(pictures)), FRAME_MS[0]), FRAME_MS[1])
            height, width = pictures[0].shape[:2]
            first = thumbnail(pictures[0])
            webp = encode_webp(pictures, frame_ms, in_flight.item.options.quality)
            turned()
            return _Files(
                webp=webp,
                mp4=encode_mp4(pictures, frame_ms, in_flight.item.options.quality),
                thumbnails=first + first,
                viewer=viewer_json(work, width, height, frame_ms),
                width=width,
                height=height,
            )

    def _store(self, in_flight: InFlightImage, work: TurntableWork, files: "_Files") -> None:
        main = in_flight.item.outputs[0].key
        folder = main.removesuffix(".webp")
        parts = (
            ("webp", main, files.webp, "image/webp"),
            ("json", f"{folder}/1.json", files.viewer, "application/json"),
            ("mp4", f"{folder}/2.mp4", files.mp4, "video/mp4"),
        )
        storing = [
            self._transfers.write(in_flight, key, data, content_type)
            for _, key, data, content_type in parts
        ]
        if self._settings.thumbnails:
            key = thumbnails_key(main)
            storing.append(self._transfers.write(in_flight, key, files.thumbnails, "image/webp"))
        for stored in storing:
            stored.result()
        outcome = in_flight.outcome
        outcome.output_bytes = len(files.webp)
        outcome.review = (Reason.INCOMPLETE,) if work.missing else ()
        outcome.outputs = tuple(
            StoredOutput(
                name=f"{in_flight.item.photo.name}.{extension}",
                key=key,
                width=files.width,
                height=files.height,
                bytes=len(data),
                unmet=(),
                crc32=zlib.crc32(data),
            )
            for extension, key, data, _ in parts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """The files of a turntable."""

    webp: bytes
    mp4: bytes
    viewer: bytes
    thumbnails: bytes
    width: int
    height: int


def turntable_size(width: int, height: int, count: int) -> tuple[int, int]:
    """Width and height of a turntable of `count` pictures of this size [px]."""
    scale = min(
        1.0, MAX_SIDE_PX / max(width, height), (MAX_PIXELS / (count * width * height)) ** 0.5
    )
    return max(1, int(width * scale)), max(1, int(height * scale))


def shrunk(data: bytes, size: tuple[int, int] | None, count: int) -> Image:
    """A result as a picture [H, W, 4] RGBA uint8 in sRGB of the turntable's size (width, height);
    the first one, for which that is None, sets it. Another one that has other sides is centred.
    """
    with PIL.Image.open(io.BytesIO(data), formats=["png", "webp", "jpeg"]) as file:
        width, height = file.size
        size = size or turntable_size(width, height, count)
        scale = min(size[0] / width, size[1] / height)
        inner = min(size[0], round(width * scale)), min(size[1], round(height * scale))
        inner = max(1, inner[0]), max(1, inner[1])
        # Pillow weights colours by alpha, so none of a transparent pixel enters the edge.
        way = PIL.Image.Resampling.BOX if scale < 1 else PIL.Image.Resampling.BILINEAR
        whole = file if file.mode == "RGBA" else file.convert("RGBA")
        small = np.asarray(whole.resize(inner, way))
        profile = file.info.get("icc_profile")  # with the option `colour_profile: keep`
    picture = np.zeros((size[1], size[0], 4), np.uint8)
    top, left = (size[1] - inner[1]) // 2, (size[0] - inner[0]) // 2
    inside = np.s_[top : top + inner[1], left : left + inner[0]]
    picture[inside] = small
    picture[inside][..., :3] = to_srgb(Samples(small[..., :3], "RGB"), profile)
    return picture


def encode_webp(pictures: list[Image], frame_ms: int, quality: int) -> bytes:
    """An animation of pictures [H, W, 4] RGBA uint8 of one size, without end."""
    first, *others = [PIL.Image.fromarray(one) for one in pictures]
    if all(bool((one[..., 3] == 255).all()) for one in pictures):
        first, *others = [one.convert("RGB") for one in (first, *others)]
    file = io.BytesIO()
    try:
        first.save(
            file,
            "WEBP",
            save_all=True,
            append_images=others,
            duration=frame_ms,
            loop=0,
            quality=quality,
            method=WEBP_METHOD,
        )
    except (OSError, ValueError) as error:
        raise EncodingFailedError(f"The animation can't be encoded: {error}") from error
    return file.getvalue()


def encode_mp4(pictures: list[Image], frame_ms: int, quality: int) -> bytes:
    """One turn of pictures [H, W, 4] RGBA uint8 of one size, on white: H.264 has no transparency.

    Raises EncodingFailedError.
    """
    height, width = pictures[0].shape[:2]
    facts = ClipFacts(
        container="MP4",
        codec="",
        width=width,
        height=height,
        bytes=0,
        time_base=(1, 1_000),
        times=tuple(range(0, len(pictures) * frame_ms, frame_ms)),
        end=len(pictures) * frame_ms,
        key_frames=(0,),
        audio=None,
        has_alpha=False,
    )
    asked = {"background": "#ffffff", "clip_format": ClipFormat.MP4, "quality": quality}
    with tempfile.TemporaryDirectory(prefix="matting-turntable-") as folder:
        target = Path(folder) / "turntable.mp4"
        rendition = Rendition.model_validate(asked)
        encoder = encoder_for(rendition, facts, width, height, target, ENCODER_THREADS)
        try:
            for number, picture in enumerate(pictures):
                share = picture[..., 3:].astype(np.float32) / 255
                pixels = picture[..., :3] * share + 255 * (1 - share)
                encoder.write(np.rint(pixels).astype(np.uint8), number)
            encoder.close()
        except BaseException:
            encoder.abandon()
            raise
        return target.read_bytes()


def viewer_json(work: TurntableWork, width: int, height: int, frame_ms: int) -> bytes:
    """What a 360° viewer needs: the pictures in the order of the turn, by their paths beside the
    JSON file as results are downloaded.
    """
    told = {
        "group": work.group,
        "count": len(work.frames),
        "missing": work.missing,
        "width": width,
        "height": height,
        "frame_ms": frame_ms,
        "loop": True,
        "images": [posixpath.relpath(one.name, work.group) for one in work.frames],
        "items": [one.item_id for one in work.frames],
    }
    return json.dumps(told, ensure_ascii=False, indent=1).encode()
