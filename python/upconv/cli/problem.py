"""One transposed convolution as a line of text, in the grammar of include/upconv/problem.hpp, and its sizes.

Used by the commands `bench` and `explain`; the engine itself parses the same lines in C++.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

DTYPE_BYTES = {"f32": 4, "f64": 8, "f16": 2, "bf16": 2}
PRECISIONS = ("ieee", "tf32", "bf16x3")
_EXTENTS = {
    "i": "input",
    "k": "kernel",
    "s": "stride",
    "p": "padding",
    "op": "output_padding",
    "d": "dilation",
}
_NUMBERS = {"n": "batch", "c": "in_channels", "o": "out_channels", "g": "groups"}
_LAYOUTS = {"xl": "x", "wl": "w", "yl": "y"}
_DEFAULTS = {"input": 1, "kernel": 1, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}


class ProblemError(ValueError):
    """A line that is no problem; the message says which word and what was expected."""


@dataclass(frozen=True)
class Problem:
    """In the vocabulary of the transposed operator: x (input), w (C_in, C_out / groups, *kernel), y."""

    rank: int
    batch: int = 1
    in_channels: int = 1
    out_channels: int = 1
    input: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False
    dtype: str = "f32"
    precision: str = "ieee"
    channels_last: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        for name, value in _DEFAULTS.items():
            if not getattr(self, name):
                object.__setattr__(self, name, (value,) * self.rank)

    @property
    def output(self) -> tuple[int, ...]:
        return tuple(
            (i - 1) * s - 2 * p + d * (k - 1) + op + 1
            for i, k, s, p, op, d in zip(
                self.input,
                self.kernel,
                self.stride,
                self.padding,
                self.output_padding,
                self.dilation,
                strict=True,
            )
        )

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.in_channels, *self.input)

    @property
    def w_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.out_channels, *self.output)

    @property
    def flop(self) -> int:
        """Operations of the definition; forward, dx and dw need as many each."""
        return 2 * math.prod(self.x_shape) * (self.out_channels // self.groups) * math.prod(self.kernel)

    @property
    def min_bytes(self) -> int:
        """Each of x, w and y moved once: the least any of forward, dx and dw can do."""
        elements = math.prod(self.x_shape) + math.prod(self.w_shape) + math.prod(self.y_shape)
        return elements * DTYPE_BYTES[self.dtype]

    def short(self) -> str:
        """The line without what is default: '2d n8 c64 o64 i1024 k3 f32'."""
        words = [f"{self.rank}d", f"n{self.batch}", f"c{self.in_channels}", f"o{self.out_channels}"]
        for key, name in _EXTENTS.items():
            value = getattr(self, name)
            if name in ("input", "kernel") or set(value) != {_DEFAULTS[name]}:
                one = len(set(value)) == 1 and name != "input"
                words.append(key + (str(value[0]) if one else "x".join(map(str, value))))
        words += [f"g{self.groups}"] * (self.groups != 1) + ["b"] * self.bias + [self.dtype]
        words += [self.precision] * (self.precision != "ieee")
        return " ".join(words + [key for key, name in _LAYOUTS.items() if name in self.channels_last])

    def __str__(self) -> str:
        """The whole line, as upconv::to_string writes it."""
        words = [f"{self.rank}d", f"n{self.batch}", f"c{self.in_channels}", f"o{self.out_channels}"]
        words += [key + "x".join(map(str, getattr(self, name))) for key, name in _EXTENTS.items()]
        words += [f"g{self.groups}"] + ["b"] * self.bias + [self.dtype]
        words += [self.precision] * (self.precision != "ieee")
        return " ".join(words + [key for key, name in _LAYOUTS.items() if name in self.channels_last])


def parse_problem(text: str) -> Problem:
    """Read a line such as '3d n4 c32 o32 i32x64x128 k3 s2 p1 g4 b f32'; one number serves all dimensions."""
    words = text.split()
    if not words or words[0] not in ("1d", "2d", "3d"):
        got = repr(words[0]) if words else "nothing"
        raise ProblemError(f"a problem starts with 1d, 2d or 3d, but got {got} in {text!r}")
    rank = int(words[0][0])
    values: dict = {}
    for word in words[1:]:
        if word == "b":
            values["bias"] = True
        elif word in DTYPE_BYTES:
            values["dtype"] = word
        elif word in PRECISIONS:
            values["precision"] = word
        elif word in _LAYOUTS:
            values["channels_last"] = values.get("channels_last", frozenset()) | {_LAYOUTS[word]}
        else:
            name, value = _parse_sizes(word, rank, text)
            values[name] = value
    return Problem(rank=rank, **values)


def _parse_sizes(word: str, rank: int, text: str) -> tuple[str, int | tuple[int, ...]]:
    key = word[:2] if word.startswith("op") else word[:1]
    numbers = word[len(key) :].split("x")
    if key not in _EXTENTS | _NUMBERS or not all(n.removeprefix("-").isdecimal() for n in numbers):
        raise ProblemError(
            f"{word!r} is no part of a problem such as '2d n8 c64 o64 i32x32 k3 s2 p1 b f32' (in {text!r})"
        )
    sizes = tuple(map(int, numbers))
    if key in _NUMBERS:
        if len(sizes) != 1:
            raise ProblemError(f"{word!r}: {_NUMBERS[key]} is one number (in {text!r})")
        return _NUMBERS[key], sizes[0]
    if len(sizes) not in (1, rank):
        raise ProblemError(f"{word!r}: {_EXTENTS[key]} of a {rank}d problem has 1 or {rank} numbers (in {text!r})")
    return _EXTENTS[key], sizes * rank if len(sizes) == 1 else sizes
