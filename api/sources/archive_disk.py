"""Limits the disk space of all zip files that are being unpacked."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from shared.errors import ArchiveTooLargeError, DiskFullError

SPARE_BYTES = 512 * 1024**2
"""Disk space left free for other temporary files."""


class ArchiveDisk:
    """Provides temporary files for zip files. For one thread."""

    def __init__(self, limit_bytes: int | None) -> None:
        """`limit_bytes`: for all zip files together; None: the free space less `SPARE_BYTES`."""
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    @contextmanager
    def file(self, size_bytes: int) -> Iterator[IO[bytes]]:
        """A temporary file for a zip file of this size.

        Raises ArchiveTooLargeError if it does not fit even alone. Raises DiskFullError if it fits
        only after other zip files are closed, or if the disk fills up in the meantime.
        """
        capacity = self._capacity_bytes()
        if size_bytes > capacity:
            raise ArchiveTooLargeError(
                f"The zip file has {size_bytes:,} bytes; there is room for {capacity:,}"
            )
        if size_bytes + self._held_bytes > capacity:
            raise DiskFullError(f"Other zip files use {self._held_bytes:,} of {capacity:,} bytes")
        self._held_bytes += size_bytes
        try:
            with tempfile.TemporaryFile() as file:
                yield file
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFullError("Other files filled the disk") from error
        finally:
            self._held_bytes -= size_bytes

    def _capacity_bytes(self) -> int:
        """The space for all zip files together, including those in use."""
        free = shutil.disk_usage(tempfile.gettempdir()).free - SPARE_BYTES + self._held_bytes
        return max(0, free if self._limit_bytes is None else min(free, self._limit_bytes))
