"""The DCT against SciPy's; method ``moments`` against the exact mean and covariance of q(x | prompt)."""

import math

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singdiffusion import SingDiffusionError
from singdiffusion.core.dct import basis, from_low_frequencies, low_frequencies
from singdiffusion.core.singular import first_step
from singdiffusion.theory.oracle import Oracle

sizes = st.integers(1, 12)


def independent(variance):
    """Return the covariance (B, k, k, C, C) of independent channels with these variances (B, C, k, k)."""
    return torch.diag_embed(variance.permute(0, 2, 3, 1))


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(sizes, sizes, st.integers(0, 99))
def test_the_dct_equals_scipys_orthonormal_dct(height, width, seed):
    x = randn(2, 3, height, width, seed=seed)
    count = min(height, width)
    expected = scipy.fft.dctn(x.numpy(), type=2, norm="ortho", axes=(-2, -1))[..., :count, :count]
    np.testing.assert_allclose(low_frequencies(x, count).numpy(), expected, atol=1e-12)


@settings(deadline=None)
@given(sizes, st.integers(1, 12))
def test_the_basis_is_orthonormal_and_inverts(size, count):
    if count > size:
        with pytest.raises(SingDiffusionError, match=rf"within 1..{size}, the size of the picture, not {count}"):
            basis(size, count, randn(1))
        return
    rows = basis(size, count, randn(1))
    torch.testing.assert_close(rows @ rows.T, torch.eye(count, dtype=torch.float64))
    coefficients = randn(2, count, count)
    picture = from_low_frequencies(coefficients, size, size)
    torch.testing.assert_close(low_frequencies(picture, count), coefficients)


def test_the_first_coefficient_is_n_times_the_mean():
    x = randn(2, 4, 16, 16)
    torch.testing.assert_close(low_frequencies(x, 3)[..., 0, 0], 16 * x.mean((-2, -1)))


@settings(deadline=None)
@given(st.integers(1, 5), st.floats(0, 1), st.integers(0, 99))
def test_the_covariance_of_the_step_in_closed_form(k, alpha, seed):
    """The step is a linear map A of x_1; A A^T must be sigma^2 I + alpha^2 Sigma, Sigma diagonal in the DCT basis."""
    sigma, n = math.sqrt(1 - alpha**2), 5
    variance = randn(1, 1, k, k, seed=seed).square() * 3
    impulses = torch.eye(n * n, dtype=torch.float64).reshape(n * n, 1, n, n)
    zero = torch.zeros_like(impulses)
    many = independent(variance).expand(n * n, -1, -1, -1, -1)
    columns = first_step(zero, impulses, alpha, sigma, many).flatten(1)
    covariance = columns.T @ columns
    rows = torch.kron(basis(n, n, variance), basis(n, n, variance))
    full = torch.zeros(n, n, dtype=torch.float64)
    full[:k, :k] = variance[0, 0]
    expected = rows.T @ torch.diag(sigma**2 + alpha**2 * full.flatten()) @ rows
    torch.testing.assert_close(covariance, expected, rtol=0, atol=1e-10)


def test_mean_and_covariance_of_the_step_equal_the_oracles():
    """Data whose low frequencies are uncorrelated: in these frequencies q's covariance is sigma^2 I + alpha^2 Sigma."""
    k, n = 2, 6
    axis = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    low = torch.cartesian_prod(axis, axis, axis, axis).reshape(-1, 1, k, k) + 0.3
    oracle = Oracle(from_low_frequencies(low, n, n), ["all"] * len(low))
    t = 0.8
    alpha, sigma = oracle.path.alpha(t), oracle.path.sigma(t)
    data = low_frequencies(oracle.data.unflatten(1, oracle.shape), k)
    exact_mean = alpha * data.flatten(1).mean(0)
    exact = sigma**2 * torch.eye(k * k, dtype=torch.float64) + alpha**2 * torch.cov(data.flatten(1).T, correction=0)
    variance = data.var(0, correction=0)
    impulses = torch.eye(n * n, dtype=torch.float64).reshape(-1, 1, n, n)
    y_bar = oracle.given("all").mean
    flat = lambda x: low_frequencies(x, k).flatten(1)  # noqa: E731
    still = torch.zeros(1, 1, n, n).double()
    mean = flat(first_step(y_bar[None], still, float(alpha), float(sigma), independent(variance[None])))
    torch.testing.assert_close(mean[0], exact_mean, rtol=0, atol=1e-9)
    many = independent(variance[None]).expand(n * n, -1, -1, -1, -1)
    columns = flat(first_step(torch.zeros_like(impulses), impulses, float(alpha), float(sigma), many))
    torch.testing.assert_close(columns.T @ columns, exact, rtol=0, atol=1e-9)


@settings(deadline=None)
@given(st.integers(1, 3), st.floats(0.01, 0.99), st.integers(0, 99))
def test_the_covariance_between_channels(k, alpha, seed):
    """A A^T of the step has alpha^2 times the covariance between channels, frequency by frequency."""
    sigma, n, channels = math.sqrt(1 - alpha**2), 4, 3
    half = randn(1, k, k, channels, channels, seed=seed)
    covariance = half @ half.mT
    count = channels * n * n
    impulses = torch.eye(count, dtype=torch.float64).reshape(count, channels, n, n)
    many = covariance.expand(count, -1, -1, -1, -1)
    stepped = first_step(torch.zeros_like(impulses), impulses, alpha, sigma, many)
    low = low_frequencies(stepped, n).flatten(1)
    found = (low.T @ low).reshape(channels, n, n, channels, n, n)
    for i in range(n):
        for j in range(n):
            expected = sigma**2 * torch.eye(channels, dtype=torch.float64)
            if i < k and j < k:
                expected = expected + alpha**2 * covariance[0, i, j]
            torch.testing.assert_close(found[:, i, j, :, i, j], expected, rtol=1e-6, atol=1e-9)
    together = (low.T @ low).square().sum()
    torch.testing.assert_close(
        sum(found[:, i, j, :, i, j].square().sum() for i in range(n) for j in range(n)), together
    )


def test_frames_of_a_video_share_their_brightness():
    """The sum of F frames over sqrt(F) has F alpha^2 Sigma in addition; differences between frames do not change."""
    n, frames, alpha = 3, 4, 0.6
    sigma = 0.8
    covariance = 2 * torch.ones(1, 1, 1, 1, 1).double()
    count = frames * n * n
    impulses = torch.eye(count, dtype=torch.float64).reshape(count, 1, frames, n, n)
    stepped = first_step(torch.zeros_like(impulses), impulses, alpha, sigma, covariance.expand(count, -1, -1, -1, -1))
    means = n * stepped.mean((3, 4))[:, 0]  # coefficient (0, 0) of each frame: (count, F)
    found = means.T @ means
    expected = sigma**2 * torch.eye(frames).double() + alpha**2 * 2
    torch.testing.assert_close(found, expected)


def test_zero_covariance_gives_the_papers_step():
    y_bar, x_1 = randn(2, 4, 8, 8), randn(2, 4, 8, 8, seed=1)
    still = first_step(y_bar, x_1, 0.3, 0.9, torch.zeros(2, 3, 3, 4, 4).double())
    torch.testing.assert_close(still, first_step(y_bar, x_1, 0.3, 0.9))
    ones = torch.eye(4).expand(2, 3, 3, 4, 4)
    assert first_step(y_bar.half(), x_1.half(), 0.3, 0.9, ones).dtype == torch.float16


def test_alpha_and_sigma_may_differ_within_a_batch():
    y_bar, x_1, variance = randn(2, 1, 4, 4), randn(2, 1, 4, 4, seed=1), independent(randn(2, 1, 2, 2, seed=2).square())
    both = first_step(y_bar, x_1, torch.tensor([0.3, 0.6]), torch.tensor([0.9, 0.8]), variance)
    for i, (alpha, sigma) in enumerate(((0.3, 0.9), (0.6, 0.8))):
        one = first_step(y_bar[i : i + 1], x_1[i : i + 1], alpha, sigma, variance[i : i + 1])
        torch.testing.assert_close(both[i], one[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [(8, 8), (2, 9), (1, 64), (3, 2)])
def test_frequencies_above_the_pictures_size_are_ignored(size):
    x_1 = randn(2, 4, *size)
    covariance = torch.eye(4).expand(2, 4, 4, 4, 4)
    whole = first_step(torch.zeros_like(x_1), x_1, 0.6, 0.8, covariance)
    rows, columns = (min(4, side) for side in size)
    low = basis(size[0], rows, x_1) @ whole @ basis(size[1], columns, x_1).T
    expected = basis(size[0], rows, x_1) @ x_1 @ basis(size[1], columns, x_1).T  # sigma^2 + alpha^2 = 1
    torch.testing.assert_close(low, expected)


@pytest.mark.parametrize(
    ("covariance", "match"),
    [
        (torch.ones(2, 2, 2, 1, 1), r"covariance must have shape \(B, k, k, C, C\) for x_1 \(B, C, H, W\)"),
        (torch.ones(1, 2, 2, 4, 4), "covariance must have shape"),
        (torch.ones(2, 4, 2, 2), "covariance must have shape"),
        (torch.ones(2, 2, 3, 4, 4), "covariance must have shape"),
        (-torch.eye(4).expand(2, 2, 2, 4, 4), "covariance has a negative eigenvalue"),
        (torch.full((2, 2, 2, 4, 4), math.nan), "covariance has NaN"),
    ],
)
def test_bad_covariance(covariance, match):
    with pytest.raises(SingDiffusionError, match=match):
        first_step(randn(2, 4, 8, 8), randn(2, 4, 8, 8), 0.3, 0.9, covariance)
