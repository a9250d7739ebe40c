"""Problem files for the tests of upconv.export, by name: small enough for the emulator when called with small inputs,
with the sizes of real layers where kernels are chosen."""

from __future__ import annotations

from pathlib import Path

_TEMPLATE = '''import torch
import torch.nn as nn


class Model(nn.Module):
    """A layer of the tests."""

    def __init__(self, in_channels, out_channels, kernel_size, **options):
        super(Model, self).__init__()
        self.conv_transpose = nn.ConvTranspose{rank}d(in_channels, out_channels, kernel_size, {options})
{more}
    def forward(self, x):
        return {forward}


batch_size = {batch}


def get_inputs():
    return [torch.rand(batch_size, {channels}, {size})]


def get_init_inputs():
    return [{channels}, {out}, {kernel!r}]
'''


def text(rank, batch, channels, out, size, kernel, options="", more="", forward="self.conv_transpose(x)") -> str:
    return _TEMPLATE.format(rank=rank, batch=batch, channels=channels, out=out, size=", ".join(map(str, size)),
                            kernel=kernel, options=options, more=more,
                            forward=forward).replace(", **options", "")  # fmt: skip


#: name: (problem text, batches and sizes to run it with)
PROBLEMS = {
    "dense_2d": (text(2, 8, 16, 16, (256, 256), 3), [(1, 5, 9), (2, 17, 3)]),
    "strided_1d": (text(1, 16, 16, 24, (65536,), 4, "stride=2, padding=1, bias=True"), [(1, 33), (3, 70)]),
    "dilated_1d": (text(1, 16, 32, 16, (65536,), 3, "stride=2, padding=1, dilation=2, bias=False"),
                   [(2, 19), (1, 1)]),
    "few_3d": (text(3, 16, 3, 8, (16, 32, 32), 3, "stride=2, padding=1, output_padding=1"),
               [(1, 2, 3, 5), (2, 3, 1, 9)]),
    "grouped_2d": (text(2, 16, 16, 32, (64, 64), (3, 5), "stride=(2, 3), padding=(1, 2), groups=4, dilation=(2, 1)"),
                   [(1, 4, 7), (2, 3, 11)]),
    "far_2d": (text(2, 16, 16, 16, (64, 128), 3, "stride=5, padding=1, dilation=2, bias=False"),
               [(1, 5, 6), (2, 2, 9)]),
    "activated_2d": (text(2, 8, 16, 16, (128, 128), 3, "stride=2", "        self.act = nn.LeakyReLU(0.2)\n",
                          "torch.tanh(self.act(self.conv_transpose(x)))"), [(1, 5, 9), (2, 3, 3)]),
    "normed_2d": (text(2, 8, 16, 16, (64, 64), 3, "groups=2",
                       "        self.act = nn.GELU()\n        self.norm = nn.GroupNorm(4, out_channels)\n",
                       "self.norm(self.act(self.conv_transpose(x)))"), [(2, 5, 9), (3, 4, 4)]),
    "depthwise_2d": (text(2, 8, 32, 32, (64, 64), 4, "stride=2, padding=1, groups=32"), [(1, 5, 9), (2, 8, 8)]),
    "many_taps_1d": (text(1, 8, 16, 8, (4096,), 300, "stride=7, padding=5"), [(1, 11), (2, 40)]),
}  # fmt: skip


def write(name: str, folder: Path) -> Path:
    path = folder / f"{name}.py"
    path.write_text(PROBLEMS[name][0])
    return path
