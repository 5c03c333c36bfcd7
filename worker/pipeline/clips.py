"""Clips on their way through the queue: one segment a claim, and the join at last."""

import io
import json
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol, cast

from shared.clip_kinds import HEAD_BYTES, clip_kind
from shared.clips import SEGMENT_FRAMES, ClipState, ClipWork
from shared.errors import SourceNotFoundError, TransientError
from shared.jobs import Reason
from shared.kept_files import thumbnails_key
from shared.options import CutOff
from shared.photo_kinds import photo_kind
from shared.result_names import file_name
from shared.settings import Settings
from shared.telemetry import get_logger
from worker.concurrency.watchdog import Watchdog
from worker.inference.predictor import Predictor
from worker.pipeline.background_pictures import BackgroundPictures
from worker.pipeline.in_flight import BatchPredictor, InFlightImage
from worker.pipeline.work_items import StoredOutput
from worker.video.facts import ClipFacts
from worker.video.join import join
from worker.video.mattes import matte_segment
from worker.video.probe import probe
from worker.video.segments import Segment, segments
from worker.video.writing import ClipFile, ClipResult

log = get_logger(__name__)

STALL_S = 600.0
"""A clip of which no frame gets on for this time hangs."""

MAX_MATTES_BYTES = 4 * 1024**3
MAX_FACTS_BYTES = 64 * 1024**2

CRC_BYTES = 1024**2


class FileStore(Protocol):
    """A store of files that do not fit into memory."""

    def fetch(self, bucket: str, key: str, max_bytes: int, into: IO[bytes]) -> None:
        """Write a clip into a file. Raises ImageError or TransientError."""

    def upload(self, key: str, stream: IO[bytes], content_type: str) -> None:
        """Write an object to the service's bucket from a file. Raises StorageError."""

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write a small object to the service's bucket. Raises StorageError."""


@dataclass
class _Kept:
    """The clip that this worker has on its disk, for the next segment."""

    place: tuple[str, str, str] = ("", "", "")
    """Item, bucket and key."""
    folder: tempfile.TemporaryDirectory[str] | None = None


class Clips:
    """Processes clips, one at a time: decoding and encoding use all cores. Thread-safe. Close it
    after its last caller.
    """

    def __init__(
        self,
        predictor: BatchPredictor,
        store: FileStore,
        pictures: BackgroundPictures,
        watchdog: Watchdog,
        settings: Settings,
    ) -> None:
        self._predictor = cast(Predictor, predictor)
        self._store = store
        self._pictures = pictures
        self._watchdog = watchdog
        self._settings = settings
        self._one = threading.Lock()
        self._kept = _Kept()

    def close(self) -> None:
        """Remove the files on disk."""
        with self._one:
            self._forget()

    def go_on(self, in_flight: InFlightImage) -> None:
        """Matte the next segment of a clip, or join it; an error is the item's."""
        work = in_flight.item.group
        assert isinstance(work, ClipWork)
        with self._one, tempfile.TemporaryDirectory(prefix="matting-clip-") as folder:
            source = in_flight.stage("fetch", lambda: self._file_of(in_flight))
            if source is not None and work.state is None and _is_photo(source):
                in_flight.outcome.is_photo = True
            elif source is not None:
                self._go_on(in_flight, work, source, Path(folder))
            if in_flight.outcome.clip is None:  # it has ended
                self._forget()

    def _go_on(self, in_flight: InFlightImage, work: ClipWork, source: Path, folder: Path) -> None:
        outcome = in_flight.outcome
        outcome.input_bytes = source.stat().st_size
        state = work.state
        facts = None
        if state is not None and state.file_bytes == outcome.input_bytes:
            facts = in_flight.stage("fetch", lambda: self._stored_facts(in_flight))
        if facts is None and outcome.error is None:
            facts = in_flight.stage("decode", lambda: self._probed(in_flight, source))
            state = None
        if facts is None:
            return
        cut = segments(facts, SEGMENT_FRAMES)
        state = state or _begun(work, facts, outcome.input_bytes, len(cut))
        outcome.width, outcome.height = facts.width, facts.height
        if state.done < len(cut):
            segment, target = cut[state.done], folder / f"{state.done}.zip"
            known = facts
            in_flight.stage(
                "predict", lambda: self._matte(in_flight, source, known, segment, target)
            )
            if outcome.error is not None:
                return
            if len(cut) > 1:
                in_flight.stage("store", lambda: self._keep(in_flight, target))
                if outcome.error is None:
                    done = replace(state, done=state.done + 1, frames_done=segment.last)
                    self._put_back(in_flight, done)
                return
        self._finish(in_flight, source, facts, state, folder)

    def _put_back(self, in_flight: InFlightImage, state: ClipState) -> None:
        """Let the clip wait for its next segment, so that others get their turn."""
        in_flight.outcome.clip = replace(
            state, passes=state.passes + 1, timings_ms=_sum(state, in_flight)
        )

    def _probed(self, in_flight: InFlightImage, source: Path) -> ClipFacts:
        """What the container tells; kept for the next claims, of which each would decode it."""
        keep_whole = in_flight.item.options.clip_cut_off is CutOff.KEEP
        facts = probe(source, self._settings, keep_whole=keep_whole)
        told = json.dumps(facts.to_json()).encode()
        self._store.put(_kept_key(in_flight, "facts.json"), told, "application/json")
        return facts

    def _stored_facts(self, in_flight: InFlightImage) -> ClipFacts | None:
        """What an earlier claim found; None: it is gone, and the clip begins anew."""
        told = io.BytesIO()
        key = _kept_key(in_flight, "facts.json")
        try:
            self._store.fetch(self._settings.s3_bucket, key, MAX_FACTS_BYTES, told)
        except SourceNotFoundError:
            log.warning("clip-facts-gone", item=in_flight.item.item_id)
            return None
        return ClipFacts.from_json(json.loads(told.getvalue()))

    def _matte(
        self,
        in_flight: InFlightImage,
        source: Path,
        facts: ClipFacts,
        segment: Segment,
        target: Path,
    ) -> None:
        with self._progress(in_flight) as on_frames:
            matte_segment(
                source,
                facts,
                segment,
                self._predictor,
                in_flight.item.options,
                self._settings,
                target,
                on_frames=on_frames,
            )

    def _keep(self, in_flight: InFlightImage, mattes: Path) -> None:
        with mattes.open("rb") as stream:
            self._store.upload(_kept_key(in_flight, mattes.name), stream, "application/zip")

    def _finish(
        self,
        in_flight: InFlightImage,
        source: Path,
        facts: ClipFacts,
        state: ClipState,
        folder: Path,
    ) -> None:
        try:
            mattes = [self._mattes(in_flight, number, folder) for number in range(state.segments)]
        except _MattesGoneError as gone:
            # A try like any that fails: a storage that loses them again and again ends it.
            in_flight.outcome.error = TransientError(f"Mattes are gone: segment {gone.number}")
            in_flight.outcome.clip = replace(state, done=gone.number)
            return
        except Exception as error:
            in_flight.fail(error, "fetch")
            return
        out = folder / "out"
        result = in_flight.stage(
            "finish", lambda: self._joined(in_flight, source, facts, mattes, out)
        )
        if result is not None:
            in_flight.stage("store", lambda: self._store_files(in_flight, result))
            in_flight.outcome.clip_result = result.to_json()
            in_flight.outcome.timings_ms = _sum(state, in_flight)

    def _mattes(self, in_flight: InFlightImage, number: int, folder: Path) -> Path:
        file = folder / f"{number}.zip"
        if file.exists():
            return file
        try:
            with file.open("wb") as into:
                key = _kept_key(in_flight, file.name)
                self._store.fetch(self._settings.s3_bucket, key, MAX_MATTES_BYTES, into)
        except SourceNotFoundError as error:
            raise _MattesGoneError(number) from error
        return file

    def _joined(
        self,
        in_flight: InFlightImage,
        source: Path,
        facts: ClipFacts,
        mattes: list[Path],
        out: Path,
    ) -> ClipResult:
        pictures = {url: self._pictures.load(url).result() for url in in_flight.picture_urls}
        with self._progress(in_flight) as on_frames:
            return join(
                source,
                facts,
                mattes,
                in_flight.item.options,
                self._settings,
                out,
                pictures=pictures,
                on_frames=on_frames,
            )

    @contextmanager
    def _progress(self, in_flight: InFlightImage) -> Iterator[Callable[[int], None]]:
        """Watch a clip; each frame that gets on restarts the time."""
        with self._watchdog.watching(in_flight.item.item_id, "clip", STALL_S) as turned:
            yield lambda _: turned()

    def _store_files(self, in_flight: InFlightImage, result: ClipResult) -> None:
        item, outcome = in_flight.item, in_flight.outcome
        stored: list[StoredOutput] = []
        for output, file in zip(item.outputs, result.files, strict=True):
            with file.path.open("rb") as stream:
                self._store.upload(output.key, stream, file.content_type)
            stored.append(_stored(in_flight, output.rendition.name, output.key, file))
        if self._settings.thumbnails:
            both = result.poster + result.strip
            self._store.put(thumbnails_key(item.outputs[0].key), both, "image/webp")
        outcome.outputs = tuple(stored)
        outcome.output_bytes = stored[0].bytes
        outcome.model = self._settings.model
        known = {reason.value: reason for reason in Reason}
        found = [known[one.reason.value] for one in result.doubts]
        outcome.review = tuple(dict.fromkeys(found))

    def _file_of(self, in_flight: InFlightImage) -> Path:
        """The clip as a file; that of the last segment, if this worker still has it."""
        item = in_flight.item
        place = (item.item_id, item.bucket, item.key)
        if self._kept.place == place and self._kept.folder is not None:
            return Path(self._kept.folder.name) / "clip"
        self._forget()
        self._kept = _Kept(place, tempfile.TemporaryDirectory(prefix="matting-clip-"))
        assert self._kept.folder is not None
        file = Path(self._kept.folder.name) / "clip"
        try:
            with file.open("wb") as into:
                self._store.fetch(item.bucket, item.key, self._settings.max_clip_bytes, into)
        except BaseException:
            self._forget()
            raise
        return file

    def _forget(self) -> None:
        if self._kept.folder is not None:
            self._kept.folder.cleanup()
        self._kept = _Kept()


class _MattesGoneError(Exception):
    """The stored mattes of a segment are not there any more."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _is_photo(file: Path) -> bool:
    """Whether a file that is called like a clip is a photo."""
    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    return clip_kind(head) is None and photo_kind(head) is not None


def _begun(work: ClipWork, facts: ClipFacts, file_bytes: int, count: int) -> ClipState:
    """A clip at its begin. Claims before that, of a file that was replaced, stay counted."""
    return ClipState(
        file_bytes=file_bytes,
        seconds=facts.seconds,
        frames=facts.frames,
        segments=count,
        passes=work.state.passes if work.state else 0,
    )


def _kept_key(in_flight: InFlightImage, name: str) -> str:
    """The object that keeps something of a clip between its claims."""
    return f"{in_flight.item.group_matte_key.removesuffix('.png')}-{name}"


def _sum(state: ClipState, in_flight: InFlightImage) -> dict[str, float]:
    """The times of all claims."""
    now: dict[str, Any] = in_flight.outcome.timings_ms
    stages = dict.fromkeys([*state.timings_ms, *now])
    return {
        stage: round(state.timings_ms.get(stage, 0.0) + now.get(stage, 0.0), 3) for stage in stages
    }


def _stored(
    in_flight: InFlightImage, template: str | None, key: str, file: ClipFile
) -> StoredOutput:
    extension = key.rpartition(".")[2]
    return StoredOutput(
        name=file_name(template, in_flight.item.photo, extension, file.width, file.height),
        key=key,
        width=file.width,
        height=file.height,
        bytes=file.bytes,
        unmet=(),
        crc32=_crc32(file.path),
    )


def _crc32(file: Path) -> int:
    value = 0
    with file.open("rb") as stream:
        while piece := stream.read(CRC_BYTES):
            value = zlib.crc32(piece, value)
    return value
