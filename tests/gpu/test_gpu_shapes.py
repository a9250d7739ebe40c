"""Every row of tests/shapes/edges.txt and every tail that a tile can have, by every candidate, against float64."""

import zlib
from dataclasses import replace

import gpu_tally
import pytest
from gpu_cases import FORMATS, ROOT, Case, Judge, case

from upconv.cli.shapes import read_shapes

ROWS = read_shapes(ROOT / "tests" / "shapes" / "edges.txt")
PARTS = 60


@pytest.mark.parametrize("part", range(PARTS))
def test_edges(part):
    """Each row in fp32 and in one other dtype or precision, drawn by its name: every other candidate in one of the two,
    drawn as well, the list's own choice in the other. Half are integers, which must come out exactly."""
    problems = ran = 0
    failures = []
    for row in ROWS[part::PARTS]:
        lot = zlib.crc32(row.id.encode())
        dtype, precision = FORMATS[1 + lot % (len(FORMATS) - 1)]
        cases = (Case(row.problem), Case(replace(row.problem, dtype=dtype, precision=precision)))
        for i, c in enumerate(cases):
            data = ("integers", "normal")[(lot // 8 + i) % 2]
            only = None if i == lot // 64 % 2 else ""
            try:
                ran += Judge(c, data, seed=lot, offset=lot // 16 % 3).check_all(only=only, half=lot // 128)
            except AssertionError as error:
                failures.append(f"{row.id}: {error}")
            problems += 1
    gpu_tally.count("edges", problems, ran)
    assert not failures, "\n".join(failures)


# One specialisation a line; its rows take every length below.
WIDTHS = (
    "1d n2 c16 o24 k3 p1 b",
    "1d n2 c32 o16 k16 s8 p4 b",
    "1d n2 c8 o8 k5 d3",
    "2d n2 c32 o32 k3",
    "2d n1 c64 o64 k3 p1",
    "2d n2 c16 o16 k4 s2 p1 b",
    "2d n2 c24 o12 k2 s2",
    "2d n2 c32 o64 k3 s5 p1 d2",
    "2d n1 c16 o3 k7 p3",
    "2d n2 c32 o64 k3x5 s2x3 p1x2 d2x1 g4",
    "2d n2 c24 o24 k4 s2 p1 g24",
    "2d n2 c64 o64 k3 xl yl",
    "2d n2 c24 o32 k4 s2 p1 xl yl wl",
    "3d n1 c32 o32 k3 s2 p1",
    "3d n2 c8 o16 k3x5x7 b",
    "3d n1 c16 o16 k2 s2 xl yl",
)


def around(*sizes):
    return {n + e for n in sizes for e in (-1, 0, 1)}


#: Around what tiles are made of: vectors of up to 8, fragments of 8 and 16 columns, tiles of 32 to 512.
ESSENTIAL = {*range(1, 10), *around(16, 32, 64, 128, 256, 512), 44, 100}
OTHERS = sorted({*range(1, 71), *around(96, 192, 384)} - ESSENTIAL)
#: Which formats a line takes: compiling is what costs, and each has kernels of its own for every tile.
ROW_TESTS = [
    (i, line, *FORMATS[f])
    for i, line in enumerate(WIDTHS)
    for f in (i % 3, 3 + i // 2 % 2, *([5] if i % 4 == 0 else []))
]


@pytest.mark.parametrize("lot,line,dtype,precision", ROW_TESTS, ids=["-".join(t[1:]) for t in ROW_TESTS])
def test_row_lengths(lot, line, dtype, precision):
    """The innermost size takes every value around the sizes of tiles, and an eighth of the others up to 70: the lines
    between them take all. By turns with the length, one half of the candidates or the other; the specialisation changes
    with the tile alone."""
    failures, ran = [], 0
    lengths = sorted({*ESSENTIAL, *OTHERS[lot % 8 :: 8]})
    for length in lengths:
        c = case(line, dtype, precision)
        outer = (3, 2)[: c.problem.rank - 1] if length < 130 else (1, 1)[: c.problem.rank - 1]
        c = Case(replace(c.problem, input=(*outer, length)))
        if min(c.problem.output) < 1:
            continue
        try:
            ran += Judge(c, ("normal", "integers")[length % 2], seed=length, offset=length % 3).check_all(
                half=length + lot
            )
        except AssertionError as error:
            failures.append(str(error))
            if len(failures) == 3:
                break
    gpu_tally.count("row lengths", len(lengths), ran)
    assert not failures, "\n".join(failures)


# Rows above rows: the other spatial sizes.
@pytest.mark.parametrize("height", sorted({*range(1, 20), 31, 32, 33, 63, 64, 65, 127, 128, 129}))
def test_heights(height):
    ran = 0
    for line, dtype, precision in (
        ("2d n1 c32 o32 i{}x17 k3", "f32", "tf32"),
        ("2d n1 c16 o16 i{}x9 k4 s2 p1 b", "bf16", "ieee"),
        ("2d n2 c24 o24 i{}x6 k3 s2 p1 op1 g24", "f32", "ieee"),
        ("3d n1 c16 o32 i{}x3x7 k3 s2 p1", "f32", "bf16x3"),
        ("3d n1 c32 o16 i2x{}x5 k3 p1", "f16", "ieee"),
    ):
        ran += Judge(case(line.format(height), dtype, precision), seed=height).check_all()
    gpu_tally.count("heights", 5, ran)


CHANNELS = (
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    12,
    15,
    16,
    17,
    24,
    31,
    32,
    33,
    47,
    48,
    63,
    64,
    65,
    96,
    127,
    128,
    129,
    160,
    192,
    256,
    257,
)


@pytest.mark.parametrize("count", CHANNELS)
def test_channels(count):
    """As input, as output, as both; each a specialisation of its own. (Up to 65 edges.txt has the first two.)"""
    lot = zlib.crc32(str(count).encode())
    failures, ran = [], 0
    for i, line in enumerate(
        (
            "2d n1 c{0} o16 i9x37 k3 s2 p1",
            "2d n1 c16 o{0} i9x37 k3 p1 b",
            "1d n2 c{0} o{0} i67 k4 s2 p1 b",
            "2d n1 c{0} o{0} i5x19 k2 s2 xl yl",
        )
    ):
        if count <= 65 and i < 2:
            continue
        dtype, precision = FORMATS[(lot + i) % 5]
        try:
            ran += Judge(case(line.format(count), dtype, precision), seed=count).check_all()
        except AssertionError as error:
            failures.append(str(error))
    gpu_tally.count("channels", 2 if count <= 65 else 4, ran)
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("batch", (1, 2, 3, 7, 8, 31, 64, 65, 131, 133, 257))
def test_batches(batch):
    ran = 0
    for line, dtype, precision in (
        ("1d n{} c16 o8 i33 k4 s2 p1 b", "f32", "tf32"),
        ("2d n{} c32 o32 i3x5 k3", "f16", "ieee"),
        ("2d n{} c8 o8 i4x4 k2 s2 b", "f32", "ieee"),
    ):
        ran += Judge(case(line.format(batch), dtype, precision), seed=batch).check_all()
    gpu_tally.count("batches", 3, ran)
