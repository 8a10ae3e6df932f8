"""What is lowered: squared error of the mean, in the network's own parametrisation, and the Gaussian likelihood of ``moments``."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..core.covariance import log_variances, whitened
from ..core.dct import basis
from ..core.singular import as_sample, target_of
from ..modules import MeanDecoder

LIKELIHOOD_WEIGHT = (
    0.1  # it has weights of its own, to which AdamW gives their step whatever this is; only the clip sees the sum
)


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
        """The loss, a scalar; without ``y`` what the network says: y_bar (B, C, H, W), and the factors of the
        covariance (B, C (C + 1) / 2, k, k) or None.

        Args:
            y: latents (B, C, H, W), or their lowest DCT coefficients (B, C, K, K), K below H and W.
            x_1: noise (B, C, H, W); a decoder needs none.
            prompt_embeds: (B, L, D).
            size: H, W of the latents.
        """
        if isinstance(self.network, MeanDecoder):
            amplitudes, factors = self.network(prompt_embeds)
            if y is None:
                return MeanDecoder.mean(amplitudes, *size), factors
            loss = decoder_loss(amplitudes, y, size)
            if factors is None:
                return loss
            # The mean is held fixed here: the minimum of the sum is the same, mean and covariance of the data given the prompt,
            # and a variance that is small too early cannot keep the mean from being learnt.
            z = whitened(differences(amplitudes.detach(), factors, y, size), factors)
            return loss + LIKELIHOOD_WEIGHT * likelihood(z, factors).mean()
        assert x_1 is not None
        output = self.network.predict(x_1, prompt_embeds).float()
        if y is None:
            return as_sample(self.loss, output, x_1, self.alpha), None
        return (output - target_of(self.loss, y, x_1, self.alpha)).square().mean()


def low_amplitudes(y: Tensor, count: int, size: tuple[int, int]) -> Tensor:
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
    ours = low_amplitudes(y, amplitudes.shape[-1], size)
    k, m = ours.shape[-2:]
    error = (amplitudes[..., :k, :m] - ours).square().sum((-1, -2)).mean()
    if y.shape[-2:] != torch.Size(size):
        return error
    rest = y.square().mean((-1, -2)) - ours.square().sum((-1, -2))
    return error + rest.mean()


def differences(amplitudes: Tensor, factors: Tensor, y: Tensor, size: tuple[int, int]) -> Tensor:
    """How far the k x k lowest amplitudes are from their mean, (B, C, k, k).

    Args:
        amplitudes: their mean, (B, C, grid, grid).
        factors: of their covariance (``core.covariance``), for the k.
        y: latents, or their lowest DCT coefficients.
        size: H, W.
    """
    k = factors.shape[-1]
    return low_amplitudes(y, k, size) - amplitudes[..., :k, :k]


def likelihood(z: Tensor, factors: Tensor) -> Tensor:
    """Negative log-likelihood of normal amplitudes, (B, C, k, k), from ``core.covariance.whitened``; its sum is theirs together."""
    return 0.5 * (log_variances(factors) + z.square() + math.log(2 * math.pi))
