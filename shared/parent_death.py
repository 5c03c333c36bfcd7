"""Lets the kernel end a process when its parent dies, so a killed parent leaves no children."""

import ctypes
import signal

PR_SET_PDEATHSIG = 1
"""prctl(2) option: the signal that a process gets when its parent dies."""

# Loaded before any fork: a child that still has its parent's locks must not import or allocate.
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(number: signal.Signals) -> None:
    """Ask for this signal when the parent of the calling process dies. Linux only."""
    _libc.prctl(PR_SET_PDEATHSIG, number)
