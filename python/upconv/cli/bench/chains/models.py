# The 30 layers-with-surroundings of KernelBench level 2 as ordinary modules, written from their descriptions. Run by
# `upconv bench --chains` and by tests/fusion; nothing in them knows of upconv.
"""KernelBench level 2 chains: ``CHAINS[number]`` makes the module, ``shapes(number, size)`` its inputs' shapes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class _Chain(nn.Module):
    """A layer and, for most, one learned operand."""

    def __init__(self, layer, operand=None, **parts):
        super().__init__()
        self.conv = layer
        if operand is not None:
            self.operand = nn.Parameter(torch.randn(operand) * 0.5 if operand else torch.tensor(0.5))
        for name, part in parts.items():
            setattr(self, name, part)


class ClampScale(_Chain):  # 2
    def forward(self, x):
        y = self.conv(x) + self.operand
        y = torch.clamp(y, min=0.0, max=1.0) * 2.0
        return torch.clamp(y, min=0.0, max=1.0) / 2.0


class SumNormPool(_Chain):  # 3
    def forward(self, x):
        return self.gelu(self.pool(self.norm(self.conv(x) + self.operand)))


class SubtractTanh(_Chain):  # 5
    def forward(self, x):
        return torch.tanh(self.conv(x) - self.operand)


class PoolClampMean(_Chain):  # 10
    def forward(self, x):
        y = self.hardtanh(self.pool(self.conv(x)))
        return torch.tanh(torch.mean(y, dim=(2, 3), keepdim=True))


class NormTanhPoolNorm(_Chain):  # 11
    def forward(self, x):
        return self.group(self.pool(self.tanh(self.batch(self.conv(x)))))


class MeanSoftmax(_Chain):  # 13
    def forward(self, x):
        y = self.conv(x).mean(dim=2, keepdim=True) + self.operand
        return torch.tanh(torch.softmax(y, dim=1)) * 2.0


class NormCenter(_Chain):  # 15
    def forward(self, x):
        y = self.batch(self.conv(x))
        return y - torch.mean(y, dim=(2, 3, 4), keepdim=True)


class MishAdd(_Chain):  # 16
    def forward(self, x):
        return F.hardtanh(F.mish(self.conv(x)) + 0.5, min_val=-1.0, max_val=1.0) * 2.0


class GeluGroupNorm(_Chain):  # 19
    def forward(self, x):
        return self.group(F.gelu(self.conv(x)))


class Residuals(_Chain):  # 20
    def forward(self, x):
        y = self.conv(x)
        original = y.clone().detach()
        y = y + self.operand
        y = y + original
        y = y * original
        return y + original


class AddHardswish(_Chain):  # 26
    def forward(self, x, other):
        y = self.conv(x) + other
        return y * F.hardswish(y)


class NormGelu(_Chain):  # 34
    def forward(self, x):
        return F.gelu(self.norm(self.conv(x))) * 1.0


class MinSum(_Chain):  # 36
    def forward(self, x):
        y = torch.min(self.conv(x), dim=1, keepdim=True)[0]
        return F.gelu(torch.sum(y, dim=2, keepdim=True)) + self.operand


class SoftmaxOverSpace(_Chain):  # 38
    def forward(self, x):
        y = torch.clamp(self.conv(self.pool(x)), 0.0, 1.0)
        return torch.softmax(y.flatten(2), dim=2).view(y.shape) * self.operand


class MeanLogSumExp(_Chain):  # 42
    def forward(self, x):
        y = self.conv(x).mean(dim=(2, 3), keepdim=True) + self.operand
        y = torch.logsumexp(y, dim=1, keepdim=True)
        return torch.sum(y, dim=(2, 3)) * 10.0


class MultiplyMeans(_Chain):  # 44
    def forward(self, x):
        y = torch.mean(self.conv(x) * 0.5, dim=[2, 3], keepdim=True)
        return torch.mean(y, dim=[2, 3], keepdim=True)


class SoftmaxSigmoid(_Chain):  # 49
    def forward(self, x):
        return self.sigmoid(self.softmax(self.conv(x)))


class ScalePoolBias(_Chain):  # 50
    def forward(self, x):
        return (self.pool(self.conv(x) * self.scale) + self.operand) * self.scale2


class LogSumExp(_Chain):  # 58
    def forward(self, x):
        y = torch.logsumexp(self.conv(x), dim=1, keepdim=True)
        return torch.clamp(y * torch.sigmoid(y + 3) / 6 - self.operand, min=-1, max=1)


class SwishGroupNorm(_Chain):  # 60
    def forward(self, x):
        y = self.conv(x)
        return F.hardswish(self.group(torch.sigmoid(y) * y))


class ReluGroupNorm(_Chain):  # 61
    def forward(self, x):
        return self.group(self.relu(self.conv(x)))


class NormPools(_Chain):  # 72
    def forward(self, x):
        return self.pool2(self.pool1(self.batch(self.conv(x))))


class LeakyTwiceMax(_Chain):  # 74
    def forward(self, x):
        y = self.leaky(self.conv(x)) * self.operand
        return self.pool(self.leaky(y))


class ScaleNormMean(_Chain):  # 77
    def forward(self, x):
        return self.mean(self.batch(self.conv(x) * 2.0))


class MaxMaxSum(_Chain):  # 78
    def forward(self, x):
        return torch.sum(self.pool2(self.pool1(self.conv(x))), dim=1, keepdim=True)


class PoolSoftmaxMax(_Chain):  # 89
    def forward(self, x):
        y = torch.softmax(self.pool(self.conv(x)), dim=1)
        y = y - self.operand.view(1, -1, 1, 1, 1)
        return torch.max(torch.sigmoid(y) * y, dim=1)[0]


class SoftmaxBias(_Chain):  # 91
    def forward(self, x):
        return torch.sigmoid((F.softmax(self.conv(x), dim=1) + self.operand) * 2.0)


class AddMinGelu(_Chain):  # 93
    def forward(self, x):
        return F.gelu((self.conv(x) + 0.5).clamp(max=0.0)) * 2.0


class ScaleMaxMean(_Chain):  # 96
    def forward(self, x):
        return torch.clamp(self.mean(self.pool(self.conv(x) * 0.5)), min=0, max=1)


class ClampDivide(_Chain):  # 100
    def forward(self, x):
        return torch.clamp(self.conv(x), min=-1.0) / 2.0


def _2d(ci, co, k, s=1, p=0, op=0):
    return nn.ConvTranspose2d(ci, co, k, s, p, op)


def _3d(ci, co, k, s=1, p=0, op=0, bias=True):
    return nn.ConvTranspose3d(ci, co, k, s, p, op, bias=bias)


CHAINS = {
    2: lambda: ClampScale(_2d(64, 64, 3, 2, 1, 1), (64, 1, 1)),
    3: lambda: SumNormPool(_3d(32, 64, 3, 2, 1, 1), (), norm=nn.LayerNorm((64,)), pool=nn.AvgPool3d(2), gelu=nn.GELU()),
    5: lambda: SubtractTanh(_2d(64, 64, 4, 2, 1, 1), (64, 1, 1)),
    10: lambda: PoolClampMean(_2d(64, 64, 3, 1, 1), pool=nn.MaxPool2d(2, 2), hardtanh=nn.Hardtanh(-1, 1)),
    11: lambda: NormTanhPoolNorm(
        _2d(64, 128, 5, 1, 1), batch=nn.BatchNorm2d(128), tanh=nn.Tanh(), pool=nn.MaxPool2d(2, 2),
        group=nn.GroupNorm(8, 128),
    ),
    13: lambda: MeanSoftmax(_3d(16, 64, 3, 1, 1), (1, 64, 1, 1, 1)),
    15: lambda: NormCenter(_3d(16, 32, 3, 2, 1), batch=nn.BatchNorm3d(32)),
    16: lambda: MishAdd(_2d(64, 64, 3, 2, 1, 1)),
    19: lambda: GeluGroupNorm(_2d(64, 64, 3), group=nn.GroupNorm(8, 64)),
    20: lambda: Residuals(_3d(32, 64, 3, 2, 1, 1), (64, 1, 1, 1)),
    26: lambda: AddHardswish(_3d(32, 64, 3, 2, 1, 1)),
    34: lambda: NormGelu(_3d(32, 64, 4, 2, 1), norm=nn.LayerNorm(64, eps=1e-5)),
    36: lambda: MinSum(_2d(64, 128, 3, 2, 1, 1), (1, 1, 1)),
    38: lambda: SoftmaxOverSpace(_3d(32, 64, 3, 2, 1, 1), (1, 64, 1, 1, 1), pool=nn.AvgPool3d(2)),
    42: lambda: MeanLogSumExp(_2d(64, 128, 3), (128, 1, 1)),
    44: lambda: MultiplyMeans(_2d(64, 128, 3, 2, 1, 1)),
    49: lambda: SoftmaxSigmoid(_3d(32, 64, 3, 2, 1, 1), softmax=nn.Softmax(dim=1), sigmoid=nn.Sigmoid()),
    50: lambda: ScalePoolBias(
        _3d(3, 16, 3, 2, 1), (16, 1, 1, 1), pool=nn.AvgPool3d(2), scale=nn.Parameter(torch.tensor(0.5)),
        scale2=nn.Parameter(torch.tensor(1.0)),
    ),
    58: lambda: LogSumExp(_3d(3, 16, 3, 2, 1), (1, 1, 1, 1)),
    60: lambda: SwishGroupNorm(_3d(3, 16, 3, 2, 1), group=nn.GroupNorm(4, 16, eps=1e-5)),
    61: lambda: ReluGroupNorm(_3d(64, 128, 3, bias=False), relu=nn.ReLU(), group=nn.GroupNorm(8, 128)),
    72: lambda: NormPools(_3d(3, 16, 3, 2, 1), batch=nn.BatchNorm3d(16), pool1=nn.AvgPool3d(2), pool2=nn.AvgPool3d(2)),
    74: lambda: LeakyTwiceMax(_3d(16, 32, 3, 2, 1, 1), (32, 1, 1, 1), leaky=nn.LeakyReLU(0.2), pool=nn.MaxPool3d(2)),
    77: lambda: ScaleNormMean(_3d(64, 128, 5), batch=nn.BatchNorm3d(128), mean=nn.AdaptiveAvgPool3d((1, 1, 1))),
    78: lambda: MaxMaxSum(_3d(32, 64, 5, 2, 2), pool1=nn.MaxPool3d(2), pool2=nn.MaxPool3d(3)),
    89: lambda: PoolSoftmaxMax(_3d(3, 16, 3, 2, 1, 1), (16,), pool=nn.MaxPool3d(2, 2)),
    91: lambda: SoftmaxBias(_2d(64, 128, 4, 2, 1, 1), (128, 1, 1)),
    93: lambda: AddMinGelu(_2d(64, 128, 4, 2)),
    96: lambda: ScaleMaxMean(_3d(3, 16, 3, 2, 1), pool=nn.MaxPool3d(2), mean=nn.AdaptiveAvgPool3d(1)),
    100: lambda: ClampDivide(_3d(64, 128, 3, 2, 1)),
}  # fmt: skip

#: Inputs scaled for a CPU: batch and space are smaller than KernelBench's, channels the same. LayerNorm over the last
#: dimension wants a width of 64 there, so 3 and 34 keep theirs.
_BENCH = {
    2: (4, 64, 64, 64), 3: (2, 32, 8, 16, 32), 5: (2, 64, 96, 96), 10: (2, 64, 96, 96), 11: (16, 64, 32, 32),
    13: (1, 16, 32, 64, 64), 15: (4, 16, 16, 32, 32), 16: (4, 64, 64, 64), 19: (4, 64, 96, 96),
    20: (2, 32, 16, 32, 32), 26: (8, 32, 16, 16, 16), 34: (2, 32, 8, 16, 32), 36: (2, 64, 64, 64),
    38: (2, 32, 32, 32, 32), 42: (2, 64, 128, 128), 44: (4, 64, 64, 64), 49: (2, 32, 16, 32, 32),
    50: (16, 3, 16, 32, 32), 58: (16, 3, 16, 32, 32), 60: (16, 3, 16, 32, 32), 61: (2, 64, 16, 16, 16),
    72: (8, 3, 32, 32, 32), 74: (4, 16, 16, 32, 32), 77: (2, 64, 8, 16, 16), 78: (2, 32, 16, 16, 16),
    89: (16, 3, 16, 32, 32), 91: (8, 64, 48, 48), 93: (8, 64, 48, 48), 96: (16, 3, 16, 32, 32),
    100: (2, 64, 12, 24, 24),
}  # fmt: skip


#: KernelBench's own sizes.
_FULL = {
    2: (128, 64, 128, 128), 3: (32, 32, 16, 32, 32), 5: (32, 64, 256, 256), 10: (128, 64, 256, 256),
    11: (512, 64, 32, 32), 13: (16, 16, 32, 128, 128), 15: (16, 16, 16, 32, 32), 16: (128, 64, 128, 128),
    19: (128, 64, 256, 256), 20: (16, 32, 16, 32, 32), 26: (128, 32, 16, 16, 16), 34: (32, 32, 16, 32, 32),
    36: (16, 64, 128, 128), 38: (32, 32, 32, 64, 64), 42: (16, 64, 512, 512), 44: (16, 64, 128, 128),
    49: (16, 32, 16, 32, 32), 50: (128, 3, 16, 32, 32), 58: (128, 3, 16, 32, 32), 60: (128, 3, 16, 32, 32),
    61: (16, 64, 32, 32, 32), 72: (64, 3, 32, 32, 32), 74: (16, 16, 16, 32, 32), 77: (16, 64, 16, 32, 32),
    78: (16, 32, 32, 32, 32), 89: (128, 3, 16, 32, 32), 91: (128, 64, 64, 64), 93: (128, 64, 64, 64),
    96: (128, 3, 16, 32, 32), 100: (16, 64, 24, 48, 48),
}  # fmt: skip


def shapes(number: int, size: str = "bench") -> list[tuple[int, ...]]:
    """Shapes of the inputs, ``size`` "full", "bench" or "test" (about a thousandth of the work of "bench")."""
    n, c, *space = (_FULL if size == "full" else _BENCH)[number]
    if size == "test":
        n = min(n, 3)
        space = [max(4, s // 5) for s in space]
        if number in (3, 34):
            space[-1] = 32  # the norm is over 64 outputs
    first = (n, c, *space)
    if number != 26:
        return [first]
    return [first, (n, 64, *(2 * s for s in space))]


class UNet(nn.Module):
    """A U-Net: each step up is concatenated with what came down. KernelBench's of level 3 has ``channels`` 64,
    ``scales`` 4, 8 channels in and inputs of (8, 8, 64, 512)."""

    def __init__(self, channels: int = 8, classes: int = 4, scales: int = 3, given: int = 3):
        super().__init__()
        widths = [channels << i for i in range(scales)]
        self.down = nn.ModuleList(_double(i, o) for i, o in zip([given, *widths[:-1]], widths, strict=True))
        self.pool = nn.MaxPool2d(2, 2)
        self.bottom = _double(widths[-1], 2 * widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths))
        self.join = nn.ModuleList(_double(2 * w, w) for w in reversed(widths))
        self.head = nn.Conv2d(channels, classes, 1)

    def forward(self, x):
        kept = []
        for down in self.down:
            x = down(x)
            kept.append(x)
            x = self.pool(x)
        y = self.bottom(x)
        for up, join in zip(self.up, self.join, strict=True):
            y = join(torch.cat((up(y), kept.pop()), dim=1))
        return self.head(y)


def _double(i, o):
    return nn.Sequential(
        nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.Softmax(dim=-1),
        nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.Softmax(dim=-1),
    )  # fmt: skip
