"""The first step from t = 1, a removable singularity of the reverse process ([SD] Propositions 1 and 2, section 4).

At t = 1, alpha is 0, and a noise estimate gives no estimate of x_0: (x_1 - sigma_1 noise) / alpha_1 = 0 / 0. The limit is finite,

    lim_{t -> 1} (x + sigma_t^2 score(x, t)) / alpha_t = E[x_0 | prompt] = y_bar.

The step with y_bar is the DDIM step from t = 1, whose noise estimate is x_1 itself.

[SD] is Zhang, Yin, Li and Xie, "Tackling the Singularities at the Endpoints of Time Intervals in Diffusion Models", CVPR 2024,
arXiv 2403.08381. [OMS] is Hu et al., "One More Step: A Versatile Plug-and-Play Module for Rectifying Diffusion Schedule Flaws and
Enhancing Low-Frequency Controls", CVPR 2024, arXiv 2311.15744.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import SingDiffusionError
from .covariance import square_root
from .dct import basis

Coefficient = float | Tensor


def as_sample(prediction: str, output: Tensor, x_1: Tensor, alpha: float = 0.0) -> Tensor:
    """Return x_0 from a network's output for x_1, with sigma^2 = 1 - alpha^2:

        sample:  output,    v_prediction:  alpha x_1 - sigma output,    epsilon:  (x_1 - sigma output) / alpha.

    At t = 1, where alpha = 0, v is -x_0. Epsilon is x_1 itself there and carries no information on x_0, so it needs an alpha above 0.
    Such a network treats x_1 as the state at the base's last timestep, with the alpha of that timestep ([OMS]).

    Args:
        prediction: ``sample``, ``v_prediction`` or ``epsilon``.
        output: of the network, shape (B, ...).
        x_1: noise, the same shape.
        alpha: in [0, 1); above 0 for ``epsilon``.

    Returns:
        Shape (B, ...).

    Raises:
        SingDiffusionError: the prediction is unknown, alpha is not within [0, 1), or alpha is 0 for epsilon.
    """
    sigma = _sigma(prediction, alpha)
    if prediction == "sample":
        return output
    return alpha * x_1 - sigma * output if prediction == "v_prediction" else (x_1 - sigma * output) / alpha


def target_of(prediction: str, x_0: Tensor, x_1: Tensor, alpha: float = 0.0) -> Tensor:
    """Return the output for which ``as_sample`` returns x_0: its inverse, with the same arguments, shapes and errors."""
    sigma = _sigma(prediction, alpha)
    if prediction == "sample":
        return x_0
    return (alpha * x_1 - x_0) / sigma if prediction == "v_prediction" else (x_1 - alpha * x_0) / sigma


def _sigma(prediction: str, alpha: float) -> float:
    """Return sqrt(1 - alpha^2), after a check of both arguments."""
    if prediction not in ("sample", "v_prediction", "epsilon"):
        raise SingDiffusionError(f"unknown prediction {prediction!r}; known: sample, v_prediction, epsilon")
    if not 0 <= alpha < 1:
        raise SingDiffusionError(f"alpha must be within [0, 1), not {alpha}")
    if prediction == "epsilon" and alpha == 0:
        raise SingDiffusionError(
            "at alpha = 0 the noise holds no information on the picture: epsilon needs an alpha above 0"
        )
    return math.sqrt(1 - alpha * alpha)


def guided_mean(y_neg: Tensor | None, y_pos: Tensor, guidance_scale: float, normalise: bool = True) -> Tensor:
    """Return the mean with classifier-free guidance, normalised by its scale ([SD] section 4):

        y_bar = (y_neg + w (y_pos - y_neg)) / w    for w > 1,        y_bar = y_pos    for w <= 1.

    Without the division, guidance at the usual w = 7.5 leaves the range of the data by up to that factor.

    Args:
        y_neg: mean given the negative prompt, shape (B, ...); may be None for w <= 1, where it has no effect.
        y_pos: mean given the prompt, the same shape.
        guidance_scale: w, finite.
        normalise: divide by w.

    Returns:
        Shape (B, ...).

    Raises:
        SingDiffusionError: w or a mean is not finite, shapes differ, or ``y_neg`` is missing for w > 1.
    """
    if not math.isfinite(guidance_scale):
        raise SingDiffusionError(f"guidance_scale must be a finite number, not {guidance_scale}")
    _require_finite("y_pos", y_pos)
    if guidance_scale <= 1:
        return y_pos
    if y_neg is None:
        raise SingDiffusionError(f"guidance_scale {guidance_scale} needs the mean for the negative prompt, y_neg")
    _require_same_shape("y_neg", y_neg, "y_pos", y_pos)
    _require_finite("y_neg", y_neg)
    guided = y_neg + guidance_scale * (y_pos - y_neg)
    return guided / guidance_scale if normalise else guided


def first_step(
    y_bar: Tensor, x_1: Tensor, alpha: Coefficient, sigma: Coefficient, covariance: Tensor | None = None
) -> Tensor:
    """Return the state after the step from t = 1 to the first timestep of a sampler.

    Without ``covariance`` it is method ``mean``, the paper's ([SD] section 4): x = alpha y_bar + sigma x_1. It has the mean of
    q(x | prompt) and the covariance of the noise.

    With ``covariance`` it is method ``moments``. It also scales c_f, the C coefficients of x_1 at each of the k x k lowest frequencies f
    of the orthonormal DCT:

        c_f -> (sigma^2 I + alpha^2 Sigma_f)^(1/2) c_f,      c_f -> sigma c_f at all other frequencies.

    So x ~ N(alpha y_bar, sigma^2 I + alpha^2 Sigma), which has q's covariance at the low frequencies too. The step is linear in x_1, so
    seeds stay comparable, and Sigma = 0 gives ``mean``. Frames of a video share their brightness: the sum of the F
    frames divided by sqrt(F) is scaled, with covariance F Sigma_f.

    Args:
        y_bar: estimate of E[x_0 | prompt], shape (B, ...).
        x_1: noise, the same shape.
        alpha: alpha at the step's end, in [0, 1]: a number, or one per item of the batch, shape (B,).
        sigma: sigma there, in [0, 1], likewise.
        covariance: Sigma_f of the lowest DCT coefficients of x_0 given the prompt, shape (B, k, k, C, C). Then ``y_bar`` must
            have shape (B, C, H, W), or (B, C, F, H, W) of videos. Frequencies above H or W are ignored.

    Returns:
        Shape (B, ...), in the dtype of ``x_1``; computed in float32 or better.

    Raises:
        SingDiffusionError: a coefficient is out of range, a value is not finite, Sigma_f is not a covariance, or shapes differ.
    """
    _require_same_shape("y_bar", y_bar, "x_1", x_1)
    _require_finite("y_bar", y_bar)
    _require_finite("x_1", x_1)
    dtype = torch.promote_types(torch.promote_types(y_bar.dtype, x_1.dtype), torch.float32)
    a, s = (_coefficient(name, value, x_1, dtype) for name, value in (("alpha", alpha), ("sigma", sigma)))
    noise = s * x_1.to(dtype)
    if covariance is not None:
        noise = noise + _low_frequency_noise(x_1.to(dtype), covariance, a, s)
    return (a * y_bar.to(dtype) + noise).to(x_1.dtype)


def _low_frequency_noise(x_1: Tensor, covariance: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return what ``moments`` adds to sigma x_1: ((sigma^2 I + alpha^2 Sigma_f)^(1/2) - sigma I) c_f, as a picture."""
    channels, shape = x_1.shape[1], tuple(covariance.shape)
    if x_1.ndim not in (4, 5) or covariance.ndim != 5 or shape != (len(x_1), shape[1], shape[1], channels, channels):
        raise SingDiffusionError(
            f"covariance must have shape (B, k, k, C, C) for x_1 (B, C, H, W), not {shape} for {tuple(x_1.shape)}"
        )
    if x_1.ndim == 5:
        frames = x_1.shape[2]
        together = _low_frequency_noise(
            x_1.sum(2) / math.sqrt(frames),
            frames * covariance,
            *(c if c.ndim == 0 else c[..., 0] for c in (alpha, sigma)),
        )
        return together[:, :, None] / math.sqrt(frames)
    rows, columns = (basis(side, min(covariance.shape[1], side), x_1) for side in x_1.shape[-2:])
    low = rows @ x_1 @ columns.T
    covariance = covariance[:, : len(rows), : len(columns)]
    noise = sigma if sigma.ndim == 0 else sigma[..., None]  # broadcasts over (B, k, k, C, C)
    added = square_root(covariance, sigma, alpha).to(x_1) - noise * torch.eye(channels).to(x_1)
    return rows.T @ torch.einsum("bhwij,bjhw->bihw", added, low) @ columns


def _coefficient(name: str, value: Coefficient, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Return alpha or sigma as a tensor that broadcasts over ``like``: shape () or (B, 1, ..., 1)."""
    tensor = torch.as_tensor(value, dtype=torch.float64, device="cpu")
    if not torch.isfinite(tensor).all() or (tensor < 0).any() or (tensor > 1).any():
        raise SingDiffusionError(f"{name} must be finite and within [0, 1], not {value}")
    if tensor.ndim > 1 or (tensor.ndim == 1 and (like.ndim == 0 or len(tensor) != len(like))):
        raise SingDiffusionError(
            f"{name} must be one number or one per item of the batch, not of shape {tuple(tensor.shape)}"
        )
    tensor = tensor.to(like.device, dtype)
    return tensor.reshape(-1, *[1] * (like.ndim - 1)) if tensor.ndim else tensor


def _require_finite(name: str, tensor: Tensor) -> None:
    """Raise SingDiffusionError if a value is NaN or infinite."""
    if not torch.isfinite(tensor).all():
        raise SingDiffusionError(f"{name} has NaN or infinite values")


def _require_same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raise SingDiffusionError if two tensors differ in shape."""
    if tensor.shape != other.shape:
        raise SingDiffusionError(
            f"{name} and {other_name} differ in shape: {tuple(tensor.shape)}, {tuple(other.shape)}"
        )
