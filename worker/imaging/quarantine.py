"""Quarantine: suspect photos are decoded in child processes with limits on memory and time.

A crash, a hang or too much memory then ends the child and not the worker. Suspects are photos that
were in flight when a worker died, photos of a job that held such a photo, and background pictures.
Other photos are decoded in the worker, because copying pixels between processes is expensive.
"""

import json
import queue
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import cv2
import numpy as np

from shared.errors import ImageTimeoutError, MattingError, PoisonousImageError, error_of
from shared.parent_death import end_with_parent
from shared.settings import Settings
from worker.concurrency.running_timer import RunningTimer
from worker.imaging.arrays import Image
from worker.imaging.child_environment import child_environment
from worker.imaging.decoding import DecodedImage, decode

LIMITS = {"max_image_bytes", "max_image_pixels"}
"""The only settings that the child gets. It needs no secrets."""

BYTES_PER_PIXEL = 40
"""Memory limit of the decoder for each pixel. Measured: 3 to 7 for ordinary photos; 10 to 23 for
palettes, CMYK, profiles and 16 bits; 33 for a transparent WebP with an ICC profile."""

SPARE_BYTES = 512 * 1024**2
"""Memory limit for libraries and the file itself, in addition to the pixels."""


@dataclass(frozen=True)
class DecodeRequest:
    """Arguments for `worker.imaging.decoding.decode`."""

    min_side_px: int | None = None
    keep_profile: bool = False


class Quarantine:
    """Decodes suspect photos in child processes, which it starts on demand and reuses.

    Thread-safe. Call `close` after the last `decode` has returned.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()

    def decode(self, data: bytes, request: DecodeRequest) -> DecodedImage:
        """Decode a file.

        Raises the errors of `imaging.decoding.decode`; PoisonousImageError when the child crashes
        or exceeds its memory limit; ImageTimeoutError.
        """
        child = self._child()
        try:
            answer = child.ask(data, request, self._settings)
        except BaseException:
            child.end()
            raise
        self._idle.put(child)
        if isinstance(answer, MattingError):
            raise answer
        return answer

    def close(self) -> None:
        """Stop the child processes."""
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().end()

    def _child(self) -> "_Child":
        with suppress(queue.Empty):
            while True:
                child = self._idle.get_nowait()
                if child.alive():
                    return child
                child.end()
        return _Child()


class _Child:
    """One child process, used by one thread at a time."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "worker.imaging.quarantine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
        )
        # Wait until it has loaded its libraries, so that only the photo counts for the time limit.
        self._ready = self._out.readline() == b"ready\n"

    @property
    def _out(self) -> IO[bytes]:
        assert self._popen.stdout is not None
        return self._popen.stdout

    def alive(self) -> bool:
        return self._popen.poll() is None

    def end(self) -> None:
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with suppress(OSError):  # closing flushes unsent data into a broken pipe
                    pipe.close()

    def ask(
        self, data: bytes, request: DecodeRequest, settings: Settings
    ) -> DecodedImage | MattingError:
        """Send a photo and wait for its pixels or its error.

        Raises PoisonousImageError, ImageTimeoutError. After an exception the child is unusable:
        `end` it.
        """
        if not self._ready:
            raise MattingError("The child process for suspect photos does not start")
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._popen.kill()

        timer = RunningTimer(settings.image_timeout_s, kill)
        timer.start()
        try:
            return self._exchange(data, request, settings)
        except (OSError, EOFError, ValueError) as error:  # the child closed its end of the pipe
            status = self._popen.wait()
            if late.is_set():
                limit = f"{settings.image_timeout_s:g}"
                raise ImageTimeoutError(f"Decoding took more than {limit} s") from error
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            raise PoisonousImageError(f"Decoding crashed its process with {how}") from error
        finally:
            timer.cancel()

    def _exchange(
        self, data: bytes, request: DecodeRequest, settings: Settings
    ) -> DecodedImage | MattingError:
        header = {
            "bytes": len(data),
            "min_side_px": request.min_side_px,
            "keep_profile": request.keep_profile,
            "settings": settings.model_dump(mode="json", include=LIMITS),
        }
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps(header).encode() + b"\n" + data)
        self._popen.stdin.flush()
        answer = json.loads(self._out.readline())
        if "code" in answer:
            return error_of(answer["code"], answer["detail"])
        height, width = answer["shape"]
        alpha = self._read_pixels((height, width)) if answer["has_alpha"] else None
        pixels = self._read_pixels((height, width, 3))
        return DecodedImage(pixels, answer["width"], answer["height"], alpha)

    def _read_pixels(self, shape: tuple[int, ...]) -> Image:
        """Raises EOFError, OSError."""
        pixels = np.empty(shape, np.uint8)
        view = pixels.data.cast("B")
        filled = 0
        while filled < len(view):
            count = self._out.readinto(view[filled:])  # type: ignore[attr-defined]  # a BufferedReader
            if not count:
                raise EOFError
            filled += count
        return pixels


def main() -> None:
    """The child process: decode photos from standard input until it closes."""
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker handles Ctrl-C
    cv2.setNumThreads(1)
    with open(0, "rb", closefd=False) as asked, open(1, "wb", closefd=False) as told:
        told.write(b"ready\n")
        told.flush()
        while line := asked.readline():
            header = json.loads(line)
            settings = Settings(**header["settings"])
            _limit_memory(settings)
            data = asked.read(header["bytes"])
            answer: dict[str, Any]
            planes: list[Image] = []
            try:
                decoded = decode(
                    data,
                    settings,
                    min_side_px=header["min_side_px"],
                    keep_profile=header["keep_profile"],
                )
            except MattingError as error:
                answer = {"code": error.code, "detail": error.detail}
            except MemoryError:
                answer = {
                    "code": PoisonousImageError.code,
                    "detail": "Decoding takes far more memory than an image of its size needs",
                }
            else:
                answer = {
                    "shape": decoded.image.shape[:2],
                    "width": decoded.width,
                    "height": decoded.height,
                    "has_alpha": decoded.alpha is not None,
                }
                planes = [plane for plane in (decoded.alpha, decoded.image) if plane is not None]
            told.write(json.dumps(answer).encode() + b"\n")
            for plane in planes:
                told.write(np.ascontiguousarray(plane).data.cast("B"))
            told.flush()


def _limit_memory(settings: Settings) -> None:
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    allowed = used + BYTES_PER_PIXEL * settings.max_image_pixels + SPARE_BYTES
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))


if __name__ == "__main__":
    main()
