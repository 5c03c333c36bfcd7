"""Decodes suspects in processes of their own: what crashes, hangs or swells there harms nobody.

Only photos that were in flight when a worker died come here, those of a job that held a guilty one,
and the pictures that options put behind subjects: for all others a copy of the pixels from process
to process would cost more than it protects.
"""

import ctypes
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

import numpy as np

from shared.errors import ImageTimeoutError, MattingError, PoisonousImageError, error_of
from shared.settings import Settings

LIMITS = {"max_image_bytes", "max_image_pixels"}
"""The settings that decoding follows from. Secrets stay here."""

BYTES_PER_PIXEL = 40
"""What a decoder may take. Measured: 7 for ordinary photos, 15 to 23 for inks, palettes, 16 bits
and transparency, 33 for a transparent WebP with a profile."""

SPARE_BYTES = 512 * 1024**2
"""What libraries and the file itself may take beside the pixels."""

PR_SET_PDEATHSIG = 1
"""prctl(2): a child that hangs must not outlive its worker."""


@dataclass(frozen=True)
class DecodeRequest:
    """What `worker.imaging.decoding.decode` is to be called with."""

    enough_px: int | None = None
    keep_profile: bool = False


class Quarantine:
    """A few children, started when first needed. Thread-safe; `close` it after its last caller."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()

    def decode(self, data: bytes, request: DecodeRequest) -> tuple[np.ndarray[Any, Any], int, int]:
        """The pixels [h, w, 3] uint8, and the upright original's width and height.

        Raises what `imaging.decoding.decode` raises, PoisonousImageError and ImageTimeoutError.
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
        """End the children."""
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
    """One process, asked by one thread at a time."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "worker.imaging.quarantine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        # It has loaded its libraries: the time limit is the photo's alone.
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
                with suppress(OSError):  # what was not sent yet no longer goes out
                    pipe.close()

    def ask(
        self, data: bytes, request: DecodeRequest, settings: Settings
    ) -> tuple[np.ndarray[Any, Any], int, int] | MattingError:
        """Have it decode. Raises PoisonousImageError, ImageTimeoutError; then `end` it."""
        if not self._ready:
            raise MattingError("The process that decodes suspects does not start")
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._popen.kill()

        timer = threading.Timer(settings.image_timeout_s, kill)
        timer.start()
        try:
            return self._exchange(data, request, settings)
        except (OSError, EOFError, ValueError) as error:  # its end of the pipe is gone
            status = self._popen.wait()
            if late.is_set():
                limit = f"{settings.image_timeout_s:g}"
                raise ImageTimeoutError(f"Decoding it took more than {limit} s") from error
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            raise PoisonousImageError(f"Decoding it ended the process with {how}") from error
        finally:
            timer.cancel()

    def _exchange(
        self, data: bytes, request: DecodeRequest, settings: Settings
    ) -> tuple[np.ndarray[Any, Any], int, int] | MattingError:
        header = {
            "bytes": len(data),
            "enough_px": request.enough_px,
            "keep_profile": request.keep_profile,
            "settings": settings.model_dump(mode="json", include=LIMITS),
        }
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps(header).encode() + b"\n" + data)
        self._popen.stdin.flush()
        answer = json.loads(self._out.readline())
        if "code" in answer:
            return error_of(answer["code"], answer["detail"])
        shape = tuple(answer["shape"])
        pixels = np.empty(shape, np.uint8)
        view = pixels.data.cast("B")
        filled = 0
        while filled < len(view):
            count = self._out.readinto(view[filled:])  # type: ignore[attr-defined]  # a BufferedReader
            if not count:
                raise EOFError
            filled += count
        return pixels, answer["width"], answer["height"]


def main() -> None:
    """The child's part: decode what standard input brings, until it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to handle
    # Loaded here and not above: the worker needs none of it to ask.
    import cv2

    from worker.imaging.decoding import decode

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
            pixels: bytes | memoryview = b""
            try:
                decoded = decode(
                    data,
                    settings,
                    enough_px=header["enough_px"],
                    keep_profile=header["keep_profile"],
                )
            except MattingError as error:
                answer = {"code": error.code, "detail": error.detail}
            except MemoryError:
                answer = {
                    "code": PoisonousImageError.code,
                    "detail": "Decoding it takes far more memory than its size warrants",
                }
            else:
                answer = {
                    "shape": decoded.image.shape,
                    "width": decoded.width,
                    "height": decoded.height,
                }
                pixels = np.ascontiguousarray(decoded.image).data.cast("B")
            told.write(json.dumps(answer).encode() + b"\n")
            told.write(pixels)
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
