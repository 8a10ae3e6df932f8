"""alpha and sigma on the closed interval [0, 1]: the continuous time of the theory, from data at t = 0 to pure noise at t = 1.

Deployed schedules (``core.schedule``) end before alpha = 0. Here both ends belong to the interval, and every quantity keeps its
relative accuracy up to them: there is no 1 - alpha^2, and no square that underflows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SingDiffusionError

Time = float | Tensor


@dataclass(frozen=True)
class Step:
    """The coefficients of a step between times s < t; float64 of the times' shape.

    Attributes:
        alpha: alpha_{t|s} = alpha_t / alpha_s.
        sigma: sigma_{t|s}, with sigma_{t|s}^2 = sigma_t^2 - alpha_{t|s}^2 sigma_s^2 = 1 - alpha_{t|s}^2.
    """

    alpha: Tensor
    sigma: Tensor


class CosinePath:
    """The path alpha_t = cos(pi t / 2), sigma_t = sin(pi t / 2), with alpha_0 = 1 and alpha_1 = 0 exactly.

    It is the variance-preserving path of constant speed: the schedule of Nichol and Dhariwal (arXiv 2102.09672) without its offset.
    Times are numbers or tensors within [0, 1]; otherwise the methods raise SingDiffusionError.
    """

    def alpha(self, t: Time) -> Tensor:
        """Return alpha_t, float64 of ``t``'s shape, as sin(pi (1 - t) / 2), which keeps its digits as t -> 1."""
        return torch.sin(math.pi / 2 * (1 - as_time("t", t)))

    def sigma(self, t: Time) -> Tensor:
        """Return sigma_t, float64 of ``t``'s shape."""
        time = as_time("t", t)
        return torch.where(time == 1, torch.ones_like(time), torch.sin(math.pi / 2 * time))

    def velocity(self, t: Time) -> Tensor:
        """Return -d alpha / dt = pi / 2 sigma_t, the rate at which the picture fades; finite at t = 1 too."""
        return math.pi / 2 * self.sigma(t)

    def beta(self, t: Time) -> Tensor:
        """Return -2 d log alpha / dt = pi tan(pi t / 2), the rate of the forward SDE; 0 at t = 0 and infinite at t = 1."""
        return 2 * self.velocity(t) / self.alpha(t)

    def step(self, s: Time, t: Time) -> Step:
        """Return the coefficients of the step between s and t.

        sigma_{t|s} is computed as sqrt(sin(b - a) sin(b + a)) / cos(a), where a = pi s / 2 and b = pi t / 2.

        Raises:
            SingDiffusionError: a time is outside [0, 1], or s is not before t.
        """
        first, last = torch.broadcast_tensors(as_time("s", s), as_time("t", t))
        if (first >= last).any():
            raise SingDiffusionError("s must be before t: a step goes from t back to s < t")
        apart = torch.sin(math.pi / 2 * (last - first))
        both = last + first  # of the equal sin(x) and sin(pi - x) the smaller argument keeps its digits
        together = torch.sin(math.pi / 2 * torch.where(both > 1, (1 - last) + (1 - first), both))
        alpha_s = self.alpha(first)
        alpha = torch.where(last == 1, torch.zeros_like(last), self.alpha(last) / alpha_s)
        sigma = apart.sqrt() * together.sqrt() / alpha_s
        return Step(alpha, torch.where(last == 1, torch.ones_like(last), sigma.clamp(max=1)))


PATH = CosinePath()
"""The path of the theory. Any other would give the same steps, which depend only on alpha and sigma at their ends."""


def as_time(name: str, t: Time) -> Tensor:
    """Return a time, or several, as float64.

    Args:
        name: for messages.
        t: a number or a tensor.

    Raises:
        SingDiffusionError: a time is not finite, or not within [0, 1].
    """
    time = torch.as_tensor(t, dtype=torch.float64)
    if not torch.isfinite(time).all() or (time.numel() and (time.min() < 0 or time.max() > 1)):
        raise SingDiffusionError(f"{name} must be finite and within [0, 1]")
    return time
