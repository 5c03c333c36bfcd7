"""Clips: what is read, what is written, checked frame by frame with an independent reader."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import PIL.Image
import pytest
from av.audio.frame import AudioFrame

from shared.errors import (
    ClipError,
    ClipTooLargeError,
    ClipTooLongError,
    ClipTooManyPixelsError,
    EncryptedClipError,
    NotAClipError,
    NoVideoStreamError,
    OutputTooLargeError,
    TruncatedClipError,
)
from shared.jobs import Reason
from shared.options import Options
from shared.settings import Settings
from tests import clips
from tests.clips import (
    SUBJECT,
    TICK,
    BrightIsSubject,
    KeptSegment,
    moving_square,
    uneven,
    write,
)
from worker.inference.predictor import Predictor
from worker.video import mattes as mattes_module
from worker.video import writing
from worker.video.clip import cut_out_clip
from worker.video.completing import ClipFile, ClipResult
from worker.video.container import Limits, read_facts
from worker.video.encoders import MAX_ENCODERS_BYTES, encoder_bytes, encoder_for
from worker.video.facts import ClipFacts
from worker.video.frames import FrameReader
from worker.video.join import MattesFile, join, make_part
from worker.video.mattes import Mattes, MattesWriter, matte_segment
from worker.video.options import without_effect
from worker.video.probe import probe
from worker.video.quarantine import ClipProcess
from worker.video.segments import Segment, segments
from worker.video.sound import add_sound

PREDICTOR = cast(Predictor, BrightIsSubject())
COUNT = 10


@pytest.fixture
def settings() -> Settings:
    return Settings(log_level="ERROR", codec_threads=1)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with a variable frame rate and sound."""
    folder = tmp_path_factory.mktemp("clips")
    return write(folder / "clip.mp4", moving_square(COUNT), uneven(COUNT), sound="aac")


@pytest.fixture
def clip(source: Path, settings: Settings) -> Iterator[ClipProcess]:
    with ClipProcess(source, settings) as process:
        yield process


Cut = Callable[..., ClipResult]
Files = dict[str, ClipFile]


@pytest.fixture(scope="session", params=["whole", "in parts"])
def result(
    source: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> ClipResult:
    """The clip in all formats, from one reading, or joined from parts that are kept."""
    extras: list[dict[str, Any]] = [
        {"clip_format": "prores"},
        {"background": "#ffffff"},
        {"clip_format": "stacked"},
        {"clip_format": "webp"},
        {"clip_format": "frames"},
        {"output": "alpha"},
    ]
    named = [{"name": f"{number}.{{ext}}", **one} for number, one in enumerate(extras)]
    options = Options.model_validate({"extra_outputs": named})
    own = Settings(log_level="ERROR", codec_threads=1)
    out = tmp_path_factory.mktemp("cut")
    if request.param == "whole":
        return cut_out_clip(source, PREDICTOR, options, own, out)
    facts, kept = facts_of(source), []
    with ClipProcess(source, own) as clip:
        for number, segment in enumerate(segments(facts, 5)):
            mattes, made = out / f"{number}.zip", out / f"made-{number}"
            matte_segment(clip, facts, segment, PREDICTOR, options, own, mattes)
            with_threads = own.model_copy(update={"codec_threads": 1 + number})
            mark, part = make_part(clip, facts, mattes, options, with_threads, made)
            kept.append(KeptSegment(mattes))
            kept[-1].keep_part(mark, part)
            mattes.write_bytes(b"")  # the join needs the parts only
        return join(clip, facts, kept, options, own, out / "joined")


@pytest.fixture(scope="session")
def files(result: ClipResult) -> Files:
    names = ("webm", "prores", "mp4", "stacked", "webp", "frames", "alpha")
    return dict(zip(names, result.files, strict=True))


@pytest.fixture
def cut(source: Path, settings: Settings, tmp_path: Path) -> Cut:
    def run(path: Path | None = None, **options: Any) -> ClipResult:
        chosen = Options.model_validate(options)
        return cut_out_clip(path or source, PREDICTOR, chosen, settings, tmp_path / "out")

    return run


def facts_of(path: Path, *, keep_whole: bool = False, **limits: float) -> ClipFacts:
    """The facts, read in this process: the clip is our own."""
    given = {"max_bytes": 10**9, "max_s": 60, "max_frames": 1_000, "max_pixels": 10**6, **limits}
    return read_facts(path, Limits(**cast(Any, given)), keep_whole=keep_whole)


def pixels_of(path: Path) -> tuple[ClipFacts, list[np.ndarray[Any, Any]]]:
    facts = facts_of(path)
    reader = FrameReader(path, facts, threads=1, max_pixels=10**6, keep_whole=False)
    return facts, [pixels for _, pixels in reader.read(0, facts.frames)]


def expected_times(count: int = COUNT) -> list[Fraction]:
    return [tick * TICK for tick in uneven(count)]


def square_of(alpha: np.ndarray[Any, Any]) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(alpha > 127)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def assert_in_step(alphas: list[np.ndarray[Any, Any]], tolerance: int = 1) -> None:
    """Each frame's matte shows the square where it is in that frame."""
    for number, alpha in enumerate(alphas):
        wanted = (20 + 2 * number, 16, 52 + 2 * number, 48)
        found = square_of(alpha)
        assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= tolerance, number


def test_the_container_tells_everything_before_decoding(source: Path, settings: Settings) -> None:
    facts = probe(source, settings)
    assert (facts.width, facts.height, facts.frames, facts.audio) == (96, 64, COUNT, "aac")
    assert [facts.time_s(number) for number in range(COUNT + 1)] == [
        float(time) for time in expected_times()
    ]
    assert facts.key_frames == (0, 4, 8)
    assert facts.whole
    assert ClipFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"max_bytes": 1_000}, ClipTooLargeError),
        ({"max_s": 0.4}, ClipTooLongError),
        ({"max_frames": 9}, ClipTooLongError),
        ({"max_pixels": 6_000}, ClipTooManyPixelsError),
    ],
)
def test_a_clip_beyond_a_limit_is_refused(
    source: Path, changed: dict[str, Any], error: type[ClipError]
) -> None:
    with pytest.raises(error):
        facts_of(source, **changed)


def test_bad_files_have_codes(tmp_path: Path) -> None:
    text, sound = tmp_path / "a.mp4", tmp_path / "sound.mp4"
    text.write_bytes(b"#EXTM3U\nfile:///etc/passwd\n" * 40)
    with pytest.raises(NotAClipError):
        facts_of(text)
    with av.open(str(sound), "w") as container:
        audio = container.add_stream("aac", rate=48_000, layout="stereo")
        clips.write_tone(container, cast(Any, audio), 0.2)
    with pytest.raises(NoVideoStreamError):
        facts_of(sound)
    secret = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    with pytest.raises(EncryptedClipError):
        facts_of(write(tmp_path / "drm.mp4", moving_square(4), options=secret))


def test_a_cut_off_clip_is_refused_or_its_whole_frames_are_kept(tmp_path: Path, cut: Cut) -> None:
    noise = np.random.default_rng(0)
    frames = [noise.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(8)]
    first_index = {"movflags": "+faststart"}
    whole = write(tmp_path / "whole.mp4", frames, options=first_index, key_every=1)
    data = whole.read_bytes()
    short = tmp_path / "short.mp4"
    short.write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(TruncatedClipError):
        facts_of(short)
    result = cut(short, clip_cut_off="keep", background="white")
    assert 2 <= result.frames < 8
    assert not result.whole
    assert len(clips.read(result.files[0].path)[0]) == result.frames
    index_at = data.index(b"mdat") - 4  # the rest is what a camera writes first
    short.write_bytes(data[: data.index(b"moov") - 4] + data[index_at:])
    with pytest.raises(TruncatedClipError, match="no frame can be found"):
        cut(short, clip_cut_off="keep", background="white")


def test_webm_has_alpha_exact_times_and_sound(files: Files) -> None:
    file = files["webm"]
    assert facts_of(file.path).has_alpha
    alpha_mode = b"\x53\xc0\x81\x01"  # without this element, browsers show no transparency
    assert alpha_mode in file.path.read_bytes()
    frames, times, end = clips.read(file.path, "libvpx-vp9")
    assert file.sound == "coded"
    off = [abs(a - b) for a, b in zip([*times, end], expected_times(), strict=True)]
    assert max(off) <= Fraction(1, 2_000)  # WebM counts milliseconds
    assert_in_step([frame[..., 3] for frame in frames])
    middle = frames[5][32, 46]
    assert np.abs(middle[:3].astype(int) - SUBJECT).max() <= 6
    with av.open(str(file.path)) as container:
        assert container.streams.audio[0].codec_context.name == "opus"
        seconds = sum(frame.samples for frame in container.decode(audio=0)) / 48_000
    assert abs(seconds - float(expected_times()[-1])) < 0.1


def test_prores_keeps_the_clip_s_own_ticks(files: Files) -> None:
    file = files["prores"]
    frames, times, end = clips.read(file.path)
    assert (file.sound, file.path.suffix) == ("copied", ".mov")
    assert b"ap4h" in file.path.read_bytes(), "programs take another tag for ProRes without alpha"
    assert [*times, end] == expected_times()
    assert_in_step([frame[..., 3] for frame in frames])


def test_mp4_is_on_its_background(files: Files) -> None:
    file = files["mp4"]
    frames, times, end = clips.read(file.path)
    assert (file.path.suffix, file.sound) == (".mp4", "copied")
    assert [*times, end] == expected_times()
    for number, frame in enumerate(frames):
        assert np.abs(frame[32, 36 + 2 * number].astype(int) - SUBJECT).max() <= 8
        assert frame[4:12, 4:12].min() >= 250


def test_stacked_has_colours_above_and_the_matte_below(files: Files) -> None:
    file = files["stacked"]
    frames, times, _ = clips.read(file.path)
    assert (file.width, file.height) == (96, 128)
    assert times == expected_times()[:-1]
    assert_in_step([frame[64:, :, 0] for frame in frames])
    assert np.abs(frames[5][32, 46].astype(int) - SUBJECT).max() <= 8


def test_animated_webp_is_read_by_pillow(files: Files) -> None:
    file = files["webp"]
    alphas, shown = [], []
    with PIL.Image.open(file.path) as picture:
        assert getattr(picture, "n_frames", 1) == COUNT
        for number in range(COUNT):
            picture.seek(number)
            picture.load()
            alphas.append(np.asarray(picture.convert("RGBA"))[..., 3])
            shown.append(picture.info["duration"])
    assert_in_step(alphas)
    starts = expected_times()
    for number, duration in enumerate(shown):
        assert abs(duration - 1000 * float(starts[number + 1] - starts[number])) <= 1


def test_frames_are_pngs_with_their_times(files: Files) -> None:
    file = files["frames"]
    with zipfile.ZipFile(file.path) as archive:
        listed = json.loads(archive.read("frames.json"))["frames"]
        alphas = [
            np.asarray(PIL.Image.open(io.BytesIO(archive.read(one["file"]))))[..., 3]
            for one in listed
        ]
    assert [one["time_s"] for one in listed] == pytest.approx(
        [float(time) for time in expected_times()[:-1]]
    )
    assert_in_step(alphas)


def test_alpha_alone_is_grey(files: Files) -> None:
    frames, _, _ = clips.read(files["alpha"].path)
    assert_in_step([frame[..., 0] for frame in frames])
    assert frames[0][2, 2].max() <= 3
    assert frames[0][32, 36].min() >= 252


def test_a_crop_is_one_steady_frame(cut: Cut) -> None:
    """The square moves through the crop; nothing else does."""
    file = cut(crop=True, clip_format="frames").files[0]
    assert abs(file.width - (32 + 2 * (COUNT - 1))) <= 6
    assert abs(file.height - 32) <= 2
    with zipfile.ZipFile(file.path) as archive:
        lefts = [
            square_of(np.asarray(PIL.Image.open(io.BytesIO(archive.read(name))))[..., 3])[0]
            for name in sorted(archive.namelist())
            if name.endswith(".png")
        ]
    assert [b - a for a, b in pairwise(lefts)] == [2] * (COUNT - 1)


@pytest.mark.parametrize("in_parts", [False, True])
def test_a_shadow_does_not_move_when_the_subject_only_widens(
    in_parts: bool, settings: Settings, tmp_path: Path
) -> None:
    frames = []
    for number in range(6):
        frame = np.full((80, 160, 3), clips.GROUND, np.uint8)
        frame[16:48, 20 : 52 + 12 * number] = SUBJECT
        frames.append(frame)
    path = write(tmp_path / "wider.mp4", frames, encoder={"crf": "0"})
    shadow = {"kind": "drop", "dx": 0.0, "dy": 0.2, "blur": 0.0, "opacity": 1.0}
    options = Options.model_validate({"clip_format": "frames", "shadow": shadow})
    if in_parts:
        facts, parts = facts_of(path), []
        with ClipProcess(path, settings) as clip:
            for number, segment in enumerate(segments(facts, 3)):
                parts.append(MattesFile(tmp_path / f"{number}.zip"))
                target = parts[-1].mattes()
                matte_segment(clip, facts, segment, PREDICTOR, options, settings, target)
            result = join(clip, facts, parts, options, settings, tmp_path / "out")
    else:
        result = cut_out_clip(path, PREDICTOR, options, settings, tmp_path / "out")
    lower = []
    with zipfile.ZipFile(result.files[0].path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".png"):
                pixels = np.asarray(PIL.Image.open(io.BytesIO(archive.read(name))))
                lower.append(square_of(pixels[..., 3])[3])
    assert len(set(lower)) == 1, lower
    assert lower[0] > 50, "the shadow lies below the subject"


def test_options_that_clips_do_not_have_are_named() -> None:
    extra = {"name": "a.{ext}", "max_bytes": 20_000, "format": "webp"}
    given = {"second_model": "u2netp", "group_by": "folder", "extra_outputs": [extra]}
    asked = Options.model_validate(given)
    assert without_effect(asked) == ["max_bytes", "second_model", "group_by"]
    assert without_effect(Options(second_model="none", quality=50, crop=True)) == []


def test_a_clip_has_a_poster_and_a_strip(result: ClipResult) -> None:
    poster = PIL.Image.open(io.BytesIO(result.poster))
    strip = PIL.Image.open(io.BytesIO(result.strip))
    assert poster.size == (96, 64)
    assert strip.size == (96 * COUNT, 64)
    assert len(result.strip_layout["times_s"]) == COUNT


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_clips_come_out_upright(rotation: int, tmp_path: Path) -> None:
    frames = moving_square(2)
    turned = [np.ascontiguousarray(np.rot90(frame, -rotation // 90)) for frame in frames]
    path = write(tmp_path / "turned.mp4", turned, rotation=rotation)
    facts, read = pixels_of(path)
    assert (facts.width, facts.height) == (96, 64)
    for pixels, frame in zip(read, frames, strict=True):
        apart = np.abs(pixels.astype(int) - frame)
        assert np.median(apart.max(-1)) <= 4
        assert apart.mean() < 4


def test_mirrored_clips_come_out_as_they_are_shown(tmp_path: Path) -> None:
    frames = moving_square(2)
    path = write(tmp_path / "mirrored.mp4", [np.ascontiguousarray(one[:, ::-1]) for one in frames])
    data = bytearray(path.read_bytes())
    matrix_at = data.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2
    data[matrix_at : matrix_at + 4] = (-65_536).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    _, read = pixels_of(path)
    assert np.abs(read[0].astype(int) - frames[0]).mean() < 4


@pytest.mark.parametrize(
    ("source_name", "codec", "target", "how"),
    [
        ("a.mkv", "aac", "b.mp4", "copied"),
        ("a.mkv", "libopus", "b.webm", "copied"),
        ("a.mkv", "pcm_s16le", "b.mov", "copied"),
        ("a.mkv", "pcm_s16le", "b.mp4", "coded"),
        ("a.mkv", "aac", "b.webm", "coded"),
    ],
)
def test_sound_stays_in_step_with_the_picture(
    source_name: str, codec: str, target: str, how: str, tmp_path: Path
) -> None:
    """The clip's first frame comes 0.2 s after its sound begins; the result begins with it."""
    times = [120 + tick for tick in uneven(20)]
    video = "libx264" if codec == "aac" else "libvpx-vp9"
    path = write(
        tmp_path / source_name, moving_square(20), times, codec=video, sound=codec, silent_s=0.5
    )
    pictures = write(
        tmp_path / f"pictures{Path(target).suffix}",
        moving_square(20),
        uneven(20),
        codec="libvpx-vp9" if target.endswith("webm") else "libx264",
    )
    assert add_sound(path, pictures, tmp_path / target, facts_of(path)) == how
    assert abs(loud_from_s(tmp_path / target) - 0.3) < 0.04
    assert clips.read(tmp_path / target)[1][0] == 0


def test_the_sound_of_a_cut_off_clip_ends_with_its_pictures(source: Path, tmp_path: Path) -> None:
    pictures = write(tmp_path / "pictures.mp4", moving_square(4), uneven(4))
    target = tmp_path / "b.mp4"
    add_sound(source, pictures, target, facts_of(source), 0.2)
    with av.open(str(target)) as container:
        sound = container.streams.audio[0]
        assert sound.duration is not None
        assert sound.time_base is not None
        assert float(sound.duration * sound.time_base) < 0.25


def loud_from_s(path: Path) -> float:
    """When the sound of a clip begins to be heard."""
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[0]):
            assert isinstance(frame, AudioFrame)
            data = np.asarray(frame.to_ndarray(), np.float64).reshape(-1)
            samples = data[:: 1 if frame.format.is_planar else 2][: frame.samples]
            loud = np.abs(samples) > (1_600 if frame.format.name.startswith("s16") else 0.05)
            if loud.any():
                return (frame.time or 0.0) + int(np.argmax(loud)) / frame.sample_rate
    raise AssertionError("it is silent")


@pytest.mark.parametrize(
    ("matrix", "full_range", "layout"),
    [(1, False, "yuv420p"), (6, False, "yuv420p"), (1, True, "yuv420p"), (6, True, "yuv444p")],
)
def test_colours_are_right_in_every_matrix_and_range(
    matrix: int, full_range: bool, layout: str, tmp_path: Path
) -> None:
    shown = np.zeros((64, 96, 3), np.uint8)
    shown[:, :48], shown[:, 48:] = (200, 60, 40), (30, 90, 220)
    path = write(
        tmp_path / "colours.mp4",
        [shown] * 2,
        matrix=matrix,
        full_range=full_range,
        layout=layout,
        encoder={"crf": "4"},
    )
    _, (pixels, _) = pixels_of(path)
    for column in (20, 76):
        assert np.abs(pixels[30, column].astype(int) - shown[30, column]).max() <= 4


@pytest.mark.parametrize(
    ("matrix", "primaries", "given", "expected"),
    [  # computed with the primaries of the standards and a display's gamma of 2.4
        pytest.param(1, 12, (200, 60, 40), (217, 36, 0), id="Display P3"),
        pytest.param(9, 9, (200, 150, 120), (226, 142, 114), id="BT.2020"),
    ],
)
def test_colours_of_a_wide_gamut_become_those_of_srgb(
    matrix: int,
    primaries: int,
    given: tuple[int, ...],
    expected: tuple[int, ...],
    tmp_path: Path,
) -> None:
    path = write(
        tmp_path / "wide.mp4",
        [np.full((32, 32, 3), given, np.uint8)],
        matrix=matrix,
        primaries=primaries,
        layout="yuv444p10le",
        encoder={"crf": "4"},
    )
    _, [pixels] = pixels_of(path)
    assert np.abs(pixels[16, 16].astype(int) - expected).max() <= 3


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    path = write(tmp_path / "wide.mp4", moving_square(2), aspect=Fraction(4, 3))
    facts, (first, _) = pixels_of(path)
    assert (facts.width, facts.height, first.shape) == (128, 64, (64, 128, 3))


def test_gifs_and_transparent_clips_keep_their_alpha(tmp_path: Path) -> None:
    clear = []
    for frame in moving_square(3):
        alpha = (frame[..., 0] > 100).astype(np.uint8) * 255
        clear.append(np.dstack([frame, alpha]))
    pictures = [PIL.Image.fromarray(frame) for frame in clear]
    gif = tmp_path / "a.gif"
    pictures[0].save(gif, save_all=True, append_images=pictures[1:], duration=100, disposal=2)
    webm = write(tmp_path / "a.webm", clear, codec="libvpx-vp9", layout="yuva420p")
    for path in (gif, webm):
        facts, frames = pixels_of(path)
        assert facts.has_alpha
        assert_in_step([frame[..., 3] for frame in frames], tolerance=2)


def test_keep_alpha_takes_the_clip_s_own_transparency(tmp_path: Path, cut: Cut) -> None:
    """The network would find the bright square on the left; the clip says the one on the right."""
    frames = []
    for frame in moving_square(3):
        alpha = np.zeros(frame.shape[:2], np.uint8)
        alpha[16:48, 64:90] = 255
        frames.append(np.dstack([frame, alpha]))
    path = write(tmp_path / "own.mov", frames, codec="prores_ks", layout="yuva444p10le")
    result = cut(path, keep_alpha=True, clip_format="prores")
    kept = [frame[..., 3] for frame in clips.read(result.files[0].path)[0]]
    assert [square_of(one) for one in kept] == [(64, 16, 90, 48)] * 3
    cropped = cut(path, keep_alpha=True, clip_format="prores", crop=True).files[0]
    assert abs(cropped.width - 26) <= 2


def test_segments_begin_at_key_frames_and_cover_the_clip(source: Path) -> None:
    facts = facts_of(source)
    assert segments(facts, 5) == [Segment(0, 4), Segment(4, 8), Segment(8, 10)]
    parts = segments(facts, 3)
    assert parts[0].first == 0
    assert parts[-1].last == COUNT
    assert all(a.last == b.first for a, b in pairwise(parts))
    assert all(1 <= one.frames <= 3 for one in parts)


def test_a_clip_with_one_key_frame_is_not_decoded_from_its_start_for_each_segment(
    source: Path,
) -> None:
    facts = replace(facts_of(source), times=tuple(range(72_000)), end=72_000, key_frames=(0,))
    parts = segments(facts, 120)
    assert sum(one.frames for one in parts) == 72_000
    assert max(one.frames for one in parts) <= 32 * 120
    assert sum(one.last for one in parts) < 12 * 72_000, "frames decoded"
    assert parts[0].frames == 120


def test_a_join_that_broke_off_goes_on_with_the_parts_that_are_kept(
    source: Path, clip: ClipProcess, settings: Settings, tmp_path: Path
) -> None:
    options = Options.model_validate({"clip_format": "frames", "crop": True})
    facts, done, kept = facts_of(source), list[int](), list[KeptSegment]()
    for number, segment in enumerate(segments(facts, 5)):
        mattes = tmp_path / f"{number}.zip"
        matte_segment(
            clip, facts, segment, PREDICTOR, options, settings, mattes, on_frames=done.append
        )
        kept.append(KeptSegment(mattes))
    assert sum(done) == COUNT

    def join_them(out: str, on_frames: Any, asked: Options = options) -> ClipResult:
        with ClipProcess(source, settings) as other:
            return join(other, facts, kept, asked, settings, tmp_path / out, on_frames=on_frames)

    def break_off(count: int) -> None:
        done.append(count)
        if sum(done) == 6:
            raise KeyboardInterrupt

    done.clear()
    with pytest.raises(KeyboardInterrupt):
        join_them("broken", break_off)
    done.clear()
    joined = join_them("joined", done.append)
    assert sum(done) == COUNT - 4, "the first part had four frames"
    assert joined.frames == COUNT
    assert abs(joined.files[0].width - (32 + 2 * (COUNT - 1))) <= 6
    with zipfile.ZipFile(joined.files[0].path) as archive:
        assert len(archive.namelist()) == COUNT + 1
    done.clear()
    join_them("other", done.append, Options.model_validate({"clip_format": "frames"}))
    assert sum(done) == COUNT, "the parts belong to the options"
    with pytest.raises(Exception, match="exactly once"):
        join(clip, facts, kept[1:], options, settings, tmp_path / "hole")


def test_mattes_with_the_review_mark_of_a_newer_worker_are_read(tmp_path: Path) -> None:
    target = tmp_path / "mattes.zip"
    frame = {"number": 0, "box": None, "unsteady": 0.0, "is_cut": False, "size": [8, 8]}
    with zipfile.ZipFile(target, "w") as archive:
        index = {"steps": [], "frames": [{**frame, "reasons": ["of-a-newer-version", "cut"]}]}
        archive.writestr("mattes.json", json.dumps(index))
    with Mattes(target) as mattes:
        assert mattes.frames[0].reasons == (Reason.CUT,)


def test_mattes_of_segments_are_those_of_the_whole_clip(
    source: Path, clip: ClipProcess, settings: Settings, tmp_path: Path, monkeypatch: Any
) -> None:
    """Each is averaged with frames of the segments beside it."""
    facts, noisy = facts_of(source), cast(Predictor, clips.NoisyEdges())

    def alphas(*parts: Segment) -> list[np.ndarray[Any, Any]]:
        found = []
        for part in parts:
            target = tmp_path / "mattes.zip"
            matte_segment(clip, facts, part, noisy, Options(), settings, target)
            with Mattes(target) as mattes:
                found += [mattes.alpha(number) for number in range(part.first, part.last)]
        return found

    whole, cut = alphas(Segment(0, COUNT)), segments(facts, 5)
    assert len(cut) == 3
    most = [np.abs(a - b).max() for a, b in zip(whole, alphas(*cut), strict=True)]
    assert max(most) <= 1 / 255 + 1e-6
    monkeypatch.setattr(mattes_module, "REACH", 0)
    most = [np.abs(a - b).max() for a, b in zip(whole, alphas(*cut), strict=True)]
    assert max(most) > 0.05, "the test would not see it"


def test_an_animated_webp_ends_when_the_clip_ends_although_its_last_frames_are_alike(
    settings: Settings, tmp_path: Path
) -> None:
    frames = moving_square(3)
    frames += frames[-1:] * 5  # libwebp stores them once
    path = write(tmp_path / "still.mp4", frames, uneven(8), encoder={"crf": "0"})
    options, facts, parts = Options.model_validate({"clip_format": "webp"}), facts_of(path), []
    with ClipProcess(path, settings) as clip:
        for number, segment in enumerate(segments(facts, 5)):
            parts.append(MattesFile(tmp_path / f"{number}.zip"))
            matte_segment(clip, facts, segment, PREDICTOR, options, settings, parts[-1].mattes())
        joined = join(clip, facts, parts, options, settings, tmp_path / "joined")
    for result in (joined, cut_out_clip(path, PREDICTOR, options, settings, tmp_path / "whole")):
        shown = 0
        with PIL.Image.open(result.files[0].path) as picture:
            for number in range(getattr(picture, "n_frames", 1)):
                picture.seek(number)
                picture.load()
                shown += picture.info["duration"]
        assert shown == round(1_000 * facts.seconds)


def test_of_a_clip_that_is_damaged_in_the_middle_the_frames_before_it_are_kept(
    source: Path, clip: ClipProcess, settings: Settings, tmp_path: Path
) -> None:
    options = Options.model_validate({"clip_format": "frames", "clip_cut_off": "keep"})
    facts = facts_of(source)
    first, _damaged, last = segments(facts, 5)
    parts = [tmp_path / name for name in ("first", "damaged", "last")]
    for segment, part in ((first, parts[0]), (last, parts[2])):
        matte_segment(clip, facts, segment, PREDICTOR, options, settings, part)
    with MattesWriter(parts[1]):
        pass  # none of its frames could be read
    stored = [MattesFile(part) for part in parts]
    joined = join(clip, facts, stored, options, settings, tmp_path / "joined")
    assert joined.frames == first.last
    refusing = Options.model_validate({"clip_format": "frames"})
    with pytest.raises(Exception, match="exactly once"):
        join(clip, facts, stored, refusing, settings, tmp_path / "refused")


def test_outputs_that_do_not_fit_into_memory_together_are_written_one_after_another(
    source: Path, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_now: list[set[object]] = []
    opened = set[object]()

    def noting(*given: Any) -> Any:
        encoder = encoder_for(*given)
        opened.add(encoder)
        open_now.append(set(opened))
        close = encoder.close

        def closing() -> None:
            opened.discard(encoder)
            close()

        monkeypatch.setattr(encoder, "close", closing)
        return encoder

    one_webm = encoder_bytes(Options(), facts_of(source), 96, 64, clear=True)
    monkeypatch.setattr(writing, "MAX_ENCODERS_BYTES", one_webm)
    monkeypatch.setattr(writing, "encoder_for", noting)
    extras = [{"name": "a.{ext}", "background": "#ffffff"}, {"name": "b.{ext}", "output": "alpha"}]
    result = cut(extra_outputs=extras)
    assert [len(one) for one in open_now] == [1, 1, 2], "WebM without alpha takes half"
    assert [one.sound for one in result.files] == ["coded", "copied", "copied"]
    for file in result.files:
        assert (file.width, file.height) == (96, 64)
        assert len(pixels_of(file.path)[1]) == COUNT
    monkeypatch.setattr(writing, "MAX_ENCODERS_BYTES", one_webm - 1)
    with pytest.raises(OutputTooLargeError, match="as webm would take"):
        cut()
    with pytest.raises(OutputTooLargeError, match="as webm would take"):
        writing.refuse_too_large(facts_of(source), Options())
    writing.refuse_too_large(facts_of(source), Options(crop=True))  # its size is not known yet
    writing.refuse_too_large(facts_of(source), Options(max_side_px=48))
    long = {"canvas": "9000x10", "background": "white"}
    for given in ({"canvas": "200x200", "crop": True}, {"canvas": "1:1"}, long):
        with pytest.raises(OutputTooLargeError):
            writing.refuse_too_large(facts_of(source), Options.model_validate(given))
    at_4k = encoder_bytes(Options(), facts_of(source), 4_096, 2_160, clear=True)
    assert MAX_ENCODERS_BYTES / 2 < at_4k < MAX_ENCODERS_BYTES, "one of 4K fits, two don't"
