"""Decoding of a clip's frames to upright RGB pixels. Runs in the child process only."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import av
import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    VideoReformatter,
)
from av.video.stream import VideoStream

from shared.errors import TruncatedClipError
from worker.imaging.arrays import Image
from worker.video.container import OpenClip, decoded, is_in_two_parts, opened
from worker.video.facts import ClipFacts
from worker.video.orientation import orientation_of

HD_HEIGHT, HD_WIDTH = 576, 1_280
"""A clip that does not name its colour matrix has that of HDTV (BT.709) if it is higher or at least
as wide, else that of SDTV (BT.601). Players decide so."""

WIDE_GAMUT = frozenset({ColorPrimaries.BT2020, ColorPrimaries.SMPTE431, ColorPrimaries.SMPTE432})
HDR = frozenset({ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67})
BT2020_MATRICES = frozenset({9, 10})
"""AVCOL_SPC_BT2020_NCL and _CL."""
UNKNOWN_MATRIX = 2
"""AVCOL_SPC_UNSPECIFIED."""
DEEP = {"rgb24": "rgb48le", "rgba": "rgba64le"}
"""The layouts with 16 bits a channel. A wide gamut is converted in two steps, first to RGB and then
to other primaries: in one step, swscale of FFmpeg 8 takes its own matrix in addition to the
clip's."""


BIG_ENDIAN = frozenset({"rgb555be", "rgb565be"})
"""Of raw QuickTime films with thousands of colours. swscale of FFmpeg 8 makes RGB of them as if
their bytes were swapped, so they are swapped first."""


class FrameReader:
    """Reads frames of one clip in order."""

    def __init__(
        self,
        path: Path,
        facts: ClipFacts,
        *,
        threads: int,
        max_pixels: int,
        keep_whole: bool,
    ) -> None:
        """`keep_whole`: end before the first damaged frame instead of raising an error.
        `max_pixels`: a decoder refuses larger frames, which may come in the middle of a clip.
        """
        self._path, self._facts, self._threads = path, facts, threads
        self._max_pixels, self._keep_whole = max_pixels, keep_whole
        self._reformatter = VideoReformatter()

    def read(
        self, first: int, last: int, on_skipped: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, Image]]:
        """The number and the pixels of each frame in first..last - 1: [H, W, 3] RGB, or
        [H, W, 4] RGBA if the clip is transparent. `on_skipped`: called for each frame before them
        that is decoded, because others are predicted from it.

        Raises TruncatedClipError, UnsupportedClipError.
        """
        wanted = {self._facts.times[number]: number for number in range(first, last)}
        expected = first
        try:
            for pts, frame in self._from(first):
                number = wanted.get(pts)
                if number is None or number < expected:
                    if pts > self._facts.times[last - 1]:
                        break
                    if on_skipped is not None:
                        on_skipped()
                    continue
                if number > expected or frame.is_corrupt:
                    raise TruncatedClipError(
                        f"The frame at {self._facts.time_s(expected):.2f} s can't be decoded"
                    )
                yield number, self._pixels(frame)
                expected = number + 1
                if expected == last:
                    return
            raise TruncatedClipError(
                f"The frame at {self._facts.time_s(expected):.2f} s can't be decoded"
            )
        except (av.error.FFmpegError, TruncatedClipError) as error:
            if self._keep_whole:
                return
            if isinstance(error, TruncatedClipError):
                raise
            at = self._facts.time_s(expected)
            raise TruncatedClipError(f"The frame at {at:.2f} s can't be decoded") from error

    def _from(self, first: int) -> Iterator[tuple[int, VideoFrame]]:
        """Frames that begin with `first` or before it. Where a container's index leads behind it,
        they begin with the clip's start.
        """
        frames = self._decoded(first)
        for at, frame in frames:
            if at <= self._facts.times[first] or first == 0:
                yield at, frame
                yield from frames
                return
            break
        yield from self._decoded(0)

    def _decoded(self, first: int) -> Iterator[tuple[int, VideoFrame]]:
        with opened(self._path) as clip:
            keys = [key for key in self._facts.key_frames if key <= first]
            if keys[-1]:
                clip.container.seek(self._facts.times[keys[-1]], stream=clip.video, backward=True)
            yield from self._decode(clip)

    def _decode(self, clip: OpenClip) -> Iterator[tuple[int, VideoFrame]]:
        context = _decoder(clip.video)
        context.thread_count = self._threads
        context.thread_type = "AUTO"
        context.options = {"max_pixels": str(self._max_pixels)}
        for frame in decoded(clip, context):
            pts = frame.pts if frame.pts is not None else frame.dts
            if pts is not None:
                yield pts, frame

    def _pixels(self, frame: VideoFrame) -> Image:
        facts, name = self._facts, frame.format.name
        if name in BIG_ENDIAN:
            frame = frame.reformat(format=name.replace("be", "le"))
        orientation = orientation_of(frame)
        size = facts.width, facts.height
        width, height = size[::-1] if orientation.swaps_sides else size
        layout = "rgba" if facts.has_alpha else "rgb24"
        primaries, curve = frame.color_primaries, frame.color_trc
        wide = primaries in WIDE_GAMUT or curve in HDR or frame.colorspace in BT2020_MATRICES
        converted = self._reformatter.reformat(
            frame,
            width,
            height,
            DEEP[layout] if wide else layout,
            src_colorspace=_matrix(frame),
            src_color_range=_range(frame),
            dst_color_range=ColorRange.JPEG,
            threads=self._threads,
        )
        if wide:
            converted = _to_srgb().reformat(
                converted,
                format=layout,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.JPEG,
                dst_color_primaries=ColorPrimaries.BT709,
                dst_color_trc=ColorTrc.BT709,
                threads=self._threads,
            )
        return orientation.upright(np.asarray(converted.to_ndarray(), np.uint8))


@cache
def _to_srgb() -> VideoReformatter:
    """Converts a wide gamut to that of sRGB. The first frame takes 2.6 s of CPU, so there is one
    for all readers of this process, which is for one clip and has one thread.
    """
    return VideoReformatter()


def _decoder(video: VideoStream) -> VideoCodecContext:
    """The stream's decoder. FFmpeg's own decoders of VP8 and VP9 ignore transparency."""
    name = video.codec_context.name
    if is_in_two_parts(video) and name in ("vp8", "vp9"):
        decoder = CodecContext.create("libvpx" if name == "vp8" else "libvpx-vp9", "r")
        assert isinstance(decoder, VideoCodecContext)
        return decoder
    return video.codec_context


def _range(frame: VideoFrame) -> ColorRange:
    if frame.format.is_rgb or frame.format.has_palette:
        return ColorRange.JPEG
    return ColorRange.JPEG if frame.color_range == ColorRange.JPEG else ColorRange.MPEG


def _matrix(frame: VideoFrame) -> Colorspace:
    if frame.colorspace == 1:  # AVCOL_SPC_BT709
        return Colorspace.ITU709
    if frame.colorspace in (5, 6):  # AVCOL_SPC_BT470BG, AVCOL_SPC_SMPTE170M
        return Colorspace.ITU601
    if frame.colorspace == 7:
        return Colorspace.SMPTE240M
    if frame.colorspace == 4:
        return Colorspace.FCC
    if frame.colorspace in BT2020_MATRICES or (
        frame.color_primaries == ColorPrimaries.BT2020 and frame.colorspace == UNKNOWN_MATRIX
    ):
        return Colorspace.BT2020
    is_hd = frame.height > HD_HEIGHT or frame.width >= HD_WIDTH
    return Colorspace.ITU709 if is_hd else Colorspace.ITU601
