"""The built-in network (PyTorch).

It has the encoder of EfficientNet-Lite0, a context block at stride 32 and a decoder of plain 3×3
convolutions up to full size.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from worker.training.widths import BLOCKS, CONTEXT, DECODER, DETAIL, HEAD, STEM, TAPS, Block

BATCH_NORM_EPSILON = 1e-3
"""EfficientNet's epsilon, for the encoder's initial weights."""


class KeptFilter(torch.autograd.Function):
    """A depthwise convolution whose filters are not trained.

    Its gradient is computed as another convolution, with flipped filters and, for a stride, zeros
    between the values. PyTorch's own backward pass took half of a training step on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        """[N, C, H, W] → [N, C, H / stride, W / stride]; weight [C, 1, K, K]."""
        ctx.stride, ctx.size = stride, x.shape
        ctx.save_for_backward(weight)
        return nnf.conv2d(x, weight, bias, stride, weight.shape[2] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient of the input only."""
        (gradient,), (weight,) = gradients, ctx.saved_tensors
        if ctx.stride > 1:
            spread = gradient.new_zeros(ctx.size).contiguous(memory_format=torch.channels_last)
            spread[:, :, :: ctx.stride, :: ctx.stride] = gradient
            gradient = spread
        turned = weight.flip(2, 3).to(gradient.dtype)
        back: Tensor = nnf.conv2d(
            gradient, turned, None, 1, weight.shape[2] // 2, groups=len(weight)
        )
        return back, None, None, None


class Bottleneck(nn.Module):
    """Expand the channels, filter each of them, project them again.

    Batch norm is folded into the convolutions. Its statistics were frozen while the encoder was
    tuned, and without it a step takes a third less time.
    """

    def __init__(self, inputs: int, block: Block) -> None:
        super().__init__()
        wide = inputs * block.expand
        self.widen = nn.Conv2d(inputs, wide, 1) if block.expand > 1 else None
        self.filter = nn.Conv2d(
            wide, wide, block.kernel, block.stride, block.kernel // 2, groups=wide
        )
        self.narrow = nn.Conv2d(wide, block.outputs, 1)
        self.adds = block.stride == 1 and inputs == block.outputs

    def forward(self, x: Tensor) -> Tensor:
        """[N, A, H, W] → [N, B, H / stride, W / stride]."""
        y = x if self.widen is None else nnf.relu6(self.widen(x))
        kept = self.filter
        y = KeptFilter.apply(y, kept.weight.to(y.dtype), kept.bias.to(y.dtype), kept.stride[0])
        y = self.narrow(nnf.relu6(y))
        return x + y if self.adds else y


class ConvNorm(nn.Sequential):
    """A convolution and batch norm, followed by ReLU if `relu`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        dilation: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        padding = dilation * (size // 2)
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, size, 1, padding, dilation, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class Context(nn.Module):
    """The context block at stride 32.

    It has a large receptive field and weights the channels by their mean over the whole picture.
    Large subjects get no holes this way.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.enter = ConvNorm(inputs, width, 1)
        self.near = ConvNorm(width, width, 5, groups=width, relu=False)
        self.far = ConvNorm(width, width, 5, dilation=2, groups=width, relu=False)
        self.mix = ConvNorm(width, width, 1, relu=False)
        self.squeeze = nn.Conv2d(width, width // 4, 1)
        self.expand = nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, A, H, W] → [N, B, H, W]."""
        x = self.enter(x)
        x = nnf.relu(x + self.mix(nnf.relu(self.near(x) + self.far(x))))
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(nnf.relu(self.squeeze(pooled))))


class Merge(nn.Module):
    """One decoder step: enlarge the coarse features, add the skip connection, apply two
    convolutions.
    """

    def __init__(self, coarse: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.lateral = ConvNorm(coarse, outputs, 1, relu=False)
        self.skip = ConvNorm(skip, outputs, 1, relu=False)
        self.first = ConvNorm(outputs, outputs, 3)
        self.second = ConvNorm(outputs, outputs, 3)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """([N, A, H, W], [N, B, 2H, 2W]) → [N, C, 2H, 2W]."""
        mixed = nnf.relu(_twice(self.lateral(coarse)) + self.skip(skip))
        merged: Tensor = mixed + self.second(self.first(mixed))
        return merged


class MattingNet(nn.Module):
    """The network: image in, logits of alpha out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, 2, 1)
        inputs = (STEM, *(block.outputs for block in BLOCKS[:-1]))
        self.blocks = nn.ModuleList(map(Bottleneck, inputs, BLOCKS))
        half, quarter, eighth, sixteenth, last = (BLOCKS[tap].outputs for tap in TAPS)
        a, b, c, d = DECODER
        self.context = Context(last, CONTEXT)
        self.up16 = Merge(CONTEXT, sixteenth, a)
        self.up8 = Merge(a, eighth, b)
        self.up4 = Merge(b, quarter, c)
        self.up2 = Merge(c, half, d)
        self.coarse = nn.Conv2d(b, 1, 1)
        self.detail = ConvNorm(3, DETAIL, 3)
        self.widen = nn.Conv2d(d, DETAIL, 1)
        self.head = nn.Sequential(ConvNorm(DETAIL, HEAD, 3), nn.Conv2d(HEAD, 1, 3, padding=1))

    def encode(self, x: Tensor) -> list[Tensor]:
        """Run the encoder: [N, 3, H, W] → features at strides 2, 4, 8, 16, 32."""
        x = nnf.relu6(self.stem(x))
        taps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in TAPS:
                taps.append(x)
        return taps

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] in -1..1 → logits [N, 1, H, W], and coarse logits [N, 1, H/8, W/8] for the
        loss. H and W are multiples of 32.
        """
        x2, x4, x8, x16, x32 = self.encode(x)
        y8 = self.up8(self.up16(self.context(x32), x16), x8)
        y2 = self.up2(self.up4(y8, x4), x2)
        return self.head(nnf.relu(_twice(self.widen(y2)) + self.detail(x))), self.coarse(y8)


def _twice(x: Tensor) -> Tensor:
    return nnf.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def load_encoder(net: MattingNet, path: Path) -> None:
    """Start from ImageNet's weights: the state of `efficientnet_lite_pytorch`, a .pth file.

    Its convolutions with stride 2 pad only below and to the right; ours pad on all sides. So the
    same filters work on a grid that is shifted by one pixel up and left. Raises KeyError if the
    file holds another network.
    """
    stored: dict[str, Tensor] = torch.load(path, weights_only=True)
    _fold(net.stem, stored, "_conv_stem", "_bn0")
    for number, block in enumerate(net.blocks):
        assert isinstance(block, Bottleneck)
        at = f"_blocks.{number}."
        if block.widen is not None:
            _fold(block.widen, stored, f"{at}_expand_conv", f"{at}_bn0")
        _fold(block.filter, stored, f"{at}_depthwise_conv", f"{at}_bn1")
        _fold(block.narrow, stored, f"{at}_project_conv", f"{at}_bn2")


@torch.no_grad()
def _fold(into: Any, stored: dict[str, Tensor], convolution: str, norm: str) -> None:
    """Fold batch norm into the convolution before it."""
    spread = torch.sqrt(stored[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
    scale = stored[f"{norm}.weight"] / spread
    into.weight.copy_(stored[f"{convolution}.weight"] * scale[:, None, None, None])
    into.bias.copy_(stored[f"{norm}.bias"] - stored[f"{norm}.running_mean"] * scale)
