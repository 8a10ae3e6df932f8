"""The plug-in on real pipelines: what the U-Net receives, what is left as it was, what is refused."""

import copy
import gc
import threading

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from singdiffusion import SingDiffusion, SingDiffusionError
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import PromptEncoder, fingerprint

from ..conftest import SD15, TEXT_WIDTH, UNET_SIZE, make_config, make_module, make_text_encoder
from .painting import NEGATIVE, PROMPT, embed, expected_mean, first_input, noise, recording, run, true_alpha_sigma

# -- what the caller passes -------------------------------------------------------------------------------------------


def test_the_noise_is_the_one_the_pipeline_would_have_drawn(pipe, sing):
    off, _ = first_input(pipe)
    torch.testing.assert_close(off, noise())
    sing.enable(pipe)
    with recording(sing.module.network) as seen:
        run(pipe)
    assert len(seen) == 1, "prompt and negative prompt in one forward, once a call"
    torch.testing.assert_close(seen[0][0], torch.cat([off, off]))


def alpha_sigma_ddim(pipe, steps=4):
    bar = float(pipe.scheduler.alphas_cumprod[1000 // steps * (steps - 1) + 1])
    return bar**0.5, (1 - bar) ** 0.5


@pytest.mark.parametrize("w", [0.5, 1.0, 1.5, 7.5])
@pytest.mark.parametrize("negative", [None, NEGATIVE])
def test_guidance_and_negative_prompts(pipe, sing, w, negative):
    sing.enable(pipe)
    got, _ = first_input(pipe, guidance_scale=w, negative_prompt=negative)
    alpha, sigma = alpha_sigma_ddim(pipe)
    x_1 = noise()
    mean = expected_mean(pipe, sing.module.network, x_1, negative=negative or "", w=w)
    torch.testing.assert_close(got, alpha * mean + sigma * x_1, atol=1e-5, rtol=1e-5)


def test_several_prompts_pictures_and_generators(pipe, sing):
    sing.enable(pipe)
    prompts, negatives = ["a dark room", "a white page"], ["grey", "colour"]
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4, 5, 6)]
    got, _ = first_input(pipe, prompts, negative_prompt=negatives, num_images_per_prompt=2, generator=generators)
    alpha, sigma = alpha_sigma_ddim(pipe)
    for row, (prompt, negative, seed) in enumerate(
        zip(("a dark room",) * 2 + ("a white page",) * 2, ("grey",) * 2 + ("colour",) * 2, (3, 4, 5, 6), strict=True)
    ):
        x_1 = noise(seed=seed)
        mean = expected_mean(pipe, sing.module.network, x_1, prompt, negative)
        torch.testing.assert_close(got[row : row + 1], alpha * mean + sigma * x_1, atol=1e-5, rtol=1e-5)


def test_prompt_embeds_give_the_picture_of_the_prompt(pipe, sing):
    sing.enable(pipe)
    by_prompt = run(pipe, negative_prompt=NEGATIVE)
    by_embeds = run(pipe, None, prompt_embeds=embed(pipe, [PROMPT]), negative_prompt_embeds=embed(pipe, [NEGATIVE]))
    np.testing.assert_array_equal(by_prompt, by_embeds)


def test_prompt_embeds_of_no_prompt(pipe, sing):
    """Mixed or learnt embeddings: the module gets the very ones, they are not encoded a second time."""
    sing.enable(pipe)
    positive, negative = torch.randn(2, 1, 16, TEXT_WIDTH, generator=torch.Generator().manual_seed(1))
    got, _ = first_input(pipe, None, prompt_embeds=positive, negative_prompt_embeds=negative, num_images_per_prompt=2)
    alpha, sigma = alpha_sigma_ddim(pipe)
    x_1 = noise(2)
    with torch.no_grad():
        y_pos, y_neg = (sing.module.network.predict(x_1, rows.repeat(2, 1, 1)) for rows in (positive, negative))
    torch.testing.assert_close(got, alpha * (y_neg + 7.5 * (y_pos - y_neg)) / 7.5 + sigma * x_1, atol=1e-5, rtol=1e-5)


def test_a_denoiser_that_takes_guidance_as_an_input(pipe, sing):
    """Distilled as for latent consistency: the pipeline encodes no negative prompt, whatever the scale."""
    torch.manual_seed(0)
    pipe.unet = UNet2DConditionModel(**UNET_SIZE, time_cond_proj_dim=8).eval()
    sing.enable(pipe)
    got, _ = first_input(pipe, guidance_scale=7.5)
    alpha, sigma = alpha_sigma_ddim(pipe)
    x_1 = noise()
    torch.testing.assert_close(
        got, alpha * expected_mean(pipe, sing.module.network, x_1, w=1) + sigma * x_1, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("cls", [DDIMScheduler, EulerDiscreteScheduler])
def test_latents_of_the_user_are_x_1(pipe, sing, cls):
    pipe.scheduler = cls(**SD15)
    sing.enable(pipe)
    x_1 = noise(seed=9)
    got, timestep = first_input(pipe, latents=x_1.clone())
    alpha, sigma = true_alpha_sigma(pipe.scheduler, timestep)
    expected = alpha * expected_mean(pipe, sing.module.network, x_1) + sigma * x_1
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_callbacks_see_every_step(pipe, sing):
    sing.enable(pipe)
    seen = []

    def callback(pipe, i, t, kwargs):
        seen.append(i)
        return kwargs

    run(pipe, callback_on_step_end=callback)
    assert seen == [0, 1, 2, 3]


def test_bfloat16(pipe, sing):
    pipe.to(dtype=torch.bfloat16)
    sing.enable(pipe)
    got, _ = first_input(pipe)
    assert got.dtype == torch.bfloat16
    alpha, sigma = alpha_sigma_ddim(pipe)
    x_1 = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.bfloat16).float()
    rows = [embed(pipe, [text]).float() for text in ("", PROMPT)]
    with torch.no_grad():
        y_neg, y_pos = (sing.module.network.predict(x_1, row) for row in rows)
    expected = alpha * (y_neg + 7.5 * (y_pos - y_neg)) / 7.5 + sigma * x_1
    torch.testing.assert_close(got.float(), expected, atol=2e-2, rtol=1e-2)  # bfloat16 keeps 8 bits
    assert np.isfinite(run(pipe)).all()


@pytest.mark.parametrize("cls", [DDIMScheduler, EulerDiscreteScheduler])
def test_bfloat16_is_rounded_once(pipe, sing, cls):
    """The noise and the mean are combined in float32 and only the sum is rounded."""
    pipe.scheduler = cls(**SD15)
    pipe.to(dtype=torch.bfloat16)
    off, on = [], []
    for kept, plug in ((off, lambda: None), (on, lambda: sing.enable(pipe))):
        plug()
        inner = pipe.prepare_latents
        pipe.prepare_latents = lambda *args, inner=inner, kept=kept, **kw: kept.append(inner(*args, **kw)) or kept[0]
        run(pipe)
        del pipe.prepare_latents
    bar = float(pipe.scheduler.alphas_cumprod[int(pipe.scheduler.timesteps[0])])
    alpha, sigma = bar**0.5, (1 - bar) ** 0.5
    scale, noise_scale = (1, 1) if cls is DDIMScheduler else (1 / alpha, float(pipe.scheduler.init_noise_sigma))
    x_1 = off[0].float() / noise_scale
    with torch.no_grad():
        y_neg, y_pos = (sing.module.network.predict(x_1, embed(pipe, [text]).float()) for text in ("", PROMPT))
    expected = scale * (alpha * (y_neg + 7.5 * (y_pos - y_neg)) / 7.5 + sigma * x_1)
    # a last digit of float32 may tip a few; a second rounding changes a quarter of them
    assert (on[0] != expected.bfloat16()).float().mean() < 0.03


def test_a_scheduler_swapped_after_enabling(pipe, sing):
    sing.enable(pipe)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    got, timestep = first_input(pipe)
    assert timestep == 999
    x_1 = noise()
    expected = 0.06826 * expected_mean(pipe, sing.module.network, x_1) + 0.99767 * x_1
    torch.testing.assert_close(got, expected, atol=3e-5, rtol=1e-4)


def test_other_sizes(pipe, sing):
    sing.enable(pipe)
    got, _ = first_input(pipe, height=24, width=32)
    assert got.shape == (1, 4, 12, 16)


# -- on and off -------------------------------------------------------------------------------------------------------


def test_after_disable_pictures_are_bit_identical(pipe, sing):
    before, attributes = run(pipe), dict(vars(pipe))
    sing.enable(pipe)
    on = run(pipe)
    assert not np.array_equal(before, on)
    sing.disable()
    np.testing.assert_array_equal(run(pipe), before)
    assert {k: v for k, v in vars(pipe).items() if k in attributes}.keys() == vars(pipe).keys() == attributes.keys()
    assert type(pipe).prepare_latents is pipe.prepare_latents.__func__


def test_suspended_in_a_with_block_even_when_it_raises(pipe, sing):
    off = run(pipe)
    sing.enable(pipe)
    on = run(pipe)
    with pytest.raises(KeyError), sing.disabled():
        assert not sing.enabled
        np.testing.assert_array_equal(run(pipe), off)
        raise KeyError
    assert sing.enabled
    np.testing.assert_array_equal(run(pipe), on)


def test_enabling_twice_and_disabling_twice_change_nothing(pipe, sing):
    off = run(pipe)
    assert sing.enable(pipe) is sing
    on = run(pipe)
    sing.enable(pipe)
    np.testing.assert_array_equal(run(pipe), on)
    sing.disable()
    sing.disable()
    np.testing.assert_array_equal(run(pipe), off)


def test_the_pipeline_keeps_its_components(pipe, sing):
    before = set(pipe.components)
    sing.enable(pipe)
    assert set(pipe.components) == before
    pipe.to(torch.float32)


def test_a_call_that_fails_leaves_nothing_behind(pipe, sing):
    sing.enable(pipe)
    on = run(pipe)
    original = pipe.scheduler.set_timesteps

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    pipe.scheduler.set_timesteps = interrupted  # after encode_prompt, before prepare_latents
    with pytest.raises(KeyboardInterrupt):
        run(pipe, "something else")
    pipe.scheduler.set_timesteps = original
    np.testing.assert_array_equal(run(pipe), on)
    pipe.encode_prompt("a third thing", "cpu", 1, True)  # to keep embeddings, as people do
    np.testing.assert_array_equal(run(pipe), on)


def test_an_error_in_a_callback_leaves_nothing_behind(pipe, sing):
    sing.enable(pipe)
    on = run(pipe)

    def callback(pipe, i, t, kwargs):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(pipe, "something else", callback_on_step_end=callback)
    np.testing.assert_array_equal(run(pipe), on)


def test_latents_without_a_prompt_are_refused(pipe, sing):
    sing.enable(pipe)
    run(pipe)  # what it leaves behind must not be taken for this call's
    with pytest.raises(SingDiffusionError, match="without encoding a prompt"):
        pipe.prepare_latents(1, 4, 16, 16, torch.float32, torch.device("cpu"), torch.Generator())


def test_what_others_put_on_the_pipeline_stays(pipe, sing):
    off, original = run(pipe), pipe.encode_prompt
    pipe.encode_prompt = lambda *args, **kwargs: original(*args, **kwargs)
    before = dict(vars(pipe))
    sing.enable(pipe)
    hook = pipe.encode_prompt
    sing.disable()
    assert vars(pipe) == before

    sing.enable(pipe)
    on, hook = run(pipe), pipe.encode_prompt
    pipe.encode_prompt = lambda *args, **kwargs: hook(*args, **kwargs)  # somebody else, after us
    np.testing.assert_array_equal(run(pipe), on)
    sing.disable()
    np.testing.assert_array_equal(run(pipe), off)


def test_a_deep_copy_is_not_plugged_in(pipe, sing):
    off = run(pipe)
    sing.enable(pipe)
    on, other = run(pipe), copy.deepcopy(pipe)
    np.testing.assert_array_equal(run(other), off)
    np.testing.assert_array_equal(run(pipe), on)
    assert other.encode_prompt.__self__ is other
    SingDiffusion(SingModule(sing.module.network, sing.module.config)).enable(other)
    np.testing.assert_array_equal(run(other), on)


def test_without_decoder_or_text_encoder(pipe, sing):
    """Both are left out where memory is short."""
    positive, negative = embed(pipe, [PROMPT]), embed(pipe, [""])
    expected = run(sing.enable(pipe)._pipeline, output_type="latent")
    sing.disable()
    pipe.vae = pipe.text_encoder = None
    sing.enable(pipe)
    images = run(pipe, None, prompt_embeds=positive, negative_prompt_embeds=negative, output_type="latent")
    torch.testing.assert_close(images, expected)


def test_a_text_encoder_that_is_offloaded(pipe, sing):
    cpu_offload(pipe.text_encoder, torch.device("cpu"))  # its weights are on the meta device between calls
    assert fingerprint(pipe.text_encoder) == sing.module.config.text_fingerprint
    assert sing.enable(pipe).enabled


def test_a_dropped_pipeline_is_freed_and_the_module_can_move_on(make_pipe, sing):
    first = make_pipe()
    sing.enable(first)
    del first
    gc.collect()
    assert not sing.enabled
    sing.enable(make_pipe())
    assert sing.enabled


def test_two_pipelines_in_two_threads(make_pipe):
    pairs = {}
    for seed in (1, 2):
        pairs[seed] = make_pipe()
        SingDiffusion(SingModule(make_module(), make_config())).enable(pairs[seed])
    alone = {seed: run(pipe, seed=seed) for seed, pipe in pairs.items()}
    together = {}
    threads = [
        threading.Thread(target=lambda s=seed, p=pipe: together.update({s: run(p, seed=s)}))
        for seed, pipe in pairs.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in pairs:
        np.testing.assert_array_equal(alone[seed], together[seed])


# -- the module's own text encoder ------------------------------------------------------------------------------------


def own_text_sing(tokenizer, width=TEXT_WIDTH + 8):
    encoder = make_text_encoder(tokenizer, width, seed=11).requires_grad_(False)
    config = make_config(text_width=width, text_fingerprint=fingerprint(encoder))
    return SingDiffusion(SingModule(make_module(width=width), config, PromptEncoder([tokenizer], [encoder])))


def test_a_module_with_its_own_text_encoder_reads_the_prompt(pipe, tokenizer):
    sing = own_text_sing(tokenizer).enable(pipe)
    got, _ = first_input(pipe, [PROMPT, "a page"], negative_prompt=[NEGATIVE] * 2, num_images_per_prompt=2)
    x_1 = noise(4)
    tokens = tokenizer(
        [PROMPT, "a page", NEGATIVE], padding="max_length", max_length=16, truncation=True, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        first, second, negative = sing.module.text.text_encoders[0](tokens)[0].chunk(3)
        y_pos = sing.module.network.predict(x_1, torch.cat([first, first, second, second]))
        y_neg = sing.module.network.predict(x_1, torch.cat([negative] * 4))
    alpha, sigma = alpha_sigma_ddim(pipe)
    torch.testing.assert_close(got, alpha * (y_neg + 7.5 * (y_pos - y_neg)) / 7.5 + sigma * x_1, atol=1e-5, rtol=1e-5)


def test_a_module_with_its_own_text_encoder_needs_the_prompt(pipe, tokenizer):
    own_text_sing(tokenizer).enable(pipe)
    negative = embed(pipe, [""])
    with pytest.raises(SingDiffusionError, match="only prompt_embeds were passed"):
        run(pipe, None, prompt_embeds=embed(pipe, [PROMPT]), negative_prompt_embeds=negative)
    with pytest.raises(SingDiffusionError, match="only negative_prompt_embeds were passed"):
        run(pipe, negative_prompt_embeds=negative)
    run(pipe, negative_prompt_embeds=negative, guidance_scale=1)  # not used


def test_another_encoder_of_the_same_width_is_noticed(make_pipe, pipe, sing):
    other = make_pipe(seed=1)
    with pytest.raises(SingDiffusionError, match="text encoder is not that of the module"):
        sing.enable(other)
    sing.enable(pipe.to(dtype=torch.bfloat16))  # the same one in another dtype is the same one


# -- what does not fit ------------------------------------------------------------------------------------------------


def test_latents_of_other_channels(make_pipe):
    with pytest.raises(SingDiffusionError, match="latents of 4 channels, the pipeline's have 8"):
        SingDiffusion(SingModule(make_module(), make_config())).enable(make_pipe(channels=8))


def test_another_latent_space(make_pipe):
    with pytest.raises(SingDiffusionError, match="another latent space: VAE scaling factor 0.18215.*0.13025"):
        SingDiffusion(SingModule(make_module(), make_config())).enable(make_pipe(scaling=0.13025))


def test_another_shift_of_the_latent_space(pipe):
    with pytest.raises(SingDiffusionError, match="another latent space: VAE shift factor 0.1159.*is 0"):
        SingDiffusion(SingModule(make_module(), make_config(vae_shift_factor=0.1159))).enable(pipe)


def test_another_text_width(make_pipe):
    with pytest.raises(SingDiffusionError, match="width 16, the pipeline's are 24 wide"):
        SingDiffusion(SingModule(make_module(), make_config())).enable(make_pipe(width=24))


def test_unknown_pipelines(pipe, sing):
    class MyPipeline(type(pipe)):
        pass

    mine = MyPipeline(**pipe.components, requires_safety_checker=False)
    with pytest.raises(
        SingDiffusionError, match="class MyPipeline is not supported; supported: StableDiffusionPipeline"
    ):
        sing.enable(mine)


def test_a_scheduler_without_a_first_step_is_refused_at_once(pipe, sing):
    pipe.scheduler = DDIMInverseScheduler(**SD15)
    with pytest.raises(SingDiffusionError, match="DDIMInverseScheduler is not supported: it inverts pictures"):
        sing.enable(pipe)
    assert not sing.enabled


def test_a_scheduler_that_behaves_like_a_known_one(pipe, sing):
    class MyScheduler(DDIMScheduler):
        pass

    sing.enable(pipe)
    expected = run(pipe)
    pipe.scheduler = MyScheduler.from_config(pipe.scheduler.config)
    np.testing.assert_array_equal(run(pipe), expected)


def test_a_scheduler_that_behaves_like_none(pipe, sing):
    class MyScheduler(DDIMScheduler):
        def add_noise(self, original, noise, timesteps):
            return 3 * original + noise

    sing.enable(pipe)
    pipe.scheduler = MyScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(
        SingDiffusionError, match="MyScheduler is unknown and behaves like no known one.*3 x_0 . 1 noise"
    ):
        run(pipe)


def test_one_pipeline_one_module(make_pipe, pipe, sing):
    sing.enable(pipe)
    with pytest.raises(SingDiffusionError, match="enabled on another pipeline"):
        sing.enable(make_pipe())
    with pytest.raises(SingDiffusionError, match="another SingDiffusion is enabled"):
        SingDiffusion(SingModule(make_module(), make_config())).enable(pipe)


def test_latents_for_more_pictures_than_prompts(pipe, sing):
    sing.enable(pipe)
    with pytest.raises(SingDiffusionError, match="embeddings of 1 prompts do not fit latents of 3 pictures"):
        run(pipe, latents=noise(3))


def test_a_module_that_says_nan_raises(pipe, sing):
    with torch.no_grad():
        sing.module.network.conv_out.bias[0] = float("nan")
    sing.enable(pipe)
    with pytest.raises(SingDiffusionError, match="NaN"):
        run(pipe)


@pytest.mark.parametrize("what", [None, 3, "pipe", StableDiffusionPipeline])
def test_enable_takes_a_pipeline(sing, what):
    with pytest.raises(SingDiffusionError, match="enable takes a diffusers pipeline, not"):
        sing.enable(what)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"prompt": 3}, "prompt for the first step must be one text for all pictures, not a int"),
        ({"prompt": ["a", "b"]}, "prompt for the first step must be one text for all pictures, not a list"),
        ({"prompt": "a", "negative_prompt": ["b"]}, "negative_prompt for the first step must be one text"),
        ({"prompt": "a", "guidance_scale": "a"}, "guidance_scale must be a finite number, not a"),
    ],
)
def test_steering_of_the_wrong_kind(pipe, sing, options, match):
    with pytest.raises(SingDiffusionError, match=match):
        sing.enable(pipe, **options)
    assert not sing.enabled
