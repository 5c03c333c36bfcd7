"""Lets the kernel end a process when its parent dies, so a killed parent leaves no children."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
"""prctl(2) option: the signal that a process gets when its parent dies."""

# Loaded before any fork: a child that still has its parent's locks must not import or allocate.
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(number: signal.Signals, parent: int | None = None) -> None:
    """Ask for this signal when the parent of the calling process dies. Linux only. `parent`: its
    process id, if it is known: a parent that has died before this call sends nothing any more.
    """
    _libc.prctl(PR_SET_PDEATHSIG, number)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)
