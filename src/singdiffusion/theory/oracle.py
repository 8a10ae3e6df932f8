"""The exact diffusion of a finite data set: the predictions of a perfect model at every t of [0, 1], both ends included.

For data y_1..y_N the noised density is a mixture of Gaussians, and all that a sampler needs has a closed form:

    p(x, t)       = 1/N sum_i N(x; alpha_t y_i, sigma_t^2 I)
    w_i(x, t)     = softmax_i(-|x - alpha_t y_i|^2 / (2 sigma_t^2))
    y_bar(x, t)   = sum_i w_i y_i = E[x_0 | x_t = x]
    p(x_s | x_t)  = sum_i w_i(x_t, t) N(x_s; mu_i, s2 I),        0 <= s < t <= 1
        mu_i = (alpha_ts sigma_s^2 x_t + alpha_s sigma_ts^2 y_i) / sigma_t^2,      s2 = sigma_s^2 sigma_ts^2 / sigma_t^2

With y_bar in place of y_i the last line is the single Gaussian that every sampler uses, p~(x_s | x_t).

Numerics. With 1 - alpha = sigma^2 / (1 + alpha),

    |x - alpha y|^2 / (2 sigma^2) = alpha (|x - y| / sigma)^2 / 2 + (|x|^2 - alpha |y|^2) / (2 (1 + alpha)),

which needs only the distances |x - y| and loses no digits at either end. Distances below 1e-160 count as 0, and values above 1e150
raise an error. Data whose spread is small against their distance from 0 (1e8 and 1e8 + 1) lose digits in the second term; shift
such data first.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SingDiffusionError
from .path import PATH, Time, as_time

DIRECT = "donot_use_mm_for_euclid_dist"  # differences, not |x|^2 - 2 x y + |y|^2, which cancels
_LARGEST = 1e150  # of data and states: their squares must be finite
_LARGE = 1e300  # stands for infinity: its square is infinite, and the weight 0


@dataclass(frozen=True)
class Transition:
    """p(x_s | x_t) for a batch of x_t: a mixture of N Gaussians with means mu_i, and the single Gaussian with its mean.

    Attributes:
        weights: of the mixture, shape (B, N).
        keep: factor of x_t in mu_i, alpha_ts sigma_s^2 / sigma_t^2, shape (B,).
        take: factor of y_i in mu_i, alpha_s sigma_ts^2 / sigma_t^2, shape (B,).
        std: standard deviation of each component, sigma_s sigma_ts / sigma_t, shape (B,); 0 at s = 0.
        x_t: the states, shape (B, D).
        data: y_1..y_N, shape (N, D).
    """

    weights: Tensor
    keep: Tensor
    take: Tensor
    std: Tensor
    x_t: Tensor
    data: Tensor

    def mean(self) -> Tensor:
        """Return the mean of the mixture and of the single Gaussian, shape (B, D)."""
        return self._mean_with(self.weights @ self.data)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Return one draw from the exact mixture per x_t, shape (B, D)."""
        chosen = torch.multinomial(self.weights, 1, generator=generator)[:, 0]
        return self._noised(self._mean_with(self.data[chosen]), generator)

    def sample_gaussian(self, generator: torch.Generator | None = None) -> Tensor:
        """Return one draw from the single Gaussian per x_t, shape (B, D)."""
        return self._noised(self.mean(), generator)

    def log_density(self, x_s: Tensor) -> Tensor:
        """Return log p(x_s | x_t) of the mixture, shape (B, M), for s > 0.

        Args:
            x_s: M points per x_t, shape (B, M, D).

        Raises:
            SingDiffusionError: the shape is another, or s = 0, where there is no density.
        """
        x_s = self._checked(x_s)
        parts = [
            torch.logsumexp(w.log() - torch.cdist(x, m, compute_mode=DIRECT).div(s).square() / 2, 1)
            for w, x, m, s in zip(self.weights, x_s, self._means(), self.std, strict=True)
        ]
        return torch.stack(parts) + self._log_norm()

    def log_density_gaussian(self, x_s: Tensor) -> Tensor:
        """Return log p~(x_s | x_t) of the single Gaussian; arguments, shapes and errors as of ``log_density``."""
        away = (self._checked(x_s) - self.mean()[:, None]).norm(dim=-1) / self.std[:, None]
        return -away.square() / 2 + self._log_norm()

    def _checked(self, x_s: Tensor) -> Tensor:
        """Return x_s in float64, after a check of its shape."""
        batch, dims = self.x_t.shape
        if x_s.ndim != 3 or (x_s.shape[0], x_s.shape[2]) != (batch, dims):
            raise SingDiffusionError(f"x_s must have shape ({batch}, M, {dims}), not {tuple(x_s.shape)}")
        return x_s.double()

    def _log_norm(self) -> Tensor:
        """Return the log of the Gaussians' normalisation, shape (B, 1)."""
        if (self.std == 0).any():
            raise SingDiffusionError("at s = 0 the reverse step is a Dirac: it has no density")
        return -self.data.shape[1] * (self.std.log() + math.log(2 * math.pi) / 2)[:, None]

    def _means(self) -> list[Tensor]:
        """Return mu_1..mu_N, shape (N, D), for each x_t."""
        return [k * x + t * self.data for k, x, t in zip(self.keep, self.x_t, self.take, strict=True)]

    def _mean_with(self, y: Tensor) -> Tensor:
        """Return mu for one y per x_t, shape (B, D)."""
        return self.keep[:, None] * self.x_t + self.take[:, None] * y

    def _noised(self, mean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return draws around these means, shape (B, D)."""
        noise = torch.randn(mean.shape, dtype=mean.dtype, generator=generator)
        return mean + self.std[:, None] * noise


class Oracle:
    """Exact diffusion of a finite data set, uniformly weighted, in float64.

    It computes the distance of each x to each data point, B N D operations, in memory for B N numbers in addition to the data.
    With 10,000 pictures of 12,288 numbers (1 GB) 16 points take about 2 s on two cores and 1.1 GiB (``benchmarks/oracle.py``).

    Args:
        data: y_1..y_N, shape (N, ...) with N > 0, finite, of any dtype.
        prompts: one per data point, for ``given``.

    Attributes:
        path: alpha and sigma on [0, 1].

    Raises:
        SingDiffusionError: data is empty, not finite or above 1e150 in size, or there is not one prompt per data point.
    """

    path = PATH

    def __init__(self, data: Tensor, prompts: Sequence[Hashable] | None = None):
        data = torch.as_tensor(data)
        if data.ndim < 2 or data.numel() == 0:
            raise SingDiffusionError(f"data must have shape (N, ...) with N > 0, not {tuple(data.shape)}")
        _require_moderate("data", data)
        if prompts is not None and len(prompts) != len(data):
            raise SingDiffusionError(f"prompts must be one per data point, {len(data)}, not {len(prompts)}")
        self.shape = data.shape[1:]
        self.data = data.double().flatten(1)
        self.prompts = None if prompts is None else list(prompts)

    def __len__(self) -> int:
        return len(self.data)

    def given(self, prompt: Hashable) -> Oracle:
        """Return the oracle of the data with this prompt, whose y_bar, score and steps are those given the prompt.

        Raises:
            SingDiffusionError: no data point has this prompt.
        """
        rows = [i for i, each in enumerate(self.prompts or []) if each == prompt]
        if not rows:
            raise SingDiffusionError(f"no data point has the prompt {prompt!r}")
        return Oracle(self.data[rows].unflatten(1, self.shape), [prompt] * len(rows))

    @property
    def mean(self) -> Tensor:
        """E[x_0], the limit of y_bar at t = 1, of the shape of one data point."""
        return self.data.mean(0).reshape(self.shape)

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """Return y_bar(x, t) = E[x_0 | x_t = x]: the perfect denoiser by x-prediction.

        At t = 1 it is the mean of the data for every x. At t = 0 it is the nearest data point. Where several points are equally
        near, it is their mean with weights exp(|y|^2 / 4), the limit of w_i as t -> 0.

        Args:
            x: states, shape (B, ...).
            t: within [0, 1], one number or one per x, shape (B,).

        Returns:
            Shape (B, ...), float64.

        Raises:
            SingDiffusionError: t is out of range, x is not finite, or its shape does not match the data.
        """
        return (self.weights(x, t) @ self.data).reshape(len(x), *self.shape)

    def weights(self, x: Tensor, t: Time) -> Tensor:
        """Return w_i(x, t), the posterior probability of each data point, shape (B, N); arguments as of ``__call__``."""
        flat, time = self._checked(x, t)
        return torch.softmax(self._logits(flat, time)[0], 1)

    def log_density(self, x: Tensor, t: Time) -> Tensor:
        """Return log p(x, t), shape (B,); arguments as of ``__call__``.

        At t = 0 the density is a sum of Diracs: its log is infinite on a data point and minus infinite elsewhere.
        """
        flat, time = self._checked(x, t)
        relative, distance = self._logits(flat, time)
        nearest = distance.min(1).values
        sigma, alpha = self.path.sigma(time), self.path.alpha(time)
        constant = flat.shape[1] * (sigma.log() + math.log(2 * math.pi) / 2)
        exponent = alpha * (nearest / sigma).nan_to_num(nan=0.0).square() / 2
        exponent = exponent + flat.square().sum(1) / (2 * (1 + alpha))
        dirac = torch.where(nearest == 0, math.inf, -math.inf).double()
        found = torch.logsumexp(relative, 1) - math.log(len(self)) - exponent - constant
        return torch.where(sigma == 0, dirac, found)

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Return grad_x log p(x, t) = (alpha y_bar - x) / sigma^2, shape (B, ...); arguments as of ``__call__``.

        It is computed as alpha (y_bar - x) / sigma^2 - x / (1 + alpha). At t = 0 it is infinite towards the nearest data point,
        except on the data points.
        """
        flat, time = self._checked(x, t)
        alpha, sigma = self.path.alpha(time)[:, None], self.path.sigma(time)[:, None]
        # the sum of w_i (y_i - x) leaves out points equal to x, so that rounding of their weights is not divided by sigma^2
        logits, distance = self._logits(flat, time)
        elsewhere = torch.softmax(logits, 1) * (distance > 0)
        away = elsewhere @ self.data - elsewhere.sum(1, keepdim=True) * flat
        pull = torch.where(away == 0, away, away / sigma / sigma)
        return (alpha * pull - flat / (1 + alpha)).reshape(x.shape)

    def transition(self, x_t: Tensor, s: Time, t: Time) -> Transition:
        """Return p(x_s | x_t) and its single-Gaussian approximation, for 0 <= s < t <= 1.

        At t = 1, where alpha_ts = 0, neither depends on x_t. At s = 0 both are Diracs.

        Args:
            x_t: states, shape (B, ...).
            s: time of the step's end, one number or one per x_t, shape (B,).
            t: time of its start, likewise.

        Raises:
            SingDiffusionError: as of ``__call__``, or s is not before t.
        """
        flat, time = self._checked(x_t, t)
        before = _one_or_each("s", s, len(flat))
        step = self.path.step(before, time)
        sigma_t, sigma_s = self.path.sigma(time), self.path.sigma(before)
        small, taken = sigma_s / sigma_t, step.sigma / sigma_t
        return Transition(
            weights=torch.softmax(self._logits(flat, time)[0], 1),
            keep=step.alpha * small.square(),
            take=self.path.alpha(before) * taken.square(),
            std=small * step.sigma,
            x_t=flat,
            data=self.data,
        )

    def sample(self, count: int, t: Time, generator: torch.Generator | None = None) -> Tensor:
        """Return ``count`` draws of x_t = alpha_t y_i + sigma_t noise, shape (count, ...); t is one number or one per draw."""
        time = _one_or_each("t", t, count)[:, None]
        chosen = self.data[torch.randint(len(self), (count,), generator=generator)]
        noise = torch.randn(chosen.shape, dtype=torch.float64, generator=generator)
        return (self.path.alpha(time) * chosen + self.path.sigma(time) * noise).reshape(count, *self.shape)

    def _checked(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """Return x in float64, shape (B, D), and t, shape (B,), after a check of both."""
        x = torch.as_tensor(x)
        if x.shape[1:] != self.shape or x.ndim != len(self.shape) + 1:
            raise SingDiffusionError(f"x must have shape (B, {', '.join(map(str, self.shape))}), not {tuple(x.shape)}")
        _require_moderate("x", x)
        return x.double().flatten(1), _one_or_each("t", t, len(x))

    def _logits(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return log w_i up to a constant, and the distances |x - y_i|; both have shape (B, N).

        The constant makes the term in |x - y| / sigma 0 for the nearest point, which keeps the exponents finite as sigma -> 0.
        """
        alpha, sigma = self.path.alpha(t)[:, None], self.path.sigma(t)[:, None]
        distance = torch.cdist(x, self.data, compute_mode=DIRECT)
        nearest = distance.min(1, keepdim=True).values
        # 0 / 0 occurs for the nearest point at t = 0
        further = ((distance - nearest) / sigma).nan_to_num(nan=0.0, posinf=_LARGE)
        sum_ = ((distance + nearest) / sigma).nan_to_num(nan=0.0, posinf=_LARGE)
        norms = torch.linalg.vector_norm(self.data, dim=1).square()
        return alpha * (norms / (2 * (1 + alpha)) - further * sum_ / 2), distance


def _one_or_each(name: str, t: Time, count: int) -> Tensor:
    """Return one time, or one per item, as float64 of shape (count,)."""
    time = as_time(name, t)
    if time.ndim > 1 or (time.ndim == 1 and len(time) != count):
        raise SingDiffusionError(
            f"{name} must be one number or one per item, {count}, not of shape {tuple(time.shape)}"
        )
    return time.expand(count)


def _require_moderate(name: str, values: Tensor) -> None:
    """Raise SingDiffusionError if a value is not finite, or its square would not be."""
    if not values.numel():
        return
    # without a copy, because data may fill the memory
    low, high = (float(value) for value in values.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise SingDiffusionError(f"{name} has NaN or infinite values")
    if max(-low, high) > _LARGEST:
        raise SingDiffusionError(f"{name} must be below {_LARGEST:g} in size")
