"""Schedule against closed forms, against diffusers' numbers, and against the papers' figures."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from singdiffusion import Schedule, SingDiffusionError

SD15 = Schedule.named("sd15")


@pytest.mark.parametrize(
    ("t", "alpha", "gain"),
    [
        (999, 0.06826, 14.615),
        (981, 0.07600, 13.120),
        (951, 0.09031, 11.028),
        (901, 0.11834, 8.391),
        (751, 0.23605, 4.117),
    ],
)
def test_sd15_figures(t, alpha, gain):
    assert float(SD15.alpha(t)) == pytest.approx(alpha, abs=6e-6)
    assert float(SD15.sigma(t) / SD15.alpha(t)) == pytest.approx(gain, rel=1e-4)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("steps", [100, 1000])
@pytest.mark.parametrize("zero", [False, True])
def test_values_equal_diffusers(schedule, steps, zero):
    config = {"beta_schedule": schedule, "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": steps}
    theirs = DDIMScheduler(**config, rescale_betas_zero_snr=zero)
    for ours in (Schedule.from_config(theirs), Schedule.from_config(dict(theirs.config))):
        torch.testing.assert_close(ours.alphas_cumprod.float(), theirs.alphas_cumprod, atol=2e-6, rtol=2e-5)
    # where alpha_T is above 0 its relative error matters too, because the method depends on it
    if not zero and schedule != "squaredcos_cap_v2":
        assert float(ours.alpha(steps - 1)) == pytest.approx(float(theirs.alphas_cumprod[-1]) ** 0.5, rel=1e-5)


def test_a_configuration_without_values_takes_diffusers_defaults():
    torch.testing.assert_close(
        Schedule.from_config(DDPMScheduler()).alphas_cumprod.float(),
        DDPMScheduler().alphas_cumprod,
        atol=1e-6,
        rtol=1e-5,
    )


def test_a_round_trip_through_trained_betas():
    shifted = SD15.shift(4)
    theirs = DDIMScheduler(trained_betas=shifted.betas.tolist())
    torch.testing.assert_close(
        Schedule.from_config(theirs).alphas_cumprod, shifted.alphas_cumprod, atol=1e-6, rtol=1e-4
    )
    torch.testing.assert_close(
        Schedule.from_betas(shifted.betas).alphas_cumprod, shifted.alphas_cumprod, atol=1e-14, rtol=1e-12
    )


@pytest.mark.parametrize("cls", [EulerDiscreteScheduler, DPMSolverMultistepScheduler])
def test_fractional_timesteps_interpolate_as_diffusers(cls):
    """Karras sigmas fall between timesteps; diffusers computes t by linear interpolation in log sigma, we compute sigma from t."""
    theirs = cls(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, use_karras_sigmas=True)
    theirs.set_timesteps(12)
    t = theirs.timesteps.double() if cls is EulerDiscreteScheduler else None
    if t is None:  # DPM++ rounds its timesteps, so ask for the unrounded ones
        log_sigmas = (SD15.sigma(torch.arange(1000)) / SD15.alpha(torch.arange(1000))).log().numpy()
        t = torch.tensor([float(theirs._sigma_to_t(s, log_sigmas)) for s in theirs.sigmas[:-1].double().numpy()])
    ratio = SD15.sigma(t.clamp(0, 999)) / SD15.alpha(t.clamp(0, 999))
    torch.testing.assert_close(ratio, theirs.sigmas[:-1].double(), rtol=2e-4, atol=1e-6)


@given(st.lists(st.floats(1e-5, 0.5), min_size=2, max_size=40), st.floats(0, 1))
def test_variance_is_preserved_and_log_snr_falls(betas, where):
    schedule = Schedule.from_betas(betas)
    t = where * (len(schedule) - 1)
    assert float(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2) == pytest.approx(1, abs=1e-12)
    assert float(schedule.snr(t)) == pytest.approx(math.exp(float(schedule.log_snr(t))), rel=1e-9)
    every = schedule.log_snr(torch.linspace(0, len(schedule) - 1, 50).clamp(0, len(schedule) - 1))
    assert (every.diff() < 1e-12).all()


@given(st.floats(0.1, 10), st.floats(0.1, 10))
def test_shift_multiplies_snr_and_composes(a, b):
    t = torch.arange(0, 1000, 37)
    torch.testing.assert_close(SD15.shift(a).snr(t), SD15.snr(t) * a**2, rtol=1e-9, atol=0)
    # 1 - alpha^2 loses digits where alpha is near 1
    torch.testing.assert_close(SD15.shift(a).shift(b).snr(t), SD15.shift(a * b).snr(t), rtol=1e-7, atol=0)


def test_zero_terminal_snr_keeps_the_first_alpha_and_ends_in_noise():
    rescaled = SD15.rescale_zero_terminal_snr()
    assert float(rescaled.alpha(999)) == 0
    assert float(rescaled.log_snr(999)) == -math.inf
    assert float(rescaled.alpha(0)) == pytest.approx(float(SD15.alpha(0)), rel=1e-12)
    assert float(rescaled.betas[-1]) == 1


def test_any_shape_of_t():
    assert SD15.alpha(3).shape == ()
    assert SD15.alpha(torch.zeros(2, 3, dtype=torch.long)).shape == (2, 3)
    assert SD15.alpha(torch.zeros(0)).shape == (0,)
    assert SD15.alpha(3).dtype == torch.float64


@pytest.mark.parametrize("t", [-1, 1000, 999.5, math.nan, math.inf])
def test_t_out_of_range(t):
    with pytest.raises(SingDiffusionError, match=r"t must be finite and within \[0, 999\]"):
        SD15.alpha(t)


@pytest.mark.parametrize("bar", [[], [[0.5]], [0.5, math.nan], [1.5], [-0.1], [0.2, 0.5]])
def test_invalid_alphas_cumprod(bar):
    with pytest.raises(SingDiffusionError, match="alphas_cumprod"):
        Schedule(torch.tensor(bar))


@pytest.mark.parametrize("betas", [[0.1, math.nan], [1.5], [-0.1]])
def test_invalid_betas(betas):
    with pytest.raises(SingDiffusionError, match="betas"):
        Schedule.from_betas(betas)


def test_errors_list_the_known_names():
    with pytest.raises(SingDiffusionError, match="known: sd15"):
        Schedule.named("sd99")
    with pytest.raises(SingDiffusionError, match="known: linear"):
        Schedule.from_config({"beta_schedule": "mystery"})
    with pytest.raises(SingDiffusionError, match="no betas"):
        Schedule.from_config({"shift": 3.0})
    with pytest.raises(SingDiffusionError, match="positive"):
        SD15.shift(0)
