# ConvTranspose1d/2d/3d as torch.nn has them, computed by upconv: same constructor, parameters, state_dict and repr.
# Called by users and by optimize.
"""Drop-in modules for ``torch.nn.ConvTranspose{1,2,3}d``.

Everything but the computation is torch.nn's own: arguments, initialisation for a seed, parameters, ``state_dict``,
``repr``, ``output_size``, unbatched input, and what is raised when an argument is wrong.
"""

from __future__ import annotations

import inspect

from torch import nn

from . import _precision
from ._call import _is_compiling, run
from .functional import _whole

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

_INTEGERS = frozenset({int})


class _Forward:
    """The forward of all three."""

    #: Of float32 products on CUDA: "torch", "ieee", "tf32" or "bf16x3" (see upconv.functional). May be set on an
    #: instance; it is no part of the state_dict.
    precision = "torch"

    def __init__(self, *args, precision: str = "torch", **kwargs):
        super().__init__(*args, **kwargs)
        _precision.code(precision, None)
        if precision != "torch":
            self.precision = precision

    def extra_repr(self):
        text = super().extra_repr()
        return text if self.precision == "torch" else f"{text}, precision={self.precision}"

    def forward(self, input, output_size=None):
        if self.padding_mode != "zeros":
            raise ValueError(f"Only `zeros` padding mode is supported for {type(self).__name__}")
        output_padding = self.output_padding
        if output_size is not None:
            output_padding = self._output_padding(
                input, output_size, self.stride, self.padding, self.kernel_size, len(self.kernel_size), self.dilation
            )
        return self._run(input, (*self.stride, *self.padding, *output_padding, *self.dilation, self.groups))

    def _geometry(self, input, geometry):
        if not _is_compiling() and not _INTEGERS.issuperset(map(type, geometry)):
            geometry = self._whole(geometry)
        return (*geometry, _precision.code(self.precision, input))

    def _run(self, input, geometry):
        return run(len(self.kernel_size), input, self.weight, self.bias, self._geometry(input, geometry))

    def _whole(self, geometry):
        """Other integers as such; what torch's function refuses (booleans among it) is refused in its words."""
        name = f"conv_transpose{len(self.kernel_size)}d"
        *lists, groups = geometry
        n = len(lists) // 4
        kinds = [what for what in ("stride", "padding", "output_padding", "dilation") for _ in range(n)]
        numbers = (_whole(v, name, what, "tuple of ints", v) for v, what in zip(lists, kinds, strict=False))
        return (*numbers, _whole(groups, name, "groups", "int", groups))


def _constructor(base):
    """_Forward's constructor with the signature of ``base``'s and ``precision``, which inspect and torch's own helpers
    (``nn.utils.skip_init``) ask for."""

    def __init__(self, *args, **kwargs):
        _Forward.__init__(self, *args, **kwargs)

    own = inspect.signature(base.__init__)
    precision = inspect.Parameter("precision", inspect.Parameter.KEYWORD_ONLY, default="torch", annotation="str")
    __init__.__signature__ = own.replace(parameters=[*own.parameters.values(), precision])
    return __init__


class ConvTranspose1d(_Forward, nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` computed by upconv.

    Input (N, C_in, L_in) or (C_in, L_in); output (N, C_out, L_out) or (C_out, L_out), where
    ``L_out = (L_in - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1``.
    Weight (C_in, C_out / groups, kernel_size), bias (C_out,). Raises RuntimeError naming the operator, the value and
    the rule when shapes, dtypes or devices do not fit, ValueError for an ``output_size`` out of range.
    """

    __init__ = _constructor(nn.ConvTranspose1d)


class ConvTranspose2d(_Forward, nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` computed by upconv.

    Input (N, C_in, H, W) or (C_in, H, W); output (N, C_out, H_out, W_out) or unbatched, each size as in
    :class:`ConvTranspose1d`. Weight (C_in, C_out / groups, kH, kW), bias (C_out,). channels_last input gives
    channels_last output. Errors as :class:`ConvTranspose1d`.
    """

    __init__ = _constructor(nn.ConvTranspose2d)


class ConvTranspose3d(_Forward, nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` computed by upconv.

    Input (N, C_in, D, H, W) or (C_in, D, H, W); output (N, C_out, D_out, H_out, W_out) or unbatched, each size as in
    :class:`ConvTranspose1d`. Weight (C_in, C_out / groups, kD, kH, kW), bias (C_out,). channels_last_3d input gives
    channels_last_3d output. Errors as :class:`ConvTranspose1d`.
    """

    __init__ = _constructor(nn.ConvTranspose3d)
