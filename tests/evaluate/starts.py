"""What the tests of remedies share: schedulers, statistics of latents, and the network's first input under a remedy."""

import math

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from singdiffusion.core.schedule import Schedule
from singdiffusion.data.base import Base
from singdiffusion.evaluate.remedies import LatentStatistics

from ..conftest import SD15
from ..plugin.painting import first_input

SCHEDULERS = {
    "ddim": lambda: DDIMScheduler(**SD15, steps_offset=1, clip_sample=False, set_alpha_to_one=False),
    "euler": lambda: EulerDiscreteScheduler(**SD15, steps_offset=1, timestep_spacing="leading"),
}
BAR = Schedule.named("sd15").alphas_cumprod
ALPHA, SIGMA = math.sqrt(BAR[751]), math.sqrt(1 - BAR[751])  # 4 leading steps start at 751


def some_latents(count=200, seed=3):
    """Latents whose channels' means are not 0 and are correlated."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(4, 4, generator=generator)
    level = torch.randn(count, 4, 1, 1, generator=generator) * 2 + torch.tensor([1.0, -2.0, 0.5, 3.0]).reshape(4, 1, 1)
    return torch.einsum("cd,ndhw->nchw", mix, level + torch.randn(count, 4, 8, 8, generator=generator))


def statistics_for(pipe):
    return LatentStatistics.of_latents(some_latents(), Base.of(pipe, "small").identity())


def predicting_v(pipe, **changes):
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, prediction_type="v_prediction", **changes)
    return pipe


class Stopped(Exception):
    pass


def stop(*_):
    raise Stopped


def first_under(remedy, pipe, **options):
    with remedy.applied(pipe) as more:
        return first_input(pipe, **(options | more))
