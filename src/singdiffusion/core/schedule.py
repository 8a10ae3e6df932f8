"""alpha, sigma and SNR of a variance-preserving diffusion, at any timestep, in float64.

    x_t = alpha_t x_0 + sigma_t noise,   alpha_t^2 + sigma_t^2 = 1,   SNR_t = alpha_t^2 / sigma_t^2

[ZT] is Lin, Liu, Li and Yang, "Common Diffusion Noise Schedules and Sample Steps are Flawed", WACV 2024, arXiv 2305.08891.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..errors import SingDiffusionError

Time = int | float | Tensor

_SD15 = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}


def _betas(schedule: str, start: float, end: float, steps: int) -> Tensor:
    """Return a beta schedule of diffusers' configurations, in float32 as diffusers computes it, so that the numbers agree."""
    if schedule == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float32)
    if schedule == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float32) ** 2
    if schedule == "squaredcos_cap_v2":
        # Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", arXiv 2102.09672, equation 17
        bar = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
        return torch.tensor([min(1 - b / a, 0.999) for a, b in pairwise(bar)], dtype=torch.float32)
    raise SingDiffusionError(f"unknown beta_schedule {schedule!r}; known: linear, scaled_linear, squaredcos_cap_v2")


@dataclass(frozen=True)
class Schedule:
    """A noise schedule.

    Args:
        alphas_cumprod: alpha_t^2 for t = 0..T-1, shape (T,): finite, within [0, 1], never rising. Stored in float64.

    Raises:
        SingDiffusionError: ``alphas_cumprod`` has another shape, is out of range, or rises.
    """

    alphas_cumprod: Tensor

    def __post_init__(self) -> None:
        bar = torch.as_tensor(self.alphas_cumprod, dtype=torch.float64).detach().cpu()
        if bar.ndim != 1 or len(bar) == 0:
            raise SingDiffusionError(f"alphas_cumprod must be one row of numbers, not of shape {tuple(bar.shape)}")
        if not torch.isfinite(bar).all() or bar.min() < 0 or bar.max() > 1:
            raise SingDiffusionError("alphas_cumprod must be finite and within [0, 1]")
        if (bar.diff() > 0).any():
            raise SingDiffusionError("alphas_cumprod must not rise with the timestep")
        object.__setattr__(self, "alphas_cumprod", bar)

    # -- sources ------------------------------------------------------------------------------------------------------

    @classmethod
    def from_betas(cls, betas: Tensor | Iterable[float]) -> Schedule:
        """Return the schedule with alpha_t^2 = prod_{s <= t} (1 - beta_s), for betas of shape (T,) within [0, 1].

        Raises:
            SingDiffusionError: ``betas`` has another shape, or a value is out of range or not finite.
        """
        values = betas if isinstance(betas, Tensor) else torch.tensor(list(betas), dtype=torch.float64)
        if values.ndim != 1 or not torch.isfinite(values).all() or (values < 0).any() or (values > 1).any():
            raise SingDiffusionError("betas must be one row of finite numbers within [0, 1]")
        return cls((1 - values.double()).cumprod(0))

    @classmethod
    def from_config(cls, config: Any) -> Schedule:
        """Return the schedule of a diffusers scheduler, or of its configuration.

        Args:
            config: a scheduler, or a mapping as in ``scheduler_config.json``. Values that are missing take diffusers' defaults.

        Raises:
            SingDiffusionError: it has no betas (flow matching, EDM), or an unknown beta schedule.
        """
        if not isinstance(config, Mapping):
            config = getattr(config, "config", config)
        if not isinstance(config, Mapping) or not ({"trained_betas", "beta_schedule"} & set(config)):
            raise SingDiffusionError(
                "this scheduler has no betas; its configuration must have beta_schedule or trained_betas"
            )
        if config.get("trained_betas") is not None:
            schedule = cls.from_betas(torch.as_tensor(config["trained_betas"], dtype=torch.float32))
        else:
            keys = ("beta_schedule", "beta_start", "beta_end", "num_train_timesteps")
            defaults = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": 1000}
            schedule = cls.from_betas(_betas(*(config.get(key, defaults[key]) for key in keys)))
        return schedule.rescale_zero_terminal_snr() if config.get("rescale_betas_zero_snr") else schedule

    @classmethod
    def named(cls, name: str) -> Schedule:
        """Return a well-known schedule: ``sd15`` (Stable Diffusion 1.x and 2.x, with alpha_T = 0.0683).

        Raises:
            SingDiffusionError: the name is unknown.
        """
        if name != "sd15":
            raise SingDiffusionError(f"unknown schedule {name!r}; known: sd15")
        return cls.from_config(_SD15)

    # -- values -------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def log_snr(self, t: Time) -> Tensor:
        """Return log(alpha_t^2 / sigma_t^2): -inf where alpha is 0, inf where sigma is 0.

        Args:
            t: timesteps within [0, T - 1]. Between integers log(sigma / alpha) is interpolated linearly, as in diffusers.

        Returns:
            float64, of ``t``'s shape.

        Raises:
            SingDiffusionError: ``t`` is out of range or not finite.
        """
        return torch.logit(self._interpolated(t))

    def alpha(self, t: Time) -> Tensor:
        """Return alpha_t, float64 of ``t``'s shape; ``t`` and errors as in ``log_snr``."""
        return self._interpolated(t).sqrt()

    def sigma(self, t: Time) -> Tensor:
        """Return sigma_t = sqrt(1 - alpha_t^2), float64 of ``t``'s shape; ``t`` and errors as in ``log_snr``."""
        return (1 - self._interpolated(t)).sqrt()

    def snr(self, t: Time) -> Tensor:
        """Return alpha_t^2 / sigma_t^2, float64 of ``t``'s shape; ``t`` and errors as in ``log_snr``."""
        bar = self._interpolated(t)
        return bar / (1 - bar)

    @property
    def betas(self) -> Tensor:
        """beta_t = 1 - alpha_t^2 / alpha_{t-1}^2, float64, shape (T,)."""
        bar = self.alphas_cumprod
        before = torch.cat([torch.ones(1, dtype=bar.dtype), bar[:-1]])
        return 1 - torch.where(before > 0, bar / before.clamp(min=1e-300), torch.zeros_like(bar))

    def _interpolated(self, t: Time) -> Tensor:
        """Return alpha_t^2: exact at integers, elsewhere linear in logit(alpha^2) = log SNR."""
        time = torch.as_tensor(t).detach().cpu().double()
        last = len(self) - 1
        if not torch.isfinite(time).all() or (time.numel() and (time.min() < 0 or time.max() > last)):
            raise SingDiffusionError(f"t must be finite and within [0, {last}]")
        low = time.floor().long()
        high = (low + 1).clamp(max=last)
        part = time - low
        at_low, at_high = self.alphas_cumprod[low], self.alphas_cumprod[high]
        between = torch.sigmoid(torch.lerp(torch.logit(at_low), torch.logit(at_high), part))
        return torch.where(part == 0, at_low, between)

    # -- other schedules made from it ---------------------------------------------------------------------------------

    def shift(self, resolution_ratio: float) -> Schedule:
        """Return the same schedule for latents that are ``resolution_ratio`` times narrower, with SNR times ``resolution_ratio``^2.

        Averaging r x r pixels divides the noise variance by r^2 and hardly changes a smooth picture. So r^2 times the SNR hides as
        much of the narrower picture as the original SNR hid of the wider one (Hoogeboom, Heek and Salimans, "simple diffusion:
        End-to-end diffusion for high resolution images", ICML 2023, section 3.1).

        Raises:
            SingDiffusionError: the ratio is not a positive number.
        """
        if not (math.isfinite(resolution_ratio) and resolution_ratio > 0):
            raise SingDiffusionError(f"resolution_ratio must be a positive number, not {resolution_ratio}")
        bar, gain = self.alphas_cumprod, resolution_ratio**2
        return Schedule(gain * bar / (gain * bar + 1 - bar))

    def rescale_zero_terminal_snr(self) -> Schedule:
        """Return the schedule with alpha_t shifted and scaled so that alpha_0 stays and alpha_{T-1} = 0.

        Source: [ZT] (arXiv 2305.08891), Algorithm 1.

        Raises:
            SingDiffusionError: alpha is the same at all timesteps.
        """
        alpha = self.alphas_cumprod.sqrt()
        if alpha[0] == alpha[-1]:
            raise SingDiffusionError("a constant schedule cannot be rescaled to zero terminal SNR")
        return Schedule(((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])) ** 2)
