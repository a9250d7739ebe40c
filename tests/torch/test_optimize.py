# upconv.optimize: same numbers and gradients, shared parameters, and the pairs that must not be fused.
import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import upconv

ACTIVATIONS = [
    nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.3), nn.ELU(0.7), nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(),
    nn.Mish(), nn.Tanh(), nn.Sigmoid(), nn.Hardtanh(-0.5, 0.25), nn.ReLU6(), nn.Hardswish(), nn.Hardsigmoid(),
    nn.Softplus(2.0, 5.0),
]  # fmt: skip


def actions(model):
    return {row.name: row.action for row in model.upconv_report.rows}


def detail(model, name):
    return next(row.detail for row in model.upconv_report.rows if row.name == name)


def assert_same(model, fast, *inputs, tolerance=1e-11):
    """Outputs without and with gradients, and the gradients of inputs and parameters."""
    with torch.no_grad():
        torch.testing.assert_close(fast(*inputs), model(*inputs), rtol=tolerance, atol=tolerance)
    results = []
    for m in (model, fast):
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        y = m(*leaves)
        results.append((y, torch.autograd.grad(y.square().sum(), [*leaves, *model.parameters()], allow_unused=True)))
    torch.testing.assert_close(results[1], results[0], rtol=tolerance, atol=tolerance)


class Block(nn.Module):
    def __init__(self, activation=None):
        super().__init__()
        self.conv = nn.ConvTranspose2d(4, 4, 3, stride=2, groups=2)
        self.gelu = activation or nn.GELU()
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x):
        return self.norm(self.gelu(self.conv(x)))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_every_activation(activation):
    model = nn.Sequential(nn.ConvTranspose1d(3, 4, 4, stride=2), activation).double()
    x = 2 * torch.randn(2, 3, 9, dtype=torch.double)
    fast = upconv.optimize(model, x)
    assert actions(fast) == {"0": "fused"} and "largest difference" in str(fast.upconv_report)
    assert_same(model, fast, x)
    with torch.no_grad():
        assert torch.equal(fast[1](fast[0](x)), fast(x))
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 4e-2)):
        model, x = model.to(dtype), x.to(dtype)  # .to() changes the parameters in place: fast follows
        with torch.no_grad():
            torch.testing.assert_close(fast(x), model(x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_block_with_attributes(rank):
    block = Block().double()
    block.conv = getattr(nn, f"ConvTranspose{rank}d")(4, 4, 3, stride=2, groups=2, dtype=torch.double)
    x = torch.randn(2, 4, *[4] * rank, dtype=torch.double)
    fast = upconv.optimize(block)
    assert actions(fast) == {"conv": "fused"} and "gelu" in detail(fast, "conv")
    assert_same(block, fast, x)
    assert type(block.conv) is getattr(nn, f"ConvTranspose{rank}d") and type(block.gelu) is nn.GELU


def test_state_is_shared():
    model = nn.Sequential(Block(), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 2, 2))
    fast = upconv.optimize(model)
    assert list(fast.state_dict()) == list(model.state_dict())
    for p, q in zip(model.parameters(), fast.parameters(), strict=True):
        assert p is q
    for p, q in zip(model.buffers(), fast.buffers(), strict=True):
        assert p is q
    assert fast is not model and not hasattr(model, "upconv_report")
    x = torch.randn(1, 4, 3, 3)
    with torch.no_grad():
        model[0].conv.weight.mul_(2.0)
        torch.testing.assert_close(fast.eval()(x), model.eval()(x))


def test_inplace_and_twice():
    model = Block()
    assert upconv.optimize(model, inplace=True) is model
    assert actions(model) == {"conv": "fused"}
    again = upconv.optimize(model)
    assert actions(again) == {"conv": "replaced"} and "already" in detail(again, "conv")
    x = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(again(x), model(x))


def test_the_bare_layer_and_a_model_without_any():
    layer = nn.ConvTranspose3d(2, 3, 2)
    fast = upconv.optimize(layer)
    assert type(fast) is upconv.nn.ConvTranspose3d and actions(fast) == {"(model)": "replaced"}
    none = upconv.optimize(nn.Linear(2, 2))
    assert "no ConvTranspose" in str(none.upconv_report)
    with pytest.raises(TypeError, match=r"'model' must be a torch\.nn\.Module, not function"):
        upconv.optimize(lambda x: x)


def test_copies_of_the_result():
    fast = upconv.optimize(Block())
    buffer = io.BytesIO()
    torch.save(fast, buffer)
    buffer.seek(0)
    x = torch.randn(1, 4, 3, 3)
    for other in (copy.deepcopy(fast), torch.load(buffer, weights_only=False)):
        assert torch.equal(other(x), fast(x)) and "gelu, GroupNorm" in repr(other)
    assert pickle.loads(pickle.dumps(fast.upconv_report)).rows == fast.upconv_report.rows


class Twice(Block):
    def forward(self, x):
        y = self.conv(x)
        return self.gelu(y) + y


class Branching(Block):
    def forward(self, x):
        y = self.conv(x)
        return self.gelu(y) if self.training else y


class BranchingHelper(Block):
    def step(self, y):
        return y if y.shape[-1] > 4 and not self.training else self.gelu(y)

    def forward(self, x):
        return self.step(self.conv(x))


class Keeping(Block):
    def forward(self, x):
        self.last = self.conv(x)
        return self.gelu(self.last)


class SharedActivation(Block):
    def __init__(self):
        super().__init__()
        self.other = nn.ConvTranspose2d(4, 4, 2)

    def forward(self, x):
        return self.gelu(self.other(self.gelu(self.conv(x))))


class OneActivation(Block):
    def forward(self, x):
        return self.gelu(self.conv(x))


class CalledTwice(Block):
    def forward(self, x):
        return self.gelu(self.conv(self.conv(x)))


class DataDependent(Block):
    def forward(self, x):
        for _ in range(int(x.detach().abs().max()) % 2 + 1):
            y = self.gelu(self.conv(x))
        return y


def hooked(where):
    block = Block()
    getattr(block, where).register_forward_hook(lambda m, a, y: y * 2)
    return block


def replaced_forward():
    block = Block()
    block.gelu.forward = torch.sin
    return block


MUST_NOT_FUSE = {
    "branch on training": (Branching, "branches"),
    "branch in a helper": (BranchingHelper, "branches"),
    "result kept": (Keeping, "keeps state in 'last'"),
    "shared activation": (SharedActivation, "more than one place"),
    "convolution called twice": (CalledTwice, "more than one place"),
    "data dependent": (DataDependent, "torch.fx cannot trace"),
    "hook on the convolution": (lambda: hooked("conv"), "hooks"),
    "hook on the activation": (lambda: hooked("gelu"), "hooks"),
    "activation with its own forward": (replaced_forward, "replaced on the instance"),
    "PReLU has a parameter": (lambda: Block(nn.PReLU()), "PReLU"),
    "dropout": (lambda: Block(nn.Dropout(0.0)), "Dropout"),
    "tied convolutions": (lambda: tied(), "more than one place"),
}


def tied():
    model = nn.Sequential(nn.ConvTranspose2d(4, 4, 3), nn.GELU(), nn.Identity(), nn.Tanh())
    model[2] = model[0]
    return model


def test_a_result_used_twice_is_one_chain():
    model, x = Twice().double(), torch.randn(2, 4, 5, 5, dtype=torch.double)
    fast = upconv.optimize(model, x)
    assert actions(fast) == {"conv": "fused"} and "gelu, add kept 0" in detail(fast, "conv")
    assert_same(model, fast, x)


@pytest.mark.parametrize(("make", "reason"), MUST_NOT_FUSE.values(), ids=MUST_NOT_FUSE)
def test_must_not_fuse(make, reason):
    model = make().double()
    x = torch.randn(2, 4, 5, 5, dtype=torch.double)
    for given in ((), (x,)):
        fast = upconv.optimize(model, *given)
        assert set(actions(fast).values()) == {"replaced"}, str(fast.upconv_report)
        assert reason in str(fast.upconv_report)
        for mode in (True, False):
            assert_same(model.train(mode), fast.train(mode), x)


class Mine(nn.ConvTranspose2d):
    def forward(self, x):
        return super().forward(x) + 1


def test_left_as_they_were():
    shadowed = nn.ConvTranspose2d(4, 4, 2)
    shadowed.forward = lambda x: F.conv_transpose2d(x, shadowed.weight)
    model = nn.ModuleDict({
        "mine": Mine(4, 4, 2), "lazy": nn.LazyConvTranspose2d(4, 2), "integer": nn.ConvTranspose2d(4, 4, 2),
        "shadowed": shadowed, "plain": nn.ConvTranspose2d(4, 4, 2),
    })  # fmt: skip
    model["integer"].weight = nn.Parameter(torch.ones(4, 4, 2, 2, dtype=torch.long), requires_grad=False)
    fast = upconv.optimize(model)
    assert actions(fast) == {"mine": "left", "lazy": "left", "integer": "left", "shadowed": "left", "plain": "replaced"}
    assert "Mine" in detail(fast, "mine") and "torch.int64" in detail(fast, "integer")
    assert type(fast["mine"]) is Mine and type(fast["lazy"]) is nn.LazyConvTranspose2d


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_reparametrized_layers():
    model = nn.Sequential(
        parametrizations.weight_norm(nn.ConvTranspose1d(2, 2, 3)), nn.ReLU(),
        nn.utils.weight_norm(nn.ConvTranspose1d(2, 2, 3)), nn.Tanh(),
    ).double()  # fmt: skip
    x = torch.randn(1, 2, 5, dtype=torch.double)
    fast = upconv.optimize(model, x)
    assert actions(fast) == {"0": "replaced", "2": "fused"}
    assert isinstance(fast[0], upconv.nn.ConvTranspose1d)
    assert_same(model, fast, x)


def test_nested_in_lists_and_blocks():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.stages = nn.ModuleList(
                [nn.ConvTranspose1d(3, 3, 4, 2), nn.SiLU(), nn.ConvTranspose1d(3, 3, 4, 2), nn.Tanh()]
            )
            self.head = nn.Sequential(nn.Sequential(nn.ConvTranspose1d(3, 1, 2)), nn.Sigmoid())

        def forward(self, x):
            for stage in self.stages:
                x = stage(x)
            return self.head(x)

    model = Decoder().double()
    x = torch.randn(1, 3, 6, dtype=torch.double)
    fast = upconv.optimize(model, x)
    assert actions(fast) == {"stages.0": "fused", "stages.2": "fused", "head.0.0": "replaced"}
    assert_same(model, fast, x)


def test_example_inputs_find_a_call_that_no_trace_saw():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = OneActivation()

        def forward(self, x):
            return self.block(x) + self.block.conv(x)  # reaches past the block's own forward

    model = Outer().double()
    x = torch.randn(1, 4, 3, 3, dtype=torch.double)
    fast = upconv.optimize(model, x)
    assert actions(fast) == {"block.conv": "replaced"} and "example inputs" in detail(fast, "block.conv")
    assert_same(model, fast, x)


def test_modes_and_random_state_survive():
    model = nn.Sequential(nn.ConvTranspose1d(2, 2, 3), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(2))
    model[3].eval()
    state, statistics = torch.get_rng_state(), model[3].running_mean.clone()
    fast = upconv.optimize(model, torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(model[3].running_mean, statistics)
    for m in (model, fast):
        assert m.training and m[2].training and not m[3].training


def test_a_model_that_cannot_be_copied():
    class Stubborn(nn.Sequential):
        def __deepcopy__(self, memo):
            raise RuntimeError("no")

    model = Stubborn(nn.ConvTranspose1d(1, 1, 2), nn.ReLU())
    assert upconv.optimize(model) is model and type(model[0]) is nn.ConvTranspose1d
    assert "cannot be copied (RuntimeError: no); pass inplace=True" in str(model.upconv_report)
    assert model.upconv_report.count("left") == 1
    assert actions(upconv.optimize(model, inplace=True)) == {"0": "fused"}


def test_report_prints_as_text_and_table():
    from rich.console import Console

    fast = upconv.optimize(nn.Sequential(Block(), Mine(4, 4, 2)))
    text = str(fast.upconv_report)
    assert "1 fused with what surrounds them, 0 replaced, 1 left" in text
    assert all(word in text for word in ("0.conv", "ConvTranspose2d", "fused", "gelu", "Mine", "left"))
    console = Console(width=120, file=io.StringIO())
    console.print(fast.upconv_report)
    assert "0.conv" in console.file.getvalue() and "fused" in console.file.getvalue()


def test_under_autocast_and_channels_last():
    model = Block().to(memory_format=torch.channels_last)
    fast = upconv.optimize(model)
    x = torch.randn(2, 4, 5, 5).to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert fast.conv(x).is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(fast(x), model(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(fast(x).float(), model(x).float(), rtol=5e-2, atol=5e-2)
            assert fast.conv(x).dtype == torch.bfloat16
        y = fast.conv(x[0])
    assert y.shape == (4, 11, 11)
