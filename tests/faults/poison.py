"""Photos with a mark that makes native code crash, hang or use too much memory, in the real
processes.
"""

from pathlib import Path

MARKED = {
    "crash": b"the decoder crashes here",
    "hang": b"the decoder hangs here",
    "hang-locked": b"the decoder hangs with the lock",
    "swell": b"the decoder swells here",
    "crash-later": b"the encoder crashes here",
}
"""Bytes after a JPEG's end marker, where no decoder reads."""

LATER_SIZE = (333, 177)
"""Width and height of the photos whose result can't be encoded."""

CUSTOMIZE = f"""
import ctypes, sys
if any("worker" in one or "cutout" in one for one in sys.orig_argv):
    import numpy, simplejpeg
    from isal import isal_zlib
    decode, deflate = simplejpeg.decode_jpeg, isal_zlib.compressobj

    def decode_jpeg(photo, *arguments, **named):
        data = bytes(photo[-64:])
        if {MARKED["crash"]!r} in data:
            ctypes.string_at(0)
        if {MARKED["hang"]!r} in data:
            ctypes.CDLL(None).pause()
        if {MARKED["hang-locked"]!r} in data:
            ctypes.PyDLL(None).pause()
        if {MARKED["swell"]!r} in data:
            numpy.ones(4 * 1024**3, numpy.uint8)
        return decode(photo, *arguments, **named)

    class Deflate:
        def __init__(self, *arguments):
            whole = deflate(*arguments)
            self.rows, self.flush = whole.compress, whole.flush

        def compress(self, rows):
            if rows.shape == {(LATER_SIZE[1], 1 + 4 * LATER_SIZE[0])!r}:
                ctypes.CDLL(None).abort()
            return self.rows(rows)

    simplejpeg.decode_jpeg, isal_zlib.compressobj = decode_jpeg, Deflate
"""
"""Python runs this file at the start of every process.

`pause` never returns, once with and once without the interpreter's lock. The crashes are real ones
in the decoding thread. A signal from outside would leave the thread some time.
"""


def poisonous(folder: Path) -> dict[str, str]:
    """Write the file into the folder. Returns the environment that activates it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(CUSTOMIZE)
    return {"PYTHONPATH": str(folder)}
