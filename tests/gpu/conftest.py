# Every test on a GPU: found in the source tree without an install, skipped with the reason where there is no GPU.
# UPCONV_GPU_TEST_DEVICE=cpu runs the harness on the CPU engine, to work on the tests themselves without a GPU.
import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
if importlib.util.find_spec("upconv") is None:
    sys.path.insert(0, str(ROOT / "python"))

DEVICE = os.environ.get("UPCONV_GPU_TEST_DEVICE", "cuda")


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: measures time or memory, so nothing else may run on the GPU")


#: Tests that compile for many seconds each.
LONG = (
    "test_exported",
    "test_tuning_measures_remembers_and_changes_no_number",
    "test_row_lengths",
    "test_ten_runs_give_the_same_bits",
    "test_edges",
    "test_residues_of_a_stride_as_channels",
    "test_batches",
    "test_heights",
    "test_channels",
    "test_empty_batch_and_empty_phases",
    "test_denormals_and_large_numbers",
)


def pytest_collection_modifyitems(config, items):
    """Leaves out what an earlier, interrupted run has passed (UPCONV_GPU_DONE names a file of it). The order in which
    tests/gpu/run.py's workers take the others: those that compile much first, so that no worker is left with one at
    the end; those of level 1, whose tensors fill gigabytes, apart from one another; the fuzzer last, which draws until
    the time is over."""

    def place(item):
        name = item.originalname
        last = name == "test_fuzz" or item.get_closest_marker("alone") is not None
        return LONG.index(name) if name in LONG else len(LONG) + last

    if path := os.environ.get("UPCONV_GPU_DONE"):
        done = set(Path(path).read_text().splitlines())
        config.hook.pytest_deselected(items=[i for i in items if f"{i.path.stem}::{i.name}" in done])
        items[:] = [i for i in items if f"{i.path.stem}::{i.name}" not in done]
    big = [i for i in items if i.path.stem == "test_gpu_level1"]
    others = sorted((i for i in items if i not in set(big)), key=place)
    before = sum(place(i) <= len(LONG) for i in others)
    for n, item in reversed(list(enumerate(big))):
        others.insert(before * n // len(big), item)
    items[:] = others


def pytest_runtest_logreport(report):
    """Keeps each failure as it happens, so that a run that is stopped has told what it found. Under xdist the reports
    of all workers pass through the first process, which writes them."""
    to = os.environ.get("UPCONV_GPU_FAILURES")
    if to and report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        said = crash.message if crash else str(report.longrepr)
        with open(to, "a") as file:
            file.write(f"{report.nodeid}: {' '.join(said.split())[:600]}\n")


class NoGpu(pytest.Module):
    """Stands for a test file where there is no GPU: one line in the report."""

    def collect(self):
        reason = "torch.cuda.is_available() is False: these tests need an NVIDIA GPU (docs/benchmarking.md)"
        pytest.skip(reason, allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    if DEVICE != "cpu" and not torch.cuda.is_available():
        return NoGpu.from_parent(parent, path=module_path)
    return None


@pytest.fixture(autouse=True)
def clean():
    """The same seed for every test, torch's switches as they were, and no memory kept for the next one."""
    torch.manual_seed(20240607)
    yield
    if torch.cuda.is_available() and torch.cuda.memory_reserved() > 2 << 30:
        torch.cuda.empty_cache()


@pytest.fixture
def cuda():
    """Tests of CUDA's own features (streams, graphs, memory) have nothing to check on another device."""
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA streams")
    return torch.device("cuda")
