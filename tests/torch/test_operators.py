# The operators as torch sees them: opcheck, gradients of every order and mode, what is computed and what is not.
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from upconv import functional as U

ops = torch.ops.upconv
GEOMETRY = ([2, 1], [1, 0], [1, 0], [1, 2], 2)


def operands(dtype=torch.double, requires_grad=True):
    x = torch.randn(1, 4, 2, 2, dtype=dtype)
    w = torch.randn(4, 1, 2, 2, dtype=dtype)
    b = torch.randn(2, dtype=dtype)
    dy = torch.randn(1, 2, 3, 4, dtype=dtype)
    return [t.requires_grad_(requires_grad) for t in (x, w, b, dy)]


def calls():
    x, w, b, dy = operands()
    return {
        "conv_transpose": (x, w, b, *GEOMETRY),
        "conv_transpose_epilogue": (x, w, b, *GEOMETRY, [6.0, 0.0, 0.0]),
        "conv_transpose_backward_input": (dy, w, x.shape, *GEOMETRY),
        "conv_transpose_backward_weight": (x, dy, w.shape, *GEOMETRY),
        "conv_transpose_backward_bias": (dy,),
    }


@pytest.mark.parametrize("name", list(calls()))
def test_opcheck(name):
    arguments = calls()[name]
    results = torch.library.opcheck(getattr(ops, name).default, arguments)
    assert set(results.values()) == {"SUCCESS"}
    last = [
        a.to(memory_format=torch.channels_last).detach() if torch.is_tensor(a) and a.dim() == 4 else a
        for a in arguments
    ]
    assert set(torch.library.opcheck(getattr(ops, name).default, last).values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", ["_forward", "_backward"])
def test_opcheck_of_the_packed_operators(name):
    x, w, b, dy = operands(requires_grad=False)
    geometry = [n for v in GEOMETRY[:4] for n in v] + [2, 0]
    arguments = (x, w, b, geometry) if name == "_forward" else (dy, x, w, geometry, True, False, True)
    assert set(torch.library.opcheck(getattr(ops, name).default, arguments).values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", list(calls()))
def test_first_and_second_derivatives_of_operators(name):
    arguments = calls()[name]
    operator = getattr(ops, name).default
    at = [i for i, a in enumerate(arguments) if torch.is_tensor(a)]

    def call(*tensors):
        full = list(arguments)
        for i, value in zip(at, tensors, strict=True):
            full[i] = value
        return operator(*full)

    tensors = [arguments[i] for i in at]
    assert gradcheck(call, tensors)
    assert gradgradcheck(call, tensors, fast_mode=True)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_derivatives_of_functional(rank):
    f = getattr(U, f"conv_transpose{rank}d")
    x = torch.randn(1, 2, *[2] * rank, dtype=torch.double, requires_grad=True)
    w = torch.randn(2, 1, *[2] * rank, dtype=torch.double, requires_grad=True)
    b = torch.randn(2, dtype=torch.double, requires_grad=True)

    def call(*tensors):
        return f(*tensors, stride=2, padding=1, output_padding=1, groups=2)

    assert gradcheck(call, (x, w, b), check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
    assert gradgradcheck(call, (x, w, b), check_batched_grad=True, fast_mode=True)


@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 0, 0)], ids=str)
@pytest.mark.parametrize("registered", [False, True], ids=["eager path", "registered operator"])
def test_only_wanted_gradients_are_computed(wanted, registered):
    x, w, b, dy = operands()
    leaves = [t.detach().requires_grad_(bool(need)) for t, need in zip((x, w, b), wanted, strict=True)]
    if registered:
        y = ops.conv_transpose(*leaves, *GEOMETRY)
    else:
        stride, padding, output_padding, dilation, groups = GEOMETRY
        y = U.conv_transpose2d(*leaves, stride, padding, output_padding, groups, dilation)
    assert y.requires_grad == any(wanted)
    if not any(wanted):
        return
    events = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.namespace == "upconv":
                events.append((func._opname, args))
            return func(*args, **(kwargs or {}))

    with Watch():
        y.backward(dy.detach())
    asked = set()
    for name, args in events:
        if name == "_backward":
            asked.update(i for i in range(3) if args[4 + i])
        else:
            asked.add(
                [
                    "conv_transpose_backward_input",
                    "conv_transpose_backward_weight",
                    "conv_transpose_backward_bias",
                ].index(name)
            )
    assert asked == {i for i in range(3) if wanted[i]}
    full = torch.autograd.grad(ops.conv_transpose(x, w, b, *GEOMETRY), (x, w, b), dy.detach())
    for leaf, need, expected in zip(leaves, wanted, full, strict=True):
        assert (leaf.grad is None) == (not need)
        if need:
            torch.testing.assert_close(leaf.grad, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", ["no_grad", "inference", "grad", "registered"])
def test_every_path_gives_the_same_bits(path):
    x, w, b, _ = operands(torch.float32, requires_grad=path == "grad")
    stride, padding, output_padding, dilation, groups = GEOMETRY
    expected = ops.conv_transpose(x.detach(), w.detach(), b.detach(), *GEOMETRY)
    if path == "registered":
        y = ops.conv_transpose(x.requires_grad_(), w, b, *GEOMETRY)
    else:
        with torch.inference_mode(path == "inference"), torch.set_grad_enabled(path == "grad"):
            y = U.conv_transpose2d(x, w, b, stride, padding, output_padding, groups, dilation)
    assert torch.equal(y, expected) and y.requires_grad == (path in ("grad", "registered"))
    assert y.is_inference() == (path == "inference")


def test_version_counter_guards_saved_tensors():
    x, w, b, dy = operands()
    y = U.conv_transpose2d(x, w, b, GEOMETRY[0], GEOMETRY[1], GEOMETRY[2], GEOMETRY[4], GEOMETRY[3])
    with torch.no_grad():
        w.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward(dy.detach())


def test_backward_twice_needs_retain_graph():
    x, w, b, dy = (t.detach() for t in operands())
    y = U.conv_transpose2d(x, w.requires_grad_(), b, GEOMETRY[0], GEOMETRY[1], GEOMETRY[2], GEOMETRY[4], GEOMETRY[3])
    y.backward(dy, retain_graph=True)
    first = w.grad.clone()
    y.backward(dy)
    assert torch.equal(w.grad, 2 * first)
    with pytest.raises(RuntimeError, match="second time"):
        y.backward(dy)
