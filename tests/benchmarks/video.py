"""Frames per second of a clip by stage and as a whole: python -m tests.benchmarks.video.

Each stage runs alone first: decode (in its child process), predict, encode; then what workers do
behind the network with a clip in segments: the parts, and the join. Then the whole, and the
naive loop: read a frame, predict it, write it, one at a time. The headline is the whole, relative
to what the processor allows: on a CPU all stages share the same cores, so at best the times of
the stages add up; on a device the smallest of the stages is the limit.

`--device-ms 25` puts a stand-in in the place of the network, which takes that long for each frame
and no processor: a device. It shows whether decoding, smoothing and encoding keep up with it.

`--minutes 10 --memory` shows instead that memory does not grow with the length: small frames, and
brightness in the place of the network, so that it takes minutes and not an hour.
"""

import argparse
import resource
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, cast, overload

import cv2
import numpy as np

from shared.clips import SEGMENT_FRAMES
from shared.options import Options, Profile
from shared.settings import Settings
from tests.benchmarks.moving import SIZE, Scene, drawn_scenes
from tests.benchmarks.report import report
from tests.clips import BrightIsSubject, KeptSegment, moving_square, write
from worker.imaging.arrays import Image
from worker.imaging.decoding import DecodedImage
from worker.imaging.finishing import finish
from worker.imaging.prepared import PreparedImage
from worker.imaging.render import Subject, render
from worker.inference.predictor import Predictor, load_predictor
from worker.inference.tuning import batch_sizes
from worker.video.clip import cut_out_clip
from worker.video.encoders import encoder_for
from worker.video.facts import ClipFacts
from worker.video.join import join, make_part
from worker.video.mattes import matte_segment
from worker.video.quarantine import ClipProcess
from worker.video.segments import segments

SAMPLE_S = 0.2


def looped(scene: Scene, count: int) -> Iterator[Image]:
    """Frames of a scene, there and back."""
    ways = [*scene.frames, *scene.frames[-2:0:-1]]
    for number in range(count):
        yield ways[number % len(ways)]


def timed(work: Callable[[], int]) -> tuple[float, float]:
    """Frames per second by the clock, and CPU seconds per frame (children included)."""
    before, started = _cpu_s(), time.perf_counter()
    frames = work()
    return frames / (time.perf_counter() - started), (_cpu_s() - before) / frames


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class PeakMemory:
    """The most resident memory of this process and its children, sampled."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self.peak_mb = max(self.peak_mb, _resident_mb())


def _resident_mb() -> float:
    children = Path("/proc/self/task").glob("*/children")
    pids = ["self", *(pid for one in children for pid in one.read_text().split())]
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total * resource.getpagesize() / 1e6


class Device:
    """A stand-in for a device: it gives the network's alphas, which were computed before, after a
    fixed time for each frame, one frame after the other, and takes no processor.
    """

    batch_sizes = (1, 8)
    streams = 1

    def __init__(
        self,
        network: Predictor,
        frame_ms: float,
        source: Path,
        facts: ClipFacts,
        settings: Settings,
    ) -> None:
        self._network, self._frame_s = network, frame_ms / 1e3
        self._one = threading.Lock()
        self._alphas: dict[int, Any] = {}
        with ClipProcess(source, settings) as process:
            for _, frame in process.frames(facts, 0, facts.frames):
                prepared = network.prepare(frame, Profile.FAST)
                self._alphas[self._key(prepared)] = network.predict_many([prepared])[0]

    def prepare(self, image: Image, profile: Profile) -> PreparedImage:
        """As the network's."""
        return self._network.prepare(image, profile)

    def predict_many(self, prepared: Sequence[PreparedImage]) -> list[Any]:
        """The alphas, after the time that a device would take."""
        with self._one:
            time.sleep(self._frame_s * len(prepared))
        return [self._alphas.get(self._key(one), self._any) for one in prepared]

    @property
    def _any(self) -> Any:
        """The alpha of a frame that was read in another way, as the naive loop does."""
        return next(iter(self._alphas.values()))

    @staticmethod
    def _key(prepared: PreparedImage) -> int:
        return zlib.crc32(np.ascontiguousarray(prepared.image).data)


def decode_alone(source: Path, settings: Settings, facts: ClipFacts) -> int:
    with ClipProcess(source, settings) as process:
        process.facts()
        return sum(1 for _ in process.frames(facts, 0, facts.frames))


def predict_alone(predictor: Predictor, frames: list[Image], settings: Settings) -> int:
    prepared = [predictor.prepare(frame, Profile.FAST) for frame in frames[:16]]
    done = 0
    while done < len(frames):
        predictor.predict_many(prepared)
        done += len(prepared)
    return done


def encode_alone(
    frames: list[Image], options: Options, facts: ClipFacts, target: Path, threads: int
) -> int:
    matte = np.zeros(SIZE, np.uint8)
    cv2.ellipse(matte, (SIZE[1] // 2, SIZE[0] // 2), (120, 120), 0, 0, 360, 255, -1)
    cutouts = [render(Subject(frame, matte), options) for frame in frames[:16]]
    encoder = encoder_for(options, facts, SIZE[1], SIZE[0], target, threads)
    for number in range(len(frames)):
        encoder.write(cutouts[number % 16], number)
    encoder.close()
    return len(frames)


def naive(source: Path, predictor: Predictor, count: int, out: Path) -> int:
    """As scripts do it: OpenCV reads, one frame is predicted, one PNG is written."""
    options = Options()
    capture = cv2.VideoCapture(str(source))
    for number in range(count):
        read, frame = capture.read()
        if not read:
            return number
        image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(np.uint8)
        prepared = predictor.prepare(image, Profile.FAST)
        alpha = predictor.predict_many([prepared])[0]
        assert isinstance(alpha, np.ndarray)
        decoded = DecodedImage(image, image.shape[1], image.shape[0])
        (out / f"{number}.png").write_bytes(finish(decoded, prepared, alpha, options)[0].data)
    return count


def matted_segments(
    clip: ClipProcess,
    facts: ClipFacts,
    predictor: Predictor,
    options: Options,
    settings: Settings,
    folder: Path,
) -> list[KeptSegment]:
    """The segments of a clip with their mattes."""
    found = []
    for number, segment in enumerate(segments(facts, SEGMENT_FRAMES)):
        found.append(KeptSegment(folder / f"{number}.zip"))
        matte_segment(clip, facts, segment, predictor, options, settings, found[-1].mattes())
    return found


def made(
    clip: ClipProcess,
    facts: ClipFacts,
    cut: list[KeptSegment],
    options: Options,
    settings: Settings,
) -> int:
    """Make the parts of segments; returns the number of frames."""
    frames = 0
    for one in cut:
        out = one.mattes().with_suffix(".made")
        mark, part = make_part(clip, facts, one.mattes(), options, settings, out)
        one.keep_part(mark, part)
        frames += part.frames
    return frames


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--minutes", type=float, help="length of the clip, instead of --frames")
    parser.add_argument("--format", default="webm")
    parser.add_argument("--device-ms", type=float, help="a stand-in for the network; per frame")
    parser.add_argument("--memory", action="store_true", help="only memory, without the network")
    arguments = parser.parse_args()
    count = round(arguments.minutes * 60 * 30) if arguments.minutes else arguments.frames
    cv2.setNumThreads(1)
    settings = batch_sizes(Settings(log_level="ERROR", max_clip_frames=10**6, max_clip_s=10**6))
    options = Options.model_validate({"clip_format": arguments.format})
    if arguments.memory:
        measure_memory(count, options, settings)
        return
    scene = drawn_scenes()(0, 48)
    details: dict[str, Any] = {"frames": count, "size": f"{SIZE[1]}x{SIZE[0]}"}
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(load_predictor(settings, warm_shapes=False)) as network,
    ):
        source = write(Path(folder) / "clip.mp4", LongClip(scene, count), key_every=60)
        with ClipProcess(source, settings) as process:
            facts = process.facts()
        predictor = network
        if arguments.device_ms:
            device = Device(network, arguments.device_ms, source, facts, settings)
            predictor = cast(Predictor, device)
        stages: dict[str, tuple[float, float]] = {}
        frames = list(islice(looped(scene, count), 120))
        target = Path(folder) / f"alone.{options.effective_clip_format.extension}"
        stages["decode"] = timed(lambda: decode_alone(source, settings, facts))
        stages["predict"] = timed(lambda: predict_alone(predictor, frames, settings))
        stages["encode"] = timed(
            lambda: encode_alone(frames, options, facts, target, settings.codec_threads)
        )
        stages["naive"] = timed(lambda: naive(source, predictor, 48, Path(folder)))
        kept = Path(folder) / "segments"
        kept.mkdir()
        with ClipProcess(source, settings) as clip:
            cut = matted_segments(clip, facts, predictor, options, settings, kept)
            stages["part"] = timed(lambda: made(clip, facts, cut, options, settings))
            stages["join"] = timed(
                lambda: join(clip, facts, cut, options, settings, kept / "joined").frames
            )
        before_mb = _resident_mb()

        def whole() -> int:
            out = Path(folder) / "out"
            return cut_out_clip(source, predictor, options, settings, out).frames

        with PeakMemory() as memory:
            stages["whole"] = timed(whole)
    for name, (rate, cpu_s) in stages.items():
        details[name] = {"frames_per_s": round(rate, 2), "cpu_ms": round(cpu_s * 1e3, 1)}
    details |= {"memory_before_mb": round(before_mb), "memory_peak_mb": round(memory.peak_mb)}
    named = f"{arguments.device_ms:g} ms a frame" if arguments.device_ms else "cpu"
    details |= {"device": named, "format": arguments.format}
    rate = stages["whole"][0]
    parts = [stages[name] for name in ("decode", "predict", "encode")]
    on_cores = settings.codec_threads / sum(cpu_s for _, cpu_s in parts)
    details["smallest_stage_per_s"] = round(min(one for one, _ in parts), 2)
    details["cores_allow_per_s"] = round(on_cores, 2)
    details["times_naive"] = round(rate / stages["naive"][0], 2)
    rate /= min(min(one for one, _ in parts), on_cores)
    report("video", rate, target=">= 0.9", unit="of what stages and cores allow", details=details)


def measure_memory(count: int, options: Options, settings: Settings) -> None:
    """The peak memory over a clip of this many frames, relative to that over its first 300."""
    scene = Scene(moving_square(48, (160, 90)), [], [])
    peaks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for length in (300, count):
            source = write(Path(folder) / "clip.mp4", LongClip(scene, length), key_every=60)
            with PeakMemory() as memory:
                cut_out_clip(
                    source,
                    cast(Predictor, BrightIsSubject()),
                    options,
                    settings,
                    Path(folder) / "out",
                )
            peaks.append(memory.peak_mb)
    report(
        "video-memory",
        peaks[1] / peaks[0],
        target="<= 1.2",
        unit="peak of the whole clip / of 300 frames",
        details={"frames": count, "peak_mb": [round(peak) for peak in peaks]},
    )


class LongClip(Sequence[Image]):
    """Frames of a scene, made when they are asked for."""

    def __init__(self, scene: Scene, count: int) -> None:
        self._frames = [*scene.frames, *scene.frames[-2:0:-1]]
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> Image: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Image]: ...
    def __getitem__(self, number: int | slice) -> Image | Sequence[Image]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(self._count))]
        if number >= self._count:
            raise IndexError
        return self._frames[number % len(self._frames)]


if __name__ == "__main__":
    main()
