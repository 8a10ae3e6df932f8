"""Measure time and memory of the oracle at its full size, 10,000 pictures of 12,288 numbers: ``python benchmarks/oracle.py``.

The alternative is the textbook formula |x|^2 - 2 x y + |y|^2 by a matrix product, which cancels where sigma is small. On random data
of so many dimensions the nearest point is clear, and both agree. On close points at small sigma they do not
(``tests/theory/test_oracle.py``).
"""

from __future__ import annotations

import resource
import time

import torch

from singdiffusion.theory.oracle import Oracle

COUNT, DIMS, BATCH = 10_000, 12_288, 16


def textbook(data: torch.Tensor, x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
    """Return y_bar by a matrix product."""
    squares = x.square().sum(1, keepdim=True) - 2 * alpha * x @ data.T + (alpha**2 * data.square()).sum(1)
    return torch.softmax(-squares / (2 * sigma**2), 1) @ data


def main() -> None:
    """Print the times and the largest difference near t = 1 and near t = 0, then the peak memory."""
    generator = torch.Generator().manual_seed(0)
    oracle = Oracle(torch.randn(COUNT, DIMS, generator=generator, dtype=torch.float64).clamp_(-1, 1))
    peak = 0.0
    for t in (0.9, 1e-9):
        x = oracle.sample(BATCH, t, generator)
        started = time.perf_counter()
        exact = oracle(x, t)
        ours = time.perf_counter() - started
        peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        started = time.perf_counter()
        plain = textbook(oracle.data, x, float(oracle.path.alpha(t)), float(oracle.path.sigma(t)))
        product = time.perf_counter() - started
        difference = float((exact - plain).abs().max())
        print(
            f"t = {t:g}: {BATCH} points in {ours:.2f} s, {ours / product:.1f} times the matrix product's {product:.2f} s"
        )
        print(f"          largest difference {difference:.2g}")
    data = COUNT * DIMS * 8 / 2**30
    print(f"peak memory of the oracle {peak:.1f} GiB, of which {data:.1f} GiB are the data")


if __name__ == "__main__":
    main()
