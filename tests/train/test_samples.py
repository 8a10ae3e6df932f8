"""Sample pictures of a run whose base has a real safety checker."""

from diffusers import StableDiffusionPipeline

from singdiffusion.train.loop import train
from tests.painting.checkers import add_checker

from .world import config


def test_withheld_samples_are_counted(world):
    pipe = StableDiffusionPipeline.from_pretrained(world / "base", safety_checker=None)
    add_checker(pipe)
    pipe.save_pretrained(world / "base")
    lines = []
    changes = {"validation__prompts": ["black", "white"], "validation__steps": 2}
    train(config(world, steps=2, **changes), lines.append, cpu=True)
    file = world / "run" / "samples" / "step-00000002.png"
    assert f"painted {file}; 4 black, withheld by the model's safety checker" in lines
