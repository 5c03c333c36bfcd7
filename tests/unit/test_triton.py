"""What a worker with MATTING_DEVICE=triton needs, and what it sends."""

import re
import sys
import time
from pathlib import Path

import pytest

from deploy.triton.repository import export
from shared.errors import TritonClientMissingError, WrongSettingError
from shared.settings import Settings
from worker.inference.catalog import BUNDLES, find_model
from worker.inference.predictor import load_predictor, shape_grid
from worker.inference.triton_server import TritonServer
from worker.inference.triton_session import is_here


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"device": "triton"}, "needs MATTING_TRITON_URL"),
        ({"triton_url": "http://host:8001"}, "MATTING_TRITON_URL is not allowed"),
        ({"triton_url": "grpc://user@host:8001"}, "MATTING_TRITON_URL is not allowed"),
        ({"triton_url": "grpc://host:8001", "triton_token": "secret"}, "grpcs://"),
        ({"triton_timeout_s": 20}, "below MATTING_LEASE_S"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(WrongSettingError, match=sentence):
        Settings.model_validate(given)


def test_an_answer_is_not_waited_for_longer_than_the_lease() -> None:
    assert Settings(lease_s=8).effective_triton_timeout_s == 6
    assert Settings(lease_s=8, triton_timeout_s=7).effective_triton_timeout_s == 7


def test_without_the_client_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(TritonClientMissingError) as caught:
        load_predictor(Settings(device="triton", triton_url="grpc://127.0.0.1:1"))
    assert "pip install 'matting[triton]'" in caught.value.message


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1:8001", True),
        ("localhost:8001", True),
        ("[::1]:8001", True),
        ("triton:8001", False),
        ("10.0.0.2:8001", False),
        ("localhost.example.com:8001", False),
    ],
)
def test_memory_is_shared_with_this_host_only(address: str, here: bool) -> None:
    assert is_here(address) is here


def test_a_changed_model_gets_a_new_version_and_an_unchanged_one_does_not(tmp_path: Path) -> None:
    settings = Settings()
    own = export(tmp_path, settings, "gpu")
    export(tmp_path, settings, "gpu", instances=2)
    assert sorted(one.name for one in own.iterdir()) == ["1", "config.pbtxt"]
    text = (own / "config.pbtxt").read_text()
    assert "kind: KIND_GPU count: 2" in text
    assert re.findall(r'model_warmup { name: "(\d+x\d+)"', text) == [
        f"{height}x{width}" for height, width in shape_grid(find_model(settings)).shapes
    ]
    weights = own / "1" / "bundle" / "model.pdiparams"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    export(tmp_path, settings, "gpu")
    assert sorted(one.name for one in own.iterdir()) == ["1", "2", "config.pbtxt"]
    same = (BUNDLES / "builtin" / "model.pdiparams").read_bytes()
    assert (own / "2" / "bundle" / "model.pdiparams").read_bytes() == same


def test_a_try_after_a_long_outage_has_the_time_that_answers_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.inference.triton_server.FIRST_WAIT_S", 0.0)
    settings = Settings(device="triton", triton_url="grpc://127.0.0.1:1", triton_timeout_s=10)
    server = TritonServer(settings, find_model(settings))
    limits: list[float] = []

    def answer(limit_s: float) -> None:
        limits.append(limit_s)

    server._away_since = time.monotonic() - 3_600
    server.repeat(answer)  # no answer is known: all of the call's own time
    server._longest_s = 4.0
    server.repeat(answer)
    server._longest_s = 0.01
    server.repeat(answer)
    server._longest_s = 1_000.0
    server.repeat(answer)
    server.close()
    assert limits == pytest.approx([10, 8, 1, 10], abs=0.5)
