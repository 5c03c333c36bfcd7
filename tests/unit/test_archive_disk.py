import errno
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from api.sources.archive_disk import SPARE_BYTES, ArchiveDisk
from shared.errors import ArchiveTooLargeError, DiskFullError


class Usage(NamedTuple):
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 bytes more than what stays free."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(SPARE_BYTES + 1_000))


@pytest.mark.usefixtures("free")
def test_what_is_free_bounds_all_files_together() -> None:
    disk = ArchiveDisk(None)
    with pytest.raises(ArchiveTooLargeError), disk.file(1_001):
        pass
    with disk.file(600), pytest.raises(ArchiveTooLargeError), disk.file(1_601):
        pass
    with disk.file(1_000):
        pass


@pytest.mark.usefixtures("free")
def test_a_limit_of_its_own_goes_before_what_is_free() -> None:
    disk = ArchiveDisk(500)
    with ExitStack() as stack:
        stack.enter_context(disk.file(300))
        with pytest.raises(DiskFullError), disk.file(300):
            pass
        with pytest.raises(ArchiveTooLargeError), disk.file(501):
            pass
    with disk.file(500):
        pass


@pytest.mark.usefixtures("free")
def test_a_disk_that_something_else_fills_is_no_fault_of_the_file() -> None:
    disk = ArchiveDisk(None)
    with pytest.raises(DiskFullError), disk.file(300):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="else"), disk.file(1_000):
        raise OSError(errno.EIO, "something else")
