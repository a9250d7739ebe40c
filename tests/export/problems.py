"""Problem files for the tests of upconv.export, by name: small enough for the emulator when called with small inputs,
with the sizes of real layers where kernels are chosen."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

from upconv.cli.bench.chains.models import CHAINS, UNet, _double, shapes
from upconv.cli.shapes import read_shapes

SHAPES = Path(__file__).resolve().parents[1] / "shapes"

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
    "wide_2d": (text(2, 8, 64, 64, (1024, 1024), 3, "bias=False"), [(2, 6, 16), (1, 3, 9)]),
    "wide_far_2d": (text(2, 16, 32, 64, (64, 128), 3, "stride=5, padding=1, dilation=2, bias=False"),
                    [(2, 3, 8), (1, 4, 5)]),
    "wide_3d": (text(3, 4, 32, 32, (32, 64, 128), 3, "stride=2, padding=1, groups=4, bias=False"),
                [(1, 2, 3, 8), (2, 3, 2, 5)]),
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
    "averaged_2d": (text(2, 8, 16, 24, (64, 64), (3, 5),
                         "stride=(2, 3), padding=(4, 1), output_padding=(1, 2), dilation=(3, 1), groups=2", "",
                         "torch.tanh(2 * self.conv_transpose(x).mean(dim=2, keepdim=True))"),
                    [(2, 2, 4), (1, 9, 40), (2, 3, 1024)]),
    "averaged_3d": (text(3, 4, 8, 16, (16, 16, 16), (4, 3, 2), "stride=2, padding=(1, 0, 1)", "",
                         "torch.tanh(self.conv_transpose(x).mean(dim=(3, 4)))"), [(2, 3, 4, 7), (1, 1, 2, 2)]),
    # The last two sizes of each: too wide or too narrow for the boxes that the kernels were chosen with.
    "narrow_boxes_1d": (text(1, 1, 32, 80, (256,), 11, "stride=2, padding=4, output_padding=1, groups=2"),
                        [(1, 13), (2, 46)]),
    "narrow_lines_1d": (text(1, 4, 16, 16, (32,), 7, "stride=2, padding=4, dilation=2, bias=False"),
                        [(4, 17), (4, 4), (4, 55), (4, 6)]),
    "narrow_boxes_2d": (text(2, 4, 8, 64, (14, 14), 3, "padding=(0, 2), dilation=2"), [(2, 3, 46), (1, 14, 5)]),
    "narrow_boxes_3d": (text(3, 4, 32, 32, (32, 16, 6), 3, "stride=2, padding=(0, 2, 2), dilation=2, bias=False"),
                        [(1, 3, 16, 1), (1, 2, 3, 9)]),
    # A row longer than the tiles of the forward's kernel take.
    "long_rows_2d": (text(2, 16, 32, 8, (56, 14), 3, "dilation=2", "        self.act = nn.LeakyReLU(0.2)\n",
                          "torch.tanh(self.act(self.conv_transpose(x)))"), [(1, 5, 9), (1, 3, 112)]),
    # Chosen for one sample, over which a parameter lies as it does over more.
    "placed_2d": (text(2, 1, 8, 24, (8, 8), 4, "stride=2, padding=1",
                       "        self.place = nn.Parameter(torch.randn(1, out_channels, 16, 16))\n",
                       "torch.tanh(self.conv_transpose(x) + self.place)"), [(1, 8, 8), (3, 8, 8)]),
    # Steps before the layer that read what those after it do not.
    "before_2d": (text(2, 4, 8, 24, (16, 16), 3, "stride=2, padding=1",
                       "        self.scale = nn.Parameter(torch.randn(in_channels, 1, 1))\n"
                       "        self.shift = nn.Parameter(torch.randn(out_channels, 1, 1))\n"
                       "        self.norm = nn.BatchNorm2d(out_channels)\n",
                       "self.norm(torch.relu(self.conv_transpose(torch.relu(x * self.scale)) + self.shift))"),
                  [(2, 5, 9), (3, 4, 4)]),
    "depthwise_2d": (text(2, 8, 32, 32, (64, 64), 4, "stride=2, padding=1, groups=32"), [(1, 5, 9), (2, 8, 8)]),
    "many_taps_1d": (text(1, 8, 16, 8, (4096,), 300, "stride=7, padding=5"), [(1, 11), (2, 40)]),
}  # fmt: skip


def level_2(number: int) -> str:
    """A chain of KernelBench level 2 as a problem file, at its own sizes."""
    model = CHAINS[number]()
    lines = []
    for name, module in model.named_children():
        lines.append(f"        self.{name} = nn.{module!r}")
    for name, parameter in model.named_parameters(recurse=False):
        size = ", ".join(map(str, parameter.shape))
        made = f"torch.randn({size}) * 0.5" if size else f"torch.tensor({parameter.item()})"
        lines.append(f"        self.{name} = nn.Parameter({made})")
    forward = textwrap.dedent(inspect.getsource(type(model).forward)).replace("def ", "    def ", 1)
    forward = forward.replace("\n    ", "\n        ").rstrip()
    inputs = ", ".join(f"torch.rand({', '.join(map(str, shape))})" for shape in shapes(number, "full"))
    return f"""import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, channels):
        super().__init__()
{chr(10).join(lines)}

{forward}


def get_inputs():
    return [{inputs}]


def get_init_inputs():
    return [{model.conv.in_channels}]
"""


def u_net() -> str:
    """The U-Net of KernelBench level 3."""
    parts = "\n\n".join(inspect.getsource(part) for part in (UNet, _double))
    return f"""import torch
import torch.nn as nn


{parts.replace("class UNet", "class Model")}

def get_inputs():
    return [torch.rand(8, 8, 64, 512)]


def get_init_inputs():
    return [64, 4, 4, 8]
"""


def level_1(name: str) -> str:
    """A layer of KernelBench level 1 as a problem file, at its own sizes."""
    rows = {row.id: row for row in read_shapes(SHAPES / "kernelbench-l1.txt")}
    p = rows[name].problem
    options = {"stride": p.stride, "padding": p.padding, "output_padding": p.output_padding, "dilation": p.dilation}
    listed = [f"{key}={tuple(value)}" for key, value in options.items()]
    return text(p.rank, p.batch, p.in_channels, p.out_channels, p.input, tuple(p.kernel),
                ", ".join([*listed, f"groups={p.groups}", f"bias={p.bias}"]))  # fmt: skip


def written(name: str) -> str:
    """The text of a problem: of level 1 to 3 of KernelBench ("L1/57"), or a name of PROBLEMS."""
    if name.startswith("L1/"):
        return level_1(name)
    return {"L2": lambda: level_2(int(name[3:])), "L3": u_net}.get(name[:2], lambda: PROBLEMS[name][0])()


def write(name: str, folder: Path) -> Path:
    path = folder / f"{name.replace('/', '_')}.py"
    path.write_text(written(name))
    return path
