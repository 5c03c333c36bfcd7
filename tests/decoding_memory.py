"""What decoding a file takes at most: `python -m tests.decoding_memory FILE…` prints KiB each.

Each file is decoded in a child of its own, forked when the libraries are loaded, whose resident
memory at most is read from the kernel, so that native code's counts too.
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
    """The highest resident memory of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measured_kib(path: Path) -> int:
    """Above what the process took before."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        data = path.read_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): begin the high-water mark anew
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
        decode(small, SETTINGS)  # what libraries load when first used is nobody's
    for argument in sys.argv[1:]:
        print(measured_kib(Path(argument)), flush=True)


if __name__ == "__main__":
    main()
