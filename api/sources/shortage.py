"""Tells a shortage of this machine from a fault of a source."""

import errno

_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})

_NO_THREAD = "can't start new thread"
"""What CPython says in a RuntimeError that has no class of its own."""


def is_shortage(error: Exception) -> bool:
    """Whether the machine has no memory, file descriptor or thread left. It passes, and says
    nothing about the job that met it.
    """
    if isinstance(error, OSError):
        return error.errno in _ERRNOS
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and str(error) == _NO_THREAD
    )
