# What a module with chains is to everyone else: the same children, copies and pickles; its own forward again where it
# is no longer what was traced; and a chain alone runs the model's own code where its inputs mean something else.
from __future__ import annotations

import abc
import copy
import io
import pickle
import threading

import pytest
import torch
from torch import fx, nn
from torch.nn.utils import prune

import upconv
from upconv._fused_chain import FusedChain
from upconv._rewritten import chains_of

X = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))


def chains(fast):
    return [c for m in fast.modules() for c in chains_of(m).values()]


def close(fast, model, *inputs, **kwargs):
    for m in (fast, model):
        m.eval()
    torch.testing.assert_close(fast(*inputs, **kwargs), model(*inputs, **kwargs), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(fast(*inputs, **kwargs), model(*inputs, **kwargs), rtol=1e-4, atol=1e-5)


def sequence():
    torch.manual_seed(0)
    return nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.InstanceNorm2d(6), nn.Sigmoid(), nn.AvgPool2d(2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(4, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.gain = 1.5

    def forward(self, x):
        return torch.tanh(self.norm(self.conv(x))) * self.gain


# ---- the same children ---------------------------------------------------------------------------------------------


def test_a_sequence_is_as_long_as_it_was():
    model = sequence()
    fast = upconv.optimize(model, X)
    assert len(chains(fast)) == 1 and len(fast) == 4 and type(fast[-1]) is nn.AvgPool2d
    assert [n for n, _ in fast.named_modules()] == [n for n, _ in model.named_modules()]
    assert "GroupNorm, sigmoid, Pool" in repr(fast)
    close(fast, model, X)
    close(fast, model, X[0])  # no batch dimension
    y = X
    for layer in fast:
        y = layer(y)
    torch.testing.assert_close(y, model(X))
    close(fast[:2], model[:2], X)


def _append(m):
    m.append(nn.Flatten())


def _delete(m):
    del m[2]


def _insert(m):
    m.insert(1, nn.Tanh())


def _replace(m):
    torch.manual_seed(1)
    m[0] = nn.ConvTranspose2d(4, 6, 5, stride=2)


def _replace_unseen(m):
    m[1] = nn.GroupNorm(3, 6)


def _hook(m):
    m[1].register_forward_hook(lambda module, args, y: y * 2)


def _prune(m):
    prune.l1_unstructured(m[0], "weight", 0.5)
    with torch.no_grad():
        m[0].weight_orig.mul_(3.0)  # the hook brings it into the weight at every call


CHANGES = (_append, _delete, _insert, _replace, _replace_unseen, _hook, _prune)


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_what_is_changed_later_is_seen(change):
    model = sequence()
    fast = copy.deepcopy(upconv.optimize(model, X))
    change(model), change(fast)
    close(fast, model, X)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = sequence()

        def forward(self, x):
            return torch.tanh(self.up(x)) * 2

    model = Outer()
    fast = copy.deepcopy(upconv.optimize(model, X))
    assert chains(fast)
    change(model.up), change(fast.up)
    close(fast, model, X)


def test_a_plain_attribute_is_compared():
    model = Block()
    fast = copy.deepcopy(upconv.optimize(model, X))
    compiled = torch.compile(fast, backend="eager", fullgraph=True)
    for gain in (1.5, 3.0, 1.5):
        model.gain = fast.gain = gain
        close(fast, model, X)
        close(compiled, model, X)
    model.norm = nn.BatchNorm2d(6, affine=False)
    fast.norm = copy.deepcopy(model.norm)
    for _ in range(2):
        model.train(), fast.train()
        torch.testing.assert_close(fast(X), model(X), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.norm.running_mean, model.norm.running_mean)
    close(fast, model, X)


def test_a_second_time():
    model = Block()
    again = upconv.optimize(upconv.optimize(model, X), X)
    assert [row.action for row in again.upconv_report.rows] == ["replaced"] and len(chains(again)) == 1
    close(again, model, X)


def test_a_pair_beside_a_chain():
    model = nn.Sequential(*sequence()[:2], nn.ConvTranspose2d(6, 4, 3), nn.ReLU())
    for given in ((), (X,)):
        fast = upconv.optimize(model, *given)
        assert [row.action for row in fast.upconv_report.rows] == ["fused", "fused"], str(fast.upconv_report)
        assert len(chains(fast)) == 1 and "ReLU() (3)" in fast.upconv_report.rows[1].detail
        close(fast, model, X)
        close(fast, model, X[0])


def test_a_check_that_raises_leaves_the_model_alone(monkeypatch):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.conv, self.act = sequence(), nn.ConvTranspose2d(6, 4, 2), nn.ReLU()

        def forward(self, x):
            return self.act(self.conv(self.up(x)))

    model = Outer()
    want, kinds = model(X), [type(m) for m in model.modules()]
    monkeypatch.setattr(FusedChain, "forward", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        upconv.optimize(model, X, inplace=True)
    assert [type(m) for m in model.modules()] == kinds and not chains(model) and not hasattr(model.up, "upconv_seen")
    assert torch.equal(model(X), want)


# ---- classes and pickles -------------------------------------------------------------------------------------------


class Locked(Block):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "lock"}

    def __setstate__(self, state):
        super().__setstate__(state)
        self.lock = threading.Lock()


@pytest.mark.parametrize("make", (Block, Locked, sequence), ids=lambda f: f.__name__)
def test_copies_and_pickles(make):
    model = make()
    fast = upconv.optimize(model, X)
    buffer = io.BytesIO()
    torch.save(fast, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    for other in (loaded, pickle.loads(pickle.dumps(fast)), copy.deepcopy(fast), copy.copy(fast)):
        assert len(chains(other)) == 1 and list(other.state_dict()) == list(model.state_dict())
        close(other, model, X)
        close(other, model, X[0]) if make is sequence else None
    moved = copy.deepcopy(fast).double()
    assert moved(X.double()).dtype == torch.double
    with torch.no_grad():
        for p in loaded.parameters():
            p.mul_(1.5)
    again = make()
    again.load_state_dict(loaded.state_dict())
    close(loaded, again, X)


def test_classes_that_are_told_of_subclasses():
    told = []

    class Abstract(Block, abc.ABC):
        pass

    class Named(Block):
        def __init_subclass__(cls, *, name, **given):
            super().__init_subclass__(**given)
            told.append(name)

    class Registering(Block):
        def __init_subclass__(cls, **given):
            super().__init_subclass__(**given)
            told.append(cls)

    for kind in (Abstract, Named, Registering):
        model = kind()
        fast = upconv.optimize(model, X)
        assert len(chains(fast)) == 1 and isinstance(fast, kind) and type(fast).__name__ == kind.__name__
        close(fast, model, X)
    assert told == []


class Reducing(Block):
    def __reduce__(self):
        return Reducing, (), self.__dict__


class Closed(type(nn.Module)):
    def __call__(cls, *args):
        return super().__call__(*args)

    def __new__(mcs, name, bases, members):
        if any(isinstance(b, Closed) for b in bases):
            raise TypeError("closed")
        return super().__new__(mcs, name, bases, members)


def test_classes_that_stay():
    class Final(Block, metaclass=Closed):
        pass

    for kind, reason in ((Reducing, "a way of its own to be pickled"), (Final, "cannot be derived from (TypeError: ")):
        model = kind()
        fast = upconv.optimize(model, X)
        assert not chains(fast) and reason in str(fast.upconv_report)
        close(fast, model, X)


def test_graph_modules_stay():
    model = Block()
    fast = upconv.optimize(fx.symbolic_trace(model), X)
    assert not chains(fast) and "torch.fx.GraphModule" in str(fast.upconv_report)
    close(pickle.loads(pickle.dumps(fast)), model, X)
    fast.recompile()
    close(fast, model, X)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_children():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.ConvTranspose2d(4, 6, 3)
            self.scripted = torch.jit.script(nn.Conv2d(6, 6, 1))
            self.traced = torch.jit.trace(nn.ConvTranspose2d(6, 6, 2), torch.randn(1, 6, 3, 3))

        def forward(self, x):
            return self.traced(self.scripted(torch.tanh(self.conv(x)) * 2))

    model = Outer()
    for given in ((), (X,)):
        for inplace in (False, True):
            owner = copy.deepcopy(model) if inplace else model
            fast = upconv.optimize(owner, *given, inplace=inplace)
            assert len(chains(fast)) == 1
            close(fast, owner, X)
    fast = upconv.optimize(model)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
    close(fast, model, X)
    assert upconv.optimize(torch.jit.script(nn.ReLU())) is not None


# ---- inputs that mean something else -------------------------------------------------------------------------------


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(4, 6, 3)

    def forward(self, x, a=1.0, b=2.0):
        return torch.tanh(self.conv(x)) * a + b


def test_defaults_and_a_keyword_in_the_middle():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return self.inner(x, b=torch.full((6, 1, 1), 3.0))

    model = Outer()
    fast = upconv.optimize(model, X)
    assert len(chains(fast)) == 1
    close(fast, model, X)
    inner = fast.inner
    for given in ({}, {"a": torch.rand(6, 1, 1)}, {"b": 4}, {"a": 2, "b": torch.rand(2, 6, 7, 7)}):
        close(inner, model.inner, X, **given)


class Adding(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(4, 6, 3)

    def forward(self, x, b):
        return torch.tanh(self.conv(x) + b).mean((2, 3), keepdim=True)


OPERANDS = {
    "whole": torch.randn(2, 6, 7, 7), "channels": torch.randn(6, 1, 1), "a row": torch.randn(7), "one": torch.randn(()),
    "five dimensions": torch.randn(3, 2, 6, 1, 1), "positions": torch.randn(1, 1, 7, 7), "a column": torch.randn(7, 1),
    "a number": 2.0, "an integer": 3, "double": torch.ones(1, 6, 1, 1, dtype=torch.double),
    "truth": torch.ones(6, 1, 1, dtype=torch.bool), "turned": torch.randn(6, 7, 7).transpose(1, 2),
}  # fmt: skip


@pytest.mark.parametrize("operand", OPERANDS.values(), ids=OPERANDS)
def test_operands_of_another_kind(operand):
    model = Adding()
    fast = upconv.optimize(model, (X, torch.ones(1, 6, 1, 1)))
    assert len(chains(fast)) == 1
    close(fast, model, X, operand)
    close(fast, model, X[:1], torch.ones(2, 6, 1, 1))  # makes the result larger


def test_an_operand_after_lost_dimensions():
    class After(Adding):
        def forward(self, x, b):
            return self.conv(x).mean((2, 3)) * b

    class Twice(Adding):  # the second reduction drops what the first one kept
        def forward(self, x, b):
            return torch.logsumexp(self.conv(x).mean((2, 3), keepdim=True) + b, 1, keepdim=True).sum((2, 3)) * 2

    model = After()
    fast = upconv.optimize(model, (X, torch.ones(())))
    for b in (torch.tensor(2.0), torch.randn(6), torch.randn(2, 6), 3.0):
        close(fast, model, X, b)
    fast = upconv.optimize(Twice(), (X, torch.ones(6, 1, 1)))
    (chain,) = chains(fast)
    assert chain._places == ((0, 1, False),) and chain.chain.dropped == (2, 3)
    for b in (torch.randn(6, 1, 1), torch.randn(2, 6, 1, 1), torch.randn(1, 6, 7, 1)):
        torch.testing.assert_close(fast(X, b), Twice.forward(fast, X, b), rtol=1e-4, atol=1e-5)


def test_only_the_chain_falls_back():
    """A batch norm elsewhere sees each batch once, and an input is written once."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (nn.ConvTranspose2d(4, 4, 3, padding=1) for _ in range(2))
            self.bn = nn.BatchNorm2d(4)
            self.const = nn.Parameter(torch.randn(1, 4, 5, 5))

        def forward(self, x):
            x.mul_(2)
            y = torch.tanh(self.bn(self.first(x)))
            return self.second(self.const) * 2 + y

    model = Two()
    fast = copy.deepcopy(upconv.optimize(model, X[:1]))
    assert len(chains(fast)) == 2
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            x, other = X.clone(), X.clone()
            torch.testing.assert_close(fast(x), model(other), rtol=1e-4, atol=1e-5)  # y enlarges the second's result
            assert torch.equal(x, other)
            torch.testing.assert_close(fast.state_dict(), model.state_dict())


def test_a_batch_norm_that_several_calls_share():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.ConvTranspose2d(4, 6, 3) for _ in range(2))
            self.bn = nn.BatchNorm2d(6, momentum=0.5)

        def forward(self, x):
            return torch.relu(self.bn(self.a(x)) * 2) + torch.relu(self.bn(self.b(x)) * 2)

    class Read(Shared):
        def forward(self, x):
            y = torch.relu(self.bn(self.a(x)) * 2)
            return y - self.bn.running_mean.view(-1, 1, 1)

    for kind in (Shared, Read):
        torch.manual_seed(0)
        model = kind()
        fast = copy.deepcopy(upconv.optimize(model, X))
        assert "bn is used at another place" in str(fast.upconv_report)
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                torch.testing.assert_close(fast(X), model(X), rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(fast.state_dict(), model.state_dict(), rtol=1e-5, atol=1e-6)


def test_exported_programs_hold_the_chain():
    model = Block().eval()
    fast = upconv.optimize(model, X)
    with torch.no_grad():
        for strict in (False, True):
            program = torch.export.export(fast, (X,), strict=strict)
            assert "upconv._chain" in str(program.graph)
            torch.testing.assert_close(program.module()(X), model(X), rtol=1e-4, atol=1e-5)
