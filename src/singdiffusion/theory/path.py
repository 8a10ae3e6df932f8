"""alpha and sigma on the closed interval [0, 1]: the continuous time of the theory, t = 0 data, t = 1 pure noise.

Deployed schedules (``schedule.py``) stop short of alpha = 0; here both ends belong to the interval, and every quantity is
computed so that it keeps its relative accuracy up to them: no 1 - alpha^2, and no square that underflows.
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
    """What a step between times s < t is made of; float64 of the times' shape.

    Attributes:
        alpha: alpha_{t|s} = alpha_t / alpha_s.
        sigma: sigma_{t|s}, with sigma_{t|s}^2 = sigma_t^2 - alpha_{t|s}^2 sigma_s^2 = 1 - alpha_{t|s}^2.
    """

    alpha: Tensor
    sigma: Tensor


class CosinePath:
    """alpha_t = cos(pi t / 2), sigma_t = sin(pi t / 2): the variance-preserving path of constant speed (Nichol & Dhariwal's
    schedule without its offset). alpha_0 = 1, alpha_1 = 0, exactly."""

    def alpha(self, t: Time) -> Tensor:
        """float64 of ``t``'s shape; as sin(pi (1 - t) / 2), which keeps its digits where t -> 1."""
        return torch.sin(math.pi / 2 * (1 - as_time("t", t)))

    def sigma(self, t: Time) -> Tensor:
        """float64 of ``t``'s shape."""
        time = as_time("t", t)
        return torch.where(time == 1, torch.ones_like(time), torch.sin(math.pi / 2 * time))

    def velocity(self, t: Time) -> Tensor:
        """-d alpha / dt = pi / 2 sigma_t: the rate at which the picture fades, finite at t = 1 too."""
        return math.pi / 2 * self.sigma(t)

    def beta(self, t: Time) -> Tensor:
        """-2 d log alpha / dt = pi tan(pi t / 2), the rate of the forward SDE: 0 at t = 0 and infinite at t = 1."""
        return 2 * self.velocity(t) / self.alpha(t)

    def step(self, s: Time, t: Time) -> Step:
        """Of s < t: sigma_{t|s} = sqrt(sin(b - a) sin(b + a)) / cos(a), a and b the angles of s and t.

        Raises:
            SingDiffusionError: a time is outside [0, 1], or s is not before t.
        """
        first, last = torch.broadcast_tensors(as_time("s", s), as_time("t", t))
        if (first >= last).any():
            raise SingDiffusionError("s must be before t: a step goes from t back to s < t")
        apart = torch.sin(math.pi / 2 * (last - first))
        both = last + first  # sin(x) = sin(pi - x), the smaller of the two, which keeps its digits
        together = torch.sin(math.pi / 2 * torch.where(both > 1, (1 - last) + (1 - first), both))
        alpha_s = self.alpha(first)
        alpha = torch.where(last == 1, torch.zeros_like(last), self.alpha(last) / alpha_s)
        sigma = apart.sqrt() * together.sqrt() / alpha_s
        return Step(alpha, torch.where(last == 1, torch.ones_like(last), sigma.clamp(max=1)))


PATH = CosinePath()
"""The path of the theory. Nothing hangs on which one it is: steps depend on alpha and sigma at their ends only."""


def as_time(name: str, t: Time) -> Tensor:
    """A time as float64.

    Raises:
        SingDiffusionError: it is not finite or not within [0, 1].
    """
    time = torch.as_tensor(t, dtype=torch.float64)
    if not torch.isfinite(time).all() or (time.numel() and (time.min() < 0 or time.max() > 1)):
        raise SingDiffusionError(f"{name} must be finite and within [0, 1]")
    return time
