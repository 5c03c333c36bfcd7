"""One output of a clip from its parts: what is encoded is copied, not encoded anew."""

import errno
from pathlib import Path
from typing import Any, Protocol

from shared.clip_format import ClipFormat
from shared.errors import EncodingFailedError, MattingError
from worker.video.animated_webp import JoinedWebp
from worker.video.encoders import MUXERS
from worker.video.facts import ClipFacts
from worker.video.frames_zip import FramesZip
from worker.video.full_disk import is_disk_full
from worker.video.remuxing import add_copy
from worker.video.ticks import Ticks


class _Joined(Protocol):
    """Writes one file from several of the same format, size and encoder."""

    def add(self, part: Path, frames: int) -> None:
        """Write the frames of a file behind those that are there."""

    def close(self) -> None:
        """Complete the file."""

    def abandon(self) -> None:
        """Close the file, which stays incomplete."""


class Concatenation:
    """An output that grows part by part. The file of a single part is taken as it is."""

    def __init__(
        self, kind: ClipFormat, facts: ClipFacts, size: tuple[int, int], target: Path
    ) -> None:
        """`size`: width and height of the frames."""
        self._kind, self._facts, self._target = kind, facts, target
        self.size = size
        self._first: tuple[Path, int] | None = None
        self._joined: _Joined | None = None

    def add(self, part: Path, frames: int) -> None:
        """Take the file of the next frames; it is not there afterwards. Raises EncodingFailedError,
        OutputTooLargeError, MattingError.
        """
        if self._joined is None and self._first is None:
            kept = self._target.with_name(f"first-{self._target.name}")
            self._first = part.rename(kept), frames
            return
        if self._joined is None:
            self._joined = self._begun()
        if self._first is not None:
            first, self._first = self._first, None
            self._joined.add(*first)
            first[0].unlink()
        self._joined.add(part, frames)
        part.unlink()

    def close(self) -> None:
        """Complete the file."""
        if self._first is not None:
            self._first[0].rename(self._target)
        if self._joined is not None:
            self._joined.close()

    def abandon(self) -> None:
        """Close the file, which stays incomplete."""
        if self._joined is not None:
            self._joined.abandon()

    def _begun(self) -> _Joined:
        if self._kind is ClipFormat.FRAMES:
            return FramesZip(self._facts, self.size, self._target)
        if self._kind is ClipFormat.WEBP:
            return _Pictures(self._facts, self.size, self._target)
        return _Packets(self._kind, self._facts, self._target)


class _Packets:
    """A video. Its packets get their times from the clip's frames: there is one for each, and they
    are in the order in which they are shown.
    """

    def __init__(self, kind: ClipFormat, facts: ClipFacts, target: Path) -> None:
        import av

        self._av = av
        self._kind, self._ticks = kind, Ticks(kind, facts)
        muxer, options = MUXERS[kind]
        self._container = av.open(str(target), "w", format=muxer, options=options)
        self._stream: Any = None
        self._number = 0

    def add(self, part: Path, frames: int) -> None:
        """Copy the packets of a file. Raises EncodingFailedError, MattingError."""
        try:
            self._add(part, self._number + frames)
        except self._av.error.FFmpegError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Complete the file."""
        try:
            self._container.close()
        except self._av.error.FFmpegError as error:
            raise self._failed(error) from error

    def abandon(self) -> None:
        """Close the file, which stays incomplete."""
        try:
            self._container.close()
        except self._av.error.FFmpegError:
            return

    def _add(self, part: Path, last: int) -> None:
        with self._av.open(str(part)) as source:
            video = source.streams.video[0]
            if self._stream is None:
                self._stream = add_copy(self._container, video)
                self._stream.time_base = self._ticks.base
            elif video.codec_context.extradata != self._stream.codec_context.extradata:
                raise MattingError("Two parts of a clip were encoded in different ways")
            for packet in source.demux(video):
                if not packet.size:
                    continue
                packet.stream = self._stream
                packet.pts, packet.duration = self._ticks.of(self._number)
                packet.dts, packet.time_base = packet.pts, self._ticks.base
                self._container.mux(packet)
                self._number += 1
        if self._number != last:
            raise MattingError("A part of a clip has another number of frames than it should")

    def _failed(self, error: Exception) -> Exception:
        if is_disk_full(error):
            return OSError(errno.ENOSPC, "The disk is full")
        return EncodingFailedError(f"The clip can't be written as {self._kind}: {error}")


class _Pictures(JoinedWebp):
    """An animated picture. A part that does not change is one frame, and does not know its time."""

    def __init__(self, facts: ClipFacts, size: tuple[int, int], target: Path) -> None:
        super().__init__(size, target)
        self._ticks = Ticks(ClipFormat.WEBP, facts)
        self._number = 0

    def add(self, part: Path, frames: int) -> None:
        """Write the frames of a file behind those that are there."""
        begin = self._ticks.end
        for number in range(self._number, self._number + frames):
            self._ticks.of(number)
        self._number += frames
        self.append(part, self._ticks.end - begin)
