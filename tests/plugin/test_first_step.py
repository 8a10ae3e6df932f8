"""Coefficients read off a scheduler, against the table of alphas and closed forms."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler

from singdiffusion import SingDiffusionError
from singdiffusion.plugin.first_step import first_step_of
from singdiffusion.plugin.schedulers import FAMILIES

from ..conftest import SD15
from .painting import expected_mean, first_input, noise, run
from .test_schedulers import make


@pytest.mark.parametrize(("steps", "timestep", "alpha"), [(50, 981, 0.07600), (20, 951, 0.09031), (10, 901, 0.11834)])
def test_stable_diffusion_1_5(steps, timestep, alpha):
    scheduler = DDIMScheduler(**SD15, steps_offset=1)
    scheduler.set_timesteps(steps)
    step = first_step_of(scheduler)
    assert step.timestep == timestep
    assert (step.scale, step.noise_scale) == (1, 1)
    assert step.alpha == pytest.approx(alpha, abs=1e-5)
    assert step.sigma == pytest.approx(math.sqrt(1 - alpha**2), abs=1e-5)


def test_euler_keeps_another_unit():
    """x = x_0 + s noise, s = sigma / alpha, so the scale is 1 / alpha."""
    scheduler = EulerDiscreteScheduler(**SD15, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    step = first_step_of(scheduler)
    assert step.alpha == pytest.approx(0.06826, abs=1e-5)
    assert step.scale == pytest.approx(1 / step.alpha)
    assert step.noise_scale == pytest.approx(step.sigma / step.alpha)


def test_zero_snr_starts_at_the_noise():
    scheduler = DDIMScheduler(**SD15, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    step = first_step_of(scheduler)
    assert (step.alpha, step.sigma) == (0, 1)


@pytest.mark.parametrize("name", [name for family in FAMILIES for name in family.classes])
def test_timesteps_that_are_not_set(name):
    scheduler = make(name, {})
    if getattr(scheduler, "num_inference_steps", None) is not None:  # Heun and its kin set them when they are made
        assert first_step_of(scheduler).timestep == scheduler.timesteps[0]
        return
    with pytest.raises(SingDiffusionError, match=f"the timesteps of {name} are not set"):
        first_step_of(scheduler)


@pytest.mark.parametrize("timesteps", [[999, 500, 10], [700, 300]])
def test_timesteps_of_the_user(pipe, sing, timesteps):
    pipe.scheduler = DDPMScheduler(**SD15)
    sing.enable(pipe)
    got, timestep = first_input(pipe, timesteps=timesteps)
    assert timestep == timesteps[0]
    bar = float(pipe.scheduler.alphas_cumprod[timesteps[0]])
    x_1 = noise()
    expected = bar**0.5 * expected_mean(pipe, sing.module.network, x_1) + (1 - bar) ** 0.5 * x_1
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sigmas", [[14.0, 5.0, 1.0], [3.0, 1.0]])
def test_sigmas_of_the_user(pipe, sing, sigmas):
    pipe.scheduler = EulerDiscreteScheduler(**SD15)
    sing.enable(pipe)
    got, _ = first_input(pipe, sigmas=sigmas)
    x_1, s = noise(), sigmas[0]
    expected = (expected_mean(pipe, sing.module.network, x_1) + s * x_1) / math.sqrt(1 + s**2)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_a_scheduler_that_says_nan(pipe, sing):
    pipe.scheduler = UniPCMultistepScheduler(**SD15)
    pipe.scheduler.alphas_cumprod[:] = float("nan")
    sing.enable(pipe)
    with pytest.raises(SingDiffusionError, match="first step of UniPCMultistepScheduler is not finite"):
        run(pipe)
