"""Photos that crash or hang native code, through the real system: they fail, and all others
succeed.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from api.client import MattingClient
from deploy.stack.stack import Stack
from tests import bad_photos
from tests.acceptance.command import MATTING
from tests.faults.poison import LATER_SIZE, MARKED, poisonous

QUICK = {
    "MATTING_LEASE_S": "5",
    "MATTING_HEARTBEAT_S": "0.5",
    "MATTING_RECONCILE_S": "0.3",
    "MATTING_IMAGE_TIMEOUT_S": "10",
    "MATTING_MAX_ATTEMPTS": "3",
    "MATTING_REUSE_RESULTS": "false",
    "MATTING_FAILURE_SHARE": "1",
    "MATTING_CPU_THREADS": "1",
}


@pytest.fixture(scope="module")
def stack(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("poison")
    env = QUICK | poisonous(folder / "site") | {"MATTING_MODEL": str(tiny_model)}
    with Stack(folder / "data", workers=2, env=env) as stack:
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[MattingClient]:
    with MattingClient(stack.address.api_url, stack.secrets.api_key) as client:
        yield client


def submit(client: MattingClient, folder: Path, files: dict[str, bytes]) -> str:
    paths = []
    for number, (name, data) in enumerate(files.items()):
        path = folder / str(number)
        path.write_bytes(data)
        paths.append((path, name))
    return str(client.submit_files(paths)["id"])


def codes(client: MattingClient, job_id: str) -> dict[str, str]:
    """The outcome of each file of a job that has ended."""
    client.wait(job_id)
    return {
        item["name"]: item["error"]["code"] if item["error"] else item["status"]
        for item in client.items(job_id)
    }


def deaths(stack: Stack) -> int:
    """How many workers crashed or ended themselves, by their logs. SIGTERM is no death."""
    logs = [path.read_text(errors="replace") for path in stack.logs.glob("worker-*.log")]
    marks = ("Fatal Python error: ", "image-stuck")  # faulthandler's, and the watchdog's
    return sum(log.count(mark) for log in logs for mark in marks)


def test_hundreds_of_bad_files_have_their_expected_outcomes(
    stack: Stack, client: MattingClient, tmp_path: Path
) -> None:
    cases = bad_photos.cases()
    assert len(cases) >= 500
    found = codes(client, submit(client, tmp_path, {one.name: one.data for one in cases}))
    wrong = {one.name: found[one.name] for one in cases if found[one.name] not in one.outcomes}
    assert not wrong
    assert deaths(stack) == 0


def test_photos_that_crash_or_hang_native_code_fail_alone_after_a_few_deaths(
    stack: Stack, client: MattingClient, tmp_path: Path, jpeg: bytes
) -> None:
    width, height = LATER_SIZE
    cannot_be_encoded = bytes(cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1])
    guilty = {
        "010.jpg": (jpeg + MARKED["crash"], "poisonous-image"),
        "025.jpg": (jpeg + MARKED["hang"], "image-timeout"),
        "033.jpg": (cannot_be_encoded, "poisonous-image"),
    }
    files = {f"{number:03d}.jpg": jpeg for number in range(60)}
    job_id = submit(client, tmp_path, files | {name: data for name, (data, _) in guilty.items()})
    other = submit(client, tmp_path, {f"{number}.jpg": jpeg for number in range(5)})
    found = codes(client, job_id)
    failed = {name: code for name, code in found.items() if code != "succeeded"}
    assert failed == {name: code for name, (_, code) in guilty.items()}
    assert set(codes(client, other).values()) == {"succeeded"}
    # The crashing and the hanging photo cause one death each; the second attempt decodes them in a
    # child process. The photo that can't be encoded causes one death in a batch, perhaps another,
    # and one when it runs alone.
    assert 3 <= deaths(stack) <= 5
    items = {item["name"]: item for item in client.items(job_id)}
    assert items["033.jpg"]["attempts"] == 3


def test_the_command_without_a_queue_names_the_photo_that_hangs_and_ends(
    tmp_path: Path, jpeg: bytes, tiny_model: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "good.jpg").write_bytes(jpeg)
    (photos / "hangs.jpg").write_bytes(jpeg + MARKED["hang"])
    env = {"MATTING_MODEL": str(tiny_model), "MATTING_IMAGE_TIMEOUT_S": "1"}
    done = subprocess.run(
        [MATTING, "cutout", str(photos), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=os.environ | env | poisonous(tmp_path / "site"),
        timeout=240,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    said = " ".join(done.stderr.split())
    assert "hangs.jpg: The stage decode took more than 1 s" in said
    assert "[image-timeout]" in said
