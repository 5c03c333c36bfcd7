"""Clips on their way through the queue: cut into segments, matted, and joined at last."""

import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from shared.clip_kinds import HEAD_BYTES, clip_kind
from shared.clips import SEGMENT_FRAMES, ClipSegment, ClipState, ClipWork
from shared.errors import (
    MattingError,
    SourceNotFoundError,
    TransientError,
)
from shared.options import CutOff
from shared.photo_kinds import photo_kind
from shared.settings import Settings
from shared.telemetry import get_logger
from worker.concurrency.fifo_lock import FifoLock
from worker.concurrency.pixel_budget import PixelBudget
from worker.concurrency.shared_exclusive_lock import SharedExclusiveLock
from worker.concurrency.watchdog import Watchdog
from worker.imaging.arrays import Image
from worker.inference.predictor import Predictor
from worker.pipeline.background_pictures import BackgroundPictures
from worker.pipeline.clip_files import LONGEST_HOLD_UP_S, ClipFiles, FileStore, facts_key
from worker.pipeline.clip_results import ClipResults
from worker.pipeline.clip_segments import StoredSegment
from worker.pipeline.in_flight import BatchPredictor, InFlightImage, Publisher
from worker.video.completing import ClipResult
from worker.video.facts import ClipFacts
from worker.video.folders import ClipFolder, bytes_of, check_room
from worker.video.join import FRAMES_AHEAD, MattedSegment, MattesFile, join, make_part, needs_whole
from worker.video.mattes import matte_segment
from worker.video.matting import frames_held
from worker.video.options import refuse_options
from worker.video.quarantine import ClipProcess
from worker.video.segments import Segment, segments
from worker.video.writing import refuse_too_large

log = get_logger(__name__)

STALL_S = 600.0
"""A clip of which no frame gets on for this time hangs."""

MAX_FACTS_BYTES = 64 * 1024**2

ENCODER_FRAMES = 16
"""Frames of an output that are rendered, or lie in its encoder."""


class Clips:
    """Processes clips, one at a time: decoding and encoding use all cores. Thread-safe. Close it
    after its last caller.
    """

    def __init__(
        self,
        predictor: BatchPredictor,
        store: FileStore,
        publisher: Publisher | None,
        pictures: BackgroundPictures,
        watchdog: Watchdog,
        settings: Settings,
        pixel_budget: PixelBudget,
        turn: FifoLock,
        stopping: threading.Event,
        isolation: SharedExclusiveLock,
    ) -> None:
        """`publisher`: writes to the destinations of jobs; None: there are none. `pixel_budget`:
        shared with photos; a clip takes at most half of it. `turn`: whoever works on a clip of this
        worker, with any model, holds it. `stopping`: set when the worker stops;
        what it does of a clip then goes back to the queue. So does a clip for which an image that
        must run alone waits too long (`isolation`).
        """
        self._predictor = cast(Predictor, predictor)
        self._store = store
        self._pictures = pictures
        self._watchdog = watchdog
        self._settings = settings
        self._pixel_budget = pixel_budget
        self._stopping = stopping
        self._isolation = isolation
        self._turn = turn
        self._results = ClipResults(store, publisher, settings)
        self._files = ClipFiles(store, settings, turn, stopping, isolation)
        self._folder = Path()

    def close(self) -> None:
        """Remove the files on disk."""
        with self._turn:
            self._files.forget()

    def go_on(self, in_flight: InFlightImage) -> None:
        """Do what is due of a clip: cut it, matte a segment, or join it; an error is the item's."""
        try:
            self._go_on(in_flight)
        except Exception as error:  # a folder can't be made, for example
            in_flight.fail(error, "clip")

    def _go_on(self, in_flight: InFlightImage) -> None:
        work = in_flight.item.group
        assert isinstance(work, ClipWork)
        with self._turn, ClipFolder() as work_folder:
            folder = work_folder.path
            source = in_flight.stage("fetch", lambda: self._files.file_of(in_flight))
            if source is None:
                return
            self._folder = folder
            in_flight.outcome.input_bytes = source.stat().st_size
            if work.state is None and work.segment is None and _is_photo(source):
                in_flight.outcome.is_photo = True
            else:
                keep_whole = in_flight.item.options.clip_cut_off is CutOff.KEEP
                with ClipProcess(source, self._settings, keep_whole=keep_whole) as process:
                    if work.segment is not None:
                        self._matte(in_flight, work.segment, process, folder)
                    else:
                        self._cut_or_join(in_flight, work, process, folder)
            if work.segment is None and in_flight.outcome.clip is None:  # it has ended
                self._files.forget()

    def _cut_or_join(
        self, in_flight: InFlightImage, work: ClipWork, process: ClipProcess, folder: Path
    ) -> None:
        outcome = in_flight.outcome
        state = work.state
        facts = None
        if state is not None and state.file_bytes == outcome.input_bytes:
            facts = in_flight.stage("fetch", lambda: self._stored_facts(facts_key(in_flight)))
        if facts is None and outcome.error is None:
            facts = in_flight.stage("decode", lambda: self._probed(in_flight, process))
            state = None
        if facts is None:
            return
        cut = segments(facts, SEGMENT_FRAMES)
        begins_anew = work.state is not None and state is None
        state = state or _begun(work, facts, outcome.input_bytes, len(cut))
        outcome.width, outcome.height = facts.width, facts.height
        if begins_anew and len(cut) > 1:
            # A try like any that fails: else a host that sends another file each time never ends.
            outcome.error = TransientError("The clip was replaced, or what is known of it is gone")
            outcome.clip = state
        elif len(cut) == 1:
            self._at_once(in_flight, process, facts, state, cut[0], folder)
        elif state.is_matted and not state.gone:
            stored = [
                self._stored_segment(f"{state.mattes}{number}.zip", folder)
                for number in range(state.segments)
            ]
            self._finish(in_flight, process, facts, state, stored, folder)
            if gone := tuple(number for number, one in enumerate(stored) if one.is_gone):
                # A try like any that fails: a storage that loses them again and again ends it.
                outcome.clip = replace(state, gone=gone)
        else:
            in_flight.stage("store", lambda: self._files.keep_copy(in_flight))
            if outcome.error is not None:  # then no pass counts: the tries end
                return
            outcome.clip = replace(
                state, passes=state.passes + 1, timings_ms=_sum(state, in_flight)
            )
            outcome.cut = tuple(
                ClipSegment(
                    number=number,
                    first=one.first,
                    last=one.last,
                    file_bytes=state.file_bytes,
                    facts_key=facts_key(in_flight),
                )
                for number, one in enumerate(cut)
            )

    def _at_once(
        self,
        in_flight: InFlightImage,
        process: ClipProcess,
        facts: ClipFacts,
        state: ClipState,
        segment: Segment,
        folder: Path,
    ) -> None:
        """Matte and join a clip that is short."""
        target = folder / "0.zip"
        self._mattes_of(in_flight, process, facts, segment, target)
        if in_flight.outcome.error is None:
            self._finish(in_flight, process, facts, state, [MattesFile(target)], folder)

    def _matte(
        self, in_flight: InFlightImage, segment: ClipSegment, process: ClipProcess, folder: Path
    ) -> None:
        """Store the mattes of a segment."""
        if in_flight.outcome.input_bytes != segment.file_bytes:
            self._files.forget()  # it may be this file that is the old one
            in_flight.fail(TransientError("The clip was replaced while it was cut out"), "fetch")
            return
        facts = in_flight.stage("fetch", lambda: self._stored_facts(segment.facts_key))
        if facts is None:
            if in_flight.outcome.error is None:
                in_flight.fail(TransientError("The facts of the clip are gone"), "fetch")
            return
        target = folder / "mattes.zip"
        frames = Segment(segment.first, segment.last)
        self._mattes_of(in_flight, process, facts, frames, target)
        stored = self._stored_segment(segment.mattes_key, folder)
        if in_flight.outcome.error is None and not needs_whole(in_flight.item.options):
            in_flight.stage(
                "finish", lambda: self._keep_part(in_flight, process, facts, target, stored, folder)
            )
        if in_flight.outcome.error is None:
            in_flight.stage("store", lambda: stored.keep_mattes(target))
        in_flight.outcome.is_matted = in_flight.outcome.error is None

    def _keep_part(
        self,
        in_flight: InFlightImage,
        process: ClipProcess,
        facts: ClipFacts,
        mattes: Path,
        stored: StoredSegment,
        folder: Path,
    ) -> None:
        """Encode a segment of all outputs, so that the join only copies it."""
        out = folder / "part"
        with self._encoding(in_flight, facts) as (pictures, on_frames):
            mark, part = make_part(
                process,
                facts,
                mattes,
                in_flight.item.options,
                self._settings,
                out,
                pictures=pictures,
                on_frames=on_frames,
            )
        stored.keep_part(mark, part)

    def _stored_segment(self, mattes_key: str, folder: Path) -> StoredSegment:
        def left_bytes() -> int:
            return self._settings.clip_disk_bytes - self._used_bytes()

        return StoredSegment(self._store, self._settings, mattes_key, folder, left_bytes)

    def _probed(self, in_flight: InFlightImage, process: ClipProcess) -> ClipFacts:
        """What the container tells; kept for the next claims, of which each would decode it."""
        refuse_options(in_flight.item.options)
        facts = process.facts()
        refuse_too_large(facts, in_flight.item.options)
        told = json.dumps(facts.to_json()).encode()
        self._store.put(facts_key(in_flight), told, "application/json")
        return facts

    def _stored_facts(self, key: str) -> ClipFacts | None:
        """What an earlier claim found; None: it is gone, and the clip begins anew."""
        told = io.BytesIO()
        try:
            self._store.fetch(self._settings.s3_bucket, key, MAX_FACTS_BYTES, told)
        except SourceNotFoundError:
            log.warning("clip-facts-gone", key=key)
            return None
        return ClipFacts.from_json(json.loads(told.getvalue()))

    def _mattes_of(
        self,
        in_flight: InFlightImage,
        process: ClipProcess,
        facts: ClipFacts,
        segment: Segment,
        target: Path,
    ) -> None:
        """Matte frames. `predict` is the time of the network; the rest counts as `decode`."""
        on_device_s = in_flight.stage(
            "predict",
            lambda: self._matted(in_flight, process, facts, segment, target),
        )
        timings = in_flight.outcome.timings_ms
        if on_device_s is not None:
            rest_ms = timings["predict"] - 1e3 * on_device_s
            timings["decode"] = timings.get("decode", 0.0) + rest_ms
            timings["predict"] = 1e3 * on_device_s

    def _matted(
        self,
        in_flight: InFlightImage,
        process: ClipProcess,
        facts: ClipFacts,
        segment: Segment,
        target: Path,
    ) -> float:
        held = frames_held(facts, self._predictor, self._settings)
        with self._pixels(facts, held), self._progress(in_flight, target) as on_frames:
            return matte_segment(
                process,
                facts,
                segment,
                self._predictor,
                in_flight.item.options,
                self._settings,
                target,
                on_frames=on_frames,
            )

    def _finish(
        self,
        in_flight: InFlightImage,
        process: ClipProcess,
        facts: ClipFacts,
        state: ClipState,
        segments: Sequence[MattedSegment],
        folder: Path,
    ) -> None:
        out = folder / "out"
        result = in_flight.stage(
            "finish", lambda: self._joined(in_flight, process, facts, segments, out)
        )
        if result is not None:
            in_flight.stage("store", lambda: self._results.store(in_flight, result))
            in_flight.outcome.clip_result = result.to_json()
            in_flight.outcome.timings_ms = _sum(state, in_flight)
            if in_flight.outcome.error is None:
                in_flight.outcome.after_record = partial(self._files.drop_copy, in_flight)

    def _joined(
        self,
        in_flight: InFlightImage,
        process: ClipProcess,
        facts: ClipFacts,
        segments: Sequence[MattedSegment],
        out: Path,
    ) -> ClipResult:
        with self._encoding(in_flight, facts) as (pictures, on_frames):
            return join(
                process,
                facts,
                segments,
                in_flight.item.options,
                self._settings,
                out,
                pictures=pictures,
                on_frames=on_frames,
            )

    @contextmanager
    def _encoding(
        self, in_flight: InFlightImage, facts: ClipFacts
    ) -> Iterator[tuple[dict[str, Image], Callable[[int], None]]]:
        """Hold what encoding takes: background pictures, and a share of the pixels."""
        pictures = {url: self._pictures.load(url).result() for url in in_flight.picture_urls}
        held = FRAMES_AHEAD + ENCODER_FRAMES * len(in_flight.item.outputs)
        with self._pixels(facts, held), self._progress(in_flight, self._folder) as on_frames:
            yield pictures, on_frames

    @contextmanager
    def _pixels(self, facts: ClipFacts, frames: int) -> Iterator[None]:
        """Hold the pixels of so many frames, at most half of the budget."""
        wanted = frames * facts.width * facts.height
        held = self._pixel_budget.acquire(min(wanted, self._settings.max_decoded_pixels // 2))
        try:
            yield
        finally:
            self._pixel_budget.release(held)

    @contextmanager
    def _progress(self, in_flight: InFlightImage, growing: Path) -> Iterator[Callable[[int], None]]:
        """Watch a clip: each frame restarts the time. The work ends when the worker stops, and when
        the clip takes too much of the disk. `growing`: the file or folder that is written.
        """
        settled_bytes = self._used_bytes() - bytes_of(growing)
        with self._watchdog.watching(in_flight.item.item_id, "clip", STALL_S) as turned:

            def on_frames(_: int) -> None:
                turned()
                check_room(settled_bytes + bytes_of(growing), self._settings.clip_disk_bytes)
                waits_s = self._isolation.exclusive_waits_s
                if self._stopping.is_set() or waits_s > LONGEST_HOLD_UP_S:
                    in_flight.outcome.interrupted = True
                    raise MattingError("The worker stops, or an image must run alone")

            yield on_frames

    def _used_bytes(self) -> int:
        """What the files of the clip take."""
        kept = [] if self._files.folder is None else [self._files.folder]
        return bytes_of(self._folder, *kept)


def _is_photo(file: Path) -> bool:
    """Whether a file that is called like a clip is a photo."""
    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    return clip_kind(head) is None and photo_kind(head) is not None


def _begun(work: ClipWork, facts: ClipFacts, file_bytes: int, count: int) -> ClipState:
    """A clip at its begin. What claims before that took, of a file that was replaced, stays
    counted.
    """
    return ClipState(
        file_bytes=file_bytes,
        seconds=facts.seconds,
        frames=facts.frames,
        segments=count,
        passes=work.state.passes if work.state else 0,
        timings_ms=work.state.timings_ms if work.state else {},
    )


def _sum(state: ClipState, in_flight: InFlightImage) -> dict[str, float]:
    """The times of all claims."""
    now: dict[str, Any] = in_flight.outcome.timings_ms
    stages = dict.fromkeys([*state.timings_ms, *now])
    return {
        stage: round(state.timings_ms.get(stage, 0.0) + now.get(stage, 0.0), 3) for stage in stages
    }
