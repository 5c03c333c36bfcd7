"""Everything that PaddleSeg's exporter may write: both graph formats, free and fixed input
shapes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from shared.errors import MattingError
from shared.options import Profile
from shared.settings import Settings
from worker.imaging.prepared import restore
from worker.inference.predictor import load_predictor

TRANSFORMS = [
    {"type": "LoadImages"},
    {"type": "Resize", "target_size": [96, 64]},
    {"type": "Normalize"},
]


def export(folder: Path, shape: list[int | None], *, older: bool) -> Path:
    """A network of one layer: alpha is the redness of a pixel."""
    import paddle
    from paddle.pir_utils import OldIrGuard

    class Red(paddle.nn.Layer):  # type: ignore[misc]  # Paddle is untyped
        def __init__(self) -> None:
            super().__init__()
            self.mix = paddle.nn.Conv2D(3, 1, 1)
            self.mix.weight.set_value(np.array([4, -4, -4], np.float32).reshape(1, 3, 1, 1))
            self.mix.bias.set_value(np.array([-4], np.float32))

        def forward(self, img: Any) -> Any:
            return 0.5 + 0.5 * paddle.tanh(self.mix(img))

    spec = [paddle.static.InputSpec(shape, "float32", "img")]
    net = Red()
    net.eval()
    if older:
        with OldIrGuard():
            static = paddle.jit.to_static(net, input_spec=spec, full_graph=True)
            paddle.jit.save(static, str(folder / "model"))
    else:
        static = paddle.jit.to_static(net, input_spec=spec, full_graph=True)
        paddle.jit.save(static, str(folder / "model"))
    deploy = {"model": "model.pdmodel", "params": "model.pdiparams", "transforms": TRANSFORMS}
    (folder / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": deploy}))
    return folder


@pytest.mark.filterwarnings("ignore")  # Paddle's exporter causes warnings
@pytest.mark.parametrize("older", [True, False], ids=["pdmodel", "json"])
@pytest.mark.parametrize("shape", [[None, 3, None, None], [1, 3, 64, 96]], ids=["free", "fixed"])
@pytest.mark.parametrize("profile", list(Profile))
def test_every_kind_of_export_runs(
    tmp_path: Path,
    photo: NDArray[np.uint8],
    shape: list[int | None],
    older: bool,
    profile: Profile,
) -> None:
    folder = export(tmp_path, shape, older=older)
    assert (folder / ("model.pdmodel" if older else "model.json")).exists()
    predictor = load_predictor(Settings(model=str(folder)))
    prepared = predictor.prepare(photo, profile)
    (alpha,) = predictor.predict_many([prepared])
    assert not isinstance(alpha, MattingError), alpha
    whole = restore(alpha, prepared.steps)
    assert whole.shape == photo.shape[:2]
    assert whole[150, 200] > 0.9
    assert whole[5, 5] < 0.1
