"""What kind of clip a file is, told by its first bytes; names don't count."""

from shared.photo_kinds import HEAD_BYTES, photo_kind

CLIP_KINDS = ("MP4", "MKV", "GIF")
"""The accepted containers. MP4 includes MOV; MKV includes WebM."""

CLIP_ENDINGS = frozenset({".mp4", ".m4v", ".mov", ".qt", ".webm", ".mkv", ".gif"})
"""Endings of the names of clips. A file that has one and is none is damaged, or called wrongly."""

_ATOMS = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
"""Boxes that an old QuickTime file may begin with, without `ftyp`."""

__all__ = ["CLIP_ENDINGS", "CLIP_KINDS", "HEAD_BYTES", "clip_kind"]


def clip_kind(head: bytes) -> str | None:
    """One of CLIP_KINDS for the first HEAD_BYTES of a file, or None."""
    if head[4:8] == b"ftyp":
        # A picture in the same container is a photo; audio has no picture, which the probe finds.
        return None if photo_kind(head) or head[8:12] == b"crx " else "MP4"
    if head[4:8] in _ATOMS:
        return "MP4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "MKV"
    return "GIF" if head.startswith((b"GIF87a", b"GIF89a")) else None
