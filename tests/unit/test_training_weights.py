"""Reading the shipped bundle back into training and exporting it again."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from worker.inference.catalog import BUNDLES
from worker.training.card import CARD, CARD_SIZE

BUILTIN = BUNDLES / "builtin"


def _run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"worker.training.{module}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "builtin.npz"
    done = _run("from_bundle", "--bundle", BUILTIN, "--out", path)
    assert done.returncode == 0, done.stderr
    return path


def test_weights_read_from_the_bundle_export_to_the_same_bundle(
    weights: Path, tmp_path: Path
) -> None:
    with np.load(weights) as arrays:
        assert arrays[CARD].shape == (1, 1, *CARD_SIZE)
        assert 0.05 < float(arrays[CARD].mean()) < 0.95
    done = _run("export", "--weights", weights, "--out", tmp_path, "--side", 384)
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "model.pdiparams").read_bytes()
    assert written == (BUILTIN / "model.pdiparams").read_bytes()


def test_the_training_network_gives_the_bundle_s_answers(weights: Path) -> None:
    pytest.importorskip("torch", reason="worker/training/README.md tells how to install it")
    from worker.training.network import MattingNet
    from worker.training.weights import answer, load_weights

    net = MattingNet()
    load_weights(net, weights)
    with np.load(weights) as arrays:
        assert float(np.abs(answer(net) - arrays[CARD]).max()) < 1e-5


def test_a_bundle_of_another_network_is_refused() -> None:
    script = (
        "import sys, pathlib, worker.training.widths as widths; widths.DECODER = (8, 8, 8, 8)\n"
        "from worker.training.from_bundle import read_bundle\n"
        "read_bundle(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(BUILTIN)], capture_output=True, text=True, timeout=300
    )
    assert "holds another network" in done.stderr
