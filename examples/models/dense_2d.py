"""ConvTranspose2d 64 -> 64, kernel 3, no bias, batch 8, 1024x1024: the plain dense layer (KernelBench L1/57).

Run by `upconv demo`. The form is KernelBench's: Model, get_inputs(), get_init_inputs().
"""

import torch
from torch import nn

VARIANTS = {"": {}}
SIZES_ON_CPU = {"batch": 2, "height": 192, "width": 192}


class Model(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, kernel_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def get_inputs(batch: int = 8, height: int = 1024, width: int = 1024) -> list[torch.Tensor]:
    return [torch.rand(batch, 64, height, width)]


def get_init_inputs() -> list:
    return [64, 64, 3]
