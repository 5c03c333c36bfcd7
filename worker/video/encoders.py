"""Encoders of a clip's outputs: pixels and times in, one file out."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from shared.clip_format import ClipFormat
from shared.errors import EncodingFailedError, OutputTooLargeError
from shared.rendition import Rendition
from worker.imaging.arrays import Image
from worker.video.animated_webp import make_independent, set_duration, set_transparent
from worker.video.facts import ClipFacts
from worker.video.frames_zip import FramesZip
from worker.video.full_disk import is_disk_full
from worker.video.remuxing import FRAME_RATE_HINT
from worker.video.ticks import Ticks

BT709 = 1
"""AVCOL_PRI_BT709, AVCOL_TRC_BT709 and AVCOL_SPC_BT709 (ITU-T H.273)."""

LIMITED = 1
"""AVCOL_RANGE_MPEG: 16..235."""

VP9_SPEED = "6"
"""libvpx's cpu-used in its realtime mode, which takes a quarter of the time of its good mode for
files a quarter larger, of the same error."""

X264_OPTIONS = {"preset": "veryfast", "bf": "0"}
"""Without frames that are stored out of order, MP4 keeps the length of each frame exactly."""

MAX_ENCODERS_BYTES = 1792 * 1024**2
"""Most memory of the encoders that are open at once. One WebM of 4096 x 2160 with alpha fits; a
worker's pod has 3 GiB by default."""

KEY_FRAME_EVERY_S = 2.0
"""A player can begin at key frames only."""


class Encoder(Protocol):
    """Writes one output of a clip."""

    size: tuple[int, int]
    """Width and height of the file's frames."""

    def write(self, pixels: Image, number: int) -> None:
        """Write a frame: [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA, all of one size."""

    def close(self) -> None:
        """Complete the file."""

    def abandon(self) -> None:
        """Close the file, which stays incomplete."""


@dataclass(frozen=True, slots=True)
class _Codec:
    name: str
    layout: str
    """FFmpeg's pixel format with transparency, or without if there is only one."""
    opaque: str
    options: Mapping[str, str]


_CODECS = {
    ClipFormat.WEBM: _Codec(
        "libvpx-vp9",
        "yuva420p",
        "yuv420p",
        {
            "deadline": "realtime",
            "cpu-used": VP9_SPEED,
            "row-mt": "1",
            "auto-alt-ref": "0",
            "b": "0",
            "lag-in-frames": "0",
        },
    ),
    ClipFormat.PRORES: _Codec(
        "prores_ks",
        "yuva444p10le",
        "yuv444p10le",
        {"profile": "4444", "vendor": "apl0", "alpha_bits": "16"},
    ),
    ClipFormat.MP4: _Codec("libx264", "yuv420p", "yuv420p", X264_OPTIONS),
    ClipFormat.STACKED: _Codec("libx264", "yuv420p", "yuv420p", X264_OPTIONS),
    ClipFormat.WEBP: _Codec("libwebp_anim", "bgra", "bgra", {"compression_level": "2"}),
}
_BYTES_PER_PIXEL = {
    ClipFormat.WEBM: 190,
    ClipFormat.PRORES: 40,
    ClipFormat.MP4: 66,
    ClipFormat.STACKED: 132,
    ClipFormat.WEBP: 16,
    ClipFormat.FRAMES: 12,
}
"""Memory of an open encoder for each pixel of a frame: the resident memory that 32 frames of 4096 x
2160 and of 1920 x 1080 added, with 2 and 16 threads (PyAV 16, libvpx, x264, FFmpeg), rounded up.
VP9 with alpha is two encoders."""

MUXERS: dict[ClipFormat, tuple[str, dict[str, str]]] = {
    ClipFormat.WEBM: ("webm", {}),
    ClipFormat.PRORES: ("mov", {}),
    ClipFormat.MP4: ("mp4", {"movflags": "+faststart"}),
    ClipFormat.STACKED: ("mp4", {"movflags": "+faststart"}),
    ClipFormat.WEBP: ("webp", {"loop": "0"}),
}
"""FFmpeg's name of each container, and its options."""


def encoder_for(
    rendition: Rendition,
    facts: ClipFacts,
    width: int,
    height: int,
    target: Path,
    threads: int,
    first: int = 0,
) -> Encoder:
    """The encoder of an output with frames of this size, from the frame `first` on. Raises
    OutputTooLargeError.
    """
    kind = rendition.effective_clip_format
    refuse_long_sides(kind, width, height)
    if kind is ClipFormat.FRAMES:
        return FramesZip(facts, (width, height), target)
    return _Video(kind, rendition, facts, (width, height), target, threads, first)


def refuse_long_sides(kind: ClipFormat, width: int, height: int) -> None:
    """Raise OutputTooLargeError if a format can't hold frames of this size."""
    if max(width, height) > kind.max_side_px:
        raise OutputTooLargeError(
            f"The output would have {width} × {height} pixels; {kind} allows at most"
            f" {kind.max_side_px:,} px per side"
        )


def encoder_bytes(
    rendition: Rendition, facts: ClipFacts, width: int, height: int, *, clear: bool
) -> int:
    """About the memory that the encoder of an output takes. `clear`: its frames have alpha. That of
    animated WebP holds the whole file: of noise, 1.9 bytes a pixel with quality 90, 3.7 with 100.
    """
    kind = rendition.effective_clip_format
    held = _BYTES_PER_PIXEL[kind] // (2 if kind is ClipFormat.WEBM and not clear else 1)
    if kind is ClipFormat.WEBP:
        held += facts.frames * (2 if rendition.quality <= 90 else 4)
    return held * width * height


class _Video:
    """A video or an animated picture, encoded by FFmpeg. It reads our own pixels only."""

    def __init__(
        self,
        kind: ClipFormat,
        rendition: Rendition,
        facts: ClipFacts,
        size: tuple[int, int],
        target: Path,
        threads: int,
        first: int,
    ) -> None:
        import av
        from av.video.stream import VideoStream

        self._av = av
        self._kind, self._quality, self._first = kind, rendition.quality, first
        self._even = kind in (ClipFormat.MP4, ClipFormat.STACKED)
        self._codec = _CODECS[kind]
        muxer, options = MUXERS[kind]
        self._container = av.open(str(target), "w", format=muxer, options=options)
        stream = self._container.add_stream(
            self._codec.name,
            rate=FRAME_RATE_HINT,
            options={**self._codec.options, **_quality(kind, rendition.quality)},
        )
        assert isinstance(stream, VideoStream)
        self._stream = stream
        width, height = size
        if self._even:
            width, height = width + width % 2, height + height % 2
        self.size = width, 2 * height if kind is ClipFormat.STACKED else height
        self._ticks = Ticks(kind, facts, first)
        context = stream.codec_context
        context.width, context.height = self.size
        context.time_base = stream.time_base = self._ticks.base
        if kind is not ClipFormat.PRORES:
            rate = facts.frames / max(facts.seconds, 1e-3)
            context.gop_size = max(1, min(300, round(rate * KEY_FRAME_EVERY_S)))
        context.thread_count = threads
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = LIMITED
        self._opened = False
        self._target = target
        self._durations: dict[int, int] = {}
        self._clear = False
        self._begin: Image | None = None
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()

    def write(self, pixels: Image, number: int) -> None:
        """Write a frame."""
        frame = self._frame(pixels)
        if not self._opened:
            self._stream.codec_context.pix_fmt = frame.format.name
            self._opened = True
            self._begin = pixels if self._kind is ClipFormat.WEBP else None
        frame.pts, frame.duration = self._ticks.of(number)
        frame.time_base = self._ticks.base
        self._durations[frame.pts] = frame.duration
        try:
            self._mux(self._stream.encode(frame))
        except self._av.error.FFmpegError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Complete the file."""
        try:
            self._mux(self._stream.encode(None))
            self._container.close()
        except self._av.error.FFmpegError as error:
            raise self._failed(error) from error
        if self._kind is ClipFormat.WEBP:
            if self._first and self._begin is not None:
                make_independent(self._target, self._begin, self._quality)
            set_duration(self._target, self._ticks.end)
            if self._clear:
                set_transparent(self._target)

    def abandon(self) -> None:
        """Close the file, which stays incomplete."""
        try:
            self._container.close()
        except self._av.error.FFmpegError:
            return

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            # Encoders that reorder frames lose their durations.
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._container.mux(packet)

    def _failed(self, error: Exception) -> Exception:
        if is_disk_full(error):
            return OSError(errno.ENOSPC, "The disk is full")
        return EncodingFailedError(f"The clip can't be encoded as {self._kind}: {error}")

    def _frame(self, pixels: Image) -> Any:
        if pixels.ndim == 2:
            pixels = cv2.merge([pixels] * 3).astype(np.uint8, copy=False)
        if self._kind is ClipFormat.STACKED:
            pixels = _stacked(pixels)
        elif self._even:
            pixels = _padded(pixels)
        clear = self._clear = pixels.shape[2] == 4
        layout = self._codec.layout if clear else self._codec.opaque
        source = self._av.VideoFrame.from_ndarray(
            np.ascontiguousarray(pixels), format="rgba" if clear else "rgb24"
        )
        if layout == source.format.name:
            return source
        if layout == "bgra":
            return self._reformatter.reformat(source, format=layout)
        frame = self._reformatter.reformat(
            source,
            format=layout,
            dst_colorspace=BT709,
            src_color_range=2,
            dst_color_range=LIMITED,
        )
        frame.color_primaries = frame.color_trc = frame.colorspace = BT709
        frame.color_range = LIMITED
        return frame


def _quality(kind: ClipFormat, quality: int) -> dict[str, str]:
    """The encoder's own scale for a quality of 1 to 100."""
    if kind is ClipFormat.WEBM:
        return {"crf": str(round(63 - 0.43 * quality))}
    if kind in (ClipFormat.MP4, ClipFormat.STACKED):
        return {"crf": str(round(51 - 0.37 * quality))}
    if kind is ClipFormat.WEBP:
        return {"quality": str(quality)}
    return {}


def _stacked(pixels: Image) -> Image:
    """Colours [H, W, 3] above, the matte as grey below, both of an even size."""
    colours = _padded(np.ascontiguousarray(pixels[..., :3]))
    grey = cv2.merge([_padded(np.ascontiguousarray(pixels[..., 3]))] * 3)
    return np.concatenate([colours, grey.astype(np.uint8, copy=False)])


def _padded(pixels: Image) -> Image:
    """The pixels with even sides: H.264 halves the resolution of colours."""
    height, width = pixels.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return pixels
    return cv2.copyMakeBorder(pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE).astype(
        np.uint8, copy=False
    )
