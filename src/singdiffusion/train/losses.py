"""What is lowered: squared error of the mean, in the network's own parametrisation, and the Gaussian likelihood of ``moments``."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..core.dct import basis
from ..core.singular import as_sample, target_of
from ..modules import MeanDecoder


class Objective(nn.Module):
    """A network together with its loss, so that everything that needs gradients happens in one ``forward``.

    Args:
        network: a ``TimeFreeUNet`` or a ``MeanDecoder``.
        loss: ``sample``, ``v_prediction``, ``epsilon`` or ``moments``.
        alpha: see ``core.singular.as_sample``.
    """

    def __init__(self, network: Any, loss: str, alpha: float):
        super().__init__()
        self.network, self.loss, self.alpha = network, loss, alpha

    def forward(
        self, y: Tensor | None, x_1: Tensor | None, prompt_embeds: Tensor, size: tuple[int, int]
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """The loss, a scalar; without ``y`` what the network says: y_bar (B, C, H, W), and log-variances (B, C, k, k) or None.

        Args:
            y: latents (B, C, H, W), or their lowest DCT coefficients (B, C, K, K), K below H and W.
            x_1: noise (B, C, H, W); a decoder needs none.
            prompt_embeds: (B, L, D).
            size: H, W of the latents.
        """
        if isinstance(self.network, MeanDecoder):
            amplitudes, log_variance = self.network(prompt_embeds)
            if y is None:
                return MeanDecoder.mean(amplitudes, *size), log_variance
            loss = decoder_loss(amplitudes, y, size)
            if log_variance is None:
                return loss
            # The mean is held fixed here: the minimum of the sum is the same, mean and variance of the data given the prompt,
            # and a variance that is small too early cannot keep the mean from being learnt.
            z = scores(amplitudes.detach(), log_variance, y, size)
            return loss + likelihood(z, log_variance).mean()
        assert x_1 is not None
        output = self.network.predict(x_1, prompt_embeds).float()
        if y is None:
            return as_sample(self.loss, output, x_1, self.alpha), None
        return (output - target_of(self.loss, y, x_1, self.alpha)).square().mean()


def _amplitudes(y: Tensor, count: int, size: tuple[int, int]) -> Tensor:
    """The ``count`` lowest DCT coefficients a side of latents, or of coefficients that are given, over sqrt(H W)."""
    if y.shape[-2:] == torch.Size(size):
        rows, columns = (basis(side, min(count, side), y) for side in size)
        y = rows @ y @ columns.T
    return y[..., :count, :count] / math.sqrt(size[0] * size[1])


def decoder_loss(amplitudes: Tensor, y: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean squared error of the latents, of which the frequencies that the decoder has are enough: by Parseval,

        mean |y_bar - y|^2 = sum_f |a_f - c_f / sqrt(H W)|^2 + what no such decoder can change.

    Mean over pictures and channels, the latter part included only where y are latents and not coefficients.
    """
    ours = _amplitudes(y, amplitudes.shape[-1], size)
    k, m = ours.shape[-2:]
    error = (amplitudes[..., :k, :m] - ours).square().sum((-1, -2)).mean()
    if y.shape[-2:] != torch.Size(size):
        return error
    rest = y.square().mean((-1, -2)) - ours.square().sum((-1, -2))
    return error + rest.mean()


def scores(mean: Tensor, log_variance: Tensor, y: Tensor, size: tuple[int, int]) -> Tensor:
    """How many predicted standard deviations the k x k lowest amplitudes are off, (B, C, k, k): N(0, 1) if it is calibrated.

    Args:
        mean: y_bar (B, C, H, W), or its amplitudes (B, C, grid, grid).
        log_variance: of amplitudes, (B, C, k, k).
        y: latents, or their lowest DCT coefficients.
        size: H, W.
    """
    k = log_variance.shape[-1]
    theirs = _amplitudes(mean, k, size) if mean.shape[-2:] == torch.Size(size) else mean[..., :k, :k]
    return (_amplitudes(y, k, size) - theirs) * (-0.5 * log_variance).exp()


def likelihood(z: Tensor, log_variance: Tensor) -> Tensor:
    """Negative log-likelihood of a normal distribution, elementwise, from ``scores``."""
    return 0.5 * (log_variance + z.square() + math.log(2 * math.pi))
