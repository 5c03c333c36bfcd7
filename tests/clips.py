"""Clips for the tests: small ones that the tests encode, and readers of the results."""

import shutil
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from shared.options import Profile
from worker.imaging.arrays import Alpha, Image
from worker.imaging.prepared import PreparedImage
from worker.video.facts import ClipFacts
from worker.video.join import MattesFile
from worker.video.parts import Part

TICK = Fraction(1, 600)
X265 = {"x265-params": "log-level=none:bframes=0"}
"""Options of libx265. Without B-frames, times of decoding are those of display. The muxer once
refused one of a film of two frames.
"""
GROUND, SUBJECT = (40, 40, 40), (230, 200, 60)


def moving_square(count: int = 10, size: tuple[int, int] = (96, 64)) -> list[Image]:
    """Frames (width, height) of a bright square that moves 2 pixels a frame over a dark ground."""
    frames = []
    for number in range(count):
        frame = np.full((size[1], size[0], 3), GROUND, np.uint8)
        cv2.rectangle(frame, (20 + 2 * number, 16), (51 + 2 * number, 47), SUBJECT, -1)
        frames.append(frame)
    return frames


def uneven(count: int) -> list[int]:
    """Times of frames at a variable rate, in TICKs; one more for the end."""
    times = [0]
    for number in range(count):
        times.append(times[-1] + (20, 30, 50)[number % 3])
    return times


def facts_of(frames: int, size: tuple[int, int], per_s: int) -> ClipFacts:
    """The facts of an MP4 (width, height) with so many frames a second and one key frame."""
    return ClipFacts(
        container="MP4",
        codec="h264",
        width=size[0],
        height=size[1],
        bytes=1,
        time_base=(1, per_s),
        times=tuple(range(frames)),
        end=frames,
        key_frames=(0,),
        audio=None,
        has_alpha=False,
    )


def write(
    path: Path,
    frames: Sequence[NDArray[np.uint8]],
    times: Sequence[int] | None = None,
    *,
    codec: str = "libx264",
    layout: str = "yuv420p",
    sound: str | None = None,
    silent_s: float = 0,
    options: dict[str, str] | None = None,
    encoder: dict[str, str] | None = None,
    matrix: int | None = None,
    primaries: int | None = None,
    full_range: bool = False,
    rotation: int = 0,
    aspect: Fraction | None = None,
    key_every: int = 4,
) -> Path:
    """Encode frames [H, W, 3] RGB or [H, W, 4] RGBA at `times` (in TICKs, one more than frames)."""
    shown = times or [20 * number for number in range(len(frames) + 1)]
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=30, options=encoder or {})
        assert isinstance(video, VideoStream)
        context = video.codec_context
        context.width, context.height = frames[0].shape[1], frames[0].shape[0]
        context.pix_fmt, context.time_base, context.gop_size = layout, TICK, key_every
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if matrix is not None:
            context.colorspace = context.color_primaries = context.color_trc = matrix
        if primaries is not None:
            context.color_primaries, context.color_trc = primaries, 1
        context.color_range = 2 if full_range else 1
        if rotation:
            video.set_display_rotation(rotation)
        audio = container.add_stream(sound, rate=48_000, layout="stereo") if sound else None
        converter = VideoReformatter()
        for number, pixels in enumerate(frames):
            frame = VideoFrame.from_ndarray(pixels, "rgba" if pixels.shape[2] == 4 else "rgb24")
            frame = converter.reformat(
                frame,
                format=layout,
                dst_colorspace=matrix,
                src_color_range=2,
                dst_color_range=2 if full_range else 1,
            )
            frame.pts, frame.time_base = shown[number], TICK
            frame.duration = shown[number + 1] - shown[number]
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            assert isinstance(audio, AudioStream)
            write_tone(container, audio, float(shown[-1] * TICK), silent_s)
    return path


def write_tone(container: Any, audio: AudioStream, seconds: float, silent_s: float = 0) -> None:
    """A tone that begins after `silent_s`."""
    rate, step = 48_000, 960
    for start in range(0, int(seconds * rate), step):
        wave = np.sin((start + np.arange(step)) * 2 * np.pi * 440 / rate) * 8_000
        wave[start + np.arange(step) < silent_s * rate] = 0
        frame = AudioFrame.from_ndarray(
            np.repeat(wave.astype(np.int16), 2)[None], format="s16", layout="stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


def read(path: Path, decoder: str | None = None) -> tuple[list[Image], list[Fraction], Fraction]:
    """The frames (RGBA if the decoder gives alpha), their times [s] and the end [s]."""
    frames: list[Image] = []
    times: list[Fraction] = []
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        base = video.time_base
        assert base is not None
        context: Any = video.codec_context
        if decoder is not None:
            context = av.CodecContext.create(decoder, "r")
        end = Fraction(0)
        for packet in container.demux(video):
            if packet.size and packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * base)
            for frame in context.decode(packet if packet.size else None):
                clear = any(part.is_alpha for part in frame.format.components)
                frames.append(
                    VideoReformatter()
                    .reformat(
                        frame,
                        format="rgba" if clear else "rgb24",
                        src_colorspace=frame.colorspace,
                        src_color_range=frame.color_range,
                        dst_color_range=2,
                    )
                    .to_ndarray()
                    .astype(np.uint8)
                )
                times.append(frame.pts * base)
    return frames, times, end


class BrightIsSubject:
    """Stands for a network: what is bright is the subject. It keeps the size of the frame."""

    batch_sizes = (1, 2)
    streams = 1

    def prepare(self, image: Image, _profile: Profile) -> PreparedImage:
        return PreparedImage(image, (("resize", image.shape[:2]),))

    def predict_many(self, prepared: Sequence[PreparedImage]) -> list[Alpha]:
        red = [one.image[..., 0] / np.float32(127.5) - 1 for one in prepared]
        return [np.clip(one * 2 + 0.5, 0, 1).astype(np.float32) for one in red]


class NoisyEdges(BrightIsSubject):
    """Finds soft edges that flicker: each frame has other noise, which its own pixels decide."""

    def predict_many(self, prepared: Sequence[PreparedImage]) -> list[Alpha]:
        found = []
        for one, sharp in zip(prepared, super().predict_many(prepared), strict=True):
            soft = cv2.GaussianBlur(sharp, (0, 0), 3)
            seed = zlib.crc32(one.image.tobytes())
            noise = np.random.default_rng(seed).normal(0, 0.2, soft.shape)
            unsure = (soft > 0.05) & (soft < 0.95)
            found.append(np.clip(soft + noise * unsure, 0, 1).astype(np.float32))
        return found


class KeptSegment(MattesFile):
    """A segment whose part is kept in a folder."""

    def fetch_part(self, mark: str, folder: Path) -> bool:
        """Copy the part."""
        kept = self.mattes().with_suffix(f".{mark}")
        if not kept.exists():
            return False
        shutil.copytree(kept, folder)
        return True

    def keep_part(self, mark: str, part: Part) -> None:
        """Copy the part."""
        part.write_index()
        shutil.copytree(part.folder, self.mattes().with_suffix(f".{mark}"))
