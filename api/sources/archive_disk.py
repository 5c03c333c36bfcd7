"""Disk space for the zip files that are being unpacked: bounded for all of them together."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from shared.errors import ArchiveTooLargeError, DiskFullError

SPARE_BYTES = 512 * 1024**2
"""Left free for everything else in the folder of temporary files."""


class ArchiveDisk:
    """Hands out temporary files for zip files. For one thread."""

    def __init__(self, limit_bytes: int | None) -> None:
        """`limit_bytes`: for all zip files together; None: what is free, less `SPARE_BYTES`."""
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    @contextmanager
    def file(self, size_bytes: int) -> Iterator[IO[bytes]]:
        """A temporary file for a zip file of this size.

        Raises ArchiveTooLargeError if it would not fit even alone. Raises DiskFullError if it fits
        only once the zip files in use are closed, or if the disk fills up meanwhile.
        """
        capacity = self._capacity_bytes()
        if size_bytes > capacity:
            raise ArchiveTooLargeError(
                f"The zip file has {size_bytes:,} bytes; there is room for {capacity:,}"
            )
        if size_bytes + self._held_bytes > capacity:
            raise DiskFullError(f"Other zip files take {self._held_bytes:,} of {capacity:,} bytes")
        self._held_bytes += size_bytes
        try:
            with tempfile.TemporaryFile() as file:
                yield file
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFullError("Something else filled the disk") from error
        finally:
            self._held_bytes -= size_bytes

    def _capacity_bytes(self) -> int:
        """For all zip files together, those in use included."""
        free = shutil.disk_usage(tempfile.gettempdir()).free - SPARE_BYTES + self._held_bytes
        return max(0, free if self._limit_bytes is None else min(free, self._limit_bytes))
