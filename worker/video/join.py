"""Joining: a clip and what was made of its segments become the outputs."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from shared.errors import MattingError
from shared.options import CutOff, Options
from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.video.completing import ClipResult, complete
from worker.video.facts import ClipFacts
from worker.video.framing import SteadyFrame, steady_frame
from worker.video.mattes import Mattes, OnFrames, StoredMatte, nothing_new
from worker.video.matting import MattedFrame, enlarged, frame_photo
from worker.video.parts import Part, fingerprint
from worker.video.previews import Previews
from worker.video.quarantine import ClipProcess
from worker.video.segments import Segment
from worker.video.stages import ahead
from worker.video.writing import write_part

FRAMES_AHEAD = 8


class MattedSegment(Protocol):
    """What there is of a segment of a clip."""

    def mattes(self) -> Path:
        """The file of `mattes.matte_segment`."""

    def fetch_part(self, mark: str, folder: Path) -> bool:
        """Write the files of a part into a folder that is not there yet. False: there is no part
        with this mark (`parts.fingerprint`).
        """

    def keep_part(self, mark: str, part: Part) -> None:
        """Keep a part, so that another try of the join does not make it again."""


class MattesFile:
    """A segment of which only its mattes are kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mattes(self) -> Path:
        """The file of mattes."""
        return self._path

    def fetch_part(self, _mark: str, _folder: Path) -> bool:
        """No part is kept."""
        return False

    def keep_part(self, _mark: str, _part: Part) -> None:
        """No part is kept."""


def join(
    process: ClipProcess,
    facts: ClipFacts,
    segments: Sequence[MattedSegment],
    options: Options,
    settings: Settings,
    out: Path,
    *,
    pictures: Mapping[str, Image] | None = None,
    on_frames: OnFrames | None = None,
) -> ClipResult:
    """Write the outputs of the clip that `process` reads into the folder `out`. `segments` are in
    their order, and hold each frame once. Parts that are kept are copied; the others are made, and
    kept.

    Raises the errors of shared/errors/clips.py, OutputTooLargeError, EncodingFailedError, and what
    the segments raise.
    """
    out.mkdir(parents=True, exist_ok=True)
    steady = None
    if needs_whole(options):
        keep_whole = options.clip_cut_off is CutOff.KEEP
        steady = whole_frame(_stored(segments, facts, keep_whole=keep_whole), facts)
    mark = fingerprint(options, steady, pictures or {})

    def parts() -> Iterator[Part]:
        for number, one in enumerate(segments):
            folder = out / f"part-{number}"
            if one.fetch_part(mark, folder):
                yield Part.read(folder, Previews(facts))
                continue
            part = part_of(
                process,
                facts,
                one.mattes(),
                options,
                settings,
                folder,
                steady=steady,
                pictures=pictures,
                on_frames=on_frames,
            )
            one.keep_part(mark, part)
            yield part

    return complete(process, parts(), facts, options, out, on_frames=on_frames)


def make_part(
    process: ClipProcess,
    facts: ClipFacts,
    mattes: Path,
    options: Options,
    settings: Settings,
    out: Path,
    *,
    pictures: Mapping[str, Image] | None = None,
    on_frames: OnFrames | None = None,
) -> tuple[str, Part]:
    """The part of a segment, and its mark. For outputs that need no look at the whole clip
    (`needs_whole`). Raises as `join`.
    """
    part = part_of(
        process, facts, mattes, options, settings, out, pictures=pictures, on_frames=on_frames
    )
    return fingerprint(options, None, pictures or {}), part


def part_of(
    process: ClipProcess,
    facts: ClipFacts,
    mattes: Path,
    options: Options,
    settings: Settings,
    out: Path,
    *,
    steady: SteadyFrame | None = None,
    pictures: Mapping[str, Image] | None = None,
    on_frames: OnFrames | None = None,
) -> Part:
    """Render and encode the frames of a file of mattes. `steady`: the subject in the whole clip."""
    with Mattes(mattes, keep_whole=options.clip_cut_off is CutOff.KEEP) as stored:
        asked = Segment(stored.first, stored.first + len(stored.frames))

        @contextmanager
        def frames() -> Generator[Iterator[MattedFrame]]:
            if not asked.frames:
                yield iter(())
                return
            wanted = process.frames(
                facts, asked.first, asked.last, on_skipped=nothing_new(on_frames)
            )
            with ahead(wanted, FRAMES_AHEAD) as read:
                yield _with_mattes(read, stored)

        return write_part(
            frames,
            facts,
            asked,
            options,
            settings,
            out,
            steady=steady,
            pictures=pictures,
            on_frames=on_frames,
        )


def needs_whole(options: Options) -> bool:
    """Whether an output depends on the subject in the whole clip: by its frame or its shadow."""
    return any(
        one.shadow is not None or (one.changes_frame and (one.snap or not one.only_shrinks))
        for one in options.renditions
    )


def whole_frame(stored: Sequence[StoredMatte], facts: ClipFacts) -> SteadyFrame | None:
    """The subject in the clip's frames; None: there is none."""
    frame = facts.height, facts.width
    return steady_frame([one.box and enlarged(one.box, one.size, frame) for one in stored])


def _stored(
    segments: Sequence[MattedSegment], facts: ClipFacts, *, keep_whole: bool
) -> list[StoredMatte]:
    """What is known of the frames of all segments, up to the first that is missing."""
    found: list[StoredMatte] = []
    for one in segments:
        with Mattes(one.mattes(), keep_whole=keep_whole) as stored:
            if stored.frames and stored.first != len(found):
                break
            found += stored.frames
    if len(found) < facts.frames and not keep_whole:
        raise MattingError("The segments' mattes don't cover the clip exactly once")
    return found


def _with_mattes(frames: Iterator[tuple[int, Image]], stored: Mattes) -> Iterator[MattedFrame]:
    for number, pixels in frames:
        known = stored.frames[number - stored.first]
        yield MattedFrame(
            number,
            frame_photo(pixels),
            stored.alpha(number),
            stored.steps,
            known.box,
            known.reasons,
            known.unsteady,
            known.is_cut,
        )
