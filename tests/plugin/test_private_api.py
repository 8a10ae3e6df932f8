"""Private attributes of diffusers and Python that the plug-in reads because nothing public serves; each test fails when one changes."""

import threading

import pytest
import torch

from singdiffusion.plugin.calls import local_of_call, runs_elsewhere
from singdiffusion.plugin.starts import is_offloaded

from .painting import run
from .zoo import build


def test_offload_device_is_set_by_model_offloading_and_nothing_else(pipe):
    """``_offload_device``: without it the module would stay on the device while the pipeline moves its networks off."""
    assert not is_offloaded(pipe)
    pipe.enable_model_cpu_offload(device="cpu")
    assert is_offloaded(pipe)


def test_a_guider_that_is_disabled():
    """``_enabled``: without it a disabled guider's scale would count."""
    pytest.importorskip("diffusers.modular_pipelines", reason="this diffusers has no modular pipelines")
    from diffusers import ClassifierFreeGuidance

    from singdiffusion.plugin.modular import _guidance

    class Components:
        guider = ClassifierFreeGuidance(guidance_scale=5.0)

    assert _guidance(Components) == 5.0
    Components.guider.disable()
    assert _guidance(Components) == 1.0


def test_pixart_keeps_its_guidance_scale_in_a_local_variable(tokenizer):
    """Frames: were it an attribute, as elsewhere, the stack would not be read."""
    pipe, options = build("PixArtAlphaPipeline", tokenizer)
    seen = []

    def note(module, args):
        seen.append(local_of_call(pipe, "guidance_scale"))

    handle = pipe.transformer.register_forward_pre_hook(note)
    pipe("a dark room", num_inference_steps=1, guidance_scale=3.25, **options)
    handle.remove()
    assert seen[0] == 3.25
    assert not hasattr(pipe, "guidance_scale"), "read the attribute instead of the stack"


def test_a_call_in_another_thread_is_seen(pipe):
    """Frames of other threads: a scheduler can serve one call at a time."""
    inside, leave = threading.Event(), threading.Event()

    def hold(*_):
        inside.set()
        leave.wait(60)

    handle = pipe.unet.register_forward_pre_hook(hold)
    thread = threading.Thread(target=run, args=(pipe,), kwargs={"steps": 1})
    thread.start()
    try:
        assert inside.wait(60)
        handle.remove()
        seen = []
        other = pipe.unet.register_forward_pre_hook(lambda *_: seen.append(runs_elsewhere(pipe)))
        run(pipe, steps=1, generator=torch.Generator().manual_seed(1))
        other.remove()
        assert seen == [True] * len(seen)
        assert seen
        assert not runs_elsewhere(pipe), "no call here: encoding a prompt alone is harmless"
    finally:
        leave.set()
        thread.join(60)


@pytest.mark.parametrize("name", ["guidance_scale", "no_such_variable"])
def test_outside_a_call_there_is_no_variable(pipe, name):
    with pytest.raises(ValueError, match=f"StableDiffusionPipeline has no variable {name}"):
        local_of_call(pipe, name)
