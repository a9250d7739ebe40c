# What a trace would freeze, lose or change: forwards whose graph is not what every call does stay as they were, with
# the reason in the report, and nothing of the user's is touched by looking at them.
from __future__ import annotations

import copy
import functools
import gc
import linecache
import random
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import upconv
from upconv import _straight_line

X = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
MODE = "something else in training"


class Post(nn.Module):
    def post(self, y):
        return y + 1 if self.training else y

    def forward(self, y):
        return y


class Sometimes(nn.Module):
    def forward(self, y):
        if self.training:
            return y
        return None


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(4, 6, 3)
        self.bn = nn.BatchNorm2d(6)
        self.act = nn.ReLU()
        self.post = Post()
        self.feats, self.named, self.count, self.meter = [], {}, [0], Meter()
        self.fn = lambda y: y + 1 if self.training else y
        self.register_buffer("ema", torch.ones(6, 1, 1))
        self.register_buffer("logs", torch.zeros(6))
        self.scale = torch.ones(6, 1, 1)  # no buffer: a plain attribute
        self.wide = True
        self.sometimes = Sometimes()
        self.more = nn.ModuleList(nn.Identity() for _ in range(3))

    @property
    def gain(self):
        return 1.0 if self.training else 2.0


def forward(function, base=Model):
    torch.manual_seed(1)
    return type("Model_" + getattr(function, "__name__", "f"), (base,), {"forward": function})()


def same_in_both_modes(model, fast, x=X):
    for mode in (True, False):
        model.train(mode), fast.train(mode)
        state = copy.deepcopy(model.state_dict())
        torch.manual_seed(3)
        want, after = model(x), copy.deepcopy(model.state_dict())
        fast.load_state_dict(state), model.load_state_dict(state)
        torch.manual_seed(3)
        torch.testing.assert_close(fast(x), want, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fast.state_dict(), after, rtol=1e-4, atol=1e-6)
        fast.load_state_dict(state), model.load_state_dict(state)


def chains(fast):
    return [c for m in fast.modules() for c in upconv._rewritten.chains_of(m).values()]


# ---- the mode ------------------------------------------------------------------------------------------------------


def dropout(self, x):
    return F.dropout(torch.tanh(self.conv(x)) * 2.0, 0.5, self.training)


def dropout_before(self, x):
    return torch.sigmoid(self.conv(F.dropout(F.relu(x), 0.5, training=self.training))) * 2


def batch_norm(self, x):
    return F.batch_norm(self.conv(x) * 2, self.bn.running_mean, self.bn.running_var, training=self.training)


def of_a_child(self, x):
    return F.rrelu(torch.tanh(self.conv(x)) * 2 - 1, training=self.bn.training)


def arithmetic(self, x):
    return torch.tanh(self.conv(x)) * (1 + int(self.training))


def modes_that_differ(self, x):
    return torch.tanh(self.conv(x)) * (1 + (self.training ^ self.bn.training))


# ---- branches that are not in the text of forward itself -----------------------------------------------------------


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@decorated
def wrapped(self, x):
    y = torch.tanh(self.conv(x)) * 2
    return y + 1 if self.training else y


def a_property(self, x):
    return torch.tanh(self.conv(x)) * self.gain


def a_method_of_a_child(self, x):
    return self.post.post(torch.tanh(self.conv(x)) * 2)


def an_attribute(self, x):
    return self.fn(torch.tanh(self.conv(x)) * 2)


_flag = [False]


def _closure():
    def helper(y):
        return y * 10 if _flag[0] else y

    def closure(self, x):
        return helper(torch.tanh(self.conv(x)) * 2)

    return closure


@torch.no_grad()
def in_a_mode(self, x):
    return torch.tanh(self.conv(x)) * 2


def _decorated_helper():
    helper = torch.no_grad()(lambda y: torch.tanh(y) * 2)

    def helper_in_a_mode(self, x):
        return helper(self.conv(x)) + 1

    return helper_in_a_mode


# ---- branches that go the same way in every call ------------------------------------------------------------------


def sums_up(self, x):
    total = None
    for step in (torch.tanh, torch.sigmoid):
        if total is None:
            total = step(x)
        else:
            total = total + step(x)
    y = None
    for _ in range(2):
        y = self.conv(total) if y is None else y * 2
    return torch.tanh(y)


def counts_rounds(self, x):
    y = self.conv(x)
    for i, factor in enumerate((1.5, 2.0, 3.0)):
        last = i == 2
        if i > 0 and not last:
            y = torch.tanh(y)
        y = y * factor if last or i == 0 else y + factor
    return y


def asks_a_number(self, x):
    y = self.conv(x)
    return torch.tanh(y) * 2 if self.wide is not None and self.wide else torch.sigmoid(y)


def asks_how_many(self, x):
    y = self.conv(x)
    for n in range(len(self.more)):
        y = torch.tanh(y) if n < len(self.more) - 1 else torch.sigmoid(y)
    return y


SETTLED = [sums_up, counts_rounds, asks_a_number, asks_how_many]


@pytest.mark.parametrize("function", SETTLED, ids=lambda f: f.__name__)
def test_branches_that_the_code_itself_settles_are_fused(function):
    model = forward(function)
    for given in ((), (X,)):
        fast = upconv.optimize(model, *given)
        assert len(chains(fast)) == 1, str(fast.upconv_report)
        same_in_both_modes(model, fast)


def test_a_number_that_a_branch_asked_for_may_change():
    model = forward(asks_a_number)
    fast = upconv.optimize(model, X)
    for wide in (False, True, None, 0, 1):
        model.wide = fast.wide = wide
        torch.testing.assert_close(fast(X), model(X))


def given_or_not(self, x, scale=None):
    y = torch.tanh(self.conv(x)) * 2
    return y if scale is None else y * scale


def found_by_name(self, x):
    y, scale = torch.tanh(self.conv(x)) * 2, None
    for name in ("one", "two"):
        scale = self.named.get(name)
    return y if scale is None else y * scale


def asks_a_list(self, x):
    y = torch.tanh(self.conv(x)) * 2
    for flag in self.feats:
        y = y + 1 if flag else y
    return y * 2 if len(self.feats) else y


def asks_a_copy(self, x):
    count = self.count
    y = torch.tanh(self.conv(x)) * 2
    return y if count is None else y + 1


def asks_an_object(self, x):
    y = torch.tanh(self.conv(x)) * 2
    return y if self.meter.last is None else y + 1


def asks_a_global(self, x):
    y = torch.tanh(self.conv(x)) * 2
    return y + 1 if _flag else y


def asks_a_child(self, x):
    y = torch.tanh(self.conv(x)) * 2
    more = self.sometimes(y)
    return y if more is None else y + more


def asks_until(self, x):
    y, n = torch.tanh(self.conv(x)) * 2, 0
    while n < 2:
        n += 1
        y = y + n
    return y


UNSETTLED = [
    given_or_not,
    found_by_name,
    asks_a_list,
    asks_a_copy,
    asks_an_object,
    asks_a_global,
    asks_a_child,
    asks_until,
]


@pytest.mark.parametrize("function", UNSETTLED, ids=lambda f: f.__name__)
def test_branches_that_something_else_settles_are_left(function):
    model = forward(function)
    fast = upconv.optimize(model)
    assert not chains(fast) and "branches" in str(fast.upconv_report), str(fast.upconv_report)
    same_in_both_modes(model, fast)


def test_a_branch_whose_source_is_another_by_now_is_left(tmp_path, monkeypatch):
    """What the file says is believed only where the code was compiled from it."""
    file = tmp_path / "upconv_changing.py"
    rounds = "    for n in range(2):\n        y = y * 2 if n else y.tanh()\n"
    text = f"def forward(self, x):\n    y = self.conv(x)\n{rounds}    return y\n"
    for written, fused in ((text, 1), (text.replace("if n else", "if self.meter else"), 0)):
        names: dict = {}
        exec(compile(written, str(file), "exec"), names)
        file.write_text(text)
        linecache.clearcache()
        assert len(chains(upconv.optimize(forward(names["forward"])))) == fused


# ---- what is kept, made or drawn -----------------------------------------------------------------------------------


def appends(self, x):
    y = torch.tanh(self.conv(x)) * 2
    self.feats.append(y)
    return y * 3


def stores(self, x):
    y = torch.tanh(self.conv(x)) * 2
    self.named["y"] = y
    return y * 3


def sets(self, x):
    y = torch.tanh(self.conv(x)) * 2
    setattr(self, "last", y)  # noqa: B010
    return y * 3


def counts(self, x):
    self.count[0] += 1
    return torch.tanh(self.conv(x)) * 2


class Meter:
    last = None

    def update(self, y):
        vars(self).update(last=y)


_log: list = []


def keeps_elsewhere(self, x):
    y = torch.tanh(self.conv(x)) * 2
    _log.append(y)
    return y * 3


def meters(self, x):
    y = torch.tanh(self.conv(x)) * 2
    self.meter.update(y)
    return y * 3


def _counting():
    calls = 0

    def counts_in_a_closure(self, x):
        nonlocal calls
        calls += 1
        return torch.tanh(self.conv(x)) * 2

    return counts_in_a_closure


def writes_an_attribute(self, x):
    self.scale.mul_(2.0)
    return torch.tanh(self.conv(x)) * self.scale


def noise(self, x):
    return torch.tanh(self.conv(x)) + torch.randn(6, 1, 1)


def ramp(self, x):
    return torch.tanh(self.conv(x)) * torch.linspace(0, 1, 6).view(6, 1, 1)


def draws(self, x):
    return torch.tanh(self.conv(x)) * random.random()


LEFT = [
    (dropout, MODE), (dropout_before, MODE), (batch_norm, MODE), (of_a_child, MODE), (arithmetic, MODE),
    (modes_that_differ, MODE), (wrapped, "wrapped branches"), (a_property, "gain branches"),
    (a_method_of_a_child, "post branches"), (an_attribute, "branches"), (_closure(), "helper branches"),
    (in_a_mode, "branches"), (_decorated_helper(), "a mode of torch's"), (appends, "keeps state in 'feats'"),
    (stores, "keeps state in 'named'"), (sets, "keeps state in 'last'"), (counts, "keeps state in 'count'"),
    (keeps_elsewhere, "keeps state in '_log'"),
    (meters, "keeps state in 'meter'"), (_counting(), "keeps state in 'calls'"),
    (writes_an_attribute, "keeps state in 'scale'"),
    (noise, "makes a tensor"), (ramp, "makes a tensor"), (draws, "at every call"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "reason"), LEFT, ids=lambda v: getattr(v, "__name__", None))
def test_is_left(function, reason):
    model = forward(function)
    before = copy.deepcopy(model.state_dict())
    fast = upconv.optimize(model)
    assert not chains(fast) and reason in str(fast.upconv_report), str(fast.upconv_report)
    torch.testing.assert_close(dict(model.state_dict()), dict(before))
    for m in (model, fast):  # nothing was kept, and nothing added
        assert m.feats == [] and m.named == {} and m.count == [0] and not _log and m.meter.last is None
        assert not hasattr(m, "last") and not any("_tensor_constant" in name for name in vars(m))
        assert torch.equal(m.scale, torch.ones(6, 1, 1))
    if function not in (draws, writes_an_attribute, in_a_mode):
        same_in_both_modes(model, fast)
    _log.clear()


class Branching(Model):
    def forward(self, x):
        y = torch.tanh(self.conv(x)) * 2
        return y + 1 if self.training else y


class BranchingPair(Model):
    def forward(self, x):
        y = self.conv(x)
        return y if self.training else self.act(y)


@pytest.mark.parametrize("base", (Branching, BranchingPair), ids=lambda k: k.__name__)
def test_super_is_followed(base):
    class Derived(base):
        def forward(self, x):
            return super().forward(x)

    model = Derived()
    for given in ((), (X,)):
        fast = upconv.optimize(model, *given)
        (row,) = fast.upconv_report.rows
        assert row.action == "replaced" and "branches" in row.detail
        same_in_both_modes(model, fast)


def test_what_a_forward_stores_in_its_own_containers_is_no_state():
    def local(self, x):
        values = {"x": x}
        values["y"] = self.conv(values["x"])
        steps = [torch.tanh]
        steps.append(torch.sigmoid)
        for step in steps:
            values["y"] = step(values["y"])
        return values["y"]

    fast = upconv.optimize(forward(local), X)
    assert len(chains(fast)) == 1 and "tanh, sigmoid" in str(fast.upconv_report)


def test_a_child_in_a_mode_of_its_own():
    def frozen_norm(self, x):
        return torch.relu(self.bn(self.conv(x)))

    model = forward(frozen_norm)
    for owner, child in ((True, False), (False, True)):
        model.train(owner), model.bn.train(child)
        fast = copy.deepcopy(upconv.optimize(model, X))
        assert chains(fast) and (fast.training, fast.bn.training) == (owner, child)
        for _ in range(2):
            torch.testing.assert_close(fast(X), model(X), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(fast.state_dict(), model.state_dict(), rtol=1e-4, atol=1e-6)


@dataclass
class Output:
    sample: torch.Tensor


def test_an_object_that_the_forward_makes_is_no_state():
    def output(self, x):
        return Output(torch.tanh(self.conv(x)) * 2)

    fast = upconv.optimize(forward(output), X)
    assert chains(fast), str(fast.upconv_report)
    torch.testing.assert_close(fast(X).sample, torch.tanh(fast.conv(X)) * 2)


# ---- buffers -------------------------------------------------------------------------------------------------------


def derived(self, x):
    return torch.sigmoid(self.conv(x)) * self.logs.exp().view(1, -1, 1, 1) + self.ema


def averages(self, x):
    y = torch.tanh(self.conv(x)) * self.ema
    self.ema.mul_(0.5).add_(y.detach().mean((0, 2, 3)).view(6, 1, 1))
    return y


def plain_tensor(self, x):
    return torch.tanh(self.conv(x)) * self.scale


@pytest.mark.parametrize("given", ((), (X,)), ids=("no example", "example"))
@pytest.mark.parametrize("function", (derived, averages, plain_tensor), ids=lambda f: f.__name__)
def test_buffers_are_read_when_the_chain_runs(function, given):
    model = forward(function)
    before = copy.deepcopy(dict(model.state_dict()))
    fast = copy.deepcopy(upconv.optimize(model, *given))
    torch.testing.assert_close(dict(model.state_dict()), before)
    (row,) = fast.upconv_report.rows
    assert row.action == "fused" and "operand 0" in row.detail and list(fast.state_dict()) == list(before)
    same_in_both_modes(model, fast)
    other = {k: v + 1 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    for assign in (False, True):
        for m in (model, fast):
            m.load_state_dict(copy.deepcopy(other), assign=assign)
            m.scale = torch.full((6, 1, 1), 5.0)
        same_in_both_modes(model, fast)
    wide, fast = model.double(), fast.double()
    assert fast(X.double()).dtype == torch.double or function is plain_tensor
    same_in_both_modes(wide, fast, X.double())


def test_example_inputs_are_not_written():
    def writes_its_input(self, x):
        x.mul_(2)
        return torch.tanh(self.conv(x)) * 2

    model, x = forward(writes_its_input), X.clone()
    fast = upconv.optimize(model, x)
    assert torch.equal(x, X) and chains(fast), str(fast.upconv_report)
    torch.testing.assert_close(fast(X.clone()), model(X.clone()), rtol=1e-4, atol=1e-5)


def test_random_numbers_are_those_of_before():
    model = forward(noise)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    fast = upconv.optimize(model, X)
    assert torch.equal(torch.get_rng_state(), state) and "returned as it was" not in str(fast.upconv_report)


# ---- names of one memory, sizes that code states -------------------------------------------------------------------


def contiguous(self, x):
    y = self.conv(x) * 0.5
    return y.contiguous().add_(1) + y


def detached(self, x):
    y = self.conv(x) * 0.5
    return y.detach().add_(1) + y


def of_a_name(self, x):
    y = self.conv(x) * 0.5
    z = y.contiguous()
    y.add_(1)
    return z * 2.0


def cloned(self, x):
    y = self.conv(x) * 0.5
    return y.clone().add_(1) + y


@pytest.mark.parametrize("function", (contiguous, detached, of_a_name, cloned), ids=lambda f: f.__name__)
def test_writes_under_another_name(function):
    model = forward(function)
    fast = upconv.optimize(model)
    assert ("add kept" in str(fast.upconv_report)) == (function is cloned)
    with torch.no_grad():
        torch.testing.assert_close(fast(X), model(X), rtol=1e-4, atol=1e-5)


def one_sample(self, x):
    y = self.conv(x)
    return y.view(1, 6, -1).softmax(-1).view(y.shape)


def stated_space(self, x):
    return self.conv(x).flatten(2).softmax(-1).view(x.shape[0], 6, 7, 7)


def turned(self, x):
    y = self.conv(x)
    return y.flatten(2).softmax(-1).reshape(y.size(0), 6, y.size(3), y.size(2))


def asked(self, x):
    y = self.conv(x)
    b, c, _, _ = y.shape
    return y.view(b, c, -1).softmax(-1).view(y.shape)


SPACE = [
    (one_sample, ((0, 0, 1),)), (stated_space, ((0, 2, 7), (0, 3, 7))), (turned, ((0, 2, 7), (0, 3, 7))), (asked, ()),
]  # fmt: skip


@pytest.mark.parametrize(("function", "bound"), SPACE, ids=lambda v: getattr(v, "__name__", ""))
def test_a_softmax_over_space_is_bound_to_what_its_reshapes_state(function, bound):
    model = forward(function)
    fast = upconv.optimize(model, X[:1])
    (chain,) = chains(fast)
    assert chain.bound == bound
    for x in (X[:1], X, torch.randn(3, 4, 3, 6), torch.randn(1, 4, 3, 6)):
        if function is stated_space and x.shape[2:] != X.shape[2:]:
            continue  # torch refuses
        with torch.no_grad():
            torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-6)


def test_what_a_garbage_collection_runs_is_none_of_the_forwards(monkeypatch):
    """A generator of somebody else's, suspended and unreachable, is closed by whoever collects next."""

    def branching():
        try:
            yield 1
        finally:
            for i in range(3):
                if i:
                    break

    class Node:
        pass

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.ConvTranspose2d(4, 6, 3)

        def forward(self, x):
            return torch.tanh(self.conv(x)) * 2

    model, entered, thresholds = Plain(), _straight_line.Watch.__enter__, gc.get_threshold()

    def enter(watch):
        node = Node()
        node.self, node.generator = node, branching()
        next(node.generator)
        del node
        watching = entered(watch)
        gc.set_threshold(1, 1, 1)  # collected at once, if at all
        return watching

    monkeypatch.setattr(_straight_line.Watch, "__enter__", enter)
    try:
        fast = upconv.optimize(model)
    finally:
        gc.set_threshold(*thresholds)
    assert fast.upconv_report.count("fused") == 1 and gc.isenabled()
