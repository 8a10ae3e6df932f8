"""The losses: squared error of the mean, in the network's own parametrisation, and for ``moments`` a Gaussian likelihood."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..core.covariance import log_variances, whitened
from ..core.dct import basis
from ..core.singular import as_sample, target_of
from ..modules import MeanDecoder

# The likelihood has weights of its own, whose AdamW step does not depend on its scale; only gradient clipping sees the sum.
LIKELIHOOD_WEIGHT = 0.1


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
        """Return the loss of latents, or without latents the network's prediction.

        Args:
            y: latents (B, C, H, W), or their lowest DCT coefficients (B, C, K, K), K below H and W; None: predict.
            x_1: noise (B, C, H, W); a decoder needs none.
            prompt_embeds: (B, L, D).
            size: H, W of the latents.

        Returns:
            A scalar; or y_bar (B, C, H, W), and the factors of the covariance (B, C (C + 1) / 2, k, k) or None.
        """
        if isinstance(self.network, MeanDecoder):
            amplitudes, factors = self.network(prompt_embeds)
            if y is None:
                return MeanDecoder.mean(amplitudes, *size), factors
            loss = decoder_loss(amplitudes, y, size)
            return (
                loss if factors is None else loss + LIKELIHOOD_WEIGHT * _covariance_loss(amplitudes, factors, y, size)
            )
        assert x_1 is not None
        output = self.network.predict(x_1, prompt_embeds).float()
        if y is None:
            return as_sample(self.loss, output, x_1, self.alpha), None
        return (output - target_of(self.loss, y, x_1, self.alpha)).square().mean()


def low_amplitudes(y: Tensor, count: int, size: tuple[int, int]) -> Tensor:
    """Return the ``count`` x ``count`` lowest amplitudes, which are DCT coefficients over sqrt(H W).

    Args:
        y: latents (B, C, H, W), or their lowest DCT coefficients.
        count: frequencies per side.
        size: H, W.

    Returns:
        (B, C, count, count), smaller where ``y`` has fewer frequencies.
    """
    if y.shape[-2:] == torch.Size(size):
        rows, columns = (basis(side, min(count, side), y) for side in size)
        y = rows @ y @ columns.T
    return y[..., :count, :count] / math.sqrt(size[0] * size[1])


def decoder_loss(amplitudes: Tensor, y: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mean squared error of the latents, computed from the frequencies that the decoder has. By Parseval,

        mean |y_bar - y|^2 = sum_f |a_f - c_f / sqrt(H W)|^2 + a rest that no such decoder can change.

    Args:
        amplitudes: of the decoder, (B, C, grid, grid).
        y: latents (B, C, H, W), or their lowest DCT coefficients; for these the rest is left out.
        size: H, W.

    Returns:
        A scalar, the mean over pictures and channels.
    """
    ours = low_amplitudes(y, amplitudes.shape[-1], size)
    k, m = ours.shape[-2:]
    error = (amplitudes[..., :k, :m] - ours).square().sum((-1, -2)).mean()
    if y.shape[-2:] != torch.Size(size):
        return error
    rest = y.square().mean((-1, -2)) - ours.square().sum((-1, -2))
    return error + rest.mean()


def _covariance_loss(amplitudes: Tensor, factors: Tensor, y: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mean negative log-likelihood, with the mean held fixed.

    The minimum of the sum of both losses stays the same, mean and covariance of the data given the prompt. But a variance that is
    small too early cannot keep the mean from being learnt.
    """
    z = whitened(deviations(amplitudes.detach(), factors, y, size), factors)
    return likelihood(z, factors).mean()


def deviations(amplitudes: Tensor, factors: Tensor, y: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the k x k lowest amplitudes less their predicted mean, (B, C, k, k).

    Args:
        amplitudes: their predicted mean, (B, C, grid, grid).
        factors: of their predicted covariance (``core.covariance``), (B, C (C + 1) / 2, k, k).
        y: latents, or their lowest DCT coefficients.
        size: H, W.
    """
    k = factors.shape[-1]
    return low_amplitudes(y, k, size) - amplitudes[..., :k, :k]


def likelihood(z: Tensor, factors: Tensor) -> Tensor:
    """Return the negative log-likelihood of amplitudes, (B, C, k, k); its sum over channels is that of all of them.

    Args:
        z: from ``core.covariance.whitened``, (B, C, k, k).
        factors: of the predicted covariance.
    """
    return 0.5 * (log_variances(factors) + z.square() + math.log(2 * math.pi))
