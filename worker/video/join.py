"""Joining: a clip and the mattes of all of its segments become the outputs."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from shared.options import CutOff, Options
from shared.settings import Settings
from worker.imaging.arrays import Box, Image
from worker.video.facts import ClipFacts
from worker.video.framing import steady_box
from worker.video.mattes import Mattes, OnFrames
from worker.video.matting import MattedFrame, enlarged, frame_photo
from worker.video.quarantine import ClipProcess
from worker.video.stages import ahead
from worker.video.writing import ClipResult, write_clip

FRAMES_AHEAD = 8


def join(
    source: Path,
    facts: ClipFacts,
    mattes: Sequence[Path],
    options: Options,
    settings: Settings,
    out: Path,
    *,
    pictures: Mapping[str, Image] | None = None,
    on_frames: OnFrames | None = None,
) -> ClipResult:
    """Write the outputs of a clip into the folder `out`, from files of `mattes.matte_segment` that
    hold each frame once. The frame of the outputs is the same throughout the clip.

    Raises the errors of shared/errors/clips.py, OutputTooLargeError, EncodingFailedError.
    """
    keep_whole = options.clip_cut_off is CutOff.KEEP
    with (
        Mattes(list(mattes), keep_whole=keep_whole) as stored,
        ClipProcess(source, settings, keep_whole=keep_whole) as process,
    ):

        @contextmanager
        def frames() -> Generator[Iterator[MattedFrame]]:
            with ahead(process.frames(facts, 0, len(stored.frames)), FRAMES_AHEAD) as read:
                yield _with_mattes(read, stored)

        return write_clip(
            process,
            frames,
            facts,
            options,
            settings,
            out,
            box=whole_box(stored, facts),
            pictures=pictures,
            on_frames=on_frames,
        )


def whole_box(stored: Mattes, facts: ClipFacts) -> Box | None:
    """The subject's steady box in the clip's frames."""
    frame = facts.height, facts.width
    return steady_box([one.box and enlarged(one.box, one.size, frame) for one in stored.frames])


def _with_mattes(frames: Iterator[tuple[int, Image]], stored: Mattes) -> Iterator[MattedFrame]:
    for number, pixels in frames:
        known = stored.frames[number]
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
