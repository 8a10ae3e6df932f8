"""The scheduler matrix: the network's first input in a real pipeline, for every class and option, and the table of classes."""

import inspect
import math

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from singdiffusion import SingDiffusionError
from singdiffusion.compat import release
from singdiffusion.plugin.first_step import first_step_of
from singdiffusion.plugin.schedulers import FAMILIES, REFUSED, probe

from ..conftest import SD15
from .painting import expected_mean, noise, recording

SPACINGS = ("leading", "linspace", "trailing")
SIGMAS = ("", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
STEPS = (4, 10, 20, 50)
# the classes whose noise prepare_latents scales; those of flows do not go with these pipelines
CLASSES = [name for family in FAMILIES for name in family.classes if not name.startswith("FlowMatch")]


def options_of(name):
    """Every combination of spacing, sigmas and zero terminal SNR that a class takes."""
    known = set(inspect.signature(getattr(diffusers, name).__init__).parameters)
    for spacing in SPACINGS if "timestep_spacing" in known else (None,):
        for sigmas in SIGMAS:
            if sigmas and sigmas not in known:
                continue
            for zero in (False, True) if "rescale_betas_zero_snr" in known else (False,):
                options = {"timestep_spacing": spacing} if spacing else {}
                options |= {sigmas: True} if sigmas else {}
                options |= {"prediction_type": "flow_prediction"} if sigmas == "use_flow_sigmas" else {}
                yield options | ({"rescale_betas_zero_snr": True} if zero else {})


def make(name, options, prediction="epsilon"):
    """A scheduler with SD-1.5's betas where the class takes them; None where it refuses the combination."""
    if not hasattr(diffusers, name):
        pytest.skip(f"diffusers {diffusers.__version__} has no {name}")
    cls = getattr(diffusers, name)
    known = set(inspect.signature(cls.__init__).parameters)
    given = {"prediction_type": prediction} | options
    if "beta_schedule" in known:
        given = SD15 | given
    return cls(**{key: value for key, value in given.items() if key in known})


CASES = [
    pytest.param(name, options, id="-".join([name, *(k if v is True else str(v) for k, v in options.items())]))
    for name in CLASSES
    for options in options_of(name)
]


class _Enough(Exception):
    """The network has its first input."""


def first_input_of(pipe, steps):
    """What the U-Net gets first, and the timestep; the call ends there."""

    def stop(*_):
        raise _Enough

    with recording(pipe.unet) as seen:
        handle = pipe.unet.register_forward_pre_hook(stop)
        try:
            pipe("a dark room", num_inference_steps=steps, generator=torch.Generator().manual_seed(0))
        except _Enough:
            pass
        finally:
            handle.remove()
    return seen[0][0][1:], float(seen[0][1])


def true_first_input(scheduler, timestep, y_bar, x_1):
    """The expected input, from the schedule and the timestep that the network gets, not from the plug-in.

    A timestep of the table is looked up. Where a scheduler makes its own sigmas (Karras and the like, or timesteps between those
    of the table) the noise level is its first sigma.
    """
    config = scheduler.config
    own = any(config.get(key) for key in SIGMAS if key)
    if config.get("use_flow_sigmas"):
        sigma = float(scheduler.sigmas[0])
        return (1 - sigma) * y_bar + sigma * x_1
    if hasattr(scheduler, "alphas_cumprod") and not own and timestep == int(timestep):
        bar = float(scheduler.alphas_cumprod[int(timestep)])
        return math.sqrt(bar) * y_bar + math.sqrt(1 - bar) * x_1
    sigma = float(scheduler.sigmas[0])
    return (y_bar + sigma * x_1) / math.sqrt(sigma**2 + config.get("sigma_data", 1.0) ** 2)


# diffusers 0.31 itself fails on exponential and beta sigmas in some classes
REFUSALS = (ValueError, NotImplementedError, *((TypeError, NameError) if release("diffusers") == (0, 31) else ()))


def check(pipe, sing, name, options, steps, prediction="epsilon"):
    try:
        pipe.scheduler = make(name, options, prediction)
        pipe.scheduler.set_timesteps(steps)
    except REFUSALS as refusal:
        pytest.skip(f"diffusers refuses it: {refusal}")
    sing.enable(pipe)
    got, timestep = first_input_of(pipe, steps)
    x_1 = noise()
    expected = true_first_input(pipe.scheduler, timestep, expected_mean(pipe, sing.module.network, x_1), x_1)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [4, 50])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_first_input_is_the_step_from_t_1(pipe, sing, name, options, steps):
    check(pipe, sing, name, options, steps)


@pytest.mark.slow
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_whole_matrix(pipe, sing, name, options, prediction, steps):
    check(pipe, sing, name, options, steps, prediction)


def test_every_scheduler_of_diffusers_is_known():
    """Either in a family or refused with a reason: a new release with a new class makes this fail, and somebody looks."""
    import diffusers.schedulers as module

    there = {name for name in dir(module) if name.endswith("Scheduler") and not name.startswith(("Flax", "Karras"))} - {
        "KarrasDiffusionSchedulers"
    }
    known = {name for family in FAMILIES for name in family.classes} | set(REFUSED)
    assert there <= known
    assert not {name for family in FAMILIES for name in family.classes} & set(REFUSED)


# add_noise is no reference here: it ignores the sigmas, or cannot take timesteps between those of the table.
UNPROBED = {"SASolverScheduler"}


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_table_agrees_with_the_scheduler_itself(name, options):
    try:
        scheduler = make(name, options)
        scheduler.set_timesteps(10)
    except REFUSALS as refusal:
        pytest.skip(f"diffusers refuses it: {refusal}")
    own = any(options.get(key) for key in SIGMAS if key)
    if name in UNPROBED and own:
        pytest.skip("its add_noise passes over its sigmas")
    step = first_step_of(scheduler)
    try:
        a, b, m = probe(scheduler)
    except IndexError:
        assert step.timestep != int(step.timestep), "only timesteps between those of the table cannot be asked for"
        pytest.skip("its add_noise cannot take a timestep between those of the table")
    assert a == pytest.approx(step.scale * step.alpha, rel=1e-4, abs=1e-6)
    assert b == pytest.approx(step.scale * step.sigma, rel=1e-4)
    assert m == pytest.approx(step.input_scale, rel=1e-4)


@pytest.mark.parametrize(
    "name", [name for family in FAMILIES for name in family.classes if name.startswith("FlowMatch")]
)
def test_flows_start_from_noise_alone(name):
    scheduler = make(name, {})
    scheduler.set_timesteps(10)
    step = first_step_of(scheduler)
    assert (step.alpha, step.sigma, step.scale, step.noise_scale) == (0, 1, 1, 1)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused_says_why(name):
    cls = getattr(diffusers, name, None)
    if cls is None:
        pytest.skip("not in this release of diffusers")
    with pytest.raises(SingDiffusionError, match=f"the scheduler {name} is not supported: {REFUSED[name]}"):
        first_step_of(cls.__new__(cls))


def test_an_unknown_scheduler_is_asked():
    class MyEuler(EulerDiscreteScheduler):
        pass

    scheduler, known = (cls(**SD15, timestep_spacing="trailing") for cls in (MyEuler, EulerDiscreteScheduler))
    for each in (scheduler, known):
        each.set_timesteps(10)
    assert first_step_of(scheduler) == first_step_of(known)


def test_an_unknown_scheduler_that_cannot_be_asked():
    class MyScheduler(DDIMScheduler):
        def add_noise(self, original_samples, noise, timesteps):
            raise NotImplementedError("ask me not")

    scheduler = MyScheduler(**SD15)
    scheduler.set_timesteps(10)
    with pytest.raises(SingDiffusionError, match="MyScheduler is unknown and cannot be probed: ask me not"):
        first_step_of(scheduler)
