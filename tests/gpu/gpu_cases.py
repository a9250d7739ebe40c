# A case of tests/gpu: a problem, a precision, its tensors, and the run of one pass by one candidate. Shared by all
# tests there; the problem grammar is include/upconv/problem.hpp's.
"""Problems, data and judgement."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from gpu_bounds import assert_near
from gpu_oracle import Oracle

import upconv  # noqa: F401  (registers the operators)
from upconv.cli.problem import Problem, parse_problem

ROOT = Path(__file__).resolve().parents[2]
DEVICE = os.environ.get("UPCONV_GPU_TEST_DEVICE", "cuda")
PASSES = ("forward", "backward_input", "backward_weight", "backward_bias")
DTYPES = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16}
# dtype and precision, as the words of a problem.
FORMATS = (("f32", "ieee"), ("f32", "tf32"), ("f32", "bf16x3"), ("f16", "ieee"), ("bf16", "ieee"), ("f64", "ieee"))


@functools.cache
def candidates(what: str) -> tuple[str, ...]:
    """Names that a pass can be forced to, and "" for the list's own choice; read from src/cuda/candidates.cpp."""
    if DEVICE == "cpu":
        return ("",)
    text = (ROOT / "src/cuda/candidates.cpp").read_text()
    lists = {
        m[1]: re.findall(r'\{\s*"(\w+)"', m[2])
        for m in re.finditer(r"Candidate (\w+)\[\] = \{(.*?)\n  \};", text, re.S)
    }
    waiting = []
    for m in re.finditer(r"case Pass::(\w+):|return (\w+);", text):
        if m[1]:
            waiting.append(m[1])
        elif what in waiting:
            return ("", *lists[m[2]])
        else:
            waiting = []
    raise AssertionError(f"src/cuda/candidates.cpp: no list of {what}")


@dataclass(frozen=True)
class Case:
    problem: Problem

    @property
    def text(self) -> str:
        return str(self.problem)

    @property
    def precision(self) -> str:
        return self.problem.precision

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.problem.dtype]


def case(text: str, dtype: str | None = None, precision: str | None = None) -> Case:
    """From a line in the problem grammar; `dtype` and `precision` replace its own."""
    changes = {"dtype": dtype, "precision": precision}
    return Case(replace(parse_problem(text), **{k: v for k, v in changes.items() if v}))


@functools.cache
def sanitized() -> tuple[Case, ...]:
    """The problems of sanitize.cpp: all that selects different code, by few kernels, which the sanitizers need too."""
    lines = re.search(r"lines\[\] = \{(.*?)\n\};", (ROOT / "tests/gpu/sanitize.cpp").read_text(), re.S)[1]
    return tuple(case(line) for line in re.findall(r'"(.*)"', lines))


def laid_out(t: torch.Tensor, last: bool, offset: int = 0) -> torch.Tensor:
    """Dense, channels last if asked, its first element `offset` elements into fresh memory."""
    t = t.movedim(1, -1).contiguous().movedim(-1, 1) if last else t.contiguous()
    if offset and t.numel():
        memory = torch.empty(t.numel() + offset, dtype=t.dtype, device=t.device)
        t = memory.as_strided(t.shape, t.stride(), offset).copy_(t)
    return t


@dataclass
class Tensors:
    x: torch.Tensor
    w: torch.Tensor
    b: torch.Tensor | None
    dy: torch.Tensor

    def operands(self, what: str):
        if what == "forward":
            return self.x, self.w, self.b
        return {
            "backward_input": (self.dy, self.w, None),
            "backward_weight": (self.x, self.dy, None),
            "backward_bias": (self.dy, self.dy, None),
        }[what]


def tensors(c: Case, seed: int, data: str = "normal", offset: int = 0) -> Tensors:
    """`data`: normal numbers, or integers of -3 to 3 whose every sum is exact in every precision."""
    p = c.problem
    generator = torch.Generator(DEVICE).manual_seed(seed)

    def draw(shape, last=False):
        if data == "integers":
            t = torch.randint(-3, 4, shape, generator=generator, device=DEVICE)
        else:
            t = torch.randn(
                shape,
                generator=generator,
                device=DEVICE,
                dtype=torch.float64 if c.dtype == torch.float64 else torch.float32,
            )
        return laid_out(t.to(c.dtype), last, offset)

    last = p.channels_last
    b = draw((p.out_channels,)) if p.bias else None
    return Tensors(draw(p.x_shape, "x" in last), draw(p.w_shape, "w" in last), b, draw(p.y_shape, "y" in last))


@contextlib.contextmanager
def poisoned():
    """torch fills what it allocates inside, results and workspaces, with NaN."""
    before, fill = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = True
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warns)
            torch.utils.deterministic.fill_uninitialized_memory = fill


# Which candidates Judge.check_all forces, of those of a pass. Each compiles kernels of its own.
Pick = Callable[[Sequence[str]], Sequence[str]]


def every(names: Sequence[str]) -> Sequence[str]:
    return names


def none(names: Sequence[str]) -> Sequence[str]:
    return names[:0]


def share(turn: int, of: int = 2) -> Pick:
    """One `of`-th of them: `of` turns that follow one another force all."""
    return lambda names: names[turn % of :: of]


def residues(names: Sequence[str]) -> Sequence[str]:
    """All, about the problem that has the residues of the stride as channels."""
    return [f"{name}+residues" for name in names]


class Declined(Exception):
    """The candidate does not take this problem; the message says why."""


def run(c: Case, what: str, candidate: str, a, b, bias=None) -> torch.Tensor:
    """One pass by one candidate, into poisoned memory."""
    try:
        with poisoned():
            return torch.ops.upconv._run(c.text, what, candidate, a, b, bias, [])
    except RuntimeError as error:
        if candidate and ("no candidate for" in str(error) or "declined" in str(error)):
            raise Declined(str(error)) from None
        raise


class Judge:
    """The exact results of one case on one set of tensors, and the check of a candidate against them."""

    def __init__(self, c: Case, data: str = "normal", seed: int = 1, offset: int = 0):
        self.case, self.data, self.seed, self.offset = c, data, seed, offset
        self.tensors = tensors(c, seed, data, offset)
        self.oracle = Oracle(c.problem, DEVICE)
        self._exact: dict[str, tuple] = {}

    def exact(self, what: str) -> tuple:
        """(exact, sum of absolute products)"""
        if what not in self._exact:
            operands = [t for t in self.tensors.operands(what) if t is not None]
            operands = operands[:1] if what == "backward_bias" else operands
            function = getattr(self.oracle, what)
            value = function(*operands)
            size = value if self.data == "integers" else function(*[t.abs() for t in operands])
            self._exact[what] = value, size
        return self._exact[what]

    def check(self, what: str, candidate: str) -> None:
        got = run(self.case, what, candidate, *self.tensors.operands(what))
        exact, size = self.exact(what)
        label = self.label(what, candidate)
        if self.data == "integers":
            wanted = exact.to(got.dtype)
            if not torch.equal(got, wanted):
                wrong = (got != wanted).nonzero()
                at = tuple(wrong[0].tolist()) if len(wrong) else ()
                raise AssertionError(
                    f"{label}: {len(wrong)} of {got.numel()} elements differ from the exact integers; at {at} "
                    f"{got[at].item()} is not {wanted[at].item()}"
                )
        else:
            precision = "ieee" if what == "backward_bias" else self.case.precision
            terms, steps = self.oracle.terms(what), self.oracle.steps(what)
            assert_near(got, exact, size, terms, steps, precision, label)

    def label(self, what: str, candidate: str) -> str:
        offset = f", {self.offset} elements off alignment" if self.offset else ""
        return f'{what} of "{self.case.text}" by {candidate or "the list"} ({self.data}, seed {self.seed}{offset})'

    def check_all(self, passes=PASSES, own: bool = True, forced: Pick = every) -> int:
        """Every pass by the list's own choice (`own`; on the CPU engine nothing else has a name) and by those of the
        other candidates that `forced` picks and that take it; all failures are reported together. Returns the runs
        made."""
        ran, failures = 0, []
        for what in passes:
            choice, *others = candidates(what)
            for name in (*([choice] if own or not others else []), *forced(others)):
                try:
                    self.check(what, name)
                    ran += 1
                except Declined:
                    continue
                except AssertionError as error:
                    failures.append(str(error))
                except RuntimeError as error:
                    failures.append(f"{self.label(what, name)}: {error}")
                    if "CUDA" in str(error) and "error" in str(error):
                        raise AssertionError("\n".join(failures)) from error
        assert not failures, "\n" + "\n".join(failures)
        return ran
