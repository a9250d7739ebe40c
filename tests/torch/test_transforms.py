# torch.func, autocast, checkpointing and saved-tensor hooks: each against torch's own operator.
import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from upconv import functional as U
from upconv import nn as unn

HOW = dict(stride=2, padding=1, groups=2)
BATCHED = [(0, 0, 0), (0, None, None), (None, 0, None), (None, None, 0), (0, 0, None), (0, None, 0), (1, 2, 1)]


def operands(in_dims=(0, 0, 0)):
    x, w, b = (torch.randn(s, dtype=torch.double) for s in ((3, 2, 4, 5), (3, 4, 2, 3), (3, 4)))
    return [t[0] if d is None else t.movedim(0, d) for t, d in zip((x, w, b), in_dims, strict=True)]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("in_dims", BATCHED, ids=str)
def test_vmap(in_dims):
    def results(f):
        def loss(*tensors):
            return f(*tensors, **HOW).square().sum()

        arguments = operands(in_dims)
        return (
            vmap(lambda *tensors: f(*tensors, **HOW), in_dims)(*arguments),
            vmap(grad(loss, (0, 1, 2)), in_dims)(*arguments),
        )

    torch.manual_seed(1)
    ours = results(U.conv_transpose1d)
    torch.manual_seed(1)
    close(ours, results(F.conv_transpose1d))


def test_vmap_of_the_epilogue():
    x, w, b = operands()
    for in_dims in BATCHED[:6]:
        arguments = [t if d == 0 else t[0] for t, d in zip((x, w, b), in_dims, strict=True)]
        y = vmap(
            lambda *t: torch.ops.upconv.conv_transpose_epilogue(*t, [2], [1], [0], [1], 2, [0.0, 0.0, 0.0]), in_dims
        )(*arguments)
        close(y, vmap(lambda *t: F.conv_transpose1d(*t, **HOW).relu(), in_dims)(*arguments))


def test_vjp_jvp_jacobians_and_hessian():
    def results(f):
        x, w, b = (t[0] for t in operands())
        tangents = tuple(torch.ones_like(t) for t in (x, w, b))

        def call(*tensors):
            return f(*tensors, **HOW)

        y, pull = vjp(call, x, w, b)
        return (
            y,
            pull(torch.ones_like(y)),
            jvp(call, (x, w, b), tangents),
            jacrev(call, (0, 1))(x, w, b),
            jacfwd(call, (0, 1))(x, w, b),
            hessian(lambda w: call(x, w, b).square().sum())(w),
            vmap(jacrev(call, 1), (0, None, None))(torch.stack([x, x + 1]), w, b),
        )

    torch.manual_seed(1)
    ours = results(U.conv_transpose1d)
    torch.manual_seed(1)
    close(ours, results(F.conv_transpose1d))


def test_per_sample_gradients_of_a_module():
    net = unn.ConvTranspose1d(2, 3, 3, stride=2).double()
    peer = torch.nn.ConvTranspose1d(2, 3, 3, stride=2).double()
    peer.load_state_dict(net.state_dict())
    x = torch.randn(5, 2, 7, dtype=torch.double)

    def per_sample(module):
        def loss(parameters, sample):
            return functional_call(module, parameters, (sample,)).square().mean()

        return vmap(grad(loss), (None, 0))({k: v.detach() for k, v in module.named_parameters()}, x)

    close(per_sample(net), per_sample(peer))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype):
    net = unn.ConvTranspose2d(4, 3, 3, stride=2)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    with torch.autocast("cpu", dtype=dtype):
        y = net(x)
        expected = F.conv_transpose2d(x, net.weight, net.bias, stride=2)
        assert y.dtype == expected.dtype == dtype
        double = U.conv_transpose2d(x.double(), net.weight.double(), stride=2)
        assert double.dtype == torch.double
    torch.testing.assert_close(y, expected, rtol=2e-2, atol=2e-2)
    y.float().square().sum().backward()
    assert x.grad.dtype == net.weight.grad.dtype == torch.float32
    exact = torch.autograd.grad(
        F.conv_transpose2d(x.double(), net.weight.double(), net.bias.double(), stride=2).square().sum(), net.weight
    )[0]
    assert (net.weight.grad - exact).abs().max() < 0.03 * exact.abs().max()
    for device in ("cpu", "cuda"):
        for name in ("conv_transpose", "conv_transpose_epilogue"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(f"upconv::{name}", f"Autocast{device.upper()}")


def test_checkpoint_and_saved_tensor_hooks():
    net = unn.ConvTranspose1d(2, 3, 4, stride=2).double()
    x = torch.randn(2, 2, 6, dtype=torch.double, requires_grad=True)
    expected = torch.autograd.grad(net(x).square().sum(), [x, *net.parameters()])
    y = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False)
    close(torch.autograd.grad(y.square().sum(), [x, *net.parameters()]), expected)
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.shape) or t.clone(), lambda t: t):
        y = net(x).square().sum()
    assert x.shape in packed and net.weight.shape in packed
    close(torch.autograd.grad(y, [x, *net.parameters()]), expected)


def test_subclasses_and_function_modes_are_asked():
    class Tagged(torch.Tensor):
        pass

    y = U.conv_transpose1d(torch.randn(1, 2, 4).as_subclass(Tagged), torch.randn(2, 3, 3))
    assert type(y) is Tagged
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Mode():
        U.conv_transpose1d(torch.randn(1, 2, 4), torch.randn(2, 3, 3))
    assert any("upconv" in name for name in seen)
