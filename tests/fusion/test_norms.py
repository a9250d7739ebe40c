# Norms inside chains where torch's own raises, keeps no averages, or was changed after the model was optimised: the
# same result, state and kind of error.
from __future__ import annotations

import pytest
import torch
from torch import nn

import upconv

X = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(6))


def layer(kernel=3):
    return nn.ConvTranspose2d(4, 6, kernel)


def setting(name, value):
    def change(model):
        for each in (name,) if isinstance(name, str) else name:
            setattr(model[1], each, value)

    return change


def outcome(make, fast, x, example, mode, change):
    torch.manual_seed(0)
    model = make()
    if fast:
        model = upconv.optimize(model) if example is None else upconv.optimize(model, example)
    model.train(mode)
    if change is not None:
        change(model)
    with torch.no_grad():
        try:
            return model(x), {k: v.clone() for k, v in model.state_dict().items()}
        except (RuntimeError, ValueError) as error:
            return type(error), str(error)


def agree(make, x, example=None, mode=True, change=None):
    want, got = (outcome(make, fast, x, example, mode, change) for fast in (False, True))
    if isinstance(want[0], type):
        assert got == want
        return want[1]
    torch.testing.assert_close(got[0], want[0], rtol=1e-4, atol=1e-5)
    assert got[1].keys() == want[1].keys()
    for name, value in want[1].items():
        torch.testing.assert_close(got[1][name], value, rtol=1e-5, atol=1e-6)
    return ""


REFUSED = {
    "LayerNorm of another size": (lambda: nn.Sequential(layer(), nn.LayerNorm([7, 7], elementwise_affine=False)),
                                  torch.randn(2, 4, 6, 6), X),
    "LayerNorm of the sizes the other way round": (lambda: nn.Sequential(layer(1), nn.LayerNorm([3, 4])),
                                                   torch.randn(2, 4, 4, 3), torch.randn(2, 4, 3, 4)),
    "InstanceNorm of one value": (lambda: nn.Sequential(layer(1), nn.InstanceNorm2d(6)), X[:, :, :1, :1], None),
    "BatchNorm of one value a channel": (lambda: nn.Sequential(layer(1), nn.BatchNorm2d(6)), X[:1, :, :1, :1], None),
    "GroupNorm of one value a group": (lambda: nn.Sequential(layer(1), nn.GroupNorm(6, 6)), X[:1, :, :1, :1], None),
    "BatchNorm1d in two dimensions": (lambda: nn.Sequential(layer(), nn.BatchNorm1d(6)), X, None),
    "BatchNorm without eps": (lambda: nn.Sequential(layer(), nn.BatchNorm2d(6, eps=0.0)), X, None),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_torch_refuses_is_refused(name):
    make, x, example = REFUSED[name]
    assert agree(make, x, example)


def test_one_value_a_channel_in_evaluation():
    assert not agree(lambda: nn.Sequential(layer(1), nn.BatchNorm2d(6)), X[:1, :, :1, :1], mode=False)


def test_one_value_a_channel_in_evaluation_without_averages():
    for norm in (nn.BatchNorm2d(6, track_running_stats=False), nn.BatchNorm2d(6)):
        make = lambda norm=norm: nn.Sequential(layer(1), norm)  # noqa: E731
        for name in ("running_mean", "running_var"):
            setattr(norm, name, None)
        assert agree(make, X[:1, :, :1, :1], mode=False)


def test_no_samples_leave_the_averages():
    assert not agree(lambda: nn.Sequential(layer(), nn.BatchNorm2d(6)), X[:0])


CHANGES = {
    "no weight": ("weight", None),
    "no averages at all": (("running_mean", "running_var"), None),
    "no mean": ("running_mean", None),
    "no averages": ("track_running_stats", False),
    "no number of batches": ("num_batches_tracked", None),
    "another momentum": ("momentum", 0.9),
    "the average of all batches": ("momentum", None),
    "another eps": ("eps", 0.5),
}


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_batch_norm_that_is_changed_afterwards(change, mode):
    for momentum in (0.1, None):
        make = lambda momentum=momentum: nn.Sequential(layer(), nn.BatchNorm2d(6, momentum=momentum))  # noqa: E731
        error = agree(make, X, mode=mode, change=setting(*CHANGES[change]))
        assert bool(error) == (change == "no mean"), error


def test_averages_of_another_dtype():
    def halve(model):
        model[1].running_mean, model[1].running_var = (
            t.bfloat16() for t in (model[1].running_mean, model[1].running_var)
        )

    assert agree(lambda: nn.Sequential(layer(), nn.BatchNorm2d(6)), X, change=halve)


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [(lambda: nn.GroupNorm(2, 6), "eps", 0.5), (lambda: nn.LeakyReLU(0.1), "negative_slope", 0.9)],
    ids=["eps", "slope"],
)
def test_other_modules_that_are_changed_afterwards(make, name, value):
    """Their values are the chain's: the model's own code runs."""
    assert not agree(lambda: nn.Sequential(layer(), make(), nn.GroupNorm(3, 6)), X, change=setting(name, value))
