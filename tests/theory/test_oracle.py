"""The oracle against closed forms, and against Bayes' rule; no NaN anywhere in [0, 1]."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from singdiffusion import SingDiffusionError
from singdiffusion.theory.oracle import Oracle
from singdiffusion.theory.path import CosinePath

PATH = CosinePath()
INSIDE = (0.02, 0.1, 0.3, 0.5, 0.9, 0.99, 1 - 1e-6)
EXTREME = (0.0, 5e-324, 1e-300, 1e-16, 1e-5, 0.5, 1 - 1e-10, 1 - 1e-16, 1.0)
X = torch.linspace(-3, 3, 25, dtype=torch.float64)[:, None]


def alpha_sigma(t):
    return float(PATH.alpha(t)), float(PATH.sigma(t))


@pytest.mark.parametrize("t", INSIDE)
def test_two_diracs_symmetric(t):
    """y_bar = tanh(alpha x / sigma^2) for data -1 and 1."""
    alpha, sigma = alpha_sigma(t)
    oracle = Oracle(torch.tensor([[-1.0], [1.0]]))
    torch.testing.assert_close(oracle(X, t), torch.tanh(alpha * X / sigma**2), rtol=0, atol=1e-9)


@pytest.mark.parametrize("t", INSIDE)
@pytest.mark.parametrize(("a", "b"), [(-0.3, 1.7), (2.0, 2.5), (0.0, -1.0)])
def test_two_diracs_not_symmetric(a, b, t):
    """w_b = 1 / (1 + exp(-alpha (b - a)(x - alpha (a + b) / 2) / sigma^2)), and the density is the sum of two Gaussians."""
    alpha, sigma = alpha_sigma(t)
    oracle = Oracle(torch.tensor([[a], [b]], dtype=torch.float64))
    weight = torch.sigmoid(alpha * (b - a) * (X - alpha * (a + b) / 2) / sigma**2)
    torch.testing.assert_close(oracle.weights(X, t)[:, 1:], weight, rtol=0, atol=1e-9)
    torch.testing.assert_close(oracle(X, t), a + (b - a) * weight, rtol=0, atol=1e-9)
    x = X[:, 0].numpy()
    expected = np.logaddexp(norm.logpdf(x, alpha * a, sigma), norm.logpdf(x, alpha * b, sigma)) - math.log(2)
    np.testing.assert_allclose(oracle.log_density(X, t).numpy(), expected, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(oracle.score(X, t), (alpha * oracle(X, t) - X) / sigma**2, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("t", [0.3, 0.5, 0.9, 1.0])
def test_a_gaussian_blob(t):
    """Data at 20,001 quantiles of N(m, v): y_bar = m + alpha v (x - alpha m) / (alpha^2 v + sigma^2), to the accuracy of the quantiles."""
    m, v, count = 0.4, 0.25, 20_001
    data = norm.ppf((np.arange(count) + 0.5) / count, m, math.sqrt(v))
    oracle = Oracle(torch.from_numpy(data)[:, None])
    alpha, sigma = alpha_sigma(t)
    x = alpha * m + 1.5 * math.sqrt(alpha**2 * v + sigma**2) * torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    expected = m + alpha * v * (x - alpha * m) / (alpha**2 * v + sigma**2)
    torch.testing.assert_close(oracle(x, t), expected, rtol=0, atol=2e-5)
    density = norm.logpdf(x[:, 0].numpy(), alpha * m, math.sqrt(alpha**2 * v + sigma**2))
    np.testing.assert_allclose(oracle.log_density(x, t).numpy(), density, atol=2e-5)


@pytest.mark.parametrize("t", INSIDE)
def test_a_grid_in_two_dimensions_is_a_product(t):
    axis = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    line = Oracle(axis[:, None])
    plane = Oracle(torch.cartesian_prod(axis, axis))
    points = torch.cartesian_prod(X[::4, 0], X[::4, 0])
    by_axis = torch.cat([line(points[:, :1], t), line(points[:, 1:], t)], 1)
    torch.testing.assert_close(plane(points, t), by_axis, rtol=0, atol=1e-9)
    density = line.log_density(points[:, :1], t) + line.log_density(points[:, 1:], t)
    torch.testing.assert_close(plane.log_density(points, t), density, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("t", INSIDE)
def test_the_score_is_the_gradient_of_the_log_density(t):
    oracle = Oracle(torch.tensor([[-1.0, 0.2], [0.7, 0.7], [0.1, -2.0]], dtype=torch.float64))
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(oracle.log_density(x, t).sum(), x)
    torch.testing.assert_close(oracle.score(x.detach(), t), gradient, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("s", "t"), [(0.01, 0.5), (0.4, 0.5), (0.4999, 0.5), (0.3, 0.999), (0.3, 1.0), (0.99, 1.0)])
def test_the_reverse_step_is_bayes_rule(s, t):
    """p(x_s | x_t) = p(x_s) N(x_t; alpha_ts x_s, sigma_ts^2) / p(x_t)."""
    oracle = Oracle(torch.tensor([[-1.0], [0.2], [1.0]], dtype=torch.float64))
    x_t = torch.tensor([[-0.7], [0.4]], dtype=torch.float64)
    transition = oracle.transition(x_t, s, t)
    x_s = torch.linspace(-2, 2, 41, dtype=torch.float64)[None, :, None].expand(2, -1, -1)
    step = PATH.step(s, t)
    forward = norm.logpdf(x_t[:, None, 0], float(step.alpha) * x_s[..., 0].numpy(), float(step.sigma))
    prior = oracle.log_density(x_s[0], s).numpy()
    expected = prior + forward - oracle.log_density(x_t, t).numpy()[:, None]
    np.testing.assert_allclose(transition.log_density(x_s).numpy(), expected, rtol=1e-8, atol=1e-8)


def test_mean_and_variance_of_draws():
    oracle = Oracle(torch.tensor([[-1.0], [0.2], [1.0]], dtype=torch.float64))
    count = 40_000
    for s, t in ((0.4, 0.6), (0.5, 1.0)):
        transition = oracle.transition(torch.full((count, 1), 0.3), s, t)
        take, std = float(transition.take[0]), float(transition.std[0])
        posterior = transition.weights[0] @ (oracle.data - transition.weights[0] @ oracle.data).square()
        for draw, variance in (
            (transition.sample, std**2 + take**2 * float(posterior)),
            (transition.sample_gaussian, std**2),
        ):
            drawn = draw(torch.Generator().manual_seed(1))
            error = 4 * math.sqrt(variance / count)
            assert float(drawn.mean()) == pytest.approx(float(transition.mean()[0]), abs=error)
            assert float(drawn.var()) == pytest.approx(variance, rel=4 * math.sqrt(2 / count) * 1.5)


def test_both_ends():
    """t = 1: the mean of the data for every x. t = 0: the nearest point. The last step is a Dirac."""
    data = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [1.0, 3.0]], dtype=torch.float64)
    oracle = Oracle(data)
    x = torch.tensor([[5.0, -7.0], [0.9, 0.4]], dtype=torch.float64)
    torch.testing.assert_close(oracle(x, 1.0), data.mean(0).expand(2, 2), rtol=0, atol=1e-15)
    assert torch.equal(oracle.mean, data.mean(0))
    assert torch.equal(oracle(x, 0.0), data[[1, 1]])
    assert oracle.log_density(torch.stack([data[0], x[0]]), 0.0).tolist() == [math.inf, -math.inf]
    last = oracle.transition(x, 0.0, 1e-8)
    assert torch.equal(last.std, torch.zeros(2, dtype=torch.float64))
    drawn = last.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, data[[1, 1]], rtol=0, atol=1e-15)
    with pytest.raises(SingDiffusionError, match="Dirac"):
        last.log_density(x[:, None])
    first = oracle.transition(x, 0.5, 1.0)
    assert torch.equal(first.mean()[0], first.mean()[1]), "at t = 1 the step does not depend on x_1"


shapes = st.tuples(st.integers(1, 6), st.integers(1, 4))


@settings(deadline=None)
@given(shapes, st.integers(0, 2**31), st.floats(0, 1), st.sampled_from([1e-3, 1.0, 50.0]))
def test_values_are_finite_and_convex_combinations_at_any_time(shape, seed, t, scale):
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
    data = torch.cat([data, data[:1], data[:1]])  # one point three times
    x = torch.cat([torch.randn(3, shape[1], generator=generator, dtype=torch.float64) * scale, data[:1]])
    oracle = Oracle(data)
    for time in (t, *EXTREME):
        weights = oracle.weights(x, time)
        torch.testing.assert_close(weights.sum(1), torch.ones(4, dtype=torch.float64))
        y_bar = oracle(x, time)
        slack = 1e-12 * scale
        assert (y_bar >= data.min(0).values - slack).all()
        assert (y_bar <= data.max(0).values + slack).all()
        assert not oracle.log_density(x, time).isnan().any()
        assert not oracle.score(x, time).isnan().any()
        if time < 1e-200:
            torch.testing.assert_close(oracle.score(data[:1], time), -data[:1] / 2)
        for before in EXTREME:
            if before < time:
                step = oracle.transition(x, before, time)
                for value in (step.weights, step.keep, step.take, step.std, step.mean()):
                    assert torch.isfinite(value).all(), (before, time)


def test_times_may_differ_within_a_batch():
    oracle = Oracle(torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(0)))
    x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1))
    times = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    together = oracle(x, times)
    assert together.shape == (5, 3, 4)
    for i, t in enumerate(times):
        torch.testing.assert_close(together[i], oracle(x[i : i + 1], t)[0])


def test_given_uses_the_data_of_one_prompt_only():
    data = torch.tensor([[0.0], [1.0], [5.0]])
    oracle = Oracle(data, ["low", "low", "high"])
    assert float(oracle.given("low").mean) == 0.5
    assert float(oracle.given("high")(torch.zeros(1, 1), 0.5)) == 5.0
    assert float(oracle.mean) == 2.0
    with pytest.raises(SingDiffusionError, match="no data point has the prompt 'none'"):
        oracle.given("none")
    with pytest.raises(SingDiffusionError, match="the prompt 'low'"):
        Oracle(data).given("low")


def test_mean_and_variance_of_samples():
    oracle = Oracle(torch.tensor([[-1.0], [2.0]]))
    t, count = 0.4, 40_000
    alpha, sigma = alpha_sigma(t)
    drawn = oracle.sample(count, t, torch.Generator().manual_seed(0))
    variance = sigma**2 + alpha**2 * 1.5**2
    assert float(drawn.mean()) == pytest.approx(alpha * 0.5, abs=4 * math.sqrt(variance / count))
    assert float(drawn.var()) == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda o: Oracle(torch.zeros(0, 2)), r"data must have shape \(N, ...\) with N > 0"),
        (lambda o: Oracle(torch.zeros(3)), "data must have shape"),
        (lambda o: Oracle(torch.tensor([[math.nan]])), "data has NaN or infinite values"),
        (lambda o: Oracle(torch.zeros(2, 1), ["one"]), "prompts must be one per data point, 2, not 1"),
        (lambda o: o(torch.zeros(1, 3), 0.5), r"x must have shape \(B, 2\), not \(1, 3\)"),
        (lambda o: o(torch.full((1, 2), math.inf), 0.5), "x has NaN or infinite values"),
        (lambda o: o(torch.zeros(1, 2), 1.5), r"t must be finite and within \[0, 1\]"),
        (lambda o: o(torch.zeros(1, 2), torch.zeros(3)), "t must be one number or one per item, 1"),
        (lambda o: o.sample(2, torch.zeros(3)), "t must be one number or one per item, 2"),
        (lambda o: o.transition(torch.zeros(1, 2), torch.zeros(3), 0.5), "s must be one number or one per item, 1"),
        (
            lambda o: o.transition(torch.zeros(1, 2), 0.1, 0.5).log_density(torch.zeros(1, 5, 3)),
            r"x_s must have shape \(1, M, 2\)",
        ),
        (lambda o: o(torch.full((1, 2), 1e160, dtype=torch.float64), 0.5), "x must be below 1e[+]150 in size"),
        (lambda o: Oracle(torch.full((1, 2), 1e160, dtype=torch.float64)), "data must be below 1e[+]150"),
        (lambda o: o.transition(torch.zeros(1, 2), 0.5, 0.5), "s must be before t"),
        (lambda o: o.transition(torch.zeros(1, 2), 0.6, 0.5), "s must be before t"),
        (lambda o: o.transition(torch.zeros(1, 2), -0.1, 0.5), "s must be finite and within"),
        (lambda o: o.sample(1, 2.0), "t must be finite and within"),
    ],
)
def test_invalid_input_is_a_value_error_that_names_it(act, match):
    with pytest.raises(ValueError, match=match):
        act(Oracle(torch.zeros(2, 2)))


def test_distances_are_computed_without_cancellation():
    """Points 1e-9 apart at distance 1e3 from 0 with a small sigma; |x|^2 - 2 x y + |y|^2 would not separate them."""
    data = torch.tensor([[1e3, 0.0], [1e3 + 1e-9, 0.0]], dtype=torch.float64)
    t = 2 / math.pi * 1e-10  # sigma = 1e-10
    weights = Oracle(data).weights(data, t)
    torch.testing.assert_close(weights, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-6)
