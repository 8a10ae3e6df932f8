"""Half-denoised states, copies of pipelines, and small autoencoders: left alone, named, or read right."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from diffusers import (
    AsymmetricAutoencoderKL,
    AutoencoderTiny,
    AutoPipelineForText2Image,
    ConsistencyDecoderVAE,
    DDPMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionPipeline,
)

from singdiffusion import SingDiffusion, SingDiffusionError
from singdiffusion.modules import SingModule

from ..conftest import make_config, make_module
from .painting import first_input, noise, run
from .zoo import KEPT, build

MIDWAY = [501, 401, 301, 201, 101, 1]


@pytest.mark.parametrize("scheduler", [DDPMScheduler, EulerDiscreteScheduler])
def test_timesteps_that_begin_midway(pipe, sing, scheduler):
    """Latents of an earlier run, and custom timesteps from where it stopped: the call is left as it is, with a warning."""
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    before = run(pipe, latents=noise(seed=3), timesteps=MIDWAY, num_inference_steps=None)
    sing.enable(pipe)
    with pytest.warns(
        UserWarning, match="leaves this call of StableDiffusionPipeline as it is: its latents are not noise"
    ):
        after = run(pipe, latents=noise(seed=3), timesteps=MIDWAY, num_inference_steps=None)
    np.testing.assert_array_equal(after, before)


def test_custom_timesteps_from_the_start_are_taken(pipe, sing):
    """With and without latents: they begin where the scheduler itself would, or above."""
    pipe.scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    sing.enable(pipe)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for first in (999, 901):
            steps = [first, 700, 300, 1]
            drawn = first_input(pipe, timesteps=steps, num_inference_steps=None)[0]
            given = first_input(pipe, timesteps=steps, num_inference_steps=None, latents=noise())[0]
            torch.testing.assert_close(drawn, given)
            assert not torch.equal(given, noise())


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_latents_with_another_spread_than_noise(pipe, sing, factor):
    before = run(pipe, latents=factor * noise())
    sing.enable(pipe)
    with pytest.warns(UserWarning, match="its latents are not noise"):
        np.testing.assert_array_equal(run(pipe, latents=factor * noise()), before)


@pytest.mark.parametrize("seed", range(20))
def test_noise_counts_as_noise(pipe, sing, seed):
    """For every seed, at this smallest size, and for every pair of a batch."""
    sing.enable(pipe)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first_input(pipe, latents=noise(seed=seed), steps=2)


# -- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        StableDiffusionPipeline.from_pipe,
        StableDiffusionImg2ImgPipeline.from_pipe,
        StableDiffusionPAGPipeline.from_pipe,
        AutoPipelineForText2Image.from_pipe,
        lambda pipe: StableDiffusionPipeline(**pipe.components, requires_safety_checker=False),
    ],
)
def test_a_pipeline_made_of_an_enabled_ones_parts_is_named(pipe, sing, make):
    sing.enable(pipe)
    with pytest.warns(UserWarning, match="a pipeline made of its components is not enabled"):
        other = make(pipe)
    assert "prepare_latents" not in vars(other)
    sing.disable()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="SingDiffusion")
        make(pipe)


def test_diffusers_own_look_at_components_is_no_copy(pipe, sing, tmp_path):
    sing.enable(pipe)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="SingDiffusion")
        pipe.to("cpu")
        pipe.enable_attention_slicing()
        pipe.save_pretrained(tmp_path)
        run(pipe)


def test_an_enabled_pipeline_is_pickled_as_a_plain_one(pipe, sing):
    before = run(pipe)
    sing.enable(pipe)
    other = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(run(other), before)
    np.testing.assert_array_equal(run(copy.deepcopy(pipe)), before)
    assert not np.array_equal(run(pipe), before)


# -- small autoencoders -----------------------------------------------------------------------------------------------


def taesd():
    torch.manual_seed(0)
    sizes = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    return AutoencoderTiny(num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), **sizes).eval()


def test_taesd_decodes_the_same_latents(pipe, sing):
    """Its factor is 1, because it takes scaled latents; the first step is the same as with the VAE."""
    sing.enable(pipe)
    expected, _ = first_input(pipe, output_type="latent")
    sing.disable()
    pipe.vae = taesd()
    assert pipe.vae.config.scaling_factor == 1.0
    sing.enable(pipe)
    got, _ = first_input(pipe, output_type="latent")
    torch.testing.assert_close(got, expected)


def consistency_decoder():
    blocks = {"encoder_block_out_channels": (32, 64), "decoder_block_out_channels": (32, 64)}
    down, up = ("ResnetDownsampleBlock2D",) * 2, ("ResnetUpsampleBlock2D",) * 2
    types = {"encoder_down_block_types": ("DownEncoderBlock2D",) * 2, "decoder_down_block_types": down}
    return ConsistencyDecoderVAE(**blocks, **types, decoder_up_block_types=up, latent_channels=4).eval()


def asymmetric():
    sizes = {"down_block_out_channels": (32, 64), "up_block_out_channels": (32, 64)}
    types = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AsymmetricAutoencoderKL(**sizes, **types).eval()


@pytest.mark.parametrize("make", [consistency_decoder, asymmetric])
def test_other_decoders_of_the_same_latents(pipe, sing, make):
    """Their factor is Stable Diffusion's by default."""
    expected, _ = first_input(sing.enable(pipe)._pipeline, output_type="latent")
    sing.disable()
    pipe.vae = make()
    sing.enable(pipe)
    torch.testing.assert_close(first_input(pipe, output_type="latent")[0], expected)
    sing.enable(pipe, color="white")
    assert torch.isfinite(first_input(pipe, output_type="latent")[0]).all()


def test_taesd_with_sdxl(tokenizer):
    pipe, _ = build("StableDiffusionXLPipeline", tokenizer)
    pipe.vae = taesd()
    of_sdxl = {"vae_scaling_factor": 0.13025, "text_width": 32}
    SingDiffusion(SingModule(make_module(width=32), make_config(**of_sdxl))).enable(pipe).disable()
    other = SingDiffusion(SingModule(make_module(width=32), make_config(text_width=32)))
    with pytest.raises(SingDiffusionError, match="factor 0.18215, the pipeline's is 0.13025"):
        other.enable(pipe)


def test_a_color_through_taesd(pipe):
    pipe.vae = taesd()
    SingDiffusion().enable(pipe, color="#204060")
    got, _ = first_input(pipe, **KEPT, output_type="latent")
    assert torch.isfinite(got).all()
