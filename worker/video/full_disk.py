"""Tells errors of a full disk from others. It imports little: the child process uses it, too."""

import errno


def is_disk_full(error: Exception) -> bool:
    """Whether an error of the system or of FFmpeg says that the disk has no room."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
