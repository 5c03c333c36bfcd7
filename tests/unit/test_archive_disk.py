"""The disk space that zip files may use on the API's machine."""

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
    """A disk with 1,000 free bytes beyond the reserve."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(SPARE_BYTES + 1_000))


@pytest.mark.usefixtures("free")
def test_all_archives_together_fit_on_the_free_disk() -> None:
    disk = ArchiveDisk(None)
    with pytest.raises(ArchiveTooLargeError), disk.file(1_001):
        pass
    with disk.file(600), pytest.raises(ArchiveTooLargeError), disk.file(1_601):
        pass
    with disk.file(1_000):
        pass


@pytest.mark.usefixtures("free")
def test_the_setting_overrides_the_free_space() -> None:
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
def test_a_full_disk_is_not_reported_as_the_file_s_fault() -> None:
    disk = ArchiveDisk(None)
    with pytest.raises(DiskFullError), disk.file(300):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="else"), disk.file(1_000):
        raise OSError(errno.EIO, "something else")
