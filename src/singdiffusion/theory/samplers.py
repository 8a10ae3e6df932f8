"""Reference samplers on the closed interval [0, 1] against any denoiser: what is singular at its ends, and the limits there.

A denoiser says y_bar(x, t) = E[x_0 | x_t = x] (x-prediction). On the path x_t = alpha x_0 + sigma noise all samplers are built
from y_bar and the noise estimate eps = (x - alpha y_bar) / sigma. There is no small number in this file: each step is either
regular, or its limit.

At t = 1 (alpha = 0, sigma = 1), where [SD] (section 3 and appendix, arXiv 2403.08381) treats the same four samplers:

DDPM    mu = keep x + take y_bar has keep = alpha_{1|s} sigma_s^2 / sigma_1^2 = 0 and take = alpha_s: with y_bar nothing diverges; with an
        epsilon network y_bar = (x - sigma eps) / alpha does, 0 / 0. The limit is x_s ~ N(alpha_s y_bar, sigma_s^2) ([SD] Proposition 2).
DDIM    x_s = alpha_s y_bar + sigma_s eps: again only y_bar is 0 / 0 for an epsilon network; eps itself is x_1, for alpha_1 = 0.
SDE     dx = -(beta / 2) x dt + sqrt(beta) dW and its reverse: beta(t) = -2 d log alpha / dt grows as 2 / (1 - t), so the reverse drift
        and the noise are both infinite. With y_bar held over a step the reverse SDE is linear, its law is the DDPM step's, and this
        has the limit above: infinitely fast mixing forgets x_1. Euler-Maruyama is used where it is stable, for steps with
        (t - s) beta(t) <= 2, which a uniform grid from t = 1 keeps from its second step on; longer steps take the law.
ODE     dx/dt = -(beta / 2)(x + score) = d alpha / dt (y_bar - alpha x) / sigma^2: beta's infinity cancels against alpha, and the slope at t = 1
        is finite, d alpha / dt y_bar. With an epsilon network or a score it reads infinity times 0.

At t = 0 (sigma = 0) the reverse step is a Dirac, for good: x_0 = y_bar(x_t, t). The SDE's and ODE's slopes hold 1 / sigma there (the
ODE's is 0 / 0); the linear equation with y_bar held over the last step ends in y_bar in every one of them, and that is the step taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import SingDiffusionError
from .path import PATH, as_time

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x (B, ...), t ()) -> y_bar (B, ...)"""


def uniform_times(steps: int) -> Tensor:
    """1 = t_0 > ... > t_steps = 0, equally spaced: float64 (steps + 1,)."""
    if steps < 1:
        raise SingDiffusionError(f"steps must be at least 1, not {steps}")
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def ddpm(
    denoiser: Denoiser, x: Tensor, times: Sequence[float] | Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Ancestral sampling (Ho et al., arXiv 2006.11239): x_s ~ N(mu(y_bar), s2), s2 = sigma_s^2 sigma_{t|s}^2 / sigma_t^2.

    Args:
        denoiser: says y_bar.
        x: (B, ...), the state at ``times[0]``; noise if that is 1.
        times: falling, within [0, 1].
        generator: of the noise.

    Returns:
        (B, ...), the state at ``times[-1]``.

    Raises:
        SingDiffusionError: times do not fall or leave [0, 1], or a state is not finite.
    """
    return ddim(denoiser, x, times, 1.0, generator)


def ddim(
    denoiser: Denoiser,
    x: Tensor,
    times: Sequence[float] | Tensor,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """DDIM (Song et al., arXiv 2010.02502, equation 12): x_s = alpha_s y_bar + sqrt(sigma_s^2 - eta^2 s2) eps + eta s noise.

    eta = 0 is deterministic, eta = 1 is DDPM. Arguments as of ``ddpm``; eta within [0, 1].
    """
    if not 0 <= eta <= 1:
        raise SingDiffusionError(f"eta must be within [0, 1], not {eta}")

    def step(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return _held(_says(denoiser, x, t), x, s, t, eta, generator)

    return _run(step, x, times)


def _held(y_bar: Tensor, x: Tensor, s: Tensor, t: Tensor, eta: float, generator: torch.Generator | None) -> Tensor:
    """The DDIM step from t to s. sqrt(sigma_s^2 - eta^2 s2) / sigma_t = r sqrt(1 - eta^2 + (eta alpha_{t|s} r)^2), r = sigma_s / sigma_t:
    nothing cancels, and (x - alpha y_bar) is never divided by a sigma that underflows."""
    if s == 0:
        return y_bar
    step, ratio = PATH.step(s, t), PATH.sigma(s) / PATH.sigma(t)
    kept = ratio * (1 - eta**2 + (eta * step.alpha * ratio).square()).sqrt()
    moved = PATH.alpha(s) * y_bar + kept * (x - PATH.alpha(t) * y_bar)
    return moved + eta * ratio * step.sigma * _noise(x, generator) if eta else moved


def reverse_sde(
    denoiser: Denoiser, x: Tensor, times: Sequence[float] | Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Euler-Maruyama on dx = -(beta / 2)(x + 2 score) dt + sqrt(beta) dW backwards (Song et al., arXiv 2011.13456, equation 6).

    Steps with (t - s) beta > 2, that from t = 1 among them, and the step to t = 0 take the law of the SDE with y_bar held; arguments as
    of ``ddpm``.
    """

    def step(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        y_bar, span = _says(denoiser, x, t), (t - s) * PATH.beta(t)
        if s == 0 or span > 2:
            return _held(y_bar, x, s, t, 1.0, generator)
        sigma = PATH.sigma(t)
        pull = ((t - s) / sigma) * (
            PATH.beta(t) / sigma
        )  # (t - s) beta / sigma^2, at most 2, with nothing that underflows
        return x + span * x / 2 + pull * (PATH.alpha(t) * y_bar - x) + span.sqrt() * _noise(x, generator)

    return _run(step, x, times)


def ode_heun(denoiser: Denoiser, x: Tensor, times: Sequence[float] | Tensor) -> Tensor:
    """Heun's second-order rule on the probability-flow ODE (Karras et al., arXiv 2206.00364, Algorithm 1).

    Regular at t = 1; the step to t = 0 is the limit x_0 = y_bar. Arguments as of ``ddpm``.
    """

    def step(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        if s == 0:
            return _says(denoiser, x, t)
        slope = ode_slope(denoiser, x, t)
        ahead = x - (t - s) * slope
        return x - (t - s) * (slope + ode_slope(denoiser, ahead, s)) / 2

    return _run(step, x, times)


def ode_adaptive(denoiser: Denoiser, x: Tensor, start: float = 1.0, rtol: float = 1e-8, atol: float = 1e-8) -> Tensor:
    """The probability-flow ODE by SciPy's DOP853 from ``start`` down to 0.

    The integration ends where sigma = atol; from there x_0 = y_bar, which moves x by atol times its noise.

    Args:
        denoiser: says y_bar.
        x: (B, ...), the state at ``start``.
        start: within (0, 1].
        rtol: relative tolerance, within (0, 1).
        atol: absolute tolerance, within (0, 1).

    Raises:
        SingDiffusionError: an argument is out of range, the solver gave up, or SciPy is not installed.
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
        raise SingDiffusionError("the adaptive solver needs SciPy: pip install 'singdiffusion[theory]'") from error
    x = _finite(x.double())
    if float(PATH.sigma(start)) <= atol:
        return _says(denoiser, x, as_time("start", start))

    def slope(t: float, flat) -> Tensor:
        state = torch.as_tensor(flat, dtype=torch.float64).reshape(x.shape)
        return ode_slope(denoiser, state, as_time("t", t)).flatten().numpy()

    end = brentq(lambda t: float(PATH.sigma(t)) - atol, 0, start, xtol=1e-300)
    solved = solve_ivp(slope, (start, end), x.flatten().numpy(), method="DOP853", rtol=rtol, atol=atol)
    if not solved.success:
        raise SingDiffusionError(f"the ODE solver gave up: {solved.message}")
    state = torch.as_tensor(solved.y[:, -1], dtype=torch.float64).reshape(x.shape)
    return _says(denoiser, state, as_time("t", end))


def ode_slope(denoiser: Denoiser, x: Tensor, t: Tensor) -> Tensor:
    """dx/dt of the probability-flow ODE, d alpha / dt (y_bar - alpha x) / sigma^2, for t in (0, 1]: finite at t = 1."""
    sigma = PATH.sigma(t)
    return -(PATH.velocity(t) / sigma) * ((_says(denoiser, x, t) - PATH.alpha(t) * x) / sigma)


def _run(step: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, times: Sequence[float] | Tensor) -> Tensor:
    grid = as_time("times", torch.as_tensor(times, dtype=torch.float64))
    if grid.ndim != 1 or len(grid) < 2 or (grid.diff() >= 0).any():
        raise SingDiffusionError("times must be a falling row of at least two numbers")
    x = _finite(x.double())
    for t, s in pairwise(grid):
        x = _finite(step(x, s, t))
    return x


def _finite(x: Tensor) -> Tensor:
    if not torch.isfinite(x).all():
        raise SingDiffusionError("x has NaN or infinite values")
    return x


def _says(denoiser: Denoiser, x: Tensor, t: Tensor) -> Tensor:
    """What the denoiser says, if that can be."""
    y_bar = denoiser(x, t)
    if y_bar.shape != x.shape:
        raise SingDiffusionError(f"denoiser gave shape {tuple(y_bar.shape)} for x of shape {tuple(x.shape)}")
    if not torch.isfinite(y_bar).all():
        raise SingDiffusionError(f"denoiser gave NaN or infinite values at t = {float(t):g}")
    return y_bar.double()


def _noise(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(x.shape, dtype=x.dtype, generator=generator)
