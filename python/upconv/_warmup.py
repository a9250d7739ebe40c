# Compiling ahead: what a first call would compile, for many problems or a whole model at once, on all cores.
# Public as upconv.warmup. The engine compiles outside the GIL, so threads are enough.
"""``upconv.warmup``: compile the CUDA kernels of problems or of a model before they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from . import _ops
from ._shapes import output_shape, result_layout

__all__ = ["warmup"]

PASSES = ("forward", "backward_input", "backward_weight", "backward_bias")
_AS_WRITTEN = -1  # the precision that the problem's own line names
_DTYPE_NAMES = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}


@dataclass(frozen=True)
class Work:
    """One pass of one call: the arguments of the engine's _prepare."""

    problem: str
    direction: str
    device: str
    precision: int = _AS_WRITTEN
    epilogue: tuple[float, ...] = ()


def warmup(
    model_or_problems: torch.nn.Module | str | Iterable[str],
    example_inputs: torch.Tensor | Sequence[torch.Tensor] | None = None,
    *,
    device: str | torch.device | None = None,
    backward: bool | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> int:
    """Compile ahead, in parallel, the CUDA kernels that problems or a model need; later calls find them.

    Args:
        model_or_problems: a module (run once on ``example_inputs``, its transposed convolutions left out, nothing
            kept), or problems as lines such as ``"2d n8 c64 o64 i256x256 k3 s2 p1 b f32 tf32"``.
        example_inputs: the model's positional arguments; a tuple, or one tensor.
        device: where problems will run: ``cuda`` (default), ``cuda:1``; or ``sm_90``: compile for that GPU into the
            disk cache, on a machine that need not have one. A model's calls are prepared for the device that its
            tensors are on, unless one is named here.
        backward: the gradients' kernels too. Default: for problems yes; for a model, those that its parameters and
            inputs ask for while gradients are enabled.
        workers: threads, default the cores that this process may use.
        progress: show a progress bar on stderr where it is a terminal.

    Returns:
        How many passes were prepared. Passes on the CPU need no preparation and do not count.

    Raises:
        RuntimeError: a problem is illegal, there is no such GPU, or a kernel does not compile.
    """
    if isinstance(model_or_problems, torch.nn.Module):
        work = work_of_model("warmup", model_or_problems, example_inputs, device, backward)
    else:
        work = work_of_problems(model_or_problems, device or "cuda", backward)
    work = [w for w in dict.fromkeys(work) if w.device != "cpu"]
    _prepare_all(work, workers or _usable_cores(), progress)
    return len(work)


def work_of_model(caller: str, model, example_inputs, device, backward: bool | None) -> list[Work]:
    """Every pass of a model's transposed convolutions, which are recorded and not run."""
    if example_inputs is None:
        raise TypeError(f"upconv.{caller}: a model needs example_inputs, the arguments that it is called with")
    inputs = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    return _work_of_model(model, inputs, device, backward)


def work_of_problems(problems, device, backward: bool | None, precision: int = _AS_WRITTEN) -> list[Work]:
    """Every pass, or the forward alone, of problem lines."""
    lines = [problems] if isinstance(problems, str) else list(problems)
    where = _device_name(device)
    passes = PASSES if backward is None or backward else PASSES[:1]
    return [Work(str(line), p, where, precision) for line in lines for p in passes]


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _device_name(device: str | torch.device) -> str:
    if isinstance(device, torch.device):
        index = device.index
        if device.type == "cuda" and index is None:
            index = torch.cuda.current_device()
        return device.type if index is None or device.type == "cpu" else f"{device.type}:{index}"
    if device == "cuda" and torch.cuda.is_available():
        return f"cuda:{torch.cuda.current_device()}"
    return device


def _prepare(work: Work) -> None:
    _ops.prepare(work.problem, work.direction, work.device, work.precision, list(work.epilogue))


def _prepare_all(work: list[Work], workers: int, progress: bool) -> None:
    """Every piece of work; the first error, after all have ended."""
    if not work:
        return
    with ThreadPoolExecutor(max_workers=min(workers, len(work)), thread_name_prefix="upconv-warmup") as pool:
        running = {pool.submit(_prepare, w): w for w in work}
        for done in _shown(as_completed(running), len(work)) if progress else as_completed(running):
            if done.exception() is not None:
                for other in running:
                    other.cancel()
                raise done.exception()


def _shown(finished, total: int):
    """The same, with a progress bar where stderr is a terminal and rich is there."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ModuleNotFoundError:
        yield from finished
        return
    columns = (TextColumn("upconv: compiling"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not Console(stderr=True).is_terminal) as bar:
        task = bar.add_task("", total=total)
        for one in finished:
            bar.advance(task)
            yield one


class _Recorder(TorchDispatchMode):
    """Notes every transposed convolution of upconv's and answers with zeros of the right shape; all else runs."""

    def __init__(self, device: str | torch.device | None, backward: bool | None):
        super().__init__()
        self.device, self.backward, self.gradients = device, backward, torch.is_grad_enabled()
        self.work: list[Work] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        epilogue: Sequence[float] = ()
        if function is _ops.conv_transpose:
            *call, precision = _filled(args, 8)
        elif function is _ops.conv_transpose_epilogue:
            *call, epilogue, precision = _filled(args, 9)
        else:
            return function(*args, **(kwargs or {}))
        return self._note(call, tuple(epilogue), precision)

    def _note(self, call, epilogue, precision):
        x, w, b, *_ = call
        line, layout = _line_of(*call)
        where = _device_name(self.device or x.device)
        for direction in self._passes(x, w, b):
            forward = direction == "forward"
            self.work.append(Work(line, direction, where, precision, epilogue if forward else ()))
        return torch.zeros(output_shape(*call), dtype=x.dtype, device=x.device).contiguous(memory_format=layout)

    def _passes(self, x, w, b):
        yield "forward"
        for direction, tensor in zip(PASSES[1:], (x, w, b), strict=True):
            wanted = self.backward
            if wanted is None and tensor is not None:
                wanted = self.gradients and tensor.requires_grad
            if wanted and tensor is not None:
                yield direction


def _filled(args, count: int):
    """The arguments with the precision's default, 0, where it was left out."""
    return (*args, 0) if len(args) == count else args


def _line_of(x, w, b, stride, padding, output_padding, dilation, groups) -> tuple[str, torch.memory_format]:
    """The problem of a call as the operator makes it (bindings/torch/operators.cpp), and the layout of y."""
    rank = w.dim() - 2
    layout = result_layout(x, w)
    last = torch.channels_last_3d if rank == 3 else torch.channels_last

    def is_last(tensor, preferred):
        other = torch.contiguous_format if preferred is last else last
        if rank == 1 or tensor.is_contiguous(memory_format=preferred):
            return rank > 1 and preferred is last
        return (preferred is last) != tensor.is_contiguous(memory_format=other)

    def word(key, values):
        values = list(values) * rank if len(values) == 1 else values
        return key + "x".join(map(str, values))

    words = [f"{rank}d", f"n{x.shape[0]}", f"c{x.shape[1]}", f"o{w.shape[1] * groups}"]
    words += [word("i", x.shape[2:]), word("k", w.shape[2:]), word("s", stride), word("p", padding)]
    words += [word("op", output_padding), word("d", dilation), f"g{groups}"]
    words += ["b"] * (b is not None) + [_DTYPE_NAMES[x.dtype]]
    words += ["xl"] * is_last(x, layout) + ["wl"] * is_last(w, torch.contiguous_format) + ["yl"] * (layout is last)
    return " ".join(words), layout


def _work_of_model(model, inputs, device, backward) -> list[Work]:
    recorder = _Recorder(device, backward)
    # With gradients a fused activation runs apart, so whether there are any decides what is compiled.
    with torch.set_grad_enabled(torch.is_grad_enabled() if backward is None else backward), recorder:
        model(*inputs)
    return recorder.work
