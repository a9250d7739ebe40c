"""ConvTranspose2d 32 -> 64, kernel 3, stride 5, padding 1, dilation 2, batch 16, 64x128 (KernelBench L1/81).

Run by `upconv demo`. 16 of the 25 output phases have no tap at all: the layer mostly writes its output.
"""

import torch
from torch import nn

VARIANTS = {"": {}}
SIZES_ON_CPU = {"batch": 2, "height": 48, "width": 96}


class Model(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int, dilation: int
    ) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            bias=False,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def get_inputs(batch: int = 16, height: int = 64, width: int = 128) -> list[torch.Tensor]:
    return [torch.rand(batch, 32, height, width)]


def get_init_inputs() -> list:
    return [32, 64, 3, 5, 1, 2]
