"""Time and memory of the oracle at its full size: ``python benchmarks/oracle.py`` (10,000 pictures of 12,288 numbers).

The named alternative is the textbook formula, |x|^2 - 2 x y + |y|^2 by a matrix product, which cancels where sigma is small. On random
data of so many dimensions the nearest point is clear anyway and both say the same; on close points at small sigma they do not
(``tests/core/test_oracle.py``).
"""

from __future__ import annotations

import resource
import time

import torch

from singdiffusion.theory.oracle import Oracle

COUNT, DIMS, BATCH = 10_000, 12_288, 16


def textbook(data: torch.Tensor, x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
    """y_bar by a matrix product."""
    squares = x.square().sum(1, keepdim=True) - 2 * alpha * x @ data.T + (alpha**2 * data.square()).sum(1)
    return torch.softmax(-squares / (2 * sigma**2), 1) @ data


def main() -> None:
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
        theirs = time.perf_counter() - started
        gap = float((exact - plain).abs().max())
        print(
            f"t = {t:g}: {ours:.2f} s for {BATCH} points, {ours / theirs:.1f} times the matrix product's {theirs:.2f} s,"
        )
        print(f"          largest difference {gap:.2g}")
    print(
        f"peak memory before the alternative ran {peak:.1f} GiB, of which the data {COUNT * DIMS * 8 / 2**30:.1f} GiB"
    )


if __name__ == "__main__":
    main()
