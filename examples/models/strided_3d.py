"""ConvTranspose3d 32 -> 32, kernel 3, stride 2, padding 1, batch 4, 32x64x128 (KernelBench L1/73).

Run by `upconv demo`, with 4 groups and with 1.
"""

import torch
from torch import nn

VARIANTS = {"groups 4": {"groups": 4}, "groups 1": {"groups": 1}}
SIZES_ON_CPU = {"batch": 2, "depth": 12, "height": 24, "width": 48}


class Model(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int, groups: int
    ) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose3d(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, groups=groups, bias=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def get_inputs(batch: int = 4, depth: int = 32, height: int = 64, width: int = 128) -> list[torch.Tensor]:
    return [torch.rand(batch, 32, depth, height, width)]


def get_init_inputs(groups: int = 4) -> list:
    return [32, 32, 3, 2, 1, groups]
