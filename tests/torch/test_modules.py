# upconv.nn against torch.nn: construction, state, what surrounds the forward, and torch's own ModuleInfo samples.
import copy
import inspect
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.testing._internal.common_modules import module_db

import upconv
from upconv import nn as unn

PAIRS = [(getattr(nn, f"ConvTranspose{r}d"), getattr(unn, f"ConvTranspose{r}d"), r) for r in (1, 2, 3)]
ARGUMENTS = [
    ((4, 6, 3), {}),
    ((4, 6, 4), dict(stride=2, padding=1, bias=False)),
    ((4, 8, 3), dict(stride=3, padding=1, output_padding=2, groups=4, dilation=2)),
    ((4, 6, 3), dict(dtype=torch.float64)),
]
each_pair = pytest.mark.parametrize(("theirs", "ours", "rank"), PAIRS, ids=["1d", "2d", "3d"])


def both(theirs, ours, *arguments, **keywords):
    made = []
    for kind in (theirs, ours):
        torch.manual_seed(3)
        made.append(kind(*arguments, **keywords))
    return made


@each_pair
def test_the_constructors_signature(theirs, ours, rank):
    """Torch's, and precision; a subclass has its own."""
    own = inspect.signature(ours).parameters
    assert list(own)[:-1] == list(inspect.signature(theirs).parameters) and list(own)[-1] == "precision"
    assert nn.utils.skip_init(ours, 4, 6, 3).weight.shape == theirs(4, 6, 3).weight.shape
    narrow = type("Narrow", (ours,), {"__init__": lambda self, width: ours.__init__(self, width, width, 3)})
    assert list(inspect.signature(narrow).parameters) == ["width"]
    assert narrow(2).weight.shape[:2] == (2, 2)


@each_pair
def test_numbers_of_other_kinds(theirs, ours, rank):
    """Integers of numpy are integers, in what is raised too; what is true or false, or a fraction, is refused."""
    x = torch.randn(1, 4, *[5] * rank)
    for what in ("stride", "padding", "dilation", "output_padding", "groups"):
        more = {"stride": 3} if what == "output_padding" else {}
        a, b = both(theirs, ours, 4, 6, 3, **more, **{what: np.int64(2)})
        torch.testing.assert_close(b(x), a(x))
        with pytest.raises(RuntimeError, match="to have 4 channels, but got 3"):
            b(x[:, :3])
        for wrong in (True, np.bool_(True), *((1.0,) if what != "groups" else ())):
            for model in (ours(4, 6, 3, **more, **{what: wrong}), theirs(4, 6, 3, **more, **{what: wrong})):
                for module in (model, upconv.optimize(nn.Sequential(model, nn.ReLU()))):
                    with pytest.raises(TypeError, match=f"argument '{what}'.*must be"):
                        module(x)


@each_pair
@pytest.mark.parametrize(("arguments", "keywords"), ARGUMENTS, ids=str)
def test_same_parameters_repr_and_numbers(theirs, ours, rank, arguments, keywords):
    a, b = both(theirs, ours, *arguments, **keywords)
    assert isinstance(b, theirs) and repr(a) == repr(b)
    assert list(a.state_dict()) == list(b.state_dict())
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)
    x = torch.randn(2, 4, *[5] * rank, dtype=a.weight.dtype)
    for value in (x, x[0]):
        torch.testing.assert_close(b(value), a(value))
    b.load_state_dict(a.state_dict())
    a.load_state_dict(b.state_dict())


@each_pair
def test_output_size(theirs, ours, rank):
    a, b = both(theirs, ours, 2, 3, 3, stride=3, padding=1)
    x = torch.randn(1, 2, *[4] * rank)
    for size in ([10] * rank, [12] * rank, (1, 3, *[11] * rank), x.new_empty(1, 1, *[12] * rank).size()):
        y = b(x, output_size=size)
        assert y.shape[2:] == tuple(size[-rank:])
        torch.testing.assert_close(y, a(x, output_size=size))
    torch.testing.assert_close(b(x[0], output_size=[11] * rank), a(x[0], output_size=[11] * rank))
    for wrong in ([9] * rank, [13] * rank, [11] * (rank + 3)):
        with pytest.raises(ValueError) as expected:
            a(x, output_size=wrong)
        with pytest.raises(ValueError) as found:
            b(x, output_size=wrong)
        assert str(found.value) == str(expected.value)


@each_pair
def test_wrong_arguments_are_torchs(theirs, ours, rank):
    wrong = [((4, 6, 3), {"groups": 3}), ((4, 5, 3), {"groups": 2}), ((4, 6, 3), {"groups": 0})]
    for arguments, keywords in [*wrong, ((4, 6, 3), {"padding_mode": "reflect"})]:
        with pytest.raises(ValueError) as expected:
            theirs(*arguments, **keywords)
        with pytest.raises(ValueError) as found:
            ours(*arguments, **keywords)
        assert str(found.value) == str(expected.value)
    module = ours(2, 2, 3)
    with pytest.raises(
        RuntimeError, match=rf"{rank + 1}D \(unbatched\) or {rank + 2}D \(batched\) input to conv_transpose{rank}d"
    ):
        module(torch.randn(2))
    module.padding_mode = "circular"
    with pytest.raises(ValueError, match="padding mode"):
        module(torch.randn(1, 2, *[3] * rank))


@each_pair
def test_copies(theirs, ours, rank):
    module = ours(4, 6, 3, stride=2)
    x = torch.randn(1, 4, *[3] * rank)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(buffer, weights_only=False)):
        assert type(other) is ours and torch.equal(other(x), module(x))
        with torch.no_grad():
            other.weight.add_(1.0)
        assert not torch.equal(other(x), module(x)), "the copy shares its weight"


@each_pair
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "wrap",
    [nn.utils.weight_norm, parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal],
    ids=["weight_norm hook", "weight_norm", "spectral_norm", "orthogonal"],
)
def test_reparametrized_weights(theirs, ours, rank, wrap):
    a, b = both(theirs, ours, 4, 3, 3, stride=2)
    torch.manual_seed(5)
    a = wrap(a)
    torch.manual_seed(5)
    b = wrap(b)
    b.load_state_dict(a.state_dict())
    a.eval(), b.eval()
    x = torch.randn(2, 4, *[4] * rank)
    torch.testing.assert_close(b(x), a(x))
    g = [torch.autograd.grad(m(x).square().sum(), list(m.parameters())) for m in (a, b)]
    for p, q in zip(*g, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-3)
    if parametrize.is_parametrized(b):
        parametrize.remove_parametrizations(b, "weight")
        assert type(b) is ours


@each_pair
def test_training_step_matches(theirs, ours, rank):
    a, b = both(theirs, ours, 3, 4, 4, stride=2, padding=1, dtype=torch.float64)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.9) for m in (a, b)]
    for _ in range(3):
        x = torch.randn(2, 3, *[4] * rank, dtype=torch.float64)
        for m, optimizer in zip((a, b), optimizers, strict=True):
            optimizer.zero_grad()
            m(x).square().mean().backward()
            optimizer.step()
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@each_pair
def test_conversions(theirs, ours, rank):
    module = ours(4, 6, 3)
    assert (
        module.half().weight.dtype == torch.float16
        and module(torch.randn(1, 4, *[4] * rank).half()).dtype == torch.float16
    )
    assert module.double()(torch.randn(1, 4, *[4] * rank).double()).dtype == torch.float64
    if rank == 2:
        module = module.float().to(memory_format=torch.channels_last)
        y = module(torch.randn(1, 4, 5, 5))
        assert y.is_contiguous(memory_format=torch.channels_last)


def infos():
    for theirs, ours, _ in PAIRS:
        yield from ((info, ours) for info in module_db if info.module_cls is theirs)


@pytest.mark.parametrize(("info", "ours"), list(infos()), ids=lambda v: getattr(v, "name", ""))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)
def test_module_info_samples(info, ours, dtype):
    samples = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=True)
    assert samples
    for sample in samples:
        constructor, call = sample.constructor_input, sample.forward_input
        a, b = both(info.module_cls, ours, *constructor.args, **{"dtype": dtype, **constructor.kwargs})
        if sample.reference_fn is not None:
            expected = sample.reference_fn(b, *call.args, **call.kwargs)
            torch.testing.assert_close(b(*call.args, **call.kwargs), expected, rtol=1e-4, atol=1e-4)
        results = []
        for m in (a, b):
            arguments = [t.detach().clone().requires_grad_() for t in call.args]
            y = m(*arguments, **call.kwargs)
            results.append((y, *torch.autograd.grad(y.abs().square().sum(), [*arguments, *m.parameters()])))
        for p, q in zip(*results, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-4)
