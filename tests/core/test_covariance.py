"""The factors of a covariance against torch's multivariate normal; its square root against its square."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singdiffusion import SingDiffusionError
from singdiffusion.core import covariance as cov


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 999))
def test_factors_give_the_likelihood_of_their_covariance(channels, k, seed):
    factors = randn(2, cov.factor_count(channels), k, k, seed=seed)
    difference = randn(2, channels, k, k, seed=seed + 1)
    covariance = cov.from_factors(factors)
    assert covariance.shape == (2, k, k, channels, channels)
    exact = torch.distributions.MultivariateNormal(torch.zeros(channels).double(), covariance)
    expected = exact.log_prob(difference.permute(0, 2, 3, 1))
    z = cov.whitened(difference, factors)
    ours = -0.5 * (cov.log_variances(factors) + z.square() + math.log(2 * math.pi)).sum(1)
    torch.testing.assert_close(ours, expected)


def test_without_factors_below_the_diagonal_channels_are_independent():
    factors = torch.cat([randn(1, 3, 2, 2), torch.zeros(1, 3, 2, 2).double()], 1)
    covariance = cov.from_factors(factors)
    torch.testing.assert_close(covariance, torch.diag_embed((factors[:, :3].exp() + cov.FLOOR).permute(0, 2, 3, 1)))


def test_very_negative_factors_give_the_floor():
    low = torch.full((1, 10, 1, 1), -1e4)
    low[:, 4:] = 0
    torch.testing.assert_close(cov.from_factors(low)[0, 0, 0], cov.FLOOR * torch.eye(4))


@settings(deadline=None)
@given(st.integers(1, 4), st.floats(0, 1), st.integers(0, 999))
def test_the_square_root_squared(channels, alpha, seed):
    noise = math.sqrt(1 - alpha**2)
    half = randn(3, channels, channels, seed=seed)
    sigma = half @ half.mT
    root = cov.square_root(sigma, torch.tensor(noise), torch.tensor(alpha))
    torch.testing.assert_close(root, root.mT)
    expected = noise**2 * torch.eye(channels).double() + alpha**2 * sigma
    torch.testing.assert_close(root @ root, expected, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize(
    ("sigma", "match"),
    [
        ([[1.0, 0.5], [0.0, 1.0]], "covariance is not symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "covariance has a negative eigenvalue"),
        ([[math.nan, 0.0], [0.0, 1.0]], "covariance has NaN or infinite values"),
        ([[math.inf, 0.0], [0.0, 1.0]], "covariance has NaN or infinite values"),
    ],
)
def test_matrices_that_are_not_covariances(sigma, match):
    with pytest.raises(SingDiffusionError, match=match):
        cov.square_root(torch.tensor(sigma), torch.tensor(0.9), torch.tensor(0.3))


def test_an_eigenvalue_below_zero_by_rounding_is_accepted():
    """A covariance of rank one, whose second eigenvalue is a little below 0."""
    flat = torch.tensor([[1.0, 3.0], [3.0, 9.0 - 1e-5]])
    root = cov.square_root(flat, torch.tensor(0.0), torch.tensor(1.0)).double()
    torch.testing.assert_close((root @ root).float(), flat, atol=1e-4, rtol=1e-4)


def test_a_wrong_number_of_factors():
    with pytest.raises(SingDiffusionError, match=r"factors must have C \(C \+ 1\) / 2 numbers per frequency, not 5"):
        cov.log_variances(torch.zeros(1, 5, 2, 2))
