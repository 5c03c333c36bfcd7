"""Keeps what Paddle writes about bf16 out of the log: it ignores `disable_glog_info`."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NOISE = (b"\x1b[37m---", b"Hardware support for BFLOAT16", b"before InitGoogleLogging()")
"""What Paddle's lines about bf16 contain. Those of its passes are grey, wherever they go."""

STDERR = 2

_one_at_a_time = threading.Lock()


@contextmanager
def without_noise() -> Iterator[None]:
    """Drop Paddle's lines from standard error. What others write meanwhile is written at the end.

    The lines wait in a file in memory: a pipe would fill up, because Paddle writes while it holds
    the interpreter's lock.
    """
    with _one_at_a_time, os.fdopen(os.memfd_create("stderr"), "w+b") as lines:
        try:
            kept = os.dup(STDERR)
        except OSError:  # it is closed, so nobody reads
            yield
            return
        os.dup2(lines.fileno(), STDERR)
        try:
            yield
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)
            lines.seek(0)
            with suppress(OSError):  # nobody reads any more
                for line in lines:
                    if not any(noise in line for noise in NOISE):
                        os.write(STDERR, line)
