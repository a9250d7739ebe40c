# The plan cache and torch's threads: many callers at once, more problems than the cache keeps, any thread count.
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from exact import assert_near, forward

from upconv import functional as U


def test_many_threads_many_shapes():
    w, b = torch.randn(4, 3, 4), torch.randn(3)
    xs = [torch.randn(1 + i % 3, 4, 5 + i % 11) for i in range(66)]
    with ThreadPoolExecutor(8) as pool:
        ys = list(pool.map(lambda x: U.conv_transpose1d(x, w, b, stride=2), xs * 4))
    for x, y in zip(xs * 4, ys, strict=True):
        assert_near(y, *forward(x, w, b, stride=2), 16)


def test_more_lengths_than_the_cache_keeps():
    w = torch.randn(1, 1, 3)
    for length in [*range(1, 1300), *range(1, 1300, 100)]:
        x = torch.ones(1, 1, length)
        y = U.conv_transpose1d(x, w, stride=3)
        assert y.shape[2] == 3 * length
        torch.testing.assert_close(y.view(length, 3), w[0, 0].expand(length, 3), rtol=0, atol=0)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_thread_count_is_torchs_and_changes_no_bit(rank):
    f = getattr(U, f"conv_transpose{rank}d")
    size = {1: (5000,), 2: (60, 70), 3: (12, 14, 16)}[rank]
    x, w = torch.randn(2, 8, *size, requires_grad=True), torch.randn(8, 8, *[3] * rank, requires_grad=True)
    b = torch.randn(8, requires_grad=True)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = f(x, w, b, stride=2)
            results.append((y, *torch.autograd.grad(y, (x, w, b), torch.cos(y.detach()))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for one, another in zip(results[0], other, strict=True):
            assert torch.equal(one, another)


def test_calls_from_backward_threads_and_data_parallel_callers():
    # Each Python thread runs forward and backward; torch's autograd engine adds threads of its own.
    w = torch.randn(4, 4, 3, dtype=torch.double)

    def step(seed):
        x = torch.randn(2, 4, 9, dtype=torch.double, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        dx = torch.autograd.grad(U.conv_transpose1d(x, w, stride=2).square().sum(), x)[0]
        expected = torch.autograd.grad(F.conv_transpose1d(x, w, stride=2).square().sum(), x)[0]
        return (dx - expected).abs().max().item()

    with ThreadPoolExecutor(6) as pool:
        assert max(pool.map(step, range(60))) < 1e-12
