"""Runs ModelNew on a GPU beside Model, and Model in float64: the tests of `upconv check` that need the device."""

from __future__ import annotations

import contextlib
import copy
import re
from functools import partial
from pathlib import Path

import torch

from upconv.cli.check.pair import Pair

__all__ = ["Judge"]

SEEDS = 5
#: Largest error against float64, of the largest value, that is well whatever the original's own is.
FLOOR = {"TF32 permitted": 1e-3, "TF32 not permitted": 4e-6}
ATOL = RTOL = 1e-4


@contextlib.contextmanager
def tf32(permitted: bool):
    """torch's switch for convolutions in TF32, in either of its forms, for a while."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    if getattr(conv, "fp32_precision", None) is None:
        before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, permitted
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before
        return
    before, conv.fp32_precision = conv.fp32_precision, "tf32" if permitted else "ieee"
    try:
        yield
    finally:
        conv.fp32_precision = before


class _Found:
    """What comparing results under one setting has found so far."""

    def __init__(self, floor: float):
        self.floor, self.allowed, self.worst, self.off, self.bad = floor, floor, 0.0, 0.0, []

    def compare(self, got, expected, exact, nudged, what: str) -> None:
        """ModelNew's result, Model's, Model's in float64, and what gives Model's for nudged inputs (see _unlike);
        ``what``: the values they were computed from."""
        if got.shape != expected.shape or got.dtype != expected.dtype:
            self.bad.append(f"{what}: {tuple(got.shape)} {got.dtype}, not {tuple(expected.shape)} {expected.dtype}")
            return
        if _layout(got) != _layout(expected):
            self.bad.append(f"{what}: strides {got.stride()}, not {expected.stride()}")
        error, of_old = _error(got, exact), _error(expected, exact)
        self.worst, self.allowed = max(self.worst, error), max(self.allowed, 2 * of_old)
        if not error <= max(self.floor, 2 * of_old):
            self.bad.append(f"{what}: {error:.1e} of the largest value from float64, Model {of_old:.1e}")
        self.off = max(self.off, (got - expected).abs().max().item())
        if wrong := _unlike(got, expected, nudged):
            self.bad.append(f"{what}: {wrong}")


def _unlike(got, expected, nudged) -> str:
    """Why ``got`` is not Model's result, or nothing. Every element must be close to Model's; where some are not, no
    more of them than of Model's own result for inputs that differ by rounding errors, which ``nudged()`` computes: of a
    deep model in TF32 that can be a tenth."""
    part = _far(got, expected)
    if not part or part <= (own := _far(nudged(), expected)):
        return ""
    return f"{part:.1e} of the elements fail allclose(1e-4) to Model, {own:.1e} of Model's own with inputs nudged"


def _far(a, b) -> float:
    """The part of elements that are not close."""
    return 0.0 if torch.allclose(a, b, atol=ATOL, rtol=RTOL) else (
        1 - torch.isclose(a, b, atol=ATOL, rtol=RTOL).double().mean().item()
    )  # fmt: skip


def _layout(t):
    """The strides that say something."""
    return [stride for size, stride in zip(t.shape, t.stride(), strict=True) if size > 1]


class Judge:
    def __init__(self, problem: Path, model: Path, table, device: str = "", seeds: int = SEEDS, keep_torch=False):
        """``device``: the current GPU; tests give another. ``seeds``: how many values are compared for.
        ``keep_torch``: what is no transposed convolution may be torch's own."""
        self.seeds, self.keep_torch = range(seeds), keep_torch
        self.pair, self.table, self.text = Pair(problem, model), table, model.read_text()
        for row in self.pair.interface():
            table.add(*row)
        self.device = device or f"cuda:{torch.cuda.current_device()}"
        if not table.failed:
            self.old, self.new = self.pair.models(0, self.device)

    def forward(self) -> None:
        self.values()
        self.habits()
        self.other_inputs()
        self.memory_and_streams()
        self.own_kernels()

    # Values -----------------------------------------------------------------------------------------------------------

    def values(self) -> None:
        """Five seeds, inputs of one sign and of both, either setting of TF32: against float64 and against Model."""
        found = {setting: _Found(FLOOR[setting]) for setting in FLOOR}
        for seed in self.seeds:
            for signed in (False, True):
                old, new = self.pair.models(seed, self.device)
                inputs = self.pair.inputs(seed, self.device, signed)
                exact = self._run(copy.deepcopy(old).double(), _double(inputs))
                for permitted, setting in ((True, "TF32 permitted"), (False, "TF32 not permitted")):
                    with tf32(permitted):
                        expected, got = self._run(old, inputs), self._run(new, inputs)
                        found[setting].compare(got, expected, exact, partial(self._run_nudged, old, inputs),
                                               f"seed {seed}{', signed' if signed else ''}")  # fmt: skip
        for setting, values in found.items():
            self.table.add(not values.bad, f"values, {setting}", values.bad[0] if values.bad else
                           f"{values.worst:.1e} from float64 (at most {values.allowed:.1e}), "
                           f"{values.off:.1e} from Model")  # fmt: skip

    def _run(self, model, inputs):
        with torch.no_grad():
            return model(*inputs)

    def _run_nudged(self, model, inputs):
        """With inputs moved by about half a unit in the last place."""
        moved = [t * (1 + 2.0**-24 * torch.randn_like(t))
                 if isinstance(t, torch.Tensor) and t.is_floating_point() else t for t in inputs]  # fmt: skip
        return self._run(model, moved)

    def habits(self) -> None:
        """What a layer must not do: change its inputs, keep what it read, differ from run to run."""
        inputs = self.pair.inputs(0, self.device)
        before = [t.clone() if isinstance(t, torch.Tensor) else t for t in inputs]
        first = self._run(self.new, inputs)
        same = all(torch.equal(a, b) for a, b in zip(before, inputs, strict=True) if isinstance(a, torch.Tensor))
        self.table.add(same, "inputs unchanged", "bit for bit" if same else "the call changed an input")
        again = self._run(self.new, inputs)
        fresh = again.data_ptr() != first.data_ptr() and torch.equal(first, again)
        self.table.add(fresh, "twice the same", "the same bits, in a tensor of its own" if fresh else
                       "two calls differ, or share their result")  # fmt: skip
        old, new = self.pair.models(0, self.device)
        self._run(new, inputs)
        with torch.no_grad():
            for model in (old, new):
                for parameter in model.parameters():
                    parameter.mul_(0.5).add_(0.01)
        with tf32(False):
            expected, got = self._run(old, inputs), self._run(new, inputs)
            good = not _unlike(got, expected, partial(self._run_nudged, old, inputs))
        # Values may be so small that old and new are close to each other as well.
        good &= bool((got - expected).abs().max() <= 0.1 * (expected - first).abs().max())
        self.table.add(good, "weights changed in place", "the result follows" if good else "the result does not follow")
        with torch.no_grad():
            for t in inputs:
                if isinstance(t, torch.Tensor) and t.is_floating_point():
                    t.mul_(-0.5)
        with tf32(False):
            expected, got = self._run(old, inputs), self._run(new, inputs)
            good = not _unlike(got, expected, partial(self._run_nudged, old, inputs))
        self.table.add(good, "inputs changed in place", "the result follows" if good else "the result does not follow")

    def memory_and_streams(self) -> None:
        """Results in memory that held something else, and on a stream that is busy with what makes the inputs."""
        inputs = self.pair.inputs(1, self.device)
        expected = self._run(self.new, inputs)
        bytes_ = expected.numel() * 4 + (256 << 20)
        del_me = [torch.full((bytes_ // 4,), float("nan"), device=self.device)]
        del_me += [torch.full((n,), float("nan"), device=self.device) for n in (1 << 10, 1 << 18, 1 << 22)]
        del del_me  # back to torch's allocator, full of NaN
        got = self._run(self.new, inputs)
        good = torch.equal(got, expected)
        self.table.add(good, "poisoned allocator", "the same bits in memory full of NaN" if good else
                       "the result depends on what memory held")  # fmt: skip
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)
            late = [t.clone() if isinstance(t, torch.Tensor) else t for t in inputs]
            got = self._run(self.new, late)
        stream.synchronize()
        good = torch.equal(got, expected)
        self.table.add(good, "side stream", "runs on the caller's stream" if good else
                       "did not wait for what the caller's stream had before it")  # fmt: skip

    def other_inputs(self) -> None:
        """Batch, sizes and layouts other than those of get_inputs()."""
        inputs = self.pair.inputs(2, self.device, signed=True)
        x = inputs[0]
        if len(inputs) != 1 or not isinstance(x, torch.Tensor) or x.dim() < 3:
            return
        smallest = (slice(None), slice(None), *[slice(0, 2)] * (x.dim() - 2))
        cases = {
            "batch 1": x[:1],
            "twice the width": torch.cat([x[:1], x[:1]], dim=-1),
            "a width less 1": x[:2, ..., :-1],
            "a height less 3": x[:2, :, :-3] if x.shape[2] > 3 else x[:1],
            "a size of 2": x[:2][smallest],
        }
        if x.dim() == 4:
            cases["channels last"] = x[:2].contiguous(memory_format=torch.channels_last)
        if x.dim() == 5:
            cases["channels last"] = x[:2].contiguous(memory_format=torch.channels_last_3d)
        for name, other in cases.items():
            try:
                expected = self._run(self.old, [other])
            except RuntimeError:
                continue  # too small for Model itself
            with tf32(False):
                got, expected = self._run(self.new, [other]), self._run(self.old, [other])
                good = got.shape == expected.shape and _layout(got) == _layout(expected)
                good = good and not _unlike(got, expected, partial(self._run_nudged, self.old, [other]))
            apart = "shapes differ"
            if got.shape == expected.shape:
                apart = f"{(got - expected).abs().max().item():.1e} apart"
            wrong = f"{tuple(got.shape)} {got.stride()} against {tuple(expected.shape)} {expected.stride()}, {apart}"
            self.table.add(good, f"with {name}", f"{tuple(other.shape)}" if good else wrong)

    def own_kernels(self) -> None:
        """The profiler's trace of a call: kernels of the file, and of nobody else but copies and fills."""
        inputs = self.pair.inputs(0, self.device)
        self._run(self.new, inputs)
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as trace:
            self._run(self.new, inputs)
            torch.cuda.synchronize()
        ran = {e.name for e in trace.events() if e.device_type == torch.autograd.DeviceType.CUDA}
        own = _global_functions(self.text)
        mine = {n for n in ran if own & set(re.findall(r"\w+", n))}
        others = {n for n in ran - mine if not re.search(r"^Mem(set|cpy)|fill|copy|FillFunctor", n, re.IGNORECASE)}
        if self.keep_torch:  # torch's operators, but none of its transposed convolutions
            others = {e.name for e in trace.events() if e.name.startswith("aten::conv_transpose")}
        good = bool(mine) and not others
        self.table.add(good, "whose kernels ran", ", ".join(sorted(_short(n) for n in mine)) if good else
                       f"others: {', '.join(sorted(map(_short, others))) or 'none'}; own: {len(mine)}")  # fmt: skip

    # Gradients --------------------------------------------------------------------------------------------------------

    def backward(self) -> None:
        for permitted, setting in ((True, "TF32 permitted"), (False, "TF32 not permitted")):
            worst, bad = {}, []
            for seed in self.seeds:
                old, new = self.pair.models(seed, self.device)
                exact = copy.deepcopy(old).double()
                inputs = self.pair.inputs(seed, self.device, signed=seed % 2 == 1)
                with tf32(permitted):
                    dy = torch.randn_like(self._run(old, inputs))
                    gradients = [
                        _gradients(model, each, dy)
                        for model, each in ((old, inputs), (new, inputs), (exact, _double(inputs)))
                    ]
                expected, got, reference = gradients
                if list(got) != list(reference):
                    bad.append(f"seed {seed}: gradients of {list(got)}, not of {list(reference)}")
                    continue
                for name, value in reference.items():
                    error, of_old = _error(got[name], value), _error(expected[name], value)
                    worst[name] = max(worst.get(name, 0.0), error)
                    if got[name].shape != value.shape or not error <= max(FLOOR[setting], 2 * of_old):
                        bad.append(f"seed {seed}: d{name} {error:.1e} from float64, Model {of_old:.1e}")
            self.table.add(not bad, f"gradients, {setting}", bad[0] if bad else
                           ", ".join(f"d{n} {e:.1e}" for n, e in worst.items()) + " from float64")  # fmt: skip


def _double(inputs):
    return [t.double() if isinstance(t, torch.Tensor) and t.is_floating_point() else t for t in inputs]


def _error(value, exact) -> float:
    """Largest difference, of the largest value; infinite where one is NaN."""
    scale = max(exact.abs().max().item(), 1e-30)
    error = (value.double() - exact).abs().max().item() / scale
    return error if error == error else float("inf")


def _gradients(model, inputs, dy):
    inputs = [
        t.detach().requires_grad_() if isinstance(t, torch.Tensor) and t.is_floating_point() else t for t in inputs
    ]
    y = model(*inputs)
    y.backward(dy.to(y.dtype))
    found = {f"input {i}": t.grad for i, t in enumerate(inputs) if isinstance(t, torch.Tensor) and t.grad is not None}
    found.update({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    return found


def _global_functions(text: str) -> set[str]:
    """Names of the __global__ functions of a text."""
    names = set()
    for start in re.finditer(r"\b__global__\b", text):
        at = start.end()
        while (word := re.compile(r"\s*(\w+)\s*").match(text, at)) is not None:
            at = word.end()
            if at < len(text) and text[at] == "(":
                if not word[1].startswith("__"):
                    names.add(word[1])
                    break
                depth = 0
                while at < len(text):
                    depth += (text[at] == "(") - (text[at] == ")")
                    at += 1
                    if depth == 0:
                        break
    return names


def _short(name: str) -> str:
    return name.split("(")[0].removeprefix("void ")[:60]
