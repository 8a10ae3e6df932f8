"""Reference samplers on the closed interval [0, 1] for any denoiser, with the limits at its singular ends.

A denoiser returns y_bar(x, t) = E[x_0 | x_t = x] (x-prediction). On the path x_t = alpha x_0 + sigma noise all samplers use y_bar and
the noise estimate eps = (x - alpha y_bar) / sigma. This file has no small constants: each step is either regular, or its limit.

At t = 1 alpha is 0 and sigma is 1. [SD] (section 3 and appendix) treats the same four samplers there:

- DDPM: mu = keep x + take y_bar, with keep = alpha_{1|s} sigma_s^2 / sigma_1^2 = 0 and take = alpha_s. With y_bar nothing diverges.
  With an epsilon network y_bar = (x - sigma eps) / alpha is 0 / 0. The limit is x_s ~ N(alpha_s y_bar, sigma_s^2) ([SD] Proposition 2).
- DDIM: x_s = alpha_s y_bar + sigma_s eps. Again only y_bar is 0 / 0, for an epsilon network; eps itself is x_1, because alpha_1 = 0.
- SDE: dx = -(beta / 2) x dt + sqrt(beta) dW and its reverse. beta(t) = -2 d log alpha / dt grows as 2 / (1 - t), so the reverse drift
  and the noise are both infinite. With y_bar constant over a step the reverse SDE is linear and its law is that of the DDPM step,
  which has the limit above: infinitely fast mixing forgets x_1. Steps with (t - s) beta(t) <= 2, where Euler-Maruyama is stable, use
  it; on a uniform grid from t = 1 these are all but the first. Longer steps use the law.
- ODE: dx/dt = -(beta / 2)(x + score) = d alpha / dt (y_bar - alpha x) / sigma^2. The infinite beta cancels against alpha, and the slope
  at t = 1 is finite: d alpha / dt y_bar. With an epsilon network or a score it is infinity times 0.

At t = 0 sigma is 0, and the reverse step is a Dirac: x_0 = y_bar(x_t, t). This singularity is not removable. The slopes of SDE and ODE
contain 1 / sigma there (the ODE's is 0 / 0). With y_bar constant over the last step all these equations end in y_bar, so this is the
step that every sampler takes.

[SD] is Zhang, Yin, Li and Xie, "Tackling the Singularities at the Endpoints of Time Intervals in Diffusion Models", CVPR 2024,
arXiv 2403.08381.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import SingDiffusionError, install_hint
from .path import PATH, as_time

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Takes x, shape (B, ...), and t, shape (); returns y_bar, shape (B, ...)."""


def uniform_times(steps: int) -> Tensor:
    """Return equally spaced times 1 = t_0 > ... > t_steps = 0, float64, shape (steps + 1,).

    Raises:
        SingDiffusionError: ``steps`` is below 1.
    """
    if steps < 1:
        raise SingDiffusionError(f"steps must be at least 1, not {steps}")
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def ddpm(
    denoiser: Denoiser, x: Tensor, times: Sequence[float] | Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Sample by DDPM's ancestral steps: x_s ~ N(mu(y_bar), s2) with s2 = sigma_s^2 sigma_{t|s}^2 / sigma_t^2.

    Source: Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", arXiv 2006.11239.

    Args:
        denoiser: returns y_bar.
        x: the state at ``times[0]``, shape (B, ...); noise if that time is 1.
        times: falling, within [0, 1].
        generator: of the noise.

    Returns:
        The state at ``times[-1]``, shape (B, ...).

    Raises:
        SingDiffusionError: times do not fall or are outside [0, 1], or a state is not finite.
    """
    return ddim(denoiser, x, times, 1.0, generator)


def ddim(
    denoiser: Denoiser,
    x: Tensor,
    times: Sequence[float] | Tensor,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sample by DDIM: x_s = alpha_s y_bar + sqrt(sigma_s^2 - eta^2 s2) eps + eta sqrt(s2) noise.

    Source: Song, Meng and Ermon, "Denoising Diffusion Implicit Models", arXiv 2010.02502, equation 12.

    Args:
        denoiser: as for ``ddpm``, like the other arguments, the result and the errors.
        x: state.
        times: falling.
        eta: within [0, 1]: 0 is deterministic, 1 is DDPM.
        generator: of the noise, which eta = 0 does not need.
    """
    if not 0 <= eta <= 1:
        raise SingDiffusionError(f"eta must be within [0, 1], not {eta}")

    def step(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return _ddim_step(_predict(denoiser, x, t), x, s, t, eta, generator)

    return _run(step, x, times)


def _ddim_step(y_bar: Tensor, x: Tensor, s: Tensor, t: Tensor, eta: float, generator: torch.Generator | None) -> Tensor:
    """Return the state after a DDIM step from t to s.

    With r = sigma_s / sigma_t, sqrt(sigma_s^2 - eta^2 s2) / sigma_t = r sqrt(1 - eta^2 + (eta alpha_{t|s} r)^2). In this form nothing
    cancels, and x - alpha y_bar is never divided by a sigma that underflows.
    """
    if s == 0:
        return y_bar
    step, ratio = PATH.step(s, t), PATH.sigma(s) / PATH.sigma(t)
    kept = ratio * (1 - eta**2 + (eta * step.alpha * ratio).square()).sqrt()
    moved = PATH.alpha(s) * y_bar + kept * (x - PATH.alpha(t) * y_bar)
    return moved + eta * ratio * step.sigma * _noise(x, generator) if eta else moved


def reverse_sde(
    denoiser: Denoiser, x: Tensor, times: Sequence[float] | Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Sample by Euler-Maruyama steps on the reverse SDE dx = -(beta / 2)(x + 2 score) dt + sqrt(beta) dW.

    Steps with (t - s) beta > 2, which include the one from t = 1, and the step to t = 0 use the law of the SDE with constant y_bar.
    Arguments, result and errors are those of ``ddpm``. Source: Song et al., "Score-Based Generative Modeling through Stochastic
    Differential Equations", arXiv 2011.13456, equation 6.
    """

    def step(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        y_bar, span = _predict(denoiser, x, t), (t - s) * PATH.beta(t)
        if s == 0 or span > 2:
            return _ddim_step(y_bar, x, s, t, 1.0, generator)
        sigma = PATH.sigma(t)
        # (t - s) beta / sigma^2, in a form in which nothing underflows
        pull = ((t - s) / sigma) * (PATH.beta(t) / sigma)
        return x + span * x / 2 + pull * (PATH.alpha(t) * y_bar - x) + span.sqrt() * _noise(x, generator)

    return _run(step, x, times)


def ode_heun(denoiser: Denoiser, x: Tensor, times: Sequence[float] | Tensor) -> Tensor:
    """Sample by Heun's second-order steps on the probability-flow ODE.

    The step from t = 1 is regular; the step to t = 0 is the limit x_0 = y_bar. Arguments, result and errors are those of ``ddpm``.
    Source: Karras, Aittala, Aila and Laine, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv
    2206.00364, Algorithm 1.
    """

    def step(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        if s == 0:
            return _predict(denoiser, x, t)
        slope = ode_slope(denoiser, x, t)
        ahead = x - (t - s) * slope
        return x - (t - s) * (slope + ode_slope(denoiser, ahead, s)) / 2

    return _run(step, x, times)


def ode_adaptive(denoiser: Denoiser, x: Tensor, start: float = 1.0, rtol: float = 1e-8, atol: float = 1e-8) -> Tensor:
    """Sample by SciPy's adaptive solver DOP853 on the probability-flow ODE, from ``start`` to 0.

    The integration ends where sigma = atol. The rest is one step to x_0 = y_bar, which moves x by atol times its noise.

    Args:
        denoiser: returns y_bar.
        x: the state at ``start``, shape (B, ...).
        start: within (0, 1].
        rtol: relative tolerance, within (0, 1).
        atol: absolute tolerance, within (0, 1).

    Returns:
        The state at t = 0, shape (B, ...).

    Raises:
        SingDiffusionError: an argument is out of range, the solver fails, or SciPy is not installed.
    """
    for name, value, within in (("start", start, start <= 1), ("rtol", rtol, rtol < 1), ("atol", atol, atol < 1)):
        if not (within and value > 0):
            raise SingDiffusionError(
                f"{name} must be above 0 and {'at most' if name == 'start' else 'below'} 1, not {value}"
            )
    try:
        from scipy.integrate import solve_ivp
        from scipy.optimize import brentq
    except ImportError as error:
        raise SingDiffusionError(f"the adaptive solver needs SciPy: {install_hint('theory')}") from error
    x = _finite(x.double())
    if float(PATH.sigma(start)) <= atol:
        return _predict(denoiser, x, as_time("start", start))

    def slope(t: float, flat) -> Tensor:
        state = torch.as_tensor(flat, dtype=torch.float64).reshape(x.shape)
        return ode_slope(denoiser, state, as_time("t", t)).flatten().numpy()

    end = brentq(lambda t: float(PATH.sigma(t)) - atol, 0, start, xtol=1e-300)
    solved = solve_ivp(slope, (start, end), x.flatten().numpy(), method="DOP853", rtol=rtol, atol=atol)
    if not solved.success:
        raise SingDiffusionError(f"the ODE solver failed: {solved.message}")
    state = torch.as_tensor(solved.y[:, -1], dtype=torch.float64).reshape(x.shape)
    return _predict(denoiser, state, as_time("t", end))


def ode_slope(denoiser: Denoiser, x: Tensor, t: Tensor) -> Tensor:
    """Return dx/dt = d alpha / dt (y_bar - alpha x) / sigma^2 of the probability-flow ODE for t in (0, 1]; finite at t = 1."""
    sigma = PATH.sigma(t)
    return -(PATH.velocity(t) / sigma) * ((_predict(denoiser, x, t) - PATH.alpha(t) * x) / sigma)


def _run(step: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, times: Sequence[float] | Tensor) -> Tensor:
    """Return the state after ``step(x, s, t)`` for each pair of neighbouring times s < t, in float64."""
    grid = as_time("times", torch.as_tensor(times, dtype=torch.float64))
    if grid.ndim != 1 or len(grid) < 2 or (grid.diff() >= 0).any():
        raise SingDiffusionError("times must be a falling row of at least two numbers")
    x = _finite(x.double())
    for t, s in pairwise(grid):
        x = _finite(step(x, s, t))
    return x


def _finite(x: Tensor) -> Tensor:
    """Return x, or raise SingDiffusionError if a value is NaN or infinite."""
    if not torch.isfinite(x).all():
        raise SingDiffusionError("x has NaN or infinite values")
    return x


def _predict(denoiser: Denoiser, x: Tensor, t: Tensor) -> Tensor:
    """Return the denoiser's y_bar in float64, or raise SingDiffusionError if its shape or a value is wrong."""
    y_bar = denoiser(x, t)
    if y_bar.shape != x.shape:
        raise SingDiffusionError(f"denoiser returned shape {tuple(y_bar.shape)} for x of shape {tuple(x.shape)}")
    if not torch.isfinite(y_bar).all():
        raise SingDiffusionError(f"denoiser returned NaN or infinite values at t = {float(t):g}")
    return y_bar.double()


def _noise(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return standard normal noise of the shape and dtype of x."""
    return torch.randn(x.shape, dtype=x.dtype, generator=generator)
