"""Networks of IS-Net's and PP-MattingV2's size in PyTorch, with random weights.

They follow the papers' figures: "Highly Accurate Dichotomous Image Segmentation" (arXiv:2203.03041)
with the blocks of U²-Net (arXiv:2005.09007), and PP-MattingV2 as in `ppmattingv2`. Their answers
mean nothing; their cost is realistic. PyTorch is no dependency of this project.
"""

import itertools
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import nn

from tests.benchmarks.ppmattingv2_size import CONTEXT, DECODER, POOLED, STAGES, SURE


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1, apart: int = 1) -> nn.Module:
    """A convolution with its folded normalisation, and an activation. `apart`: dilation."""
    pad = apart * (size // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, pad, dilation=apart), nn.ReLU(inplace=True)
    )


def resized(x: Any, like: Any) -> Any:
    """`x` at the height and width of `like`."""
    return nnf.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class Residual(nn.Module):
    """A U-shaped block of U²-Net: `height` levels, each half as large as the one above."""

    def __init__(self, inputs: int, middle: int, outputs: int, height: int) -> None:
        super().__init__()
        self.first = conv(inputs, outputs)
        self.down = nn.ModuleList(
            conv(outputs if level == 0 else middle, middle) for level in range(height - 1)
        )
        self.bottom = conv(middle, middle, apart=2)
        self.up = nn.ModuleList(
            conv(2 * middle, outputs if level == 0 else middle) for level in range(height - 1)
        )

    def forward(self, x: Any) -> Any:
        """[N, inputs, H, W] → [N, outputs, H, W]."""
        x = first = self.first(x)
        features = []
        for level, layer in enumerate(self.down):
            x = layer(x if level == 0 else nnf.max_pool2d(x, 2, ceil_mode=True))
            features.append(x)
        x = self.bottom(x)
        for fine, layer in zip(reversed(features), reversed(self.up), strict=True):
            x = layer(torch.cat([x if x.shape == fine.shape else resized(x, fine), fine], 1))
        return x + first


class Dilated(nn.Module):
    """The flat block of the two coarsest stages: growing dilation instead of levels."""

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.first = conv(inputs, outputs)
        steps = (1, 2, 4)
        widths = (outputs, middle, middle)
        self.down = nn.ModuleList(
            conv(a, middle, apart=n) for a, n in zip(widths, steps, strict=True)
        )
        self.bottom = conv(middle, middle, apart=8)
        self.up = nn.ModuleList(
            conv(2 * middle, b, apart=n)
            for b, n in zip((outputs, middle, middle), steps, strict=True)
        )

    def forward(self, x: Any) -> Any:
        """[N, inputs, H, W] → [N, outputs, H, W]."""
        x = first = self.first(x)
        features = []
        for layer in self.down:
            x = layer(x)
            features.append(x)
        x = self.bottom(x)
        for fine, layer in zip(reversed(features), reversed(self.up), strict=True):
            x = layer(torch.cat([x, fine], 1))
        return x + first


class IsNet(nn.Module):
    """IS-Net's size: 1024 × 1024 in, a first convolution of stride 2, six stages down, five up."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, 2, 1)
        self.down = nn.ModuleList(
            [
                Residual(64, 32, 64, 7),
                Residual(64, 32, 128, 6),
                Residual(128, 64, 256, 5),
                Residual(256, 128, 512, 4),
                Dilated(512, 256, 512),
                Dilated(512, 256, 512),
            ]
        )
        self.up = nn.ModuleList(
            [
                Residual(128, 16, 64, 7),
                Residual(256, 32, 64, 6),
                Residual(512, 64, 128, 5),
                Residual(1024, 128, 256, 4),
                Dilated(1024, 256, 512),
            ]
        )
        self.side = nn.Conv2d(64, 1, 3, 1, 1)

    def forward(self, img: Any) -> Any:
        """[N, 3, H, W] → [N, 1, H, W]."""
        x = self.first(img)
        features = []
        for number, stage in enumerate(self.down):
            x = stage(x if number == 0 else nnf.max_pool2d(x, 2, ceil_mode=True))
            features.append(x)
        for fine, stage in zip(reversed(features[:-1]), reversed(self.up), strict=True):
            x = stage(torch.cat([resized(x, fine), fine], 1))
        return resized(self.side(x), img)


class Dense(nn.Module):
    """A block of four convolutions. Each output is half as wide as the one before; all are
    joined.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.first = conv(inputs, half, 1)
        self.halve = nn.Conv2d(half, half, 3, 2, 1, groups=half) if stride == 2 else None
        widths = [half, outputs // 4, outputs // 8, outputs // 8]
        self.rest = nn.ModuleList(conv(a, b) for a, b in itertools.pairwise(widths))

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
        return torch.cat(joined, 1)


class Context(nn.Module):
    """Pooled features of the whole picture, added at every position of the deepest features."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.narrow = conv(inputs, CONTEXT, 1)
        self.levels = nn.ModuleList(conv(CONTEXT, CONTEXT // 2, 1) for _ in POOLED)
        self.join = conv(CONTEXT + len(POOLED) * CONTEXT // 2, CONTEXT)

    def forward(self, x: Any) -> Any:
        """[N, C, H, W] → [N, CONTEXT, H, W]."""
        x = self.narrow(x)
        pooled = [
            resized(layer(nnf.adaptive_avg_pool2d(x, bins)), x)
            for bins, layer in zip(POOLED, self.levels, strict=True)
        ]
        return self.join(torch.cat([x, *pooled], 1))


class Fuse(nn.Module):
    """Features of a stage, joined with the coarser ones after resizing."""

    def __init__(self, fine: int, coarse: int, outputs: int) -> None:
        super().__init__()
        self.fine = conv(fine, outputs, 1)
        self.coarse = conv(coarse, outputs, 1)
        self.mix = conv(2 * outputs, outputs)

    def forward(self, fine: Any, coarse: Any) -> Any:
        """([N, A, H, W], [N, B, h, w]) → [N, outputs, H, W]."""
        return self.mix(torch.cat([self.fine(fine), resized(self.coarse(coarse), fine)], 1))


class PPMattingV2(nn.Module):
    """PP-MattingV2's size: 7.5 GFLOPs and 8.9 M parameters at 512 × 512."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d, e = STAGES
        self.stages = nn.ModuleList(
            [
                conv(3, a, stride=2),
                conv(a, b, stride=2),
                nn.Sequential(Dense(b, c, 2), Dense(c, c, 1)),
                nn.Sequential(Dense(c, d, 2), Dense(d, d, 1)),
                nn.Sequential(Dense(d, e, 2), Dense(e, e, 1)),
            ]
        )
        self.context = Context(e)
        sizes = zip(STAGES[::-1], (CONTEXT, *DECODER), DECODER, strict=False)
        self.fuse = nn.ModuleList(Fuse(fine, above, outputs) for fine, above, outputs in sizes)
        self.head = nn.Sequential(conv(DECODER[-1] + 3, 20), nn.Conv2d(20, 1, 1))

    def forward(self, img: Any) -> Any:
        """[N, 3, H, W], H and W multiples of 32 → [N, 1, H, W]."""
        features, x = [], img
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        x = self.context(x)
        for fuse, fine in zip(self.fuse, reversed(features), strict=True):
            x = fuse(fine, x)
        return self.head(torch.cat([resized(x, img), img], 1))


NETWORKS: dict[str, type[nn.Module]] = {"isnet": IsNet, "ppmattingv2": PPMattingV2}


class OnDevice:
    """A network in half precision on the GPU (in fp32 on a CPU). uint8 in: pixels go to the device
    and alphas come back as uint8; float32 in: normalised values go, float32 alphas come back.
    """

    def __init__(self, name: str) -> None:
        self.gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if self.gpu else "cpu")
        self.kind = torch.float16 if self.gpu else torch.float32
        torch.manual_seed(7)
        torch.backends.cudnn.benchmark = True
        net = NETWORKS[name]().eval().to(self.device, self.kind)
        self._net = net.to(memory_format=torch.channels_last)
        self._stream = torch.cuda.Stream() if self.gpu else None

    def compute(self, sent: Any) -> Any:
        """[N, 3, H, W] on the device → alphas [N, H, W] there.

        With random weights alone every pixel would be half transparent, unlike a real matte. So
        dark pixels become the subject, and the network's output has only a tiny influence.
        """
        pixels = sent.to(self.kind)
        if sent.dtype == torch.uint8:
            pixels = pixels / 127.5 - 1
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        noise = torch.tanh(self._net(pixels))
        alphas = 0.5 + 0.5 * torch.tanh(SURE * -pixels.mean(1, keepdim=True) + 1e-4 * noise)
        alphas = alphas[:, 0].clamp(0, 1)
        return (
            (alphas * 255).round().to(sent.dtype) if sent.dtype == torch.uint8 else alphas.float()
        )

    def run(self, batch: Any) -> Any:
        """A numpy array [N, 3, H, W] → a numpy array [N, H, W] of the same dtype."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            return self.compute(torch.from_numpy(batch).to(self.device)).cpu().numpy()
