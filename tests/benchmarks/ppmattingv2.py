"""A network of PP-MattingV2's size with random weights.

It follows the paper's figure ("PP-Matting" series, PaddleSeg; the encoder is STDC1 of "Rethinking
BiSeNet", arXiv:2104.13188): five stages of short-term dense blocks, pooled context, and a decoder
that fuses each stage with the one above. 7.5 GFLOPs and 8.9 M parameters at 512 × 512. Its answers
mean nothing; its cost is realistic.
"""

import itertools
from pathlib import Path
from typing import Any

import paddle
import paddle.nn.functional as nnf
import yaml
from paddle import nn

from tests.benchmarks.ppmattingv2_size import (
    CONTEXT,
    DECODER,
    POOLED,
    STAGES,
    SURE,
    TRANSFORMS,
)
from worker.training.export import ConvNorm, write_graph


class Dense(nn.Layer):
    """A block of four convolutions. Each output is half as wide as the one before; all are
    joined.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.first = ConvNorm(inputs, half, 1)
        self.halve = None
        if stride == 2:
            slow = nn.Conv2D(half, half, 3, 2, 1, groups=half, bias_attr=False)
            self.halve = nn.Sequential(slow, nn.BatchNorm2D(half))
        widths = [half, outputs // 4, outputs // 8, outputs // 8]
        self.rest = nn.LayerList([ConvNorm(a, b, 3) for a, b in itertools.pairwise(widths)])

    def forward(self, x: Any) -> Any:
        """[N, C, H, W] → [N, outputs, H / stride, W / stride]."""
        first = x = self.first(x)
        if self.halve is not None:
            x = self.halve(x)
            first = nnf.avg_pool2d(first, 3, 2, 1)
        joined = [first]
        for layer in self.rest:
            x = layer(x)
            joined.append(x)
        return paddle.concat(joined, 1)


class Context(nn.Layer):
    """Pooled features of the whole picture, added at every position of the deepest features."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.narrow = ConvNorm(inputs, CONTEXT, 1)
        self.levels = nn.LayerList([ConvNorm(CONTEXT, CONTEXT // 2, 1) for _ in POOLED])
        self.join = ConvNorm(CONTEXT + len(POOLED) * CONTEXT // 2, CONTEXT, 3)

    def forward(self, x: Any) -> Any:
        """[N, C, H, W] → [N, CONTEXT, H, W]."""
        x = self.narrow(x)
        size = paddle.shape(x)[2:]
        pooled = [
            nnf.interpolate(layer(nnf.adaptive_avg_pool2d(x, bins)), size, mode="bilinear")
            for bins, layer in zip(POOLED, self.levels)  # noqa: B905 - Paddle can't compile it
        ]
        return self.join(paddle.concat([x, *pooled], 1))


class Fuse(nn.Layer):
    """Features of a stage, joined with the coarser ones after resizing."""

    def __init__(self, fine: int, coarse: int, outputs: int) -> None:
        super().__init__()
        self.fine = ConvNorm(fine, outputs, 1)
        self.coarse = ConvNorm(coarse, outputs, 1)
        self.mix = ConvNorm(2 * outputs, outputs, 3)

    def forward(self, fine: Any, coarse: Any) -> Any:
        """([N, A, H, W], [N, B, h, w]) → [N, outputs, H, W]."""
        larger = nnf.interpolate(self.coarse(coarse), paddle.shape(fine)[2:], mode="bilinear")
        return self.mix(paddle.concat([self.fine(fine), larger], 1))


class Network(nn.Layer):
    """The network: image to alpha."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d, e = STAGES
        self.stages = nn.LayerList(
            [
                ConvNorm(3, a, 3, stride=2),
                ConvNorm(a, b, 3, stride=2),
                nn.Sequential(Dense(b, c, 2), Dense(c, c, 1)),
                nn.Sequential(Dense(c, d, 2), Dense(d, d, 1)),
                nn.Sequential(Dense(d, e, 2), Dense(e, e, 1)),
            ]
        )
        self.context = Context(e)
        coarse = (CONTEXT, *DECODER)
        self.fuse = nn.LayerList(
            [
                Fuse(fine, above, outputs)
                for fine, above, outputs in zip(STAGES[::-1], coarse, DECODER, strict=False)
            ]
        )
        last = DECODER[-1]
        self.head = nn.Sequential(ConvNorm(last + 3, 20, 3), nn.Conv2D(20, 1, 1))

    def forward(self, img: Any) -> Any:
        """[N, 3, H, W] in -1..1, H and W multiples of 32 → alpha [N, 1, H, W] in 0..1."""
        features, x = [], img
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        x = self.context(x)
        for fuse, fine in zip(self.fuse, features[::-1]):  # noqa: B905 - as above
            x = fuse(fine, x)
        x = nnf.interpolate(x, paddle.shape(img)[2:], mode="bilinear")
        noise = self.head(paddle.concat([x, img], 1))
        # With random weights alone every pixel would be half transparent, unlike a real matte. So
        # dark pixels become the subject, and the network's output has only a tiny influence.
        darkness = -paddle.mean(img, 1, keepdim=True)
        return 0.5 + 0.5 * paddle.tanh(SURE * darkness + 1e-4 * noise)


def export(folder: Path) -> Path:
    """Write it in PaddleSeg's layout. Returns the folder."""
    paddle.seed(7)
    net = Network()
    net.eval()
    write_graph(net, folder)
    deploy = {"model": "model.pdmodel", "params": "model.pdiparams", "transforms": TRANSFORMS}
    (folder / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": deploy}))
    return folder
