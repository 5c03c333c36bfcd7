"""Clips that are damaged on purpose: a code or a result, never the end of the worker."""

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from shared.errors import ClipError, ClipTimeoutError, PoisonousClipError
from shared.settings import Settings
from tests.clips import X265, moving_square, write
from worker.video import quarantine
from worker.video.container import Limits, read_facts
from worker.video.quarantine import PIPE_BYTES, ClipProcess

SEED = int(os.environ.get("CLIP_FUZZ_SEED", "1"))
MUTATIONS = int(os.environ.get("CLIP_FUZZ_COUNT", "25"))
"""Of each clip. A longer search: CLIP_FUZZ_COUNT=5000 and another seed."""

MAX_RESIDENT_BYTES = 400 * 1024**2


@pytest.fixture
def settings() -> Settings:
    return Settings(
        log_level="ERROR",
        codec_threads=1,
        image_timeout_s=30,
        max_clip_pixels=100_000,
        max_clip_frames=200,
    )


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A file with some of its bytes changed, moved, repeated or lost."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(changed) or 1)
        match rng.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                changed[at : at + 4] = rng.choice(
                    [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\1"]
                )
            case 2:
                del changed[at : at + rng.randint(1, 200)]
            case 3:
                piece = changed[at : at + rng.randint(1, 200)]
                changed[at:at] = piece
            case 4:
                changed[at : at + 1] = bytes(
                    one ^ 1 << rng.randrange(8) for one in changed[at : at + 1]
                )
            case _:
                changed = changed[: max(16, at)]
    return bytes(changed)


@pytest.mark.parametrize("kind", ["mp4", "mov", "webm", "mkv", "gif"])
def test_mutated_clips_give_a_code_or_a_result(
    kind: str, settings: Settings, tmp_path: Path
) -> None:
    codec, layout = {
        "mp4": ("libx264", "yuv420p"),
        "mov": ("prores_ks", "yuva444p10le"),
        "webm": ("libvpx-vp9", "yuva420p"),
        "mkv": ("libx265", "yuv420p"),
        "gif": ("gif", "rgb8"),
    }[kind]
    encoder = X265 if codec == "libx265" else {}
    good = write(
        tmp_path / f"good.{kind}", moving_square(4), codec=codec, layout=layout, encoder=encoder
    ).read_bytes()
    rng = random.Random(SEED)
    path = tmp_path / "mutated"
    path.write_bytes(good)
    process = ClipProcess(path, settings, keep_whole=True)
    results = 0
    try:
        for number in range(MUTATIONS):
            data = good if number == 0 else mutated(good, rng)
            path.write_bytes(data)
            try:
                facts = process.facts()
                frames = sum(1 for _ in process.frames(facts, 0, facts.frames))
                assert frames <= facts.frames <= settings.max_clip_frames
                assert facts.width * facts.height <= settings.max_clip_pixels
                results += 1
            except (PoisonousClipError, ClipTimeoutError):
                (tmp_path / f"poison-{number}").write_bytes(data)
                process.close()
                process = ClipProcess(path, settings, keep_whole=True)
            except ClipError:
                pass
            assert peak_bytes(process) < MAX_RESIDENT_BYTES
    finally:
        process.close()
    assert results > 0


def peak_bytes(process: ClipProcess) -> int:
    """The most memory that the child has held."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text()
    except FileNotFoundError:
        return 0
    found = [line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")]
    return int(found[0]) * 1024 if found else 0


def test_a_child_that_dies_or_hangs_fails_its_clip_alone(
    settings: Settings, tmp_path: Path
) -> None:
    # More pixels than the pipe holds: the child can't have sent all when it dies.
    path = write(tmp_path / "a.mp4", [np.zeros((256, 256, 3), np.uint8)] * 40)
    assert 2 * PIPE_BYTES < 40 * 256 * 256 * 3
    with ClipProcess(path, settings) as process:
        facts = process.facts()
        frames = process.frames(facts, 0, 40)
        next(frames)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(PoisonousClipError, match="SIGKILL"):
            list(frames)
    hasty = settings.model_copy(update={"image_timeout_s": 0.3})
    with ClipProcess(path, settings) as process:
        facts = process.facts()
        process._settings = hasty
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(ClipTimeoutError):
            list(process.frames(facts, 0, 40))


def test_frames_before_the_first_wanted_one_keep_the_child_from_counting_as_hanging(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One key frame, at the begin. All frames before take longer than one may."""
    path = write(tmp_path / "long.mp4", moving_square(12), key_every=12)
    clock_s, skipped = 0.0, 0

    def skip(seconds: float) -> Callable[[], None]:
        def later() -> None:
            nonlocal clock_s, skipped
            clock_s, skipped = clock_s + seconds, skipped + 1

        return later

    monkeypatch.setattr(quarantine, "time", SimpleNamespace(monotonic=lambda: clock_s))
    monkeypatch.setattr(quarantine, "SKIPPED_EVERY_S", 0.0)
    with ClipProcess(path, settings) as process:
        facts = process.facts()
        assert facts.key_frames == (0,)
        got = list(process.frames(facts, 10, 12, on_skipped=skip(3.2)))
        assert [number for number, _ in got] == [10, 11]
        assert skipped == 10
        assert clock_s > settings.image_timeout_s
        with pytest.raises(ClipTimeoutError, match="did not come to frame 10"):
            list(process.frames(facts, 10, 12, on_skipped=skip(0.8 * settings.image_timeout_s)))


def test_the_child_sees_no_secrets(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTING_SESSION_SECRET", "x" * 40)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y" * 40)
    path = write(tmp_path / "a.mp4", moving_square(2))
    with ClipProcess(path, settings) as process:
        process.facts()
        seen = Path(f"/proc/{process.pid}/environ").read_bytes()
    assert b"SECRET" not in seen


def test_a_playlist_reads_no_other_file(tmp_path: Path) -> None:
    """Nor does the ending of its name matter."""
    other = write(tmp_path / "other.mp4", moving_square(2))
    text = f"ffconcat version 1.0\nfile '{other}'\n".encode()
    for name, data in (("a.mp4", text), ("a.m3u8", b"#EXTM3U\n" + str(other).encode())):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ClipError):
            read_facts(path, Limits(10**9, 60, 1_000, 10**6), keep_whole=False)
