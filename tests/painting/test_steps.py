"""Numbers of steps that a scheduler cannot do are refused before anything is painted."""

from types import SimpleNamespace

import diffusers
import pytest

from singdiffusion import SingDiffusionError, tiny
from singdiffusion.painting.scheduler_names import SCHEDULERS, set_scheduler
from singdiffusion.painting.steps import check_steps


@pytest.fixture(scope="module")
def pipe():
    return tiny.load_pipeline()


def with_scheduler(pipe, name):
    changed = SimpleNamespace(scheduler=pipe.scheduler)
    set_scheduler(changed, name)
    return changed


@pytest.mark.parametrize(
    ("name", "steps", "near"),
    [
        ("pndm", 1, 4),
        ("pndm", 3, 4),
        ("pndm", 1000, 999),
        ("ddim", 1000, 999),
        ("lcm", 60, 50),
        ("tcd", 60, 50),
    ],
)
def test_too_few_or_too_many(pipe, name, steps, near):
    line = f"^{SCHEDULERS[name]} cannot do {steps} steps; try {near}$"
    with pytest.raises(SingDiffusionError, match=line) as caught:
        check_steps(with_scheduler(pipe, name), steps)
    assert caught.value.setting == "num_inference_steps"
    check_steps(with_scheduler(pipe, name), near)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_few_steps_of_every_scheduler(pipe, name):
    check_steps(with_scheduler(pipe, name), 4)


def test_a_scheduler_that_is_not_known_is_not_checked(pipe):
    flow = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True
    )  # its timesteps depend on the picture's size
    check_steps(SimpleNamespace(scheduler=flow), 3)


def test_a_configuration_that_another_scheduler_does_not_take(pipe):
    odd = SimpleNamespace(
        scheduler=SimpleNamespace(
            config=dict(pipe.scheduler.config) | {"trained_betas": None, "beta_schedule": "sigmoid"}
        )
    )
    with pytest.raises(SingDiffusionError, match="the scheduler euler does not take the configuration") as caught:
        set_scheduler(odd, "euler")
    assert caught.value.setting == "scheduler"
