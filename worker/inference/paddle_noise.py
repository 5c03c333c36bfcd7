"""Keeps what Paddle writes about bf16 out of the log: it ignores `disable_glog_info`."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NOISE = (b"\x1b[37m---", b"Hardware support for BFLOAT16", b"before InitGoogleLogging()")
"""What Paddle's lines about bf16 contain. Those of its passes are grey, wherever they go."""

END = b"\0end of the engine's lines\n"

STDERR = 2

_one_at_a_time = threading.Lock()


@contextmanager
def without_noise() -> Iterator[None]:
    """Drop Paddle's lines from standard error. What others write meanwhile is passed on."""
    with _one_at_a_time:
        kept = os.dup(STDERR)
        reader, writer = os.pipe()
        os.set_inheritable(writer, False)
        seen = threading.Event()
        threading.Thread(target=_pass_on, args=(reader, kept, seen), daemon=True).start()
        os.dup2(writer, STDERR)
        os.close(writer)
        try:
            yield
        finally:
            os.write(STDERR, END)
            os.dup2(kept, STDERR)
            seen.wait()


def _pass_on(reader: int, target: int, seen: threading.Event) -> None:
    """Copy all other lines. It ends when nobody holds the pipe, which a child process may do."""
    with os.fdopen(reader, "rb") as lines, os.fdopen(target, "wb", buffering=0) as out:
        for line in lines:
            if line.endswith(END):
                out.write(line.removesuffix(END))
                seen.set()
            elif not any(noise in line for noise in NOISE):
                out.write(line)
    seen.set()
