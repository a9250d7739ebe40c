"""ConvTranspose2d 64 -> 64, kernel 3, then GELU, then GroupNorm(8), batch 128, 256x256 (KernelBench L2/19).

Run by `upconv demo`, with 8 groups in the convolution and with 1.
"""

import torch
from torch import nn

VARIANTS = {"groups 8": {"groups": 8}, "groups 1": {"groups": 1}}
SIZES_ON_CPU = {"batch": 4, "height": 128, "width": 128}


class Model(nn.Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        groups: int,
        norm_groups: int,
    ) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, kernel_size, stride=stride, groups=groups)
        self.activation = nn.GELU()
        self.norm = nn.GroupNorm(norm_groups, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.activation(self.conv(x)))


def get_inputs(batch: int = 128, height: int = 256, width: int = 256) -> list[torch.Tensor]:
    return [torch.rand(batch, 64, height, width)]


def get_init_inputs(groups: int = 8) -> list:
    return [64, 64, 3, 1, groups, 8]
