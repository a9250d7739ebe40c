"""Chains on a GPU against float64: every step alone, seeded random chains, KernelBench level 2 at small sizes; streams,
CUDA graphs, autocast, torch.compile."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from gpu_cases import DEVICE

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fusion"))
from gradient_cases import gradients_of
from test_level2 import CHAINS, inputs_of, relative
from test_steps import CLOSINGS, ELEMENTWISE, TOLERANCE, Case, closings, random_chain

import upconv
from upconv import _algebra
from upconv import _chain as C
from upconv._fused_chain import FusedChain
from upconv.cli.bench.cuda.measure import tf32
from upconv.cli.bench.decoders import moved
from upconv.cli.bench.decoders.models import DECODERS

HALF = {**TOLERANCE, torch.float16: 6e-3}
FEW = (2, 3, 11, 19, 26, 36, 38, 58, 72, 77, 89, 91)
#: Of an elementwise step, and of each operation's six operands, every other in the second dtype.
TURNS = [(n + n // 6) % 2 for n in range(len(ELEMENTWISE))]


class Followed(torch.nn.Module):
    """A layer and what a function makes of its result."""

    def __init__(self, layer, then):
        super().__init__()
        self.layer, self.then = layer, then

    def forward(self, x):
        return self.then(self.layer(x))


@pytest.fixture(autouse=True)
def exact():
    with tf32(False):
        yield


def bound(chain, value):
    """torch's own hardswish and hardsigmoid multiply by a float's 1/6 on a GPU, in float64 too."""
    return max(value, 1e-7) if "hard" in str(chain) else value


def models(number):
    inputs = [x.to(DEVICE) for x in inputs_of(number)]
    model = CHAINS[number]().to(DEVICE)
    return inputs, model, copy.deepcopy(model).double(), upconv.optimize(model, tuple(inputs)), copy.deepcopy(model)


@pytest.mark.parametrize("length", (4, 10, 32, 64, 120, 256, 512, 520, 1024))
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_rows_of_any_length(length, dtype):
    case = Case(2, dtype, device=DEVICE, space=(7, length // 2))
    case.operands = (*case.operands, *(torch.randn(length, dtype=dtype, device=DEVICE) for _ in range(2)))
    case.vectors = frozenset({0, 5, 6})
    after = (C.Activate(3), C.Arithmetic("add", C.Operand(1)), C.Arithmetic("multiply", C.Operand(0)))
    norm, softmax = C.LayerNorm((length,), 1e-5, 5, 6, after=after), C.Softmax((3,), after=after)
    for closing in ((norm,), (softmax,), (norm, C.Reduce("max", (3,)))):
        assert case.error(C.Chain(case.layer, (), (), closing)) < HALF[dtype], closing


@pytest.mark.parametrize(
    ("shape", "dim", "layer"),
    [
        ((2, 3, 37, 5), 2, (3, 2, 1, 1, 75)), ((4, 64, 30, 4096), 2, (3, 1, 1, 1, 30)),
        ((4, 64, 30, 4098), 2, (5, 2, 2, 2, 60)), ((3, 5, 4, 700), 3, (4, 3, 0, 2, 2104)),
        ((2, 2, 1, 64), 2, (7, 1, 3, 1, 1)), ((1, 1, 5, 1), 3, (2, 4, 0, 1, 2)),
    ],
)  # fmt: skip
def test_sums_by_tap(shape, dim, layer):
    """Against torch's own sums in float64; rows by fours and one by one, warps, taps that reach nothing."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        x = torch.randn(shape, device=DEVICE).to(dtype)
        got = _algebra._sums_operator(x, dim, *layer, 0.25)
        want = _algebra._tap_sums(x.double(), dim, *layer, 0.25)
        assert got.shape == want.shape and got.dtype == dtype
        assert relative(got, want) < (1e-6 if dtype == torch.float32 else 4e-3)
    with pytest.raises(RuntimeError, match="float64"):
        _algebra._sums_operator(x.double(), dim, *layer, 1.0)


def test_sums_by_tap_under_transforms(cuda):
    """A mean over space of a fused layer keeps tangents and batches of torch.func."""
    layer = torch.nn.ConvTranspose2d(3, 8, 3, 2, 1)
    model = Followed(layer, lambda y: (y * 0.5).mean(dim=[2, 3], keepdim=True)).to(DEVICE).eval()
    x, tangent = torch.randn(2, 4, 3, 16, 40, device=DEVICE)
    fast = upconv.optimize(copy.deepcopy(model), (x,))
    assert relative(fast(x), model.double()(x.double())) < 1e-6
    exact = torch.func.jvp(model, (x.double(),), (tangent.double(),))
    for got, want in zip(torch.func.jvp(fast, (x,), (tangent,)), exact, strict=True):
        assert relative(got, want) < 1e-5
    many = torch.stack((x, tangent))
    assert relative(torch.func.vmap(fast)(many), torch.func.vmap(model)(many.double())) < 1e-6


@pytest.mark.parametrize("value", (float("nan"), float("inf"), -float("inf")))
def test_clamps_of_what_is_not_finite(value, cuda):
    """Short epilogues cut in as few instructions as can be, and must leave NaN as torch leaves it. Infinities with
    TF32: without, the layer itself makes NaN of them (docs/measured-cuda-weight.md)."""
    layer = torch.nn.ConvTranspose2d(16, 16, 3, 2, 1)
    x = torch.randn(2, 16, 9, 33, device=DEVICE)
    x[1, 3, 4, 5] = x[0, 2, 8, 32] = value
    rounding = value == value
    for least, most in ((-0.25, 0.5), (None, 0.5), (-0.5, None), (0.0, 6.0)):
        model = Followed(copy.deepcopy(layer), lambda y, a=least, b=most: torch.clamp(y, a, b) * 2).to(DEVICE).eval()
        fast = upconv.optimize(copy.deepcopy(model), (x.nan_to_num(0, 1, -1),))
        assert fast.upconv_report.count("fused") == 1
        with torch.no_grad(), tf32(rounding):
            got, want = fast(x), model(x)
        assert torch.allclose(got, want, 1e-4, 5e-3 if rounding else 1e-5, equal_nan=True), (least, most)


@pytest.mark.parametrize("train", (False, True), ids=("eval", "train"))
@pytest.mark.parametrize("name", DECODERS)
def test_whole_models(name, train):
    """As their authors wrote them, small: values, and gradients of the parameters."""
    model, inputs = DECODERS[name].build("test")
    model, inputs = model.to(DEVICE).train(train), moved(inputs, DEVICE, torch.float32)
    wide = copy.deepcopy(model).double()
    fast, eager = upconv.optimize(copy.deepcopy(model), inputs), copy.deepcopy(model)
    results = {}
    exact = moved(inputs, DEVICE, torch.float64)
    for key, m, x in (("want", wide, exact), ("got", fast, inputs), ("torch", eager, inputs)):
        with torch.no_grad():
            y = copy.deepcopy(m)(*x)
        m(*x).square().mean().backward()
        results[key] = [y, *(p.grad for p in m.parameters())]
    for got, torch_s, want in zip(results["got"], results["torch"], results["want"], strict=True):
        assert relative(got, want) < max(1e-4, 4 * relative(torch_s, want))


@pytest.mark.parametrize("number", CHAINS)
def test_level2(number):
    inputs, _, wide, fast, eager = models(number)
    (row,) = fast.upconv_report.rows
    assert (row.name, row.action) == ("conv", "fused") and "ends because" not in row.detail, row
    with torch.no_grad():
        for mode in (True, False):
            for m in (wide, fast, eager):
                m.train(mode)
            want = wide(*[x.double() for x in inputs])
            got, torch_s = fast(*inputs), eager(*inputs)
            assert got.shape == want.shape
            assert relative(got, want) < max(4 * relative(torch_s, want), 4e-6), mode
            if mode is False:
                assert torch.equal(got, fast(*inputs)), "two runs differ"
    for name, buffer in fast.named_buffers():
        torch.testing.assert_close(buffer.double(), wide.get_buffer(name).double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number", FEW)
def test_level2_with_tf32(number):
    inputs, _, wide, fast, eager = models(number)
    with tf32(True), torch.no_grad():
        want = wide(*[x.double() for x in inputs])
        got, torch_s = fast(*inputs), eager(*inputs)
        assert relative(got, want) < max(3 * relative(torch_s, want), 2e-3)


@pytest.mark.parametrize("number,dtype", [(n, (torch.bfloat16, torch.float16)[i % 2]) for i, n in enumerate(FEW)])
def test_level2_in_16_bits(number, dtype, cuda):
    """No worse than torch's own sequence in the same dtype."""
    inputs = [x.to(DEVICE, dtype) for x in inputs_of(number)]
    model = CHAINS[number]().to(DEVICE, dtype)
    wide, eager, fast = copy.deepcopy(model).double(), copy.deepcopy(model), upconv.optimize(model, tuple(inputs))
    with torch.no_grad():
        want = wide(*[x.double() for x in inputs])
        got, torch_s = fast(*inputs), eager(*inputs)
    assert relative(got, want) < max(1.5 * relative(torch_s, want), 2e-2 if dtype is torch.bfloat16 else 3e-3)


@pytest.mark.parametrize("steps,turn", list(zip(ELEMENTWISE.values(), TURNS, strict=True)), ids=ELEMENTWISE)
def test_elementwise_alone(steps, turn):
    dtype = (torch.float32, torch.bfloat16)[turn]
    case = Case(2, dtype, device=DEVICE)
    assert case.error(C.Chain(case.layer, (), steps)) < HALF[dtype]
    case = Case(1, device=DEVICE)
    chain = C.Chain(case.layer, (), (), (C.Softmax((1,), after=steps),))
    assert case.error(chain) < bound(chain, TOLERANCE[torch.float64])


@pytest.mark.parametrize("name", CLOSINGS)
def test_closing_alone(name):
    kinds = ((1, torch.float32), (2, torch.bfloat16), (2, torch.float32), (1, torch.float16), (3, torch.float32),
             (2, torch.float64))  # fmt: skip
    for rank, dtype in kinds[CLOSINGS.index(name) % 2 :: 2]:
        case = Case(rank, dtype, device=DEVICE)
        step = closings(case)[name]
        assert case.error(C.Chain(case.layer, closing=(step,))) < HALF[dtype], (rank, dtype)


@pytest.mark.parametrize("seed", range(30))
def test_random_chains(seed):
    case, chain = random_chain(seed, (torch.float64, torch.float32, torch.float32), DEVICE)
    assert case.error(chain) < bound(chain, 100 * TOLERANCE[case.x.dtype]), str(chain)


@pytest.mark.parametrize("number", FEW)
def test_graph_and_stream(number, cuda):
    inputs, _, _, fast, _ = models(number)
    fast.eval()
    with torch.no_grad():
        want = fast(*inputs)
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(1_000_000)
            on_stream = fast(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        assert torch.equal(on_stream, want)
        with torch.cuda.graph(graph):
            captured = fast(*inputs)
        captured.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(captured, want)


def test_a_training_norm_in_a_graph_counts_every_replay(cuda):
    inputs, _, _, fast, eager = models(72)
    with torch.no_grad():
        for _ in range(4):
            eager(*inputs)
        fast(*inputs)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            fast(*inputs)
        for _ in range(3):
            graph.replay()
    torch.cuda.synchronize()
    norm, torchs = fast.batch, eager.batch
    # optimize() ran the model on the example inputs in evaluation: nothing was counted there.
    assert norm.num_batches_tracked.item() == torchs.num_batches_tracked.item() == 4
    torch.testing.assert_close(norm.running_var, torchs.running_var, rtol=1e-4, atol=1e-6)


def test_autocast_is_torchs_sequence(cuda):
    inputs, _, _, fast, eager = models(19)
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        got, want = fast(*inputs), eager(*inputs)
    assert got.dtype == want.dtype
    torch.testing.assert_close(got.float(), want.float(), rtol=2e-2, atol=2e-2)


def test_compiled(cuda):
    for number in (2, 72, 91):
        inputs, _, _, fast, eager = models(number)
        compiled = torch.compile(fast, fullgraph=True)
        with torch.no_grad():
            torch.testing.assert_close(compiled(*inputs), eager(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", CHAINS)
def test_level2_gradients(number):
    """Of inputs, parameters and norms, in training mode; two runs are the same bits."""
    inputs, _, wide, fast, eager = models(number)
    found = []
    for m, dtype in ((wide, torch.double), (eager, torch.float), (fast, torch.float), (fast, torch.float)):
        m.zero_grad(set_to_none=True)
        given = [x.to(dtype).clone().requires_grad_() for x in inputs]
        y = m(*given)
        torch.manual_seed(1)
        y.backward(torch.randn(y.shape).to(y))
        found.append({**{f"x{i}": t.grad for i, t in enumerate(given)},
                      **{n: p.grad for n, p in m.named_parameters() if p.grad is not None}})  # fmt: skip
    exact, torchs, got, again = found
    largest = max(g.abs().max().item() for g in exact.values())
    for name, want in exact.items():
        # What cancels to nothing (a bias in front of a norm) is held against the largest gradient.
        scale = max(want.abs().max().item(), 0.01 * largest)
        error, of_torch = ((g[name].double() - want).abs().max().item() / scale for g in (got, torchs))
        rounding = 2e-5 if want.abs().max() > 0.01 * largest else 3e-4  # nothing is left of it but rounding
        assert error < max(4 * of_torch, rounding), (name, error, of_torch)
        assert torch.equal(got[name], again[name]), f"two runs differ in {name}"


def gradients(case, chain, factor=1.0):
    errors = gradients_of(case, chain)
    bound = factor * {torch.double: 1e-10, torch.float: 1e-4, torch.bfloat16: 5e-2}[case.x.dtype]
    if "hard" in str(chain):
        bound = max(bound, 1e-6)  # torch's own slope of it is a float's 1/6 in float64 too
    assert all(e < bound for e in errors.values()), (str(chain), errors)


@pytest.mark.parametrize("steps,turn", list(zip(ELEMENTWISE.values(), TURNS, strict=True)), ids=ELEMENTWISE)
def test_elementwise_gradients(steps, turn):
    """Of a step on the layer in fp32, or behind a closing step in fp64."""
    case = Case(1, device=DEVICE) if turn else Case(2, torch.float, device=DEVICE)
    closing = (C.Softmax((1,), after=steps),) if turn else ()
    gradients(case, C.Chain(case.layer, (), () if turn else steps, closing))


@pytest.mark.parametrize("name", CLOSINGS)
def test_closing_gradients(name):
    for rank, dtype in ((1, torch.double), (2, torch.double), (3, torch.double), (2, torch.float)):
        case = Case(rank, dtype, device=DEVICE)
        gradients(case, C.Chain(case.layer, closing=(closings(case)[name],)))


@pytest.mark.parametrize("seed", range(30))
def test_random_gradients(seed):
    case, chain = random_chain(seed, (torch.double, torch.double, torch.float), DEVICE)
    gradients(case, chain, 200)


def test_gradcheck(cuda):
    """torch's own check by differences, in float64."""
    case = Case(1, device=DEVICE)
    x, w = case.x[:2, :, :5].contiguous().requires_grad_(), case.w[:, :8].contiguous().requires_grad_()
    b, gamma = case.b[:8].clone().requires_grad_(), case.operands[0][:8].clone().requires_grad_()
    steps = (C.Activate(5), C.Arithmetic("multiply", C.Operand(0)))
    for closing in (
        C.GroupNorm(2, 1e-5, 0, 0, (C.Activate(7),)),
        C.Softmax((1,)),
        C.BatchNorm(1e-5, 0),
        C.LayerNorm((10,), 1e-5),
    ):
        module = FusedChain(C.Chain(case.layer, (), steps, (closing,)), vectors=frozenset({0}))
        assert torch.autograd.gradcheck(module, (x, w, b, gamma))


def test_training_in_a_graph(cuda):
    """Forward and backward of a chain captured once and replayed with other values."""
    inputs, _, _, fast, _ = models(11)
    x = inputs[0].clone().requires_grad_()
    parameters = [x, *fast.parameters()]

    def step():
        return torch.autograd.grad(fast(x).square().sum(), parameters)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        x.mul_(0.5)
    graph.replay()
    torch.cuda.synchronize()
    for a, b in zip(captured, step(), strict=True):
        assert torch.equal(a, b)


def test_inputs_stay_and_a_wrong_operand_is_named(cuda):
    inputs, _, _, fast, eager = models(26)
    before = [x.clone() for x in inputs]
    with torch.no_grad():
        fast(*inputs)
        assert all(torch.equal(a, b) for a, b in zip(before, inputs, strict=True))
        small = inputs[1][:, :, :1]  # broadcasts: another way to lie than the example's
        torch.testing.assert_close(fast(inputs[0], small), eager(inputs[0], small), rtol=1e-4, atol=1e-5)
        strided = inputs[1].transpose(3, 4).contiguous().transpose(3, 4)
        torch.testing.assert_close(fast(inputs[0], strided), eager(inputs[0], strided), rtol=1e-4, atol=1e-5)
