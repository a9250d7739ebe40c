# The differentiable operators as plain functions, right under torch.func and in forward mode too. torch.library's
# autograd serves neither, so there a call goes through an autograd.Function of the same formulas.
"""conv_transpose, backward_input, backward_weight and backward_bias for _autograd, _vmap and _call."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

from . import _ops

_transforms_active = torch._C._are_functorch_transforms_active


class Route:
    """One operator: called directly, or through ``function`` (set by _autograd) while a transform is active."""

    def __init__(self, operator):
        self.operator = operator
        self.function = None

    def __call__(self, *args):
        if not torch.compiler.is_compiling() and (_transforms_active() or forward_ad._current_level >= 0):
            return self.function.apply(*args)
        return self.operator(*args)


conv_transpose = Route(_ops.conv_transpose)
backward_input = Route(_ops.backward_input)
backward_weight = Route(_ops.backward_weight)
backward_bias = Route(_ops.backward_bias)
