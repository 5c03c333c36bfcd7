"""The facts of a clip, read in a child process."""

from pathlib import Path

from shared.settings import Settings
from worker.video.facts import ClipFacts
from worker.video.quarantine import ClipProcess


def probe(source: Path, settings: Settings, *, keep_whole: bool = False) -> ClipFacts:
    """Read what the container tells about a clip, and check all limits before anything is decoded.

    `keep_whole`: accept a clip that is cut off, for the frames that are whole. Raises the errors of
    shared/errors/clips.py.
    """
    with ClipProcess(source, settings, keep_whole=keep_whole) as process:
        return process.facts()
