"""The block for modular pipelines, against the plain pipeline with the plug-in."""

import copy

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers.modular_pipelines", reason="this diffusers has no modular pipelines")

from diffusers import ClassifierFreeGuidance
from diffusers.modular_pipelines import SequentialPipelineBlocks, StableDiffusionXLAutoBlocks

from singdiffusion import SingDiffusion, SingDiffusionError
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import PromptEncoder, fingerprint
from singdiffusion.plugin.modular import add_first_step

from ..conftest import TEXT_WIDTH, make_config, make_module, make_text_encoder
from .test_pipelines import NEGATIVE, PROMPT, paint, sing_for
from .zoo import KEPT, SDXL_WIDTH, build


@pytest.fixture
def pipe(tokenizer):
    return build("StableDiffusionXLPipeline", tokenizer)[0]


def modular(pipe, sing=None, scale=5.0):
    """A modular pipeline of the same parts."""
    blocks = StableDiffusionXLAutoBlocks()
    made = (blocks if sing is None else add_first_step(blocks, sing.module)).init_pipeline()
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    made.update_components(**{name: getattr(pipe, name) for name in names})
    made.update_components(guider=ClassifierFreeGuidance(guidance_scale=scale), image_processor=pipe.image_processor)
    made.set_progress_bar_config(disable=True)
    return made


def run(made, **options):
    given = {
        "prompt": PROMPT,
        "num_inference_steps": 2,
        "output_type": "np",
        "generator": torch.Generator().manual_seed(0),
    }
    return made(**(given | KEPT | options), output="images")


def test_the_same_picture_as_the_pipeline(pipe, tokenizer):
    off = run(modular(pipe))
    np.testing.assert_allclose(off, paint(pipe, KEPT), atol=1e-5)
    sing = sing_for(pipe, tokenizer)
    on = run(modular(pipe, sing), negative_prompt=NEGATIVE)
    sing.enable(pipe)
    np.testing.assert_allclose(on, paint(pipe, KEPT, negative_prompt=NEGATIVE), atol=1e-5)
    assert np.abs(np.asarray(on) - np.asarray(off)).max() > 1e-3


def test_without_a_negative_prompt_zeros_are_the_empty_prompt(pipe, tokenizer):
    sing = sing_for(pipe, tokenizer)
    sing.module.config = sing.module.config.model_copy(update={"text_length": 16})
    on = run(modular(pipe, sing))
    named = run(modular(pipe, sing), negative_prompt="")
    assert not np.array_equal(on, named)  # the pipeline's own guidance differs: zeros there, and here the empty prompt
    sing.enable(pipe)
    np.testing.assert_allclose(on, paint(pipe, KEPT), atol=1e-5)


def test_without_guidance_and_several_pictures(pipe, tokenizer):
    sing = sing_for(pipe, tokenizer)
    on = run(modular(pipe, sing, scale=1.0), num_images_per_prompt=2)
    sing.enable(pipe)
    np.testing.assert_allclose(on, paint(pipe, KEPT, guidance_scale=1.0, num_images_per_prompt=2), atol=1e-5)


def test_a_module_with_its_own_text_encoder(pipe, tokenizer):
    encoder = make_text_encoder(tokenizer, TEXT_WIDTH, seed=9).requires_grad_(False)
    config = make_config(vae_scaling_factor=0.13025, text_fingerprint=fingerprint(encoder))
    sing = SingDiffusion(SingModule(make_module(), config, PromptEncoder([tokenizer], [encoder])))
    on = run(modular(pipe, sing))
    sing.enable(pipe)
    np.testing.assert_allclose(on, paint(pipe, KEPT), atol=1e-5)


def test_the_pipelines_text_encoders_are_shared(pipe, tokenizer):
    """A module with both of SDXL's reads the pipeline's embeddings: its own encoders do not run."""
    text = PromptEncoder([pipe.tokenizer, pipe.tokenizer_2], copy.deepcopy([pipe.text_encoder, pipe.text_encoder_2]))
    config = make_config(vae_scaling_factor=0.13025, text_width=SDXL_WIDTH, text_fingerprint=text.fingerprint())
    sing = SingDiffusion(SingModule(make_module(width=SDXL_WIDTH), config, text))
    calls = []
    for encoder in text.text_encoders:
        encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    on = run(modular(pipe, sing))
    assert calls == []
    sing.enable(pipe)
    np.testing.assert_allclose(on, paint(pipe, KEPT), atol=1e-5)


def test_what_does_not_fit(pipe, tokenizer):
    narrow = SingDiffusion(SingModule(make_module(), make_config()))
    with pytest.raises(SingDiffusionError, match="takes text embeddings of width 16, the pipeline's are 32 wide"):
        run(modular(pipe, narrow))
    with pytest.raises(SingDiffusionError, match="prepare no latents from text"):
        add_first_step(SequentialPipelineBlocks(), narrow.module)
