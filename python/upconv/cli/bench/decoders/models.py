"""Five models with transposed convolutions as published, written as their authors would, with random weights.

What `upconv bench --decoders` measures and tests/fusion compares with float64. Every configuration is the published one
at size "full"; "bench" is smaller for a CPU, "test" smaller still, both in what the model is given and, for "test", in
its channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


class _Residual(nn.Module):
    """HiFi-GAN's residual block of type 1: three pairs of convolutions, the first of each dilated."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()
        conv = lambda d: nn.Conv1d(channels, channels, kernel, dilation=d, padding=d * (kernel - 1) // 2)  # noqa: E731
        self.convs1 = nn.ModuleList(conv(d) for d in dilations)
        self.convs2 = nn.ModuleList(conv(1) for _ in dilations)

    def forward(self, x):
        for first, second in zip(self.convs1, self.convs2, strict=True):
            y = first(nn.functional.leaky_relu(x, 0.1))
            x = x + second(nn.functional.leaky_relu(y, 0.1))
        return x


class HifiGan(nn.Module):
    """HiFi-GAN's generator V1 (Kong, Kim and Bae 2020): mel spectrograms of 80 bands to 256 samples a frame."""

    def __init__(self, channels: int = 512, bands: int = 80):
        super().__init__()
        self.conv_pre = nn.Conv1d(bands, channels, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in ((8, 16), (8, 16), (2, 4), (2, 4)):
            self.ups.append(nn.ConvTranspose1d(channels, channels // 2, kernel, rate, (kernel - rate) // 2))
            channels //= 2
            self.resblocks.append(nn.ModuleList(_Residual(channels, k, (1, 3, 5)) for k in (3, 7, 11)))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3)

    def forward(self, x):
        x = self.conv_pre(x)
        for up, blocks in zip(self.ups, self.resblocks, strict=True):
            x = up(nn.functional.leaky_relu(x, 0.1))
            xs = None
            for block in blocks:
                if xs is None:
                    xs = block(x)
                else:
                    xs = xs + block(x)
            x = xs / len(blocks)
        return torch.tanh(self.conv_post(nn.functional.leaky_relu(x)))


class _LayerNorm2d(nn.Module):
    """SAM's norm over channels."""

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels)), eps

    def forward(self, x):
        u = x.mean(1, keepdim=True)
        s = (x - u).pow(2).mean(1, keepdim=True)
        x = (x - u) / torch.sqrt(s + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


def sam_upscaling(channels: int = 256) -> nn.Module:
    """`output_upscaling` of SAM's mask decoder (Kirillov et al. 2023): 64x64 embeddings to masks of 256x256."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, channels // 4, 2, 2), _LayerNorm2d(channels // 4), nn.GELU(),
        nn.ConvTranspose2d(channels // 4, channels // 8, 2, 2), nn.GELU(),
    )  # fmt: skip


class NnUnetDecoder(nn.Module):
    """The decoder of nnU-Net's 3-D full resolution network (Isensee et al. 2021) for patches of 128x128x128: takes the
    encoder's features, deepest first."""

    def __init__(self, widths: tuple[int, ...] = (320, 320, 256, 128, 64, 32), classes: int = 3):
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.ups = nn.ModuleList(nn.ConvTranspose3d(below, skip, 2, 2) for below, skip in pairs)
        self.stages = nn.ModuleList(nn.Sequential(*_conv_norm(2 * w, w), *_conv_norm(w, w)) for w in widths[1:])
        self.head = nn.Conv3d(widths[-1], classes, 1)

    def forward(self, skips):
        x = skips[0]
        for i in range(len(self.stages)):
            x = self.stages[i](torch.cat((self.ups[i](x), skips[i + 1]), 1))
        return self.head(x)


def _conv_norm(i: int, o: int) -> tuple[nn.Module, ...]:
    return nn.Conv3d(i, o, 3, padding=1), nn.InstanceNorm3d(o, 1e-5, affine=True), nn.LeakyReLU(0.01, inplace=True)


def dcgan(channels: int = 64, noise: int = 100) -> nn.Module:
    """DCGAN's generator (Radford, Metz and Chintala 2016) of images of 64x64."""
    layers, i = [], noise
    for n, o in enumerate((8 * channels, 4 * channels, 2 * channels, channels)):
        stride, padding = (2, 1) if n else (1, 0)
        layers += [nn.ConvTranspose2d(i, o, 4, stride, padding, bias=False), nn.BatchNorm2d(o), nn.ReLU(True)]
        i = o
    return nn.Sequential(*layers, nn.ConvTranspose2d(i, 3, 4, 2, 1, bias=False), nn.Tanh())


class Unet(nn.Module):
    """U-Net (Ronneberger, Fischer and Brox 2015), its convolutions padded so that sizes stay, as it is mostly used."""

    def __init__(self, channels: int = 64, given: int = 1, classes: int = 2):
        super().__init__()
        widths = [channels << i for i in range(5)]
        self.down = nn.ModuleList(_double(i, o) for i, o in zip([given, *widths], widths, strict=False))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths[:-1]))
        self.join = nn.ModuleList(_double(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(channels, classes, 1)

    def forward(self, x):
        kept = []
        for n, down in enumerate(self.down):
            x = down(self.pool(x) if n else x)
            kept.append(x)
        kept.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat((kept.pop(), up(x)), 1))
        return self.head(x)


def _double(i: int, o: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU(True), nn.Conv2d(o, o, 3, padding=1), nn.ReLU(True))


def _features(side: int, widths: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes of an encoder's features for a cube of `side`, deepest first."""
    return [(1, w, *[side >> (len(widths) - 1 - i)] * 3) for i, w in enumerate(widths)]


@dataclass(frozen=True)
class Decoder:
    title: str
    make: Callable[[str], nn.Module]  #: of a size
    shapes: Callable[[str], list[tuple[int, ...]]]  #: of its inputs, of a size
    trained: bool  #: whether training steps are measured too

    def build(self, size: str, seed: int = 0) -> tuple[nn.Module, tuple]:
        """The model, in evaluation mode, and its arguments, on the CPU: a tensor, or a list of several."""
        torch.manual_seed(seed)
        model, tensors = self.make(size).eval(), [torch.randn(shape) for shape in self.shapes(size)]
        return model, (tensors[0],) if len(tensors) == 1 else (tensors,)


_NARROW = (32, 32, 24, 16, 8, 4)
DECODERS = {
    "hifigan": Decoder(
        "HiFi-GAN V1, 10 s of audio", lambda s: HifiGan(32 if s == "test" else 512),
        lambda s: [(1, 80, {"full": 861, "bench": 48, "test": 5}[s])], False,
    ),
    "sam": Decoder(
        "SAM's mask decoder, its upscaling", lambda s: sam_upscaling(32 if s == "test" else 256),
        lambda s: [(1, 32, 9, 7) if s == "test" else (1, 256, 64, 64)], False,
    ),
    "nnunet": Decoder(
        "nnU-Net's 3-D decoder", lambda s: NnUnetDecoder(_NARROW) if s == "test" else NnUnetDecoder(),
        lambda s: _features({"full": 128, "bench": 64, "test": 32}[s],
                            _NARROW if s == "test" else (320, 320, 256, 128, 64, 32)), True,
    ),
    "dcgan": Decoder(
        "DCGAN's generator", lambda s: dcgan(8 if s == "test" else 64),
        lambda s: [({"full": 64, "bench": 16, "test": 3}[s], 100, 1, 1)], True,
    ),
    "unet": Decoder(
        "U-Net", lambda s: Unet(4 if s == "test" else 64),
        lambda s: [{"full": (4, 1, 256, 256), "bench": (1, 1, 128, 128), "test": (2, 1, 32, 48)}[s]], True,
    ),
}  # fmt: skip
