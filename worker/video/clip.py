"""One clip from file to files, in one process."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from shared.options import CutOff, Options
from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.inference.predictor import Predictor
from worker.video.completing import ClipResult, complete
from worker.video.facts import ClipFacts
from worker.video.join import MattesFile, join, needs_whole
from worker.video.mattes import OnFrames, matte_segment
from worker.video.matting import MattedFrame, matted
from worker.video.options import refuse_options
from worker.video.quarantine import ClipProcess
from worker.video.segments import Segment
from worker.video.writing import write_part


def cut_out_clip(
    source: Path,
    predictor: Predictor,
    options: Options,
    settings: Settings,
    out: Path,
    *,
    facts: ClipFacts | None = None,
    pictures: Mapping[str, Image] | None = None,
    on_frames: OnFrames | None = None,
) -> ClipResult:
    """Cut out a clip into the folder `out`.

    Outputs that show the whole frame are written while the network works. For a crop, a canvas or a
    shadow, all mattes must be known before the first frame is written, so the clip is read twice;
    then `on_frames` counts each frame twice (`passes`).

    Raises the errors of shared/errors/clips.py, InvalidOptionsError, OutputTooLargeError,
    EncodingFailedError, PredictorError.
    """
    refuse_options(options)
    keep_whole = options.clip_cut_off is CutOff.KEEP
    with ClipProcess(source, settings, keep_whole=keep_whole) as process:
        known = facts or process.facts()
        if passes(options) == 1:

            def frames() -> AbstractContextManager[Iterator[MattedFrame]]:
                read = process.frames(known, 0, known.frames)
                return matted(read, known, predictor, options, settings)

            part = write_part(
                frames,
                known,
                Segment(0, known.frames),
                options,
                settings,
                out / "part",
                pictures=pictures,
                on_frames=on_frames,
            )
            return complete(process, [part], known, options, out, on_frames=on_frames)
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix="mattes-") as folder:
            mattes = Path(folder) / "mattes.zip"
            whole = Segment(0, known.frames)
            matte_segment(
                process, known, whole, predictor, options, settings, mattes, on_frames=on_frames
            )
            return join(
                process,
                known,
                [MattesFile(mattes)],
                options,
                settings,
                out,
                pictures=pictures,
                on_frames=on_frames,
            )


def passes(options: Options) -> int:
    """How often a clip is read for these options."""
    return 2 if needs_whole(options) else 1
