"""Clips that are odd, and not damaged on purpose: each is cut out right, or says what is wrong."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import PIL.Image
import pytest

from shared.errors import ClipError, NoVideoStreamError, TruncatedClipError
from shared.options import Options
from shared.settings import Settings
from tests import clips
from tests.clips import SUBJECT, X265, BrightIsSubject, moving_square, write
from worker.inference.predictor import Predictor
from worker.video.clip import cut_out_clip
from worker.video.completing import ClipResult
from worker.video.quarantine import ClipProcess

FORMATS: list[dict[str, Any]] = [
    {"clip_format": "prores"},
    {"background": "#ffffff"},
    {"clip_format": "stacked"},
    {"clip_format": "webp"},
    {"clip_format": "frames"},
]
"""Beside WebM."""


def cut(path: Path, folder: Path) -> ClipResult:
    """The clip in all formats."""
    named = [{"name": f"{number}.{{ext}}", **one} for number, one in enumerate(FORMATS)]
    options = Options.model_validate({"extra_outputs": named})
    settings = Settings(log_level="ERROR", codec_threads=1)
    return cut_out_clip(path, cast(Predictor, BrightIsSubject()), options, settings, folder)


def shapes(result: ClipResult) -> dict[str, tuple[int, ...]]:
    """Of the films: frames, height and width."""
    found = {}
    for name, file in zip(("webm", "prores", "mp4", "stacked"), result.files[:4], strict=True):
        frames, _, _ = clips.read(file.path, "libvpx-vp9" if name == "webm" else None)
        found[name] = len(frames), *frames[0].shape[:2]
    return found


def gif(path: Path) -> Path:
    PIL.Image.fromarray(moving_square(1)[0]).save(path)
    return path


@pytest.mark.parametrize("name", ["one.mp4", "one.webm", "one.gif"])
def test_a_clip_of_one_frame_is_cut_out_in_every_format(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("gif"):
        gif(path)
    else:
        codec = "libx264" if name.endswith("mp4") else "libvpx-vp9"
        write(path, moving_square(1), codec=codec)
    result = cut(path, tmp_path / "out")
    assert result.frames == 1
    assert set(shapes(result).values()) == {(1, 64, 96), (1, 128, 96)}
    with PIL.Image.open(result.files[4].path) as picture:
        assert picture.convert("RGBA").getchannel("A").getpixel((36, 32)) == 255


def test_odd_sides_are_kept_or_one_is_added_after_turning(tmp_path: Path) -> None:
    frames = [np.ascontiguousarray(frame[:63, :95]) for frame in moving_square(2)]
    path = write(tmp_path / "odd.mp4", frames, layout="yuv444p", rotation=90)
    assert shapes(cut(path, tmp_path / "out")) == {
        "webm": (2, 95, 63),
        "prores": (2, 95, 63),
        "mp4": (2, 96, 64),  # its colours have half the resolution
        "stacked": (2, 192, 64),
    }


def with_equal_times(path: Path) -> None:
    """Let the third frame of an MP4 have the time of the second (ISO 14496-12, 8.6.1.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"stts") + 8
    [count] = struct.unpack(">I", data[at : at + 4])
    assert count > 2, "each frame has its own length"
    data[at + 16 : at + 20] = bytes(4)
    path.write_bytes(data)


def test_of_frames_with_the_same_time_the_first_is_kept(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.mp4", moving_square(6), [0, 20, 50, 70, 100, 120, 140], encoder={"bf": "0"}
    )
    with_equal_times(path)
    result = cut(path, tmp_path / "out")
    assert result.frames == 5
    frames, times, end = clips.read(result.files[0].path, "libvpx-vp9")
    assert len(frames) == len(set(times)) == 5
    lefts = [int(np.nonzero(one[..., 3][32] > 127)[0][0]) for one in frames]
    assert lefts == pytest.approx([20, 22, 26, 28, 30], abs=1)
    assert float(end) == pytest.approx((140 - 30) / 600, abs=0.002)


@pytest.mark.parametrize(
    ("name", "codec", "layout"),
    [
        ("a.mp4", "libx264", "yuv420p10le"),
        ("b.mkv", "libx265", "yuv422p10le"),
        ("c.mkv", "ffv1", "gbrp16le"),
    ],
)
def test_deep_colours_are_those_that_were_meant(
    name: str, codec: str, layout: str, tmp_path: Path
) -> None:
    encoder = X265 if codec == "libx265" else {}
    path = write(tmp_path / name, moving_square(2), codec=codec, layout=layout, encoder=encoder)
    first = clips.read(cut(path, tmp_path / "out").files[1].path)[0][0]
    assert np.abs(first[32, 36, :3].astype(int) - SUBJECT).max() <= 5
    assert (first[32, 36, 3], first[5, 5, 3]) == (255, 0)


def test_a_length_that_the_container_makes_up_does_not_count(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving_square(3))
    data = bytearray(path.read_bytes())
    at = data.index(b"mvhd") + 20  # ISO 14496-12, 8.2.2
    data[at : at + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(data)
    result = cut(path, tmp_path / "out")
    assert result.frames == 3
    assert result.seconds == pytest.approx(0.1)


def test_of_many_streams_the_first_picture_and_sound_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "many.mkv"
    with av.open(str(path), "w") as container:
        films: list[Any] = [container.add_stream("libx264", rate=25) for _ in range(3)]
        for number, film in enumerate(films):
            film.width, film.height, film.pix_fmt = 96, 64 * (1 + number), "yuv420p"
        sounds = [container.add_stream("aac", rate=48_000, layout="stereo") for _ in range(9)]
        for time, pixels in enumerate(moving_square(4)):
            for number, film in enumerate(films):
                higher = np.concatenate([pixels] * (1 + number))
                frame = av.VideoFrame.from_ndarray(higher, "rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 25)
                container.mux(film.encode(frame))
        for film in films:
            container.mux(film.encode(None))
        for sound in sounds:
            clips.write_tone(container, cast(Any, sound), 0.16)
    result = cut(path, tmp_path / "out")
    assert set(shapes(result).values()) == {(4, 64, 96), (4, 128, 96)}
    with av.open(str(result.files[2].path)) as made:
        assert (len(made.streams.video), len(made.streams.audio)) == (1, 1)


@pytest.mark.parametrize(("layout", "red", "green"), [("rgb555be", 10, 5), ("rgb565be", 11, 5)])
def test_raw_quicktime_films_of_thousands_of_colours_keep_them(
    layout: str, red: int, green: int, tmp_path: Path
) -> None:
    shown = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (41, 214, 90)]
    left_out = 8 - (red - green)  # bits of green
    words = [r >> 3 << red | g >> left_out << green | b >> 3 for r, g, b in shown]
    frame = av.VideoFrame(64, len(shown), layout)
    plane = frame.planes[0]
    row = np.zeros((len(shown), plane.line_size // 2), ">u2")
    row[:] = np.array(words)[:, None]
    plane.update(row.tobytes())
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    path = tmp_path / "raw.mov"
    with av.open(str(path), "w") as container:
        film: Any = container.add_stream("rawvideo", rate=25)
        film.width, film.height, film.pix_fmt = 64, len(shown), layout
        container.mux(film.encode(frame))
    settings = Settings(log_level="ERROR", codec_threads=1)
    with ClipProcess(path, settings) as clip:
        [(_, pixels)] = clip.frames(clip.facts(), 0, 1)
    assert np.abs(pixels[:, 30].astype(int) - shown).max() <= 8


def no_frame(path: Path, codec: str) -> None:
    with av.open(str(path), "w") as container:
        film: Any = container.add_stream(codec, rate=25)
        film.width, film.height, film.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()


def cover_of_an_album(path: Path) -> None:
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=48_000, layout="stereo")
        cover: Any = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(moving_square(1)[0], "rgb24").reformat(format="yuvj420p")
        frame.pts = 0
        container.mux(cover.encode(frame))
        container.mux(cover.encode(None))
        clips.write_tone(container, cast(Any, sound), 0.2)


def bytes_of_a_gif_without_pictures(path: Path) -> None:
    path.write_bytes(b"GIF89a" + struct.pack("<HHBBB", 96, 64, 0, 0, 0) + b";")


def cut_within_its_index(path: Path, behind: int) -> None:
    data = write(path, moving_square(3), sound="aac").read_bytes()
    path.write_bytes(data[: data.index(b"moov") + behind])


@pytest.mark.parametrize(
    ("name", "make", "error", "said"),
    [
        ("a.mp4", lambda path: no_frame(path, "libx264"), NoVideoStreamError, ""),
        ("a.webm", lambda path: no_frame(path, "libvpx-vp9"), TruncatedClipError, "opened"),
        ("a.gif", bytes_of_a_gif_without_pictures, TruncatedClipError, "0.00 s"),
        ("a.mp4", cover_of_an_album, NoVideoStreamError, ""),
        # within the first track's facts, and within its list of codecs
        ("a.mp4", lambda path: cut_within_its_index(path, 100), TruncatedClipError, "cut_off"),
        ("a.mp4", lambda path: cut_within_its_index(path, 396), TruncatedClipError, "cut_off"),
    ],
)
def test_a_clip_without_a_frame_says_why(
    name: str,
    make: Callable[[Path], None],
    error: type[ClipError],
    said: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(error) as raised:
        cut(path, tmp_path / "out")
    assert said in raised.value.message
