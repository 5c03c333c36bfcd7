"""The child process that touches clips: it reads facts, decodes frames and copies sound.

FFmpeg is the largest parser that this service uses, and the clips are other people's. So FFmpeg
reads them in this process alone, which has a limit on its memory, no settings and no secrets.
"""

import json
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import av
import numpy as np

from shared.errors import DiskFullError, MattingError, PoisonousClipError, UnsupportedClipError
from shared.parent_death import end_with_parent
from worker.video.container import Limits, read_facts
from worker.video.facts import ClipFacts
from worker.video.frames import FrameReader
from worker.video.full_disk import is_disk_full
from worker.video.sound import add_sound

BYTES_PER_PIXEL = 120
"""Memory limit for each pixel of a frame: a decoder keeps up to 17 frames of 1.5 to 6 bytes a
pixel, and each of its threads works on one more."""

SPARE_BYTES = 768 * 1024**2
"""Memory limit for libraries, thread stacks and the container's index, in addition to frames."""


def main() -> None:
    """Answer the requests on standard input, one JSON object a line, until it closes."""
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(None)
    with open(0, "rb", closefd=False) as asked, open(1, "wb", closefd=False) as told:
        _tell(told, {"ready": True})
        while line := asked.readline():
            request = json.loads(line)
            _limit_memory(request["max_pixels"])
            try:
                _answer(request, told)
            except MattingError as error:
                _tell(told, {"code": error.code, "detail": error.detail})
            except MemoryError:
                detail = "Reading the clip takes far more memory than it should"
                _tell(told, {"code": PoisonousClipError.code, "detail": detail})
            except (av.error.FFmpegError, ValueError, TypeError) as error:
                detail = f"FFmpeg can't read the clip: {error}"
                code = DiskFullError.code if is_disk_full(error) else UnsupportedClipError.code
                _tell(told, {"code": code, "detail": detail})


def _answer(request: dict[str, Any], told: IO[bytes]) -> None:
    path = Path(request["path"])
    if request["do"] == "facts":
        limits = Limits(**request["limits"])
        facts = read_facts(path, limits, keep_whole=request["keep_whole"])
        _tell(told, {"facts": asdict(facts)})
    elif request["do"] == "frames":
        facts = ClipFacts.from_json(request["facts"])
        reader = FrameReader(
            path,
            facts,
            threads=request["threads"],
            max_pixels=request["max_pixels"],
            keep_whole=request["keep_whole"],
        )
        skipping = _skipping(told, request["skipped_every_s"])
        for number, pixels in reader.read(request["first"], request["last"], skipping):
            _tell(told, {"frame": number, "shape": pixels.shape})
            told.write(np.ascontiguousarray(pixels).data.cast("B"))
        _tell(told, {"end": True})
    else:
        facts = ClipFacts.from_json(request["facts"])
        pictures, target = Path(request["pictures"]), Path(request["target"])
        how = add_sound(path, pictures, target, facts, request["until_s"])
        _tell(told, {"sound": how})


def _skipping(told: IO[bytes], every_s: float) -> Callable[[], None]:
    """Tell now and then that frames are decoded which nobody asked for."""
    last_told = time.monotonic()
    count = 0

    def skipped() -> None:
        nonlocal last_told, count
        count += 1
        if time.monotonic() - last_told >= every_s:
            _tell(told, {"skipped": count})
            last_told = time.monotonic()

    return skipped


def _tell(told: IO[bytes], answer: dict[str, Any]) -> None:
    told.write(json.dumps(answer).encode() + b"\n")
    told.flush()


def _limit_memory(max_pixels: int) -> None:
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    allowed = used + BYTES_PER_PIXEL * max_pixels + SPARE_BYTES
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))


if __name__ == "__main__":
    main()
    sys.exit(0)
