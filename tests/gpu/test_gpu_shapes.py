"""Every row of tests/shapes/edges.txt and every tail that a tile can have, against float64.

Compiling is what costs here: each candidate has kernels of its own for every format, channel count and window, and
often for a size. So problems of a series take turns: each is run by the list's own choice or by a part of the
candidates, in one of the formats; the tests say which turns a size goes through.
"""

import math
import zlib
from dataclasses import replace
from itertools import pairwise

import gpu_tally
import pytest
import torch
from gpu_cases import FORMATS, PASSES, ROOT, Case, Declined, Judge, case, none, residues, run, share

from upconv import _ops
from upconv.cli.shapes import read_shapes

ROWS = read_shapes(ROOT / "tests" / "shapes" / "edges.txt")
PARTS = 60
#: Groups of rows that differ from their neighbours in one number.
SERIES = ("channels", "positions", "planes", "windows", "dilation", "groups")


@pytest.mark.parametrize("part", range(PARTS))
def test_edges(part):
    """Each row in fp32 and in one other dtype or precision, drawn by its name: two of the four passes by the list's own
    choice in one of the two, all by a twelfth of the candidates in the other, drawn as well; a row of a series in one
    of the two only. Half are integers, which must come out exactly."""
    problems = ran = 0
    failures = []
    for row in ROWS[part::PARTS]:
        lot = zlib.crc32(row.id.encode())
        dtype, precision = FORMATS[1 + lot % (len(FORMATS) - 1)]
        cases = (Case(row.problem), Case(replace(row.problem, dtype=dtype, precision=precision)))
        for i, c in enumerate(cases):
            if row.id.split("/")[0] in SERIES and i == lot // 1024 % 2:
                continue
            data = ("integers", "normal")[(lot // 8 + i) % 2]
            own = i == lot // 64 % 2
            try:
                made = Judge(c, data, seed=lot, offset=lot // 16 % 3).check_all(
                    PASSES[lot // 2048 % 2 :: 2] if own else PASSES,
                    own=own,
                    forced=none if own else share(lot // 128, 12),
                )
                ran += made
                problems += made > 0  # perhaps none of the few takes it
            except AssertionError as error:
                failures.append(f"{row.id}: {error}")
    gpu_tally.count("edges", problems, ran)
    assert not failures, "\n".join(failures)
    assert problems > 0


#: Channels-last tensors of more tiles than multiprocessors, in every way that weights lie: tails of boxes and channels,
#: several phases, steps, groups, dilation, channels that no bulk copy takes.
LAST = (
    "2d n4 c64 o96 i40x37 k3 s2 p1 op1 b xl wl yl",
    "2d n8 c128 o256 i33x35 k4 s2 p1 xl yl",
    "2d n3 c200 o72 i61x30 k3 p1 b xl wl yl",
    "2d n2 c64 o64 i90x70 k2 s2 b xl wl yl",
    "2d n2 c96 o128 i50x60 k1 xl yl",
    "2d n2 c128 o128 i31x29 k3x4 s2x3 p1 d2 g2 xl wl yl",
    "2d n2 c36 o20 i60x70 k3 s2 xl yl",
    "3d n2 c64 o32 i12x13x14 k3 s2 p1 b xl yl",
    "3d n2 c128 o64 i10x11x12 k2 s2 xl wl yl",
)


def on_tensor_maps(lines):
    """In TF32, and in f16 and bf16 by turns: their kernels are one text but for the type."""
    cases = [(line, *f) for n, line in enumerate(lines) for f in (FORMATS[1], FORMATS[3 + n % 2])]
    return pytest.mark.parametrize("line,dtype,precision", cases, ids=["-".join(c) for c in cases])


@on_tensor_maps(LAST)
def test_channels_last(line, dtype, precision):
    for data in ("normal", "integers"):
        assert Judge(case(line, dtype, precision), data, seed=3).check_all(forced=none) >= 4


#: The same of few tiles, whose steps the blocks of a cluster share: in 2, 4 and 8, evenly or not, some without any.
FEW = (
    "2d n64 c512 o256 i4x4 k4 s2 p1 b xl wl yl",
    "2d n1 c1024 o512 i2x2 k4 s2 p1 xl yl",
    "2d n2 c200 o72 i5x7 k3 s2 p1 b xl wl yl",
    "2d n1 c128 o256 i6x5 k3 p1 g2 xl wl yl",
    "2d n3 c256 o64 i7x6 k2 s3 b xl yl",
    "2d n2 c70 o35 i9x10 k4 s2 p1 b xl yl",
    "2d n64 c100 o512 i1x1 k4 b xl wl yl",
    "3d n4 c384 o64 i6x6x6 k3 s2 p1 op1 b xl yl",
)


@on_tensor_maps(FEW)
def test_channels_last_in_clusters(line, dtype, precision):
    """Every tile that the cost model keeps, by its number; twice, to the same bits. One pass in TF32, the other in 16
    bits, by turns."""
    c = case(line, dtype, precision)
    what = PASSES[(FEW.index(line) + (dtype == "f32")) % 2]
    ran = 0
    for data in ("normal", "integers"):
        judge = Judge(c, data, seed=4)
        for variant in range(8):
            name = f"cuda_implicit_gemm:{variant}"
            try:
                judge.check(what, name)
            except Declined:
                break
            operands = judge.tensors.operands(what)
            assert torch.equal(run(c, what, name, *operands), run(c, what, name, *operands)), f"{what} by {name}"
            ran += 1
    assert ran >= 8


#: Products whose columns are taps too: of W, added up as y is stored (cuda_boxes), and of H (cuda_weight_wgmma). Rows
#: of a part of a box, of one and more, padding, dilation, groups, depths.
COLUMNS = {
    "3d n2 c32 o16 i6x20x64 k3x5x7 b": "forward",
    "3d n2 c24 o24 i8x30x96 k3 p1": "forward",
    "2d n2 c32 o8 i20x41 k7 d1x2 p3 b": "forward",
    "3d n1 c32 o32 i5x12x33 k5 p2x0x2 g2": "forward",
    "2d n4 c32 o32 i61x64 k3 p1": "backward_weight",
    "3d n2 c32 o16 i5x20x32 k3x5x7": "backward_weight",
    "2d n2 c48 o40 i33x96 k5x2 s1x2 p2x1 d2x1 g2": "backward_weight",
    "3d n2 c24 o24 i6x17x64 k3 s2x1x1 p1": "backward_weight",
    "3d n2 c32 o32 i6x17x64 k3 s2 p1": "backward_weight",
    "2d n3 c32 o40 i33x64 k3x5 s2x3 p1x2 d2x1 g2": "backward_weight",
}


@on_tensor_maps(COLUMNS)
def test_taps_as_columns(cuda, line, dtype, precision):
    """The first, the second and the last form that tuning is offered of this kind; twice, to the same bits."""
    c, what = case(line, dtype, precision), COLUMNS[line]
    offered = (form.split("\t") for form in _ops.alternatives(c.text, what, "cuda", []).splitlines())
    names = [name for name, text in offered if "and taps of W" in text or "taps of H" in text]
    assert names
    for data in ("normal", "integers"):
        judge = Judge(c, data, seed=5)
        for name in dict.fromkeys((*names[:2], names[-1])):
            judge.check(what, name)
            operands = judge.tensors.operands(what)
            assert torch.equal(run(c, what, name, *operands), run(c, what, name, *operands)), name


# One specialisation a line; its rows take every length below.
WIDTHS = (
    "1d n2 c16 o24 k3 p1 b",
    "1d n2 c32 o16 k8 s4 p2 b",
    "2d n2 c32 o32 k3",
    "2d n2 c16 o16 k4 s2 p1 b",
    "2d n2 c32 o64 k3 s5 p1 d2",
    "2d n1 c16 o3 k5 p2",
    "2d n2 c32 o64 k3x5 s2x3 p1x2 d2x1 g4",
    "2d n2 c24 o24 k4 s2 p1 g24",
    "2d n2 c64 o64 k3 xl yl",
    "3d n1 c16 o16 k3x4x2 s2 p1 b",
    "2d n2 c24 o32 k4 s2 p1 xl yl wl",
    "3d n1 c16 o16 k2 s2 xl yl",
)


def around(*sizes):
    return {n + e for n in sizes for e in (-1, 0, 1)}


#: Around what tiles are made of: vectors of up to 8, fragments of 8 and 16 columns, tiles of 32 to 512.
ESSENTIAL = {*range(1, 10), *around(16, 32, 64, 128, 256, 512), 44, 100}
OTHERS = sorted({*range(1, 71), *around(96, 192, 384)} - ESSENTIAL)
SPANS = (1, 12, 48, 200, 600)


def row_tests():
    """(line, lengths, dtype, precision, turn). A turn is one format and one part of the candidates for a whole span of
    lengths, because neighbouring lengths mostly share kernels. fp64 has the same kernels for all lengths: its turns are
    below 0."""
    for lot, line in enumerate(WIDTHS):
        lengths = sorted({*ESSENTIAL, *OTHERS[lot // 2 :: 6]})
        for turn, (begin, end) in enumerate(pairwise(SPANS), lot):
            f = (lot % 3, 3 + lot // 2 % 2)[turn // 4 % 2]
            yield line, [n for n in lengths if begin <= n < end], *FORMATS[f], turn
        if lot % 4 == 0:
            yield line, lengths, *FORMATS[5], -1 - lot // 4


ROW_TESTS = list(row_tests())


@pytest.mark.parametrize(
    "line,lengths,dtype,precision,turn", ROW_TESTS, ids=[f"{t[0]}-{t[2]}-{t[3]}-from{t[1][0]}" for t in ROW_TESTS]
)
def test_row_lengths(line, lengths, dtype, precision, turn):
    """The innermost size takes every value around the sizes of tiles on all lines, and every other up to 70 on two.
    The 12 lines give a length 12 turns: 3 by the list's own choice, 1 or 2 by each eighth of the candidates; half of
    them in fp32, in one of its precisions, and half in 16 bits. Three lines are in fp64 too, by the list's own choice
    and half of the candidates."""
    own = turn % 4 == 0 or turn < 0
    forced = none if own else share(turn - turn // 4, 8)
    failures, problems, ran = [], 0, 0
    for length in lengths:
        c = case(line, dtype, precision)
        outer = (3, 2)[: c.problem.rank - 1] if length < 130 else (1, 1)[: c.problem.rank - 1]
        c = Case(replace(c.problem, input=(*outer, length)))
        if min(c.problem.output) < 1:
            continue
        data = ("normal", "integers")[(turn // 8 + length) % 2]
        try:
            ran += Judge(c, data, seed=length, offset=length % 3).check_all(
                own=own, forced=share(length - turn) if turn < 0 else forced
            )
        except AssertionError as error:
            failures.append(str(error))
            if len(failures) == 3:
                break
        problems += 1
    gpu_tally.count("row lengths", problems, ran)
    assert not failures, "\n".join(failures)
    assert ran > 0


# Rows above rows: the other spatial sizes.
HEIGHTS = (
    ("2d n1 c32 o32 i{}x17 k3", "f32", "tf32"),
    ("2d n1 c16 o16 i{}x9 k4 s2 p1 b", "bf16", "ieee"),
    ("2d n2 c24 o24 i{}x6 k3 s2 p1 op1 g24", "f32", "ieee"),
    ("3d n1 c16 o32 i{}x3x7 k3 s2 p1", "f32", "bf16x3"),
    ("3d n1 c32 o16 i2x{}x5 k3 p1", "f16", "ieee"),
)


@pytest.mark.parametrize("height", sorted({*range(1, 10), 12, *around(16, 32, 64, 128)}))
def test_heights(height):
    """Every other line by turns, and by turns, from one power of two to the next, by the list's own choice or by a
    sixth of the candidates."""
    problems = ran = 0
    for i, (line, dtype, precision) in list(enumerate(HEIGHTS))[height % 2 :: 2]:
        turn = round(math.log2(height)) + i
        own = turn % 4 == 0
        ran += Judge(case(line.format(height), dtype, precision), seed=height).check_all(
            own=own, forced=none if own else share(turn - turn // 4, 6)
        )
        problems += 1
    gpu_tally.count("heights", problems, ran)


CHANNELS = (1, 3, 4, 7, 12, 16, 17, 31, 32, 47, 64, 65, 96, 127, 128, 129, 160, 192, 256, 257)


@pytest.mark.parametrize("count", CHANNELS)
def test_channels(count):
    """As input, as output, as both, each a specialisation of its own: on one line by turns, by the list's own choice or
    by half of the candidates. (Up to 65 edges.txt has the first two lines.)"""
    lot, turn = zlib.crc32(str(count).encode()), CHANNELS.index(count)
    failures, problems, ran = [], 0, 0
    for i, line in enumerate(
        (
            "2d n1 c{0} o16 i9x37 k3 s2 p1",
            "2d n1 c16 o{0} i9x37 k3 p1 b",
            "1d n2 c{0} o{0} i67 k4 s2 p1 b",
            "2d n1 c{0} o{0} i5x19 k2 s2 xl yl",
        )
    ):
        if i != (turn % 4 if count > 65 else 2 + turn % 2):
            continue
        dtype, precision = FORMATS[(lot + i) % 5]
        own = turn // 2 % 2 == i // 2 % 2
        try:
            ran += Judge(case(line.format(count), dtype, precision), seed=count).check_all(
                own=own, forced=none if own else share(turn // 4)
            )
        except AssertionError as error:
            failures.append(str(error))
        problems += 1
    gpu_tally.count("channels", problems, ran)
    assert not failures, "\n".join(failures)


BATCHES = (1, 2, 3, 7, 31, 64, 133, 257)


@pytest.mark.parametrize("batch", BATCHES)
def test_batches(batch):
    """By turns, from one power of two to the next, by the list's own choice or by a third of the candidates."""
    ran = 0
    for i, (line, dtype, precision) in enumerate(
        (
            ("1d n{} c16 o8 i33 k4 s2 p1 b", "f32", "tf32"),
            ("2d n{} c32 o32 i3x5 k3", "f16", "ieee"),
            ("2d n{} c8 o8 i4x4 k2 s2 b", "f32", "ieee"),
        )
    ):
        turn = round(math.log2(batch)) + i
        own = turn % 4 == 0
        ran += Judge(case(line.format(batch), dtype, precision), seed=batch).check_all(
            own=own, forced=none if own else share(turn % 4 - 1, 3)
        )
    gpu_tally.count("batches", 3, ran)


RESIDUES = (
    "1d n2 c24 o1 i20 k32 s8 p8",
    "1d n1 c33 o1 i67 k64 s16 b xl",
    "1d n2 c130 o1 i20 k512 s128",
)


#: Each in one of fp32's precisions and in 16 bits.
RESIDUE_TESTS = [(line, *FORMATS[f]) for n, line in enumerate(RESIDUES) for f in (n, 3 + n % 2)]


@pytest.mark.parametrize("line,dtype,precision", RESIDUE_TESTS, ids=["-".join(t) for t in RESIDUE_TESTS])
def test_residues_of_a_stride_as_channels(line, dtype, precision):
    """One output channel, kernel and padding multiples of a long stride: by the list's own choice, and by every
    candidate about the problem that has the residues as channels."""
    ran = sum(Judge(case(line, dtype, precision), data).check_all(forced=residues) for data in ("normal", "integers"))
    gpu_tally.count("residues as channels", 2, ran)
