# Random problems for the CUDA engine, reproducible by seed. A draw is one specialisation (what a kernel is compiled
# for) and several sizes of it, so that a run sees thousands of problems and compiles hundreds of kernels.
"""The generator of test_gpu_fuzz."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from gpu_cases import FORMATS, Case

from upconv.cli.problem import Problem


def near(r: random.Random, multiple: int, most: int) -> int:
    return max(1, multiple * r.randint(1, most // multiple) + r.randint(-2, 2))


def channels(r: random.Random) -> int:
    return r.choice(
        (
            lambda: 1,
            lambda: r.randint(1, 9),
            lambda: near(r, 8, 64),
            lambda: near(r, 16, 96),
            lambda: near(r, 32, 160),
            lambda: r.choice((16, 32, 64, 64, 128, 256)),
            lambda: r.choice((3, 12, 24, 48, 96)),
        )
    )()


def positions(r: random.Random) -> int:
    return r.choice(
        (
            lambda: r.randint(1, 3),
            lambda: r.randint(1, 20),
            lambda: near(r, 8, 72),
            lambda: near(r, 16, 144),
            lambda: near(r, 64, 576),
        )
    )()


def specialisation(r: random.Random) -> Case:
    rank = r.choice((1, 1, 2, 2, 2, 3))
    groups = r.choice((2, 3, 4, 8, 16, 33)) if r.random() < 0.3 else 1
    ci, co = channels(r), channels(r)
    if groups > 1:
        kind = r.randrange(4)
        ci, co = ((1, 1), (1, r.randint(1, 4)), (r.randint(1, 16), r.randint(1, 16)), (min(ci, 64), min(co, 64)))[kind]
    family = r.randrange(8)
    window = []
    for d in range(rank):
        s, k, dil = r.choice((1, 1, 1, 2, 2, 2, 3, 4, 5)), r.choice((1, 2, 3, 3, 3, 4, 5, 7)), 1
        if r.random() < 0.25:
            dil = r.randint(1, 4)
        if family == 0:
            k, dil = s, 1
        if family == 1:
            s = r.randint(1, 10 if rank == 1 else 4)
            k, dil = 2 * s, 1
        if family == 2:
            k = r.randint(1, 40 if rank == 1 else 9 if rank == 2 else 5)
        if family in (3, 4, 5) and d > 0:  # one window for all dimensions, as layers are mostly written
            k, s, dil = window[0][:3]
        if family == 6 and rank == 1 and r.random() < 0.4:
            s, k = r.choice((16, 64, 100, 256)), r.randint(1, 600)
        reach = dil * (k - 1)
        pad = r.randint(0, min(reach + 1, 8)) if r.random() < 0.6 else 0
        op = r.randint(0, max(s, dil) - 1) if r.random() < 0.3 else 0
        window.append((k, s, dil, pad, op))
    k, s, dil, pad, op = (tuple(w[i] for w in window) for i in range(5))
    dtype, precision = r.choice((*FORMATS, *FORMATS[:5]))
    layouts = frozenset()
    if r.random() < 0.4:
        layouts = r.choice((frozenset("xy"), frozenset("xwy"), frozenset(v for v in "xwy" if r.random() < 0.5)))
    return Case(
        Problem(
            rank=rank, in_channels=ci * groups, out_channels=co * groups, kernel=k, stride=s, padding=pad,
            output_padding=op, dilation=dil, groups=groups, bias=r.random() < 0.5, dtype=dtype, precision=precision,
            channels_last=layouts,
        )
    )  # fmt: skip


def sizes(r: random.Random, c: Case, most: int, budget: float) -> list[Case]:
    """Up to `most` problems of this specialisation, of at most `budget` products each."""
    out = []
    p = c.problem
    per_position = p.in_channels * (p.out_channels // p.groups) * math.prod(p.kernel)
    for _ in range(4 * most):
        batch, shape = r.choice((1, 1, 2, 3, 5)), tuple(positions(r) for _ in range(p.rank))
        if r.random() < 0.02:
            batch = 0
        while batch * math.prod(shape) * per_position > budget and (batch, shape) != (1, (1,) * p.rank):
            d = max(range(p.rank), key=lambda i: shape[i])
            if r.random() < 0.3 and batch > 1:
                batch -= 1
            elif d < p.rank - 1 or shape[-1] > 8 or max(shape[:-1], default=1) == 1:
                shape = tuple(max(1, v * 2 // 3) if i == d else v for i, v in enumerate(shape))
            else:
                shape = tuple(max(1, v // 2) for v in shape)
        q = replace(p, batch=batch, input=shape)
        if min(q.output) < 1 or math.prod(q.y_shape) > 3_000_000:
            continue
        out.append(Case(q))
        if len(out) == most:
            break
    return out


def draw(seed: int, most: int = 8, budget: float = 2e7) -> list[Case]:
    """The problems of one seed; never empty."""
    for attempt in range(1000):
        r = random.Random(f"upconv {seed} {attempt}")
        drawn = sizes(r, specialisation(r), most, budget * r.choice((1.0, 0.1, 0.01)))
        if drawn:
            return drawn
    raise AssertionError(f"seed {seed} draws no legal problem")
