"""Painting in one call of a pipeline: what the safety checker withholds, and how many steps are counted."""

import numpy as np
import pytest

from singdiffusion.painting.paint import paint
from singdiffusion.painting.scheduler_names import set_scheduler

from .checkers import add_checker

STEPS = {"num_inference_steps": 4, "guidance_scale": 1.0}


def test_a_withheld_picture_is_none_and_the_others_are_as_without_the_checker(pipe):
    one, other = paint(pipe, ["a", "b"], [0, 1], **STEPS)
    add_checker(pipe, withheld=one, passes=other)
    assert pipe(["a"], num_inference_steps=1).nsfw_content_detected is not None
    withheld, kept = paint(pipe, ["a", "b"], [0, 1], **STEPS)
    assert withheld is None
    np.testing.assert_array_equal(np.asarray(kept), np.asarray(other))


def test_all_are_withheld(pipe):
    add_checker(pipe)
    made = pipe("a", num_inference_steps=1, output_type="np")
    assert made.images.max() == 0, "diffusers paints black what is flagged"
    assert paint(pipe, ["a", "b"], [0, 1], **STEPS) == [None, None]


@pytest.mark.parametrize("scheduler", ["ddim", "heun", "kdpm2", "pndm", "euler", "dpm++-single"])
def test_every_scheduler_counts_the_steps_that_were_asked_for(pipe, scheduler):
    set_scheduler(pipe, scheduler)
    calls = []
    paint(pipe, ["a", "b"], [0, 1], on_step=lambda: calls.append(pipe.num_timesteps), **STEPS)
    assert len(calls) == 2 * 4
    if scheduler in ("heun", "kdpm2", "pndm"):
        assert calls[0] > 4
