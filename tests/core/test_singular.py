"""The guided mean and the step from t = 1 against their formulas, and against DDIM's step close to t = 1."""

import math

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from singdiffusion import SingDiffusionError
from singdiffusion.core.singular import first_step, guided_mean


def pair(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator), torch.randn(*shape, generator=generator)


@given(st.floats(1.001, 30))
def test_normalised_guidance_is_plain_guidance_over_its_scale(w):
    y_neg, y_pos = pair(2, 4, 3, 3)
    plain = guided_mean(y_neg, y_pos, w, normalise=False)
    torch.testing.assert_close(plain, y_neg + w * (y_pos - y_neg))
    torch.testing.assert_close(guided_mean(y_neg, y_pos, w) * w, plain, atol=1e-4, rtol=1e-4)


@given(st.floats(1.001, 30))
def test_equal_prompts_shrink_the_mean_by_the_scale(w):
    """y_pos = y_neg = y gives y / w: the known cost of the normalisation."""
    y, _ = pair(1, 4, 2, 2)
    torch.testing.assert_close(guided_mean(y, y, w), y / w, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("w", [-1.0, 0.0, 0.5, 1.0])
def test_no_guidance_is_the_conditional_mean(w):
    y_neg, y_pos = pair(2, 4)
    assert torch.equal(guided_mean(y_neg, y_pos, w), y_pos)
    assert torch.equal(guided_mean(None, y_pos, w), y_pos)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 8, 8), (3, 4, 2, 8, 8)])
def test_the_step_for_one_alpha_or_one_per_item(shape):
    y, x = pair(*shape)
    alpha = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    sigma = (1 - alpha**2).sqrt()
    many = first_step(y, x, alpha, sigma)
    for i in range(3):
        torch.testing.assert_close(many[i], float(alpha[i]) * y[i] + float(sigma[i]) * x[i])
        torch.testing.assert_close(first_step(y[i], x[i], float(alpha[i]), float(sigma[i])), many[i])
    assert torch.equal(many[0], x[0])


def test_the_step_is_the_limit_of_ddims_step():
    """A DDIM step from t to s with x_0 estimate y gives alpha_s y + sigma_s (x - alpha_t y) / sigma_t; here alpha_t -> 0."""
    y, x = pair(2, 4, 8, 8)
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="sample", clip_sample=False
    )
    scheduler.set_timesteps(1000)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.alphas_cumprod[999] = 1e-14  # as close to t = 1 as float64 allows
    bar = float(scheduler.alphas_cumprod[998])
    theirs = scheduler.step(y.double(), 999, x.double()).prev_sample
    ours = first_step(y.double(), x.double(), bar**0.5, (1 - bar) ** 0.5)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_computed_in_float32_returned_in_the_dtype_of_the_noise(dtype):
    y, x = (part.to(dtype) for part in pair(2, 4, 8, 8))
    step = first_step(y, x, 0.0683, 0.9977)
    assert step.dtype == dtype
    torch.testing.assert_close(step, (0.0683 * y.double() + 0.9977 * x.double()).to(dtype), atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf])
def test_coefficients_out_of_range(bad):
    y, x = pair(2, 3)
    with pytest.raises(SingDiffusionError, match=r"alpha must be finite and within \[0, 1\]"):
        first_step(y, x, bad, 0.5)
    with pytest.raises(SingDiffusionError, match=r"sigma must be finite and within \[0, 1\]"):
        first_step(y, x, 0.5, bad)


@pytest.mark.parametrize("which", ["y_bar", "x_1"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_are_errors(which, bad):
    parts = dict(zip(("y_bar", "x_1"), pair(2, 3), strict=True))
    parts[which][1, 2] = bad
    with pytest.raises(SingDiffusionError, match=f"{which} has NaN or infinite"):
        first_step(**parts, alpha=0.5, sigma=0.5)


def test_shapes_that_differ():
    y, x = pair(2, 3)
    with pytest.raises(SingDiffusionError, match="differ in shape"):
        first_step(y[:1], x, 0.5, 0.5)
    with pytest.raises(SingDiffusionError, match="one per item of the batch"):
        first_step(y, x, torch.tensor([0.1, 0.2, 0.3]), 0.5)
    with pytest.raises(SingDiffusionError, match="differ in shape"):
        guided_mean(y[:1], x, 3.0)


def test_invalid_arguments_of_guidance():
    y, x = pair(2, 3)
    with pytest.raises(SingDiffusionError, match="finite number"):
        guided_mean(y, x, math.nan)
    with pytest.raises(SingDiffusionError, match="needs the mean for the negative prompt"):
        guided_mean(None, x, 7.5)
    x[0, 0] = math.inf
    with pytest.raises(SingDiffusionError, match="y_pos has NaN"):
        guided_mean(None, x, 1.0)
