"""The built-in network: a narrow residual U-Net of plain 3×3 convolutions (PyTorch).

Plain convolutions and not depthwise ones: on CPUs the latter are bound by memory, and a training
step took seven times as long at equal parameters (measured; README.md).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from worker.training.widths import WIDTHS


class ConvNorm(nn.Sequential):
    """Convolution and batch norm; ReLU where asked."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        relu: bool = True,
    ) -> None:
        padding = dilation * (size // 2)
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class Residual(nn.Module):
    """Two convolutions and the input added."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, 3, dilation=dilation)
        self.second = ConvNorm(width, width, 3, dilation=dilation, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → the same shape."""
        return nnf.relu(x + self.second(self.first(x)))


class Gate(nn.Module):
    """Channels weighted by what the whole picture holds, so that large subjects get no holes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // 4, 1)
        self.expand = nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → the same shape."""
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(nnf.relu(self.squeeze(pooled))))


class Merge(nn.Module):
    """One step up: the coarse features enlarged, the skip added, one convolution."""

    def __init__(self, coarse: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.lateral = ConvNorm(coarse, skip, 1, relu=False)
        self.mix = ConvNorm(skip, outputs, 3)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """([N, A, H, W], [N, B, 2H, 2W]) → [N, C, 2H, 2W]."""
        enlarged = nnf.interpolate(
            self.lateral(coarse), scale_factor=2, mode="bilinear", align_corners=False
        )
        mixed: Tensor = self.mix(nnf.relu(enlarged + skip))
        return mixed


class MattingNet(nn.Module):
    """Image in, logits of alpha out; `widths` are the channels at strides 2 to 32."""

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.stem = ConvNorm(3, a, 3, stride=2)
        self.down4 = nn.Sequential(ConvNorm(a, b, 3, stride=2), Residual(b))
        self.down8 = nn.Sequential(ConvNorm(b, c, 3, stride=2), Residual(c))
        self.down16 = nn.Sequential(ConvNorm(c, d, 3, stride=2), Residual(d))
        self.down32 = nn.Sequential(
            ConvNorm(d, e, 3, stride=2), Residual(e), Residual(e, dilation=2), Gate(e)
        )
        self.up16 = Merge(e, d, d)
        self.up8 = Merge(d, c, c)
        self.up4 = Merge(c, b, b)
        self.up2 = Merge(b, a, a)
        self.coarse = nn.Conv2d(c, 1, 1)
        self.detail = ConvNorm(3, 8, 3)
        self.widen = nn.Conv2d(a, 8, 1)
        self.head = nn.Sequential(ConvNorm(8, 12, 3), nn.Conv2d(12, 1, 3, padding=1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] in -1..1, H and W multiples of 32 → logits [N, 1, H, W] and, for the loss
        of the coarse stage, [N, 1, H/8, W/8].
        """
        x2 = self.stem(x)
        x4 = self.down4(x2)
        x8 = self.down8(x4)
        x16 = self.down16(x8)
        y8 = self.up8(self.up16(self.down32(x16), x16), x8)
        y2 = self.up2(self.up4(y8, x4), x2)
        wide = nnf.interpolate(self.widen(y2), scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(nnf.relu(wide + self.detail(x))), self.coarse(y8)
