"""ConvTranspose2d 64 -> 64, batch 8, with every parameter in use: nothing is left at its default.

Run by `upconv demo`. Kernel, stride, padding, output_padding, dilation differ by dimension; 4 groups; bias.
"""

import torch
from torch import nn

VARIANTS = {"": {}}
SIZES_ON_CPU = {"batch": 2, "height": 128, "width": 96}


class Model(nn.Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        output_padding: tuple[int, int],
        groups: int,
        dilation: tuple[int, int],
    ) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, True, dilation
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def get_inputs(batch: int = 8, height: int = 512, width: int = 384) -> list[torch.Tensor]:
    return [torch.rand(batch, 64, height, width)]


def get_init_inputs() -> list:
    return [64, 64, (3, 5), (2, 3), (1, 2), (1, 2), 4, (2, 1)]
