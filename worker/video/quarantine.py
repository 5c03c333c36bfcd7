"""The parent's side of the child process that touches clips (`worker.video.child`).

One child works for one clip and ends with it. A crash, a hang or too much memory ends the child and
not the worker.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from shared.errors import (
    ClipTimeoutError,
    MattingError,
    PoisonousClipError,
    error_of,
)
from shared.settings import Settings
from worker.imaging.arrays import Image
from worker.imaging.child_environment import child_environment
from worker.video.facts import ClipFacts

START_TIMEOUT_S = 60

MOST_SOUND_S = 300.0
"""Longest time for adding sound: shorter than the patience of the worker's watchdog."""
PIPE_BYTES = 1024 * 1024
"""Size of the pipe for frames: fewer switches between the processes than with 64 kB."""

F_SETPIPE_SZ = 1031
"""fcntl(2), Linux."""

SKIPPED_EVERY_S = 1.0
"""How often the child tells that it decodes frames before the first one that was asked for."""

LEAST_SKIPPED_PER_S = 5
"""A decoder that is slower than this hangs, though it gives frames. One core decodes about 20
frames of 4K video a second."""

MAX_LINE_BYTES = 64 * 1024**2
"""Longest answer without pixels: the facts of a clip with the most frames."""


class ClipProcess:
    """A child process that reads one clip. A context manager; for one thread at a time."""

    def __init__(self, source: Path, settings: Settings, *, keep_whole: bool = False) -> None:
        """`keep_whole`: of a damaged clip, read the frames before the damage."""
        self._source, self._settings, self._keep_whole = source, settings, keep_whole
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "worker.video.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
            bufsize=0,
        )
        self._buffer = bytearray()
        self._started = False

    def __enter__(self) -> "ClipProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._popen.pid

    def close(self) -> None:
        """End the child."""
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def facts(self) -> ClipFacts:
        """The clip's facts, after all limits were checked. Raises the errors of
        shared/errors/clips.py.
        """
        settings = self._settings
        limits = {
            "max_bytes": settings.max_clip_bytes,
            "max_s": settings.max_clip_s,
            "max_frames": settings.max_clip_frames,
            "max_pixels": settings.max_clip_pixels,
        }
        self._ask({"do": "facts", "limits": limits})
        return ClipFacts.from_json(self._answer()["facts"])

    def frames(
        self,
        facts: ClipFacts,
        first: int,
        last: int,
        *,
        on_skipped: Callable[[], None] | None = None,
    ) -> Iterator[tuple[int, Image]]:
        """The number and the pixels of each frame in first..last - 1: [H, W, 3] uint8 RGB, or
        [H, W, 4] RGBA if the clip is transparent. `on_skipped`: called now and then while the
        frames before `first` are decoded, from the last key frame on; what it raises ends the
        reading. Raises TruncatedClipError, UnsupportedClipError, PoisonousClipError,
        ClipTimeoutError.
        """
        threads = max(1, self._settings.codec_threads)
        asked = {"do": "frames", "facts": facts.to_json(), "first": first, "last": last}
        self._ask({**asked, "threads": threads, "skipped_every_s": SKIPPED_EVERY_S})
        # An index that leads behind `first` lets the child begin twice.
        skipping_s = self._settings.image_timeout_s + 2 * first / LEAST_SKIPPED_PER_S
        skipped_by = time.monotonic() + skipping_s
        while True:
            answer = self._answer()
            if "skipped" in answer:
                if time.monotonic() > skipped_by:
                    self._popen.kill()
                    raise ClipTimeoutError(
                        f"FFmpeg did not come to frame {first:,} within {skipping_s:g} s"
                    )
                if on_skipped is not None:
                    on_skipped()
                continue
            if "frame" not in answer:
                return
            yield answer["frame"], self._pixels(answer["shape"], facts)

    def add_sound(
        self, facts: ClipFacts, pictures: Path, target: Path, until_s: float | None = None
    ) -> str:
        """Write `target`: the video `pictures` with the clip's sound, which ends at `until_s`.
        Returns `copied`, `coded` or `none`.
        """
        asked = {"do": "sound", "facts": facts.to_json(), "until_s": until_s}
        self._ask({**asked, "pictures": str(pictures), "target": str(target)})
        said: str = self._answer(self._sound_timeout_s(facts))["sound"]
        return said

    def _sound_timeout_s(self, facts: ClipFacts) -> float:
        """Copying takes a small part of the clip's length. The worker's watchdog waits longer."""
        return min(self._settings.image_timeout_s + facts.seconds, MOST_SOUND_S)

    def _ask(self, request: dict[str, Any]) -> None:
        if not self._started:
            try:
                self._answer(START_TIMEOUT_S)
            except PoisonousClipError as error:
                raise MattingError("The child process for clips does not start") from error
            self._started = True
            _widen(self._out)
        common = {
            "path": str(self._source),
            "max_pixels": self._settings.max_clip_pixels,
            "keep_whole": self._keep_whole,
        }
        assert self._popen.stdin is not None
        data = json.dumps({**common, **request}).encode() + b"\n"
        try:
            written = 0
            while written < len(data):
                written += self._popen.stdin.write(data[written:]) or 0
        except OSError as error:
            raise self._crash() from error

    @property
    def _out(self) -> IO[bytes]:
        assert self._popen.stdout is not None
        return self._popen.stdout

    def _answer(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The next answer. Raises the error that it holds."""
        deadline = time.monotonic() + (timeout_s or self._settings.image_timeout_s)
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_LINE_BYTES:
                raise PoisonousClipError
            self._buffer += self._read(PIPE_BYTES, deadline)
        try:
            answer: dict[str, Any] = json.loads(self._buffer[:end])
        except ValueError as error:
            raise PoisonousClipError from error
        del self._buffer[: end + 1]
        if "code" in answer:
            raise error_of(answer["code"], answer["detail"])
        return answer

    def _pixels(self, shape: list[int], facts: ClipFacts) -> Image:
        if shape != [facts.height, facts.width, 4 if facts.has_alpha else 3]:
            raise PoisonousClipError
        pixels = np.empty(shape, np.uint8)
        view = pixels.data.cast("B")
        filled = min(len(view), len(self._buffer))
        view[:filled] = self._buffer[:filled]
        del self._buffer[:filled]
        deadline = time.monotonic() + self._settings.image_timeout_s
        while filled < len(view):
            self._wait(deadline)
            count = os.readv(self._out.fileno(), [view[filled:]])
            if not count:
                raise self._crash()
            filled += count
        return pixels

    def _read(self, most: int, deadline: float) -> bytes:
        self._wait(deadline)
        data = os.read(self._out.fileno(), most)
        if not data:
            raise self._crash()
        return data

    def _wait(self, deadline: float) -> None:
        """Wait until the child has written something. Raises ClipTimeoutError."""
        left = max(0.0, deadline - time.monotonic())
        if not select.select([self._out], [], [], left)[0]:
            self._popen.kill()
            limit = f"{self._settings.image_timeout_s:g}"
            raise ClipTimeoutError(f"FFmpeg gave no frame within {limit} s")

    def _crash(self) -> MattingError:
        status = self._popen.wait()
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return PoisonousClipError(f"Reading the clip crashed its process with {how}")


def _widen(pipe: IO[bytes]) -> None:
    import fcntl

    with suppress(OSError):  # a limit of the system; the default works too
        fcntl.fcntl(pipe.fileno(), F_SETPIPE_SZ, PIPE_BYTES)
