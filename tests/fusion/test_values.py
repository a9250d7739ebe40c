# Values, dtypes and gradients where torch's own definition has corners: bounds and ties, sums of 16 bits, dtypes that
# differ, symbols for sizes.
from __future__ import annotations

import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import upconv
from upconv import _algebra
from upconv.optimize import _agrees, _difference


class Base(nn.Module):
    def __init__(self, channels=6, rank=2):
        super().__init__()
        kinds = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
        self.conv = kinds[rank - 1](4, channels, 3)


def of(function, *arguments):
    """A model with that forward, and its fused copy, which has at least one step in the layer."""
    torch.manual_seed(2)
    model = type(function.__name__.title(), (Base,), {"forward": function})(*arguments)
    fast = upconv.optimize(model)
    assert any(row.action == "fused" for row in fast.upconv_report.rows), fast.upconv_report
    return model, fast


X = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(3))


def gradients(model, x):
    model.zero_grad()
    x = x.clone().requires_grad_()
    model(x).sum().backward()
    return [x.grad, *(p.grad for p in model.parameters())]


def test_the_bounds_of_a_clamp_have_a_gradient():
    """As torch.clamp has it: a layer that begins with zeros learns. hardtanh's bounds have none."""

    def clamp(s, x):
        return s.conv(x).clamp(0, 1) * 2

    def hardtanh(s, x):
        return F.hardtanh(s.conv(x), 0.0, 1.0) * 2

    for forward, clamps in ((clamp, True), (hardtanh, False)):
        model, fast = of(forward)
        for m in (model, fast):
            nn.init.zeros_(m.conv.weight), nn.init.zeros_(m.conv.bias)
        want, got = gradients(model, X), gradients(fast, X)
        assert want[1].any() == clamps
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b)
        with torch.no_grad():
            torch.testing.assert_close(fast(X), model(X))


@pytest.mark.parametrize("kind", ["max", "min"])
def test_the_gradient_of_an_indexed_extreme_goes_to_one(kind):
    """y.max(d)[0] of equal values, not amax, which shares it."""

    def indexed(s, x):
        return torch.tanh(getattr(s.conv(x), kind)(2)[0])

    def shared(s, x):
        return torch.tanh(getattr(s.conv(x), f"a{kind}")(2))

    for forward in (indexed, shared):
        model, fast = of(forward)
        for a, b in zip(gradients(fast, torch.zeros_like(X)), gradients(model, torch.zeros_like(X)), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("grad", [False, True])
def test_means_over_space_are_summed_in_float32(dtype, grad):
    """Sums of many values of 16 bits leave their range, or lose their digits, before they are divided."""

    def forward(s, x):
        return 2 * s.conv(x).mean((2, 3))

    model, fast = of(forward)
    x = (torch.rand(1, 4, 300, 700, generator=torch.Generator().manual_seed(4)) + 0.5).to(dtype)
    exact = copy.deepcopy(model).to(dtype).double()(x.double())
    model, fast = model.to(dtype), fast.to(dtype)
    with torch.set_grad_enabled(grad):
        got = fast(x).double()
    assert ((got - exact).abs().max() / exact.abs().max()).item() < (2e-3 if dtype == torch.float16 else 1.2e-2)
    with torch.no_grad():
        assert fast(torch.full((1, 4, 8, 8), 1e4, dtype=dtype)).isfinite().all()


def test_a_batch_norm_in_evaluation_keeps_torchs_dtype():
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    model(X)
    fast = upconv.optimize(model)
    for m in (model, fast):
        m.eval()
    for grad in (False, True):
        with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
            want, got = model(X), fast(X)
        assert got.dtype == want.dtype == torch.bfloat16
        torch.testing.assert_close(got, want, rtol=2e-2, atol=2e-2)
    for m in (model, fast):
        m[0].bfloat16()
    with torch.no_grad():
        assert fast(X.bfloat16()).dtype == model(X.bfloat16()).dtype == torch.bfloat16


def test_many_pooled_chains_do_not_take_each_others_numbers():
    """More forms of chains than a cache holds, in both modes by turns."""

    class Part(Base):
        def __init__(self, factor):
            super().__init__(4)
            self.conv = nn.ConvTranspose2d(4, 4, 2, stride=2)
            self.norm = nn.BatchNorm2d(4)
            self.factor = factor

    def make(i):
        def forward(s, x):
            return torch.tanh(s.norm(F.avg_pool2d(s.conv(x) * (i + 0.5), 2)))

        return type(f"Part{i}", (Part,), {"forward": forward})(i)

    torch.manual_seed(5)
    model = nn.Sequential(*(make(i) for i in range(12))).double()
    fast = upconv.optimize(copy.deepcopy(model))
    sizes = []
    with torch.no_grad():
        for call in range(24):
            train = call % 8 < 5
            model.train(train), fast.train(train)
            torch.testing.assert_close(fast(X.double()), model(X.double()), rtol=1e-9, atol=1e-9)
            gc.collect()
            chains = [m for m in _modules(fast) if hasattr(m, "_numbers")]
            sizes.append(sum(len(m._numbers) for m in chains))
    assert chains and sizes[-1] == sizes[8]


def _modules(model):
    """Modules, those among them that no parent lists."""
    seen, stack = set(), [model]
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            yield value
            stack += list(vars(value).values())
        elif isinstance(value, dict):
            stack += list(value.values())
        elif isinstance(value, (list, tuple)):
            stack += value


def test_what_an_operation_is_given_by_name():
    def steps(s, x):
        return torch.neg(input=torch.clamp(input=s.conv(x), min=0))

    def closed(s, x):
        return torch.tanh(input=torch.max(input=s.conv(x), dim=1, keepdim=True)[0])

    def squared(s, x):
        return torch.pow(input=torch.detach(input=s.conv(x)), exponent=2)

    for forward in (steps, closed, squared):
        torch.manual_seed(2)
        model = type("Named", (Base,), {"forward": forward})()
        with torch.no_grad():
            torch.testing.assert_close(upconv.optimize(model, X)(X), model(X))


@pytest.mark.parametrize("form", ["torch", "method", "functional"])
def test_a_softmax_in_another_dtype_is_left_alone(form):
    forward = {
        "torch": lambda s, x: torch.softmax(s.conv(x), 1, torch.float64),
        "method": lambda s, x: s.conv(x).softmax(1, torch.float64),
        "functional": lambda s, x: F.softmax(s.conv(x), 1, 3, torch.float64),
    }[form]
    torch.manual_seed(2)
    model = type("Soft", (Base,), {"forward": forward})()
    with torch.no_grad():
        got = upconv.optimize(model)(X)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, model(X).detach())


def test_a_softplus_that_bends_downwards_is_left_alone():
    for forward in (lambda s, x: F.softplus(s.conv(x), -2.0), lambda s, x: s.act(s.conv(x))):
        torch.manual_seed(2)
        model = type("Bent", (Base,), {"forward": forward})()
        model.act = nn.Softplus(-2.0)
        with torch.no_grad():
            torch.testing.assert_close(upconv.optimize(model, X)(X), model(X))


def _mean_of_rows(s, x):
    return torch.tanh(s.conv(x).mean(2))


def _mean_of_all(s, x):
    return torch.tanh(s.conv(x).mean((2, 3)))


def _strided():
    return nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1)  # its taps reach different parts of x


@pytest.mark.parametrize("forward", [_mean_of_rows, _mean_of_all])
@pytest.mark.parametrize("layer", [lambda: nn.ConvTranspose2d(4, 6, 3), _strided], ids=["plain", "strided"])
def test_a_mean_of_any_size_is_exported_and_traced(forward, layer):
    """From one row on, and with every size open: no guard of the smaller form is left in the graph."""
    torch.manual_seed(2)
    model = type("Mean", (Base,), {"forward": forward})()
    model.conv = layer()
    fast = upconv.optimize(model, X)
    assert fast.upconv_report.rows[0].action == "fused"
    height, width = (torch.export.Dim(name, min=1, max=64) for name in ("height", "width"))
    with torch.no_grad():
        for strict in (False, True):
            for sizes in ({2: height}, {2: height, 3: width}):
                exported = torch.export.export(fast, (X,), dynamic_shapes=(sizes,), strict=strict).module()
                for rows, columns in ((5, 5), (1, 5), (33, 5), (2, 1), (9, 7)):
                    x = torch.randn(2, 4, rows, columns if 3 in sizes else 5)
                    torch.testing.assert_close(exported(x), model(x))
        fast(X)
        traced = torch.jit.trace(fast, X)
        for x in (X + 1, torch.randn(3, 4, 1, 9)):
            torch.testing.assert_close(traced(x), model(x))


def test_channels_that_do_not_fit_are_named_as_the_layer_has_them():
    """Not as the smaller layer of a mean over space has them."""
    _, fast = of(_mean_of_all)
    for grad in (False, True):
        with torch.set_grad_enabled(grad), pytest.raises(RuntimeError, match=r"\[4, 6, 3, 3\].*\[2, 3, 5, 5\]"):
            fast(X[:, :3])


def test_a_mean_is_compiled_once_for_many_sizes():
    model, fast = of(_mean_of_rows)
    model.conv = fast.conv = _strided()
    fast = upconv.optimize(model)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(fast, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        for rows in (5, 9, 12, 33, 40):
            x = torch.randn(2, 4, rows, 6)
            torch.testing.assert_close(compiled(x), model(x))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_sums_of_any_size_leave_out_what_no_tap_reaches():
    """Padding may cut a whole end of x away: what lies there, or is no number, does not count."""
    x = torch.randn(2, 3, 8)
    x[..., 0] = float("inf")
    of_any = _algebra._tap_sums_of_any_size(x, 2, 3, 2, 5, 1, 8, 0.25)
    torch.testing.assert_close(of_any, _algebra._tap_sums(x, 2, 3, 2, 5, 1, 8, 0.25))
    assert of_any.isfinite().all()


def test_results_are_compared_in_full():
    nan, one = torch.tensor([1.0, float("nan")]), torch.ones(2)
    assert _difference(one, one + 1e-5) < 2e-5
    assert _difference(nan, nan) == 0.0
    assert _difference(one, nan) == _difference(nan, one) == float("inf")
    assert _difference(one / 0, one) == _difference(one, one / 0) == float("inf")
    assert _difference(torch.tensor([True, False]), torch.tensor([True, True])) == float("inf")
    assert _difference(torch.arange(3), torch.arange(3)) == 0.0
    assert _difference(torch.tensor([1 + 1j]), torch.tensor([1 + 2j])) > 0.5
    report = upconv.optimize(Base(), None).upconv_report
    assert not _agrees((one, torch.arange(2)), (one, torch.arange(2) + 1), report)
    assert "returned as it was" in report.notes[-1]


LEFT_OVER = {
    "means of what lost its mean": lambda s, x: (lambda y: y - y.mean((2, 3), keepdim=True))(s.conv(x)).mean((2, 3)),
    "means of a norm": lambda s, x: F.group_norm(s.conv(x) * 2, 6).mean((2, 3)),
    "one less one": lambda s, x: s.conv(x).softmax(1).sum(1) - 1,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("forward", LEFT_OVER.values(), ids=LEFT_OVER)
def test_results_that_are_nothing_but_rounding_agree(forward, dtype):
    torch.manual_seed(2)
    kind = type("LeftOver", (Base,), {"forward": forward})
    for inplace in (False, True):
        report = upconv.optimize(kind().to(dtype), X.to(dtype), inplace=inplace).upconv_report
        assert [row.action for row in report.rows] == ["fused"], report


def test_the_last_digits_of_inputs_excuse_no_more_than_they_change():
    report = upconv.optimize(Base(), None).upconv_report
    one, nothing = torch.ones(4), torch.tensor([1e-8, -2e-8, 0.0, 1e-8])
    assert not _agrees(one, one * 1.01, report, lambda: one * (1 + 1e-6))
    assert not _agrees(nothing, nothing + 1e-3, report, lambda: -nothing)
    assert _agrees(nothing, nothing.flip(0), report, lambda: -nothing)
    assert "last digits" in report.notes[-1]
    for no_help in (None, one[:2], one / 0, (one, one)):
        assert not _agrees(nothing, nothing.flip(0), report, lambda given=no_help: given)
    assert not _agrees((one, nothing), (one * 1.01, nothing), report, lambda: (one, -nothing))
