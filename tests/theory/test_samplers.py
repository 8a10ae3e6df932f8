"""Reference samplers with the exact denoiser: exact from t = 1, with the predicted bias from N(0, I) at 1 - eps."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from singdiffusion import SingDiffusionError
from singdiffusion.theory import samplers
from singdiffusion.theory.oracle import Oracle
from singdiffusion.theory.path import CosinePath
from singdiffusion.theory.samplers import uniform_times

PATH = CosinePath()
LINE = Oracle(torch.tensor([[-1.0], [1.0], [1.0]], dtype=torch.float64))  # its mean, 1/3, is the average grey here
COUNT = 4000


def noise(count=COUNT, dims=1, seed=0):
    return torch.randn(count, dims, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def generator():
    return torch.Generator().manual_seed(1)


STOCHASTIC = {
    "ddpm": lambda d, x, times: samplers.ddpm(d, x, times, generator()),
    "ddim eta 0.5": lambda d, x, times: samplers.ddim(d, x, times, 0.5, generator()),
    "sde": lambda d, x, times: samplers.reverse_sde(d, x, times, generator()),
}
DETERMINISTIC = {
    "ddim": samplers.ddim,
    "heun": samplers.ode_heun,
    "adaptive": lambda d, x, times: samplers.ode_adaptive(d, x, float(times[0])),
}
ALL = STOCHASTIC | DETERMINISTIC


def at_data(x, oracle):
    """Return whether all states are data points."""
    return (torch.cdist(x, oracle.data).min(1).values < 1e-6).all()


@pytest.mark.parametrize("name", ALL)
def test_from_t_1_samples_are_data_points_in_their_proportions(name):
    count = 400 if name == "adaptive" else COUNT
    x = ALL[name](LINE, noise(count), uniform_times(200))
    assert at_data(x, LINE)
    share = float((x < 0).double().mean())
    assert share == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / count) + 0.005)  # 0.005: error of 200 steps


@pytest.mark.parametrize("name", ALL)
def test_from_t_1_in_many_dimensions(name):
    oracle = Oracle(torch.randn(10, 12, generator=torch.Generator().manual_seed(3)))
    x = ALL[name](oracle, noise(20, 12), uniform_times(100))
    assert at_data(x, oracle)


def quantile(t, share):
    """Return x below which q(x_t) of LINE has this share."""
    alpha, sigma = float(PATH.alpha(t)), float(PATH.sigma(t))
    cdf = lambda x: norm.cdf(x, -alpha, sigma) / 3 + norm.cdf(x, alpha, sigma) * 2 / 3  # noqa: E731
    return float(brentq(lambda x: cdf(x) - share, -6, 6, xtol=1e-14))  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [1.0, 0.9, 0.7])
def test_the_ode_keeps_quantiles_which_gives_its_bias(start):
    """In one dimension the flow keeps quantiles, so it ends at -1 exactly from states below the first third of q(x_t).

    From N(0, 1) at 1 - eps the share of -1 is then Phi(that quantile) and not 1/3: Proposition 3, in closed form.
    """
    border = quantile(start, 1 / 3)
    x = torch.tensor([[border - 1e-4], [border + 1e-4]], dtype=torch.float64)
    ends = samplers.ode_adaptive(LINE, x, start)
    np.testing.assert_allclose(ends[:, 0].numpy(), [-1, 1], atol=1e-7)
    share = norm.cdf(border)
    if start < 1:
        assert share - 1 / 3 > 0.01, "the grey side is over-represented"
    times = uniform_times(200) * start
    drawn = (samplers.ddim(LINE, noise(), times) < 0).double().mean()
    assert float(drawn) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / COUNT) + 0.005)


# DDIM with eta 0.5, between these and the ODE, has no closed form
@pytest.mark.parametrize("name", ["ddpm", "sde"])
@pytest.mark.parametrize("start", [0.7, 0.5])
def test_the_bias_of_ddpm_and_sde_is_the_mean_posterior(name, start):
    """From x at 1 - eps the exact reverse process ends in y_i with probability w_i(x); from N(0, 1) in its mean over x."""
    weight = lambda x: float(LINE.weights(torch.tensor([[x]]), start)[0, 0])  # noqa: E731
    share = quad(lambda x: norm.pdf(x) * weight(x), -8, 8)[0]
    assert share - 1 / 3 > 0.01
    x = STOCHASTIC[name](LINE, noise(), uniform_times(400) * start)
    drawn = float((x < 0).double().mean())
    assert drawn == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / COUNT) + 0.005)


M, V = 0.4, 0.25


def blob(x, t):
    """Return E[x_0 | x_t] for x_0 ~ N(M, V)."""
    alpha, sigma = PATH.alpha(t), PATH.sigma(t)
    return M + alpha * V * (x - alpha * M) / (alpha**2 * V + sigma**2)


def test_the_ode_of_a_gaussian_in_closed_form():
    """x_t = alpha M + sqrt(alpha^2 V + sigma^2) z along the flow: x_0 = M + sqrt(V) x_1."""
    x = noise(50)
    torch.testing.assert_close(samplers.ode_adaptive(blob, x), M + math.sqrt(V) * x, rtol=0, atol=1e-6)


def test_orders_of_convergence():
    """DDIM is of first order and Heun of second, compared at a t inside the interval."""
    x, end = noise(50), 0.2
    alpha, sigma = PATH.alpha(end), PATH.sigma(end)
    exact = alpha * M + (alpha**2 * V + sigma**2).sqrt() * x
    error = {}
    for name in ("ddim", "heun"):
        for steps in (20, 40):
            times = torch.linspace(1, end, steps + 1, dtype=torch.float64)
            error[name, steps] = float((DETERMINISTIC[name](blob, x, times) - exact).abs().max())
    assert error["ddim", 20] / error["ddim", 40] == pytest.approx(2, rel=0.1)
    assert error["heun", 20] / error["heun", 40] == pytest.approx(4, rel=0.15)


def test_the_variance_of_ddpm_converges_as_steps_grow():
    gaps = []
    for steps in (10, 40, 160):
        x = samplers.ddpm(blob, noise(40_000), uniform_times(steps), generator())
        gaps.append(abs(float(x.var()) - V))
        assert float(x.mean()) == pytest.approx(M, abs=0.015)
    assert gaps[2] < gaps[1] < gaps[0]
    assert gaps[2] < 0.02 * V + 4 * V * math.sqrt(2 / 40_000)


def test_the_slope_at_t_1_is_finite_and_continuous():
    """It is d alpha / dt y_bar, although beta(1) is infinite."""
    x = noise(5)
    at_1 = samplers.ode_slope(LINE, x, torch.tensor(1.0, dtype=torch.float64))
    near_1 = samplers.ode_slope(LINE, x, torch.tensor(1 - 1e-9, dtype=torch.float64))
    torch.testing.assert_close(at_1, torch.full_like(x, -math.pi / 2 / 3), rtol=0, atol=1e-12)
    torch.testing.assert_close(near_1, at_1, rtol=0, atol=1e-6)


def test_one_step_from_1_to_0_gives_the_mean():
    for name, sample in ALL.items():
        if name != "adaptive":
            torch.testing.assert_close(sample(LINE, noise(3), [1.0, 0.0]), torch.full((3, 1), 1 / 3).double())


@pytest.mark.parametrize(("s", "t"), [(0.2, 0.5), (0.5, 1 - 1e-8), (0.5, 1.0), (1e-300, 1e-299)])
def test_ddpm_draws_from_the_oracles_single_gaussian(s, t):
    x = noise(5)
    ours = samplers.ddpm(LINE, x, [t, s], generator())
    torch.testing.assert_close(ours, LINE.transition(x, s, t).sample_gaussian(generator()), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", [name for name in ALL if name != "adaptive"])
def test_times_close_to_either_end(name):
    """t = 1 - 1e-12 instead of 1, and times whose squares underflow, give the results of the limits."""
    share = float((ALL[name](LINE, noise(), [1 - 1e-12, *uniform_times(200)[1:].tolist()]) < 0).double().mean())
    assert share == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / COUNT) + 0.005)
    # Heun's corrector contains 1 / sigma_s, so a step that divides t by 1e167 overshoots
    if name != "heun":
        x = ALL[name](LINE, noise(50), [*uniform_times(50)[:-1].tolist(), 1e-3, 1e-170, 1e-310, 0.0])
        assert at_data(x, LINE)


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda: samplers.ddim(LINE, noise(2), [0.0, 1.0]), "times must be a falling row"),
        (lambda: samplers.ddim(LINE, noise(2), [1.0]), "times must be a falling row of at least two"),
        (lambda: samplers.ddpm(LINE, noise(2), [1.5, 0.0]), r"times must be finite and within \[0, 1\]"),
        (lambda: samplers.ddim(LINE, noise(2), [1.0, 0.0], eta=2), r"eta must be within \[0, 1\], not 2"),
        (lambda: samplers.ode_heun(LINE, noise(2) * math.nan, [1.0, 0.0]), "x has NaN or infinite values"),
        (
            lambda: samplers.ode_heun(lambda x, t: x / 0, noise(2), [1.0, 0.5]),
            "denoiser returned NaN or infinite values at t = 1",
        ),
        (
            lambda: samplers.ddim(lambda x, t: x[:, 0], noise(2), [1.0, 0.5]),
            r"denoiser returned shape \(2,\) for x of shape \(2, 1\)",
        ),
        (lambda: samplers.ode_adaptive(LINE, noise(2), 0.0), "start must be above 0 and at most 1, not 0.0"),
        (lambda: samplers.ode_adaptive(LINE, noise(2), math.nan), "start must be above 0"),
        (lambda: samplers.ode_adaptive(LINE, noise(2), atol=2), "atol must be above 0 and below 1, not 2"),
        (lambda: samplers.ode_adaptive(LINE, noise(2) * math.nan), "x has NaN"),
        (lambda: uniform_times(0), "steps must be at least 1"),
    ],
)
def test_invalid_input(act, match):
    with pytest.raises(SingDiffusionError, match=match):
        act()
