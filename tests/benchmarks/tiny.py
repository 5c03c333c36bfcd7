"""A tiny network in PaddleSeg's layout, for measuring the system around the network."""

import sys
from pathlib import Path
from typing import Any

import paddle
import yaml
from paddle import nn

from worker.training.export import write_graph


class Tiny(nn.Layer):
    """One convolution: dark pixels are the subject."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2D(3, 1, 3, padding=1)
        self.mix.weight.set_value(paddle.full([1, 3, 3, 3], -4 / 9))
        self.mix.bias.set_value(paddle.zeros([1]))

    def forward(self, img: Any) -> Any:
        """[N, 3, H, W] → [N, 1, H, W] in 0..1."""
        return 0.5 + 0.5 * paddle.tanh(self.mix(img))


def export(folder: Path) -> Path:
    """Write the network in PaddleSeg's layout. Returns the folder."""
    net = Tiny()
    net.eval()
    write_graph(net, folder)
    steps = [{"type": "LoadImages"}, {"type": "ResizeByLong", "long_size": 128}]
    steps += [{"type": "ResizeToIntMult"}, {"type": "Normalize"}]
    deploy = {"model": "model.pdmodel", "params": "model.pdiparams", "transforms": steps}
    (folder / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": deploy}))
    return folder


if __name__ == "__main__":
    export(Path(sys.argv[1]))
