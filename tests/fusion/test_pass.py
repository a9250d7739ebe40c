# The pass on code of its own: which forms it reads, where chains end, and models that must stay as they are.
from __future__ import annotations

import copy
import io
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad

import upconv
from upconv import _algebra


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.batch = nn.BatchNorm2d(6)
        self.alpha = nn.Parameter(torch.rand(1, 4, 1, 1) + 0.5)
        self.bias = nn.Parameter(torch.randn(6, 1, 1))


def forward(function):
    """A Model with that forward."""
    kind = type("Model_" + function.__name__, (Model,), {"forward": function})
    torch.manual_seed(1)
    return kind().double()


X = torch.randn(2, 4, 7, 9, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def check(model, *inputs):
    """(fast, its row) after comparing results, without and with gradients, in both modes."""
    inputs = inputs or (X,)
    fast = upconv.optimize(model, inputs)
    for mode in (True, False):
        model.train(mode), fast.train(mode)
        state = copy.deepcopy(model.state_dict())
        with torch.no_grad():
            want = model(*inputs)
            after = copy.deepcopy(model.state_dict())
            model.load_state_dict(state)
            torch.testing.assert_close(fast(*inputs), want, rtol=1e-10, atol=1e-10)
            for name, value in fast.state_dict().items():
                torch.testing.assert_close(value, after[name])
        gradients = []
        for m in (model, fast):
            m.zero_grad()
            m.load_state_dict(state)
            m(*inputs).square().sum().backward()
            gradients.append([p.grad.clone() for p in m.parameters() if p.grad is not None])
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-8, atol=1e-9)
    return fast, fast.upconv_report.rows[0]


class _Plain(nn.Module):  # at the top of a module, as what is pickled has to be
    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(4, 6, 3)

    def forward(self, x):
        return torch.tanh(self.conv(x)) * 2.0


def methods(self, x):
    y = self.conv(x).add(self.bias).mul(2.0).clamp(min=-1.0)
    return y.softmax(1).mean((2, 3)).tanh()


def operators(self, x):
    y = 1.0 - self.conv(x) / 2 + self.bias
    y = -y * (y**2)
    return F.max_pool2d(self.norm(y), 2) - 0.5


def functions(self, x):
    y = F.conv_transpose2d(x, self.conv.weight, self.conv.bias, stride=2, padding=1)
    y = torch.maximum(F.softplus(y), self.bias)
    return torch.logsumexp(F.group_norm(y, 3, self.norm.weight, self.norm.bias), dim=1, keepdim=True).squeeze(1)


def in_place(self, x):
    y = self.conv(x)
    y += self.bias
    y.mul_(2.0)
    return self.norm(F.relu(y, inplace=True))


def snake(self, x):
    x = x + (1.0 / (self.alpha + 1e-9)) * torch.sin(x * self.alpha) ** 2
    return self.conv(x) * 0.5


def leaky_prologue(self, x):
    return F.elu(self.conv(F.leaky_relu(x, 0.1)) + self.bias)


def diamond(self, x):
    y = self.conv(x)
    return self.norm((torch.sigmoid(y) * torch.tanh(y) + y) * (y + 1.0))


def spatial_softmax(self, x):
    y = self.conv(x) + self.bias
    b, c, h, w = y.shape
    return torch.softmax(y.view(b, c, -1), dim=-1).view(b, c, h, w) * 2.0


def batch_norm_then_more(self, x):
    return F.avg_pool2d(torch.relu(self.batch(self.conv(x))), 2, stride=1, padding=1)


def beside_its_use(self, x):
    y = self.conv(x) * 2.0
    return F.gelu(y + 1.0), y  # y is stored too: the chain ends there


FORMS = (methods, operators, functions, in_place, snake, leaky_prologue, diamond, spatial_softmax, batch_norm_then_more)


@pytest.mark.parametrize("function", FORMS, ids=lambda f: f.__name__)
def test_forms(function):
    model = forward(function)
    fast, row = check(model)
    assert row.action == "fused", str(fast.upconv_report)
    assert "less moved" in row.detail
    other = torch.randn(1, 4, 5, 8, dtype=torch.double)  # nothing is bound to the example's sizes
    with torch.no_grad():
        torch.testing.assert_close(fast.eval()(other), model.eval()(other), rtol=1e-9, atol=1e-9)


def test_a_second_user_ends_the_chain():
    model = forward(beside_its_use)
    fast = upconv.optimize(model, X)
    (row,) = fast.upconv_report.rows
    assert row.action == "fused" and row.detail.startswith("with mul") and "several users" in row.detail
    with torch.no_grad():
        torch.testing.assert_close(fast(X), model(X))


def written_operand(self, x):
    other = x.mean((2, 3), keepdim=True).repeat(1, 2, 1, 1)[:, :6]
    y = self.conv(x)
    z = y + other
    other.mul_(0.0)
    return z * 2.0 + other.sum()


def shape_used_outside(self, x):
    y = self.conv(x)
    z = self.norm(y * 2.0)
    return z.reshape(y.shape[0], -1)


def writes_into_the_result(self, x):
    y = self.conv(x)
    view = y[:, :2]
    view.zero_()
    return torch.tanh(y) + 1.0


def branch_on_mode(self, x):
    y = self.conv(x) + self.bias
    return self.norm(y) if self.training else y


def enlarging_operand(self, x):
    return self.conv(x)[:, :1] + self.bias


def order_of_in_place(self, x):
    y = self.conv(x)
    z = y * 2.0
    y.add_(1.0)
    return z + y


LEFT = {
    "shape asked outside": shape_used_outside, "a view is written": writes_into_the_result, "branch": branch_on_mode,
    "operand enlarges": enlarging_operand,
}  # fmt: skip


REASONS = {
    shape_used_outside: "the shape of a value inside the chain is used outside",
    writes_into_the_result: "several users", branch_on_mode: "branches", enlarging_operand: "getitem is not fused",
}  # fmt: skip


@pytest.mark.parametrize("function", LEFT.values(), ids=LEFT)
def test_must_not_fuse(function):
    fast, row = check(forward(function))
    assert row.action == "replaced", str(fast.upconv_report)
    assert REASONS[function] in str(fast.upconv_report), str(fast.upconv_report)


@pytest.mark.parametrize("function", (written_operand, order_of_in_place), ids=lambda f: f.__name__)
def test_results_stay_where_something_is_written(function):
    check(forward(function))


def test_hooks_are_seen():
    for name in ("conv", "norm"):
        model = forward(operators)
        getattr(model, name).register_forward_hook(lambda m, a, y: y * 2)
        fast, _ = check(model)
        assert not any("GroupNorm" in row.detail for row in fast.upconv_report.rows)
    model = forward(operators)
    model.register_forward_pre_hook(lambda m, a: (a[0] * 2,))
    assert "its owner has hooks" in str(check(model)[0].upconv_report)


def test_sequences_are_seen_through():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Sequential(nn.ConvTranspose2d(4, 6, 4, 2, 1), nn.BatchNorm2d(6))

        def forward(self, x):
            return F.leaky_relu(self.up(x), 0.2)

    fast, row = check(Outer().double())
    assert row.name == "up.0" and row.action == "fused" and "leaky_relu" in row.detail
    assert [name for name, _ in fast.named_parameters()] == [name for name, _ in Outer().named_parameters()]


def test_copies_pickles_and_compile():
    model = forward(operators)
    fast = upconv.optimize(model, X)
    with torch.no_grad():
        want = model(X)
        buffer = io.BytesIO()
        torch.save(upconv.optimize(_Plain().double(), X), buffer)
        buffer.seek(0)
        loaded = torch.load(buffer, weights_only=False)
        torch.testing.assert_close(
            loaded(X), upconv.optimize(_Plain().double(), X)(X) * 0 + loaded.conv(X).tanh() * 2.0
        )
        for other in (copy.deepcopy(fast), copy.copy(fast)):
            torch.testing.assert_close(other(X), want)
        first = torch.compile(upconv.optimize(forward(spatial_softmax)), backend="aot_eager", fullgraph=True)
        assert first(X).shape == (2, 6, 13, 17)  # nothing ran before: shapes come from the encoding alone
        compiled = torch.compile(fast, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(X), want)
    torch.testing.assert_close(compiled(X), want)  # with gradients, in parts


def test_autocast_and_other_layouts_run_in_parts():
    model = forward(operators).float()
    fast = upconv.optimize(model, X.float())
    x = X.float()
    with torch.no_grad():
        last = x.to(memory_format=torch.channels_last)
        torch.testing.assert_close(fast(last), model(last))
        plain = _Plain()
        got = upconv.optimize(plain, x)(last)
        torch.testing.assert_close(got, plain(last))
        assert got.is_contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(fast(x).float(), model(x).float(), rtol=5e-2, atol=5e-2)
        model = forward(leaky_prologue).float()
        torch.testing.assert_close(upconv.optimize(model, x)(x[0]), model(x[0]), rtol=1e-4, atol=1e-5)  # no batch


def test_gradcheck():
    for function in (diamond, snake, spatial_softmax):
        fast = upconv.optimize(forward(function), X).eval()
        x = torch.randn(1, 4, 2, 3, dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradcheck(fast, (x,))


def test_report_prints(capsys):
    fast = upconv.optimize(forward(operators), X)
    text = str(fast.upconv_report)
    assert "1 fused" in text and "MB less moved" in text and "GroupNorm" in text
    assert io.StringIO(text).readline().startswith("upconv.optimize:")


def test_sums_by_tap_are_torchs_where_transforms_look():
    """The operator for them knows no tangent and no batch of vmap, and would drop them."""
    x = SimpleNamespace(
        device=torch.device("cuda"), dtype=torch.float32, requires_grad=False, is_contiguous=lambda: True
    )
    assert _algebra._has_kernel(x)
    with forward_ad.dual_level():
        assert not _algebra._has_kernel(x)
    seen = []
    torch.func.vmap(lambda v: (seen.append(_algebra._has_kernel(x)), v)[1])(torch.zeros(2))
    assert seen == [False]
    x.requires_grad = True
    assert not _algebra._has_kernel(x)
    with torch.no_grad():
        assert _algebra._has_kernel(x)
