"""Chains on a GPU against float64: every step alone, seeded random chains, KernelBench level 2 at small sizes; streams,
CUDA graphs, autocast, torch.compile."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from gpu_cases import DEVICE

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fusion"))
from test_level2 import CHAINS, inputs_of, relative
from test_steps import CLOSINGS, ELEMENTWISE, TOLERANCE, Case, closings, random_chain

import upconv
from upconv import _chain as C
from upconv.cli.bench.cuda.measure import tf32

HALF = {**TOLERANCE, torch.float16: 6e-3}
FEW = (2, 3, 11, 19, 26, 36, 38, 58, 72, 77, 89, 91)


@pytest.fixture(autouse=True)
def exact():
    with tf32(False):
        yield


def models(number):
    inputs = [x.to(DEVICE) for x in inputs_of(number)]
    model = CHAINS[number]().to(DEVICE)
    return inputs, model, copy.deepcopy(model).double(), upconv.optimize(model, tuple(inputs)), copy.deepcopy(model)


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


@pytest.mark.parametrize("number", FEW)
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_level2_in_16_bits(number, dtype, cuda):
    """No worse than torch's own sequence in the same dtype."""
    inputs = [x.to(DEVICE, dtype) for x in inputs_of(number)]
    model = CHAINS[number]().to(DEVICE, dtype)
    wide, eager, fast = copy.deepcopy(model).double(), copy.deepcopy(model), upconv.optimize(model, tuple(inputs))
    with torch.no_grad():
        want = wide(*[x.double() for x in inputs])
        got, torch_s = fast(*inputs), eager(*inputs)
    assert relative(got, want) < max(1.5 * relative(torch_s, want), 2e-2 if dtype is torch.bfloat16 else 3e-3)


@pytest.mark.parametrize("steps", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_elementwise_alone(steps):
    for dtype in (torch.float32, torch.bfloat16):
        case = Case(2, dtype, device=DEVICE)
        assert case.error(C.Chain(case.layer, (), steps)) < HALF[dtype]
    case = Case(1, device=DEVICE)
    assert case.error(C.Chain(case.layer, (), (), (C.Softmax((1,), after=steps),))) < TOLERANCE[torch.float64]


@pytest.mark.parametrize("name", CLOSINGS)
def test_closing_alone(name):
    for rank, dtype in ((1, torch.float32), (2, torch.float32), (3, torch.float32), (2, torch.float64),
                        (2, torch.bfloat16), (1, torch.float16)):  # fmt: skip
        case = Case(rank, dtype, device=DEVICE)
        step = closings(case)[name]
        assert case.error(C.Chain(case.layer, closing=(step,))) < HALF[dtype], (rank, dtype)


@pytest.mark.parametrize("seed", range(60))
def test_random_chains(seed):
    case, chain = random_chain(seed, (torch.float64, torch.float32, torch.float32), DEVICE)
    assert case.error(chain) < 100 * TOLERANCE[case.x.dtype], str(chain)


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


def test_gradients_are_torchs(cuda):
    inputs, _, wide, fast, _ = models(19)
    fast(*inputs).square().sum().backward()
    wide(*[x.double() for x in inputs]).square().sum().backward()
    for name, p in fast.named_parameters():
        exact = wide.get_parameter(name).grad
        assert relative(p.grad, exact) < 1e-4, name


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
