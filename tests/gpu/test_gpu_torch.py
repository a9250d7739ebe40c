"""What a PyTorch user relies on, on CUDA tensors: autograd of every order, autocast, vmap, compile, modules."""

import copy

import pytest
import torch
from gpu_cases import DEVICE
from torch import nn

import upconv
from upconv.functional import conv_transpose1d, conv_transpose2d, conv_transpose3d

pytestmark = pytest.mark.usefixtures("cuda")

LAYERS = {
    "1d": (conv_transpose1d, (2, 4, 7), (4, 3, 4), {"stride": 2, "padding": 1}),
    "2d": (conv_transpose2d, (2, 4, 3, 5), (4, 3, 3, 2), {"stride": (2, 1), "padding": 1, "output_padding": (1, 0)}),
    "groups": (conv_transpose2d, (2, 4, 3, 4), (4, 3, 3, 3), {"groups": 2, "stride": 2}),
    "depthwise": (conv_transpose2d, (2, 4, 3, 4), (4, 1, 4, 4), {"groups": 4, "stride": 2, "padding": 1}),
    "dilated": (conv_transpose2d, (1, 3, 4, 4), (3, 2, 3, 3), {"dilation": 2, "stride": 3}),
    "3d": (conv_transpose3d, (1, 2, 2, 3, 2), (2, 3, 3, 2, 2), {"stride": 2, "padding": (1, 0, 0)}),
}


def operands(name):
    function, x, w, how = LAYERS[name]
    groups = how.get("groups", 1)
    draw = lambda *s: torch.randn(*s, device=DEVICE, dtype=torch.float64, requires_grad=True)  # noqa: E731
    return function, (draw(*x), draw(*w), draw(w[1] * groups)), how


@pytest.mark.parametrize("name", LAYERS)
def test_gradcheck(name):
    function, tensors, how = operands(name)
    assert torch.autograd.gradcheck(lambda x, w, b: function(x, w, b, **how), tensors)


@pytest.mark.parametrize("name", LAYERS)
def test_double_backward(name):
    function, tensors, how = operands(name)
    assert torch.autograd.gradgradcheck(lambda x, w, b: function(x, w, b, **how), tensors)


@pytest.mark.parametrize("name", LAYERS)
def test_vmap(name):
    function, (x, w, b), how = operands(name)
    xs = torch.stack([x.detach(), x.detach() + 1, x.detach() * 2])
    ws = torch.stack([w.detach(), w.detach() - 1, w.detach() * 3])
    for dims, args in (((0, None), (xs, w)), ((None, 0), (x, ws)), ((0, 0), (xs, ws))):
        got = torch.func.vmap(lambda x, w: function(x, w, b, **how), in_dims=dims)(*args)
        for i in range(3):
            wanted = function(args[0][i] if dims[0] == 0 else x, args[1][i] if dims[1] == 0 else w, b, **how)
            torch.testing.assert_close(got[i], wanted)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_autocast(dtype):
    layer = upconv.nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, device=DEVICE)
    x = torch.randn(2, 8, 9, 9, device=DEVICE, requires_grad=True)
    with torch.autocast("cuda", dtype):
        y = layer(x)
    assert y.dtype == dtype
    y.float().sum().backward()
    assert x.grad.dtype == layer.weight.grad.dtype == torch.float32
    halves = (t.to(dtype) for t in (x, layer.weight, layer.bias))
    torch.testing.assert_close(y, nn.functional.conv_transpose2d(*halves, stride=2, padding=1), atol=2e-2, rtol=2e-2)


def test_inference_mode():
    layer = upconv.nn.ConvTranspose1d(8, 4, 16, stride=8, padding=4, device=DEVICE)
    x = torch.randn(1, 8, 50, device=DEVICE)
    wanted = layer(x).detach()
    with torch.inference_mode():
        y = layer(x)
    assert y.is_inference() and torch.equal(y, wanted)


class Decoder(nn.Module):
    def __init__(self, source):
        super().__init__()
        self.up = nn.Sequential(
            source.ConvTranspose2d(16, 12, 4, stride=2, padding=1),
            nn.ReLU(),
            source.ConvTranspose2d(12, 8, 3),
            nn.GELU(),
            source.ConvTranspose2d(8, 3, 2, stride=2),
        )

    def forward(self, x):
        return self.up(x).tanh()


def pair():
    torch.manual_seed(2)
    theirs = Decoder(nn).to(DEVICE)
    ours = Decoder(upconv.nn).to(DEVICE)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("mode", ("default", "reduce-overhead"))
def test_compile(mode):
    _, ours = pair()
    compiled = torch.compile(copy.deepcopy(ours), mode=mode, fullgraph=True)
    for _ in range(4):  # reduce-overhead records a graph on the second call and replays from the third
        x = torch.randn(2, 16, 12, 12, device=DEVICE)
        if mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        with torch.no_grad():
            torch.testing.assert_close(compiled(x).clone(), ours(x), atol=1e-4, rtol=1e-4)
    x = torch.randn(2, 16, 12, 12, device=DEVICE)
    compiled(x).square().sum().backward()
    ours(x).square().sum().backward()
    for (name, a), b in zip(compiled.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-3, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("dtype", (torch.float32, torch.float16, torch.bfloat16, torch.float64))
def test_a_training_step_as_torch_takes_it(dtype):
    """Model, loss and every gradient beside torch.nn's, under the same settings."""
    theirs, ours = (m.to(dtype) for m in pair())
    x = torch.randn(2, 16, 12, 12, device=DEVICE, dtype=dtype)
    tolerance = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 6e-2, torch.float64: 1e-9}[dtype]
    results = []
    for model in (theirs, ours):
        y = model(x)
        y.float().square().mean().backward()
        results.append([y.detach(), *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        assert (a - b).float().norm() <= tolerance * a.float().norm() + 1e-12


def test_optimize_fuses_on_the_gpu():
    theirs, _ = pair()
    x = torch.randn(2, 16, 12, 12, device=DEVICE)
    fast = upconv.optimize(theirs, x)
    with torch.no_grad():
        got, wanted = fast(x), theirs(x)
    # torch's default is TF32, in which both round operands, each in its own way, three layers deep.
    assert (got - wanted).norm() <= 3e-3 * wanted.norm()


ACTIVATIONS = (
    nn.ReLU(), nn.LeakyReLU(0.1), nn.ELU(0.7), nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.Mish(), nn.Tanh(),
    nn.Sigmoid(), nn.Hardtanh(-0.5, 0.75), nn.Hardswish(), nn.Hardsigmoid(), nn.Softplus(2.0),
)  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64))
def test_fused_activation(activation, dtype):
    layer = nn.ConvTranspose2d(16, 12, 4, stride=2, padding=1, device=DEVICE, dtype=dtype)
    x = torch.randn(2, 16, 9, 20, device=DEVICE, dtype=dtype)
    fast = upconv.optimize(nn.Sequential(layer, activation), x)
    with torch.no_grad():
        # On the CPU: torch's CUDA hardswish divides by 6 in fp32.
        exact = activation(layer.double()(x.double()).cpu()).to(DEVICE)
        got = fast.to(dtype)(x).double()
    tolerance = {torch.float32: 2e-3, torch.bfloat16: 2e-2, torch.float64: 1e-9}[dtype]
    assert (got - exact).norm() <= tolerance * exact.norm()
