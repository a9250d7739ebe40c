# Tracers: torch.compile without a graph break, export, make_fx, jit.trace. Each result against the eager one.
import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import upconv
from upconv import functional as U


class Net(nn.Module):
    def __init__(self, rank=1, activation=True):
        super().__init__()
        kind = {1: upconv.nn.ConvTranspose1d, 2: upconv.nn.ConvTranspose2d, 3: upconv.nn.ConvTranspose3d}[rank]
        self.up = kind(4, 6, 4, stride=2, padding=1, groups=2)
        self.activation = nn.GELU() if activation else nn.Identity()

    def forward(self, x):
        return self.activation(self.up(x)) * 2.0


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()


def assert_same_step(compiled, eager, x):
    x1, x2 = (x.detach().clone().requires_grad_() for _ in range(2))
    y1, y2 = compiled(x1), eager(x2)
    assert y1.stride() == y2.stride()
    torch.testing.assert_close(y1, y2)
    g1 = torch.autograd.grad(y1.square().sum(), [x1, *eager.parameters()])
    g2 = torch.autograd.grad(y2.square().sum(), [x2, *eager.parameters()])
    for a, b in zip(g1, g2, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_no_graph_break(rank):
    net = Net(rank)
    x = torch.randn(2, 4, *[5] * rank)
    assert torch._dynamo.explain(net)(x).graph_break_count == 0
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert_same_step(compiled, net, x)
    with torch.no_grad():
        assert torch.equal(compiled(x), net(x))
    if rank == 2:
        assert_same_step(compiled, net, x.to(memory_format=torch.channels_last))


def test_inductor():
    net = Net(2)
    compiled = torch.compile(net, fullgraph=True)
    x = torch.randn(2, 4, 5, 6)
    assert_same_step(compiled, net, x)


def test_new_lengths_do_not_recompile():
    net = Net(1)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend=counter)
    for length in (9, 13, 40, 77):
        x = torch.randn(3, 4, length)
        torch.testing.assert_close(compiled(x), net(x))
    assert counter.frame_count == 1


def test_optimized_model_compiles():
    net = nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2), nn.SiLU(), nn.Conv2d(4, 2, 1))
    fast = upconv.optimize(net)
    assert fast.upconv_report.count("fused") == 1
    x = torch.randn(1, 3, 5, 5)
    compiled = torch.compile(fast, fullgraph=True, backend="aot_eager")
    assert_same_step(compiled, net, x)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x))


def test_export_with_a_dynamic_length():
    net = Net(1).eval()
    length = torch.export.Dim("length", min=2, max=512)
    program = torch.export.export(net, (torch.randn(2, 4, 16),), dynamic_shapes=({2: length},))
    assert any("upconv.conv_transpose" in str(node.target) for node in program.graph.nodes)
    x = torch.randn(2, 4, 33)
    torch.testing.assert_close(program.module()(x), net(x))


def test_make_fx_records_the_operators():
    def step(x, w):
        y = U.conv_transpose1d(x, w, stride=2)
        return torch.autograd.grad(y.sum(), (x, w))

    x, w = torch.randn(1, 2, 5, requires_grad=True), torch.randn(2, 3, 3, requires_grad=True)
    graph = make_fx(step)(x, w)
    names = {str(n.target) for n in graph.graph.nodes if n.op == "call_function"}
    assert {"upconv.conv_transpose.default", "upconv.conv_transpose_backward_input.default",
            "upconv.conv_transpose_backward_weight.default"} <= names  # fmt: skip
    for a, b in zip(graph(x, w), step(x, w), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.filterwarnings("ignore")
def test_jit_trace_keeps_the_gradient():
    net = Net(1)
    x = torch.randn(1, 4, 8)
    with torch.no_grad():
        traced = torch.jit.trace(net, x)
    assert "upconv::conv_transpose" in str(traced.inlined_graph)
    longer = torch.randn(1, 4, 21, requires_grad=True)
    assert_same_step(traced, net, longer)


def test_fake_and_meta_tensors():
    x, w = torch.empty(2, 4, 5, 6, device="meta"), torch.empty(4, 3, 3, 3, device="meta")
    y = U.conv_transpose2d(x.to(memory_format=torch.channels_last), w, stride=(2, 1), output_padding=(1, 0))
    assert y.shape == (2, 3, 12, 8) and y.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match=r"conv_transpose2d: .*4 channels"):
        U.conv_transpose2d(x[:, :3], w)
    with torch.device("meta"):
        net = Net(3)
    assert net(torch.empty(1, 4, 2, 3, 4, device="meta")).shape == (1, 6, 4, 6, 8)
