# Asked by the autograd functions of _autograd and _training_chain while autograd's engine runs them.
"""Which of a layer's gradients are really asked for."""

from __future__ import annotations

import torch

# Of torch's own (torch.utils.checkpoint uses it); where a torch has it no more, every gradient that could be wanted is.
_will_execute = getattr(torch._C, "_will_engine_execute_node", None)
_is_compiling = torch.compiler.is_compiling

#: Operations of a pass from which asking is worth its time: 10 us a tensor where torch answers by an exception. What a
#: GPU would save by it, dx or dw, is some 60 us of an H200's tensor cores there.
_LEAST_FLOP = {"cpu": 4e6, "cuda": 2e10}


def wanted(ctx, x: torch.Tensor, w: torch.Tensor) -> tuple[bool, bool]:
    """Whether dx and dw, of the function whose first inputs are x and w, are used by this run of autograd's engine.

    ``ctx.needs_input_grad`` says what requires a gradient; ``torch.autograd.grad(y, x)`` asks for x's alone, although
    the weight requires one too. db, one reading of dy, is not worth the question.
    """
    need_x, need_w = ctx.needs_input_grad[:2]
    if not (need_x and need_w) or _will_execute is None or _is_compiling():
        return need_x, need_w
    if 2 * x.numel() * w.numel() < w.shape[0] * _LEAST_FLOP.get(x.device.type, 0.0):
        return need_x, need_w
    (of_x, _), (of_w, _) = ctx.next_functions[:2]
    return _is_used(of_x), _is_used(of_w)


def _is_used(node) -> bool:
    try:
        return _will_execute(node)
    except RuntimeError:  # a leaf that torch.autograd.grad was given: it says no more than that
        return True
