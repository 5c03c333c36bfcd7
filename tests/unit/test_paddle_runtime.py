"""The native library of Paddle alone computes on a CPU, and the whole package can follow."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

PROGRAM = """
import sys
import numpy as np
from shared.settings import Settings
from worker.inference.catalog import find_model
from worker.inference.engine import plans
from worker.inference.opening import create

model = find_model(Settings(model="builtin"))
image = np.random.default_rng(1).random((1, 3, 384, 384), dtype=np.float32)

def answer():
    predictor = create(plans(Settings(), model, shapes=1)[0], model)
    into = predictor.get_input_handle(predictor.get_input_names()[0])
    into.reshape(image.shape)
    into.copy_from_cpu(image)
    predictor.run()
    return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()

alone = answer()
assert "paddle" not in sys.modules
import paddle
import paddle.inference
assert np.array_equal(answer(), alone)
assert float((paddle.to_tensor([1.0]) + 1).numpy()[0]) == 2.0
print("same")
"""


def test_the_native_library_alone_answers_as_the_whole_package_does() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["same"], done.stderr


def test_a_damaged_paddle_stops_the_start_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "paddle" / "base").mkdir(parents=True)
    (tmp_path / "paddle" / "__init__.py").write_text("raise ImportError('no library')")
    (tmp_path / "paddle" / "base" / "libpaddle.so").write_bytes(b"no library")
    program = """
from shared.errors import EngineUnavailableError
from worker.inference.paddle_runtime import paddle_inference
try:
    paddle_inference(on_cpu=True)
except EngineUnavailableError as error:
    print(error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("Paddle can't be imported: no library. "), done.stderr
