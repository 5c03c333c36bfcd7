"""Opening a clip's container and reading its facts. Runs in the child process only.

The container's kind is told by the file's first bytes, and FFmpeg must use the demuxer of that
kind. So a playlist that names other files or addresses is never read as one.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from shared.clip_kinds import HEAD_BYTES, clip_kind
from shared.errors import (
    ClipTooLargeError,
    ClipTooLongError,
    ClipTooManyPixelsError,
    EncryptedClipError,
    NotAClipError,
    NoVideoStreamError,
    TruncatedClipError,
    UnsupportedClipError,
)
from worker.video.completeness import is_cut_off, lacks_index
from worker.video.facts import ClipFacts
from worker.video.orientation import orientation_of

DEMUXERS = {"MP4": "mov", "MKV": "matroska", "GIF": "gif"}

CLOSED = {"protocol_whitelist": "file", "enable_drefs": "0", "use_absolute_path": "0"}
"""FFmpeg's protocols open no other file than the clip, whatever the clip says."""

READ_TIMEOUT_S = 60.0
"""FFmpeg gives up a single read or the opening after this time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a clip. The child process gets these alone, no settings."""

    max_bytes: int
    max_s: float
    max_frames: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class OpenClip:
    """An open container with its video stream."""

    container: InputContainer
    video: VideoStream
    kind: str


@contextmanager
def opened(path: Path, *, max_bytes: int | None = None) -> Iterator[OpenClip]:
    """Open a clip. Raises ClipTooLargeError, NotAClipError, NoVideoStreamError,
    UnsupportedClipError, TruncatedClipError.
    """
    size = path.stat().st_size
    if max_bytes is not None and size > max_bytes:
        raise ClipTooLargeError(f"The clip has {size:,} bytes; the limit is {max_bytes:,}")
    with path.open("rb") as file:
        kind = clip_kind(file.read(HEAD_BYTES))
    if kind is None:
        raise NotAClipError
    options = CLOSED if kind == "MP4" else {"protocol_whitelist": "file"}
    try:
        container = av.open(
            f"file:{path}", format=DEMUXERS[kind], options=options, timeout=READ_TIMEOUT_S
        )
    except (av.error.FFmpegError, ValueError) as error:
        if lacks_index(path, kind):
            raise TruncatedClipError(
                "The file ends before its index (`moov`), without which no frame can be found, also"
                " with `clip_cut_off`"
            ) from error
        raise TruncatedClipError(f"The clip can't be opened: {_said(error)}") from error
    with container:
        streams = [one for one in container.streams.video if not _is_cover(one)]
        # PyAV leaves out the context of a stream whose codec it doesn't know.
        if not streams or streams[0].codec_context is None:
            if is_cut_off(path, kind):
                raise TruncatedClipError(
                    "The file ends before it says what it holds, so no frame can be found, also"
                    " with `clip_cut_off`"
                )
            if not streams:
                raise NoVideoStreamError
            raise UnsupportedClipError("The codec of the video is unknown")
        yield OpenClip(container, streams[0], kind)


def read_facts(path: Path, limits: Limits, *, keep_whole: bool) -> ClipFacts:
    """Read a clip's facts and check all limits, without decoding.

    `keep_whole`: accept a clip that is cut off, for the frames that are whole. Raises the errors
    of `opened`, ClipTooLongError, ClipTooManyPixelsError, EncryptedClipError.
    """
    with opened(path, max_bytes=limits.max_bytes) as clip:
        context = clip.video.codec_context
        width, height = context.width, context.height
        if width <= 0 or height <= 0:
            raise TruncatedClipError("The clip does not tell the size of its frames")
        wide, high = shown_size(clip.video)
        if max(width * height, wide * high) > limits.max_pixels:
            raise ClipTooManyPixelsError(
                f"A frame has {width} × {height} pixels; the limit is {limits.max_pixels:,} pixels"
            )
        _check_length(clip.container, limits)
        audio = next((one.codec_context for one in clip.container.streams.audio), None)
        times, end, keys, whole = _scan(clip, limits)
        whole = whole and not is_cut_off(path, clip.kind)
        if not times:
            raise TruncatedClipError("The clip holds no whole frame")
        if not whole and not keep_whole:
            raise TruncatedClipError
        if _is_on_its_side(path):
            wide, high = high, wide
        base = clip.video.time_base or Fraction(1, 1000)
        return ClipFacts(
            container=clip.kind,
            codec=context.name,
            width=wide,
            height=high,
            bytes=path.stat().st_size,
            time_base=(base.numerator, base.denominator),
            times=tuple(times),
            end=end,
            key_frames=tuple(keys),
            audio=audio.name if audio is not None else None,
            has_alpha=has_alpha(clip.video),
            whole=whole,
        )


def decoded(clip: OpenClip, decoder: VideoCodecContext) -> Iterator[VideoFrame]:
    """All frames of the video from where the container stands."""
    for packet in shown_packets(clip):
        yield from decoder.decode(packet)
    yield from decoder.decode(None)  # what it still holds


def shown_size(video: VideoStream) -> tuple[int, int]:
    """Width and height of a frame with square pixels, before it is turned upright."""
    ratio = video.sample_aspect_ratio or Fraction(1)
    width, height = video.codec_context.width, video.codec_context.height
    return (max(1, round(width * ratio)) if ratio > 0 else width), height


def _is_on_its_side(path: Path) -> bool:
    """Whether the frames are turned by 90°. FFmpeg tells it with the first decoded frame."""
    with opened(path) as clip, suppress(av.error.FFmpegError):
        for frame in decoded(clip, clip.video.codec_context):
            return orientation_of(frame).swaps_sides
    return False


def has_alpha(video: VideoStream) -> bool:
    """Whether frames of this stream can be transparent."""
    if is_in_two_parts(video):
        return True
    layout = video.codec_context.format
    return layout is not None and any(part.is_alpha for part in layout.components)


def is_in_two_parts(video: VideoStream) -> bool:
    """Whether a second picture holds the transparency, as VP8 and VP9 in WebM have it. Some
    programs write the mark in capitals.
    """
    return any(
        name.lower() == "alpha_mode" and value == "1" for name, value in video.metadata.items()
    )


def shown_packets(clip: OpenClip) -> Iterator["Packet[VideoStream]"]:
    """The packets of the video that hold a frame."""
    for packet in clip.container.demux(clip.video):
        if packet.size:
            yield packet


def _scan(clip: OpenClip, limits: Limits) -> tuple[list[int], int, list[int], bool]:
    """The times of all frames, their end, the key frames, and whether no packet is damaged."""
    found: dict[int, tuple[bool, int]] = {}
    whole = True
    vp8 = clip.video.codec_context.name == "vp8"
    try:
        for packet in shown_packets(clip):
            if packet.has_sidedata("encryption_info") or packet.has_sidedata(
                "encryption_init_info"
            ):
                raise EncryptedClipError
            whole = whole and not packet.is_corrupt
            if packet.is_discard or (vp8 and not bytes(packet)[0] & 0x10):
                continue  # not shown: RFC 6386, section 9.1
            pts = packet.pts if packet.pts is not None else packet.dts
            if pts is None:
                continue
            found.setdefault(pts, (packet.is_keyframe, packet.duration or 0))
            if len(found) > limits.max_frames:
                raise ClipTooLongError(
                    f"The clip has more than {limits.max_frames:,} frames, which is the limit"
                )
    except av.error.FFmpegError:
        whole = False
    times = sorted(found)
    if not times:
        return [], 0, [], whole
    if clip.video.metadata.get("enc_key_id"):
        raise EncryptedClipError
    usual = times[-1] - times[-2] if len(times) > 1 else 0
    end = times[-1] + (found[times[-1]][1] or usual or 1)
    seconds = float((end - times[0]) * (clip.video.time_base or Fraction(1, 1000)))
    if seconds > limits.max_s:
        raise ClipTooLongError(f"The clip lasts {seconds:.1f} s; the limit is {limits.max_s:g} s")
    keys = [number for number, pts in enumerate(times) if found[pts][0]]
    return times, end, sorted({0, *keys}), whole


def _check_length(container: InputContainer, limits: Limits) -> None:
    """Raise ClipTooLongError by what the container says about its length."""
    seconds = (container.duration or 0) / 1e6
    frames = container.streams.video[0].frames
    # Sound may be a little longer than the picture.
    if seconds > 1.5 * limits.max_s + 1:
        raise ClipTooLongError(f"The clip lasts {seconds:.1f} s; the limit is {limits.max_s:g} s")
    if frames > limits.max_frames:
        raise ClipTooLongError(
            f"The clip has {frames:,} frames; the limit is {limits.max_frames:,}"
        )


def _is_cover(stream: VideoStream) -> bool:
    """Whether this is the picture of an album and no video."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
