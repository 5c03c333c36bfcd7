"""Measures the peak memory of decoding: `python -m tests.decoding_memory FILE…` prints KiB per
file.

A forked child decodes each file after all libraries are loaded. The kernel reports the child's peak
resident memory, so memory that native code allocates counts too.
"""

import os
import sys
from pathlib import Path

import cv2

from shared.errors import ImageError
from shared.settings import Settings
from tests import bad_photos
from worker.imaging.decoding import decode

SETTINGS = Settings()


def most_kib() -> int:
    """The peak resident memory of this process so far, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measured_kib(path: Path) -> int:
    """Peak memory of decoding one file, in KiB above what the process used before."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        data = path.read_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak, see proc(5)
        before = most_kib()
        try:
            decode(data, SETTINGS)
        except ImageError as error:
            print(f"{path.name}: {error.code}", file=sys.stderr)
        os.write(writer, str(most_kib() - before).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        return int(answer.read())


def main() -> None:
    cv2.setNumThreads(1)
    for small in (bad_photos.good()["cmyk.jpg"], bad_photos.good()["png"]):
        # libraries also load things at their first use; that must not count
        decode(small, SETTINGS)
    for argument in sys.argv[1:]:
        print(measured_kib(Path(argument)), flush=True)


if __name__ == "__main__":
    main()
