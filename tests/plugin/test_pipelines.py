"""Every class of the table, run for real: what its denoiser receives first, and that nothing is left behind."""

import copy
import inspect
import threading
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from diffusers import (
    AnimateDiffPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPAGPipeline,
)

from singdiffusion import SingDiffusion, SingDiffusionError
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import PromptEncoder, fingerprint
from singdiffusion.plugin.pipelines import PIPELINES
from singdiffusion.plugin.vae import flat_latents

from ..conftest import TEXT_WIDTH, make_config, make_module, make_text_encoder
from .painting import noise
from .zoo import SDXL_WIDTH, ZOO, ZOO_MORE, build, build_untouched, picture

PROMPT, NEGATIVE, SCALE = "a dark room", "grey", 5.0
NAMES = [*ZOO, *ZOO_MORE]
WITH_TEXT = [name for name in NAMES if not name.startswith("Kandinsky")]


def sing_for(pipe, tokenizer):
    """A module with random weights for the pipeline's latents and, where it has one, its text."""
    width = SDXL_WIDTH if hasattr(pipe, "text_encoder_2") else TEXT_WIDTH
    scaling = 1.0 if hasattr(pipe, "movq") else pipe.vae.config.scaling_factor
    own = None
    if hasattr(pipe, "movq"):
        own = PromptEncoder([tokenizer], [make_text_encoder(tokenizer, width, seed=3).requires_grad_(False)])
    config = make_config(text_width=width, vae_scaling_factor=scaling)
    return SingDiffusion(SingModule(make_module(width=width), config, own))


def plug(sing, pipe, **options):
    """Enable; a pipeline that encodes no prompt needs one for the first step."""
    return sing.enable(pipe, **({"prompt": PROMPT} if hasattr(pipe, "movq") else {}), **options)


def paint(pipe, options, seeds=(0,), **more):
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    given = {"num_inference_steps": 2, "guidance_scale": SCALE, "output_type": "np"} | options | more
    given["generator"] = generators if len(generators) > 1 else generators[0]
    if not hasattr(pipe, "movq"):
        given.setdefault("prompt", PROMPT)
    if isinstance(pipe, AnimateDiffPipeline):
        return np.stack(pipe(**given).frames)
    return pipe(**given).images


@contextmanager
def first_inputs(pipe):
    """The latents that the denoiser gets first: the rows of the pictures, without copies for guidance or more channels."""
    denoiser = getattr(pipe, PIPELINES[type(pipe).__name__].denoiser)
    seen = []

    def note(_, args, kwargs):
        sample = args[0] if args else kwargs.get("sample", kwargs.get("hidden_states"))
        seen.append(sample[:, :4].clone())

    handle = denoiser.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def predictions(module):
    """(x_1, embeddings, y) of every prediction of a module."""
    seen, predict = [], module.predict

    def note(x_1, embeddings):
        seen.append((x_1.clone(), embeddings.clone(), predict(x_1, embeddings)))
        return seen[-1][2]

    module.predict = note
    try:
        yield seen
    finally:
        del module.predict


def fold(latents):
    """Frames as pictures."""
    return latents.transpose(1, 2).flatten(0, 1) if latents.ndim == 5 else latents


def check(pipe, sing, options, rows, **more):
    """The denoiser's first input on is alpha y_bar + sigma times its first input off, the noise itself (DDIM: n = m = 1)."""
    with first_inputs(pipe) as off:
        before = paint(pipe, options, **more)
    plug(sing, pipe)
    with first_inputs(pipe) as on, predictions(sing.module.network) as recorded:
        paint(pipe, options, **more)
    x_1, got = fold(off[0][-rows:]), fold(on[0][-rows:])
    (noise, embeddings, y), *others = recorded
    assert not others, "one forward a call"
    guided = len(noise) == 2 * len(x_1)
    torch.testing.assert_close(noise, torch.cat([x_1] * (2 if guided else 1)))
    y_pos = y.chunk(2)[1] if guided else y
    y_bar = (y.chunk(2)[0] + SCALE * (y_pos - y.chunk(2)[0])) / SCALE if guided else y_pos
    bar = float(pipe.scheduler.alphas_cumprod[int(pipe.scheduler.timesteps[0])])
    torch.testing.assert_close(got, bar**0.5 * y_bar + (1 - bar) ** 0.5 * x_1, atol=1e-5, rtol=1e-5)
    sing.disable()
    np.testing.assert_array_equal(paint(pipe, options, **more), before)
    return guided, embeddings


def embeddings_of(pipe, prompt, negative):
    """What the pipeline itself makes of a prompt and a negative prompt."""
    pixart = "PixArt" in type(pipe).__name__
    encoded = pipe.encode_prompt(
        prompt=prompt,
        negative_prompt=negative,
        do_classifier_free_guidance=True,
        device=torch.device("cpu"),
        num_images_per_prompt=1,
        **({"max_sequence_length": 16} if pixart else {}),
    )
    return encoded[0], encoded[2 if pixart else 1]


@pytest.mark.parametrize("name", NAMES)
def test_the_denoiser_gets_the_step_from_t_1(name, tokenizer):
    pipe, options = build(name, tokenizer)
    sing = sing_for(pipe, tokenizer)
    guided, embeddings = check(pipe, sing, options, rows=1)
    assert guided == ("Latent" not in name), "latent consistency models take guidance as an input"
    if name in WITH_TEXT:
        positive, _ = embeddings_of(pipe, PROMPT, "")
        negative, _ = embeddings_of(pipe, "", "")  # also where SDXL passes zeros
        frames = options.get("num_frames", 1)
        expected = torch.cat([negative] * frames + [positive] * frames) if guided else positive
        torch.testing.assert_close(embeddings, expected)


@pytest.mark.parametrize("name", [name for name in WITH_TEXT if "Latent" not in name])
def test_negative_prompts_pictures_per_prompt_and_generators(name, tokenizer):
    pipe, options = build(name, tokenizer)
    more = {"num_images_per_prompt": 2, "negative_prompt": NEGATIVE}
    if "AnimateDiff" in name:  # which paints one video a prompt, whatever is asked
        more = {"prompt": [PROMPT] * 2, "negative_prompt": [NEGATIVE] * 2}
    sing = sing_for(pipe, tokenizer)
    _, embeddings = check(pipe, sing, options, rows=2, seeds=(5, 6), **more)
    positive, negative = embeddings_of(pipe, PROMPT, NEGATIVE)
    copies = 2 * options.get("num_frames", 1)
    torch.testing.assert_close(embeddings, torch.cat([negative] * copies + [positive] * copies))


@pytest.mark.parametrize("name", WITH_TEXT)
def test_guidance_1_needs_no_negative_prompt(name, tokenizer):
    pipe, options = build(name, tokenizer)
    guided, _ = check(pipe, sing_for(pipe, tokenizer), options, rows=1, guidance_scale=1.0)
    assert not guided


@pytest.mark.parametrize("name", NAMES)
def test_callbacks_and_another_scheduler(name, tokenizer):
    pipe, options = build(name, tokenizer)
    plug(sing_for(pipe, tokenizer), pipe)
    if "Latent" not in name:  # whose step needs its own scheduler
        pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    seen = []
    if "callback_on_step_end" in inspect.signature(pipe.__call__).parameters:
        paint(pipe, options, callback_on_step_end=lambda pipe, i, t, kwargs: seen.append(i) or kwargs)
    else:  # PixArt and the adapters have the older one
        paint(pipe, options, callback=lambda i, t, latents: seen.append(i), callback_steps=1)
    assert seen == [0, 1]


@pytest.mark.parametrize("name", NAMES)
def test_a_deep_copy_is_not_plugged_in(name, tokenizer):
    pipe, options = build(name, tokenizer)
    off = paint(pipe, options)
    plug(sing_for(pipe, tokenizer), pipe)
    np.testing.assert_array_equal(paint(copy.deepcopy(pipe), options), off)


# -- what is left as it is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["StableDiffusionImg2ImgPipeline", "StableDiffusionXLImg2ImgPipeline"])
def test_a_pipeline_that_starts_from_a_picture_is_left_alone_and_says_so_once(name, tokenizer):
    pipe = build_untouched(name, tokenizer)
    options = {"image": picture(), "strength": 0.9}
    off = paint(pipe, options)
    sing = sing_for(pipe, tokenizer)
    with pytest.warns(UserWarning, match=f"leaves {name} as it is: it starts from a picture"):
        sing.enable(pipe)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sing.enable(pipe)
    np.testing.assert_array_equal(paint(pipe, options), off)
    sing.disable()


def test_inpainting_below_strength_1_is_left_alone_and_says_so_once(tokenizer):
    pipe, options = build("StableDiffusionInpaintPipeline", tokenizer)
    off = paint(pipe, options, strength=0.6, num_inference_steps=4)
    sing_for(pipe, tokenizer).enable(pipe)
    with pytest.warns(UserWarning, match="leaves this call of StableDiffusionInpaintPipeline as it is"):
        np.testing.assert_array_equal(paint(pipe, options, strength=0.6, num_inference_steps=4), off)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        paint(pipe, options, strength=0.6, num_inference_steps=4)


def test_flows_have_nothing_to_fix(pipe, sing):
    class SomethingFlux(type(pipe)):
        pass

    flux = SomethingFlux(**pipe.components, requires_safety_checker=False)
    flux.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.warns(UserWarning, match="leaves SomethingFlux as it is: it matches flows"):
        sing.enable(flux)


# -- pipelines made of pipelines, threads -------------------------------------------------------------------------------


def test_from_pipe_gives_a_pipeline_that_is_not_plugged_in(pipe, sing):
    sing.enable(pipe)
    other = StableDiffusionPAGPipeline.from_pipe(pipe)
    inpaint = StableDiffusionInpaintPipeline.from_pipe(pipe)
    assert "prepare_latents" not in {**vars(other), **vars(inpaint)}
    other.set_progress_bar_config(disable=True)
    off = paint(other, {})
    second = SingDiffusion(SingModule(sing.module.network, sing.module.config)).enable(other)
    assert not np.array_equal(paint(other, {}), off)
    second.disable()
    np.testing.assert_array_equal(paint(other, {}), off)


def test_the_same_pipeline_in_two_threads_is_refused(pipe, sing):
    """Its scheduler holds one call's state: diffusers would mix the pictures without a word."""
    sing.enable(pipe)
    expected = paint(pipe, {}, num_inference_steps=4)
    entered, go_on, images, errors = threading.Event(), threading.Event(), [], []

    def wait(pipe, i, t, kwargs):
        if i == 0:
            entered.set()
            go_on.wait(60)
        return kwargs

    first = threading.Thread(
        target=lambda: images.append(paint(pipe, {}, num_inference_steps=4, callback_on_step_end=wait))
    )
    first.start()
    assert entered.wait(60)

    def second_call():
        try:
            paint(pipe, {}, num_inference_steps=4)
        except SingDiffusionError as error:
            errors.append(str(error))

    second = threading.Thread(target=second_call)
    second.start()
    second.join(60)
    go_on.set()
    first.join(60)
    assert [("painting in another thread" in error) for error in errors] == [True]
    np.testing.assert_array_equal(images[0], expected)
    np.testing.assert_array_equal(paint(pipe, {}, num_inference_steps=4), expected)


# -- another prompt or a colour at the first step -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "StableDiffusionXLPipeline", "PixArtAlphaPipeline"])
def test_the_first_step_can_have_a_prompt_of_its_own(name, tokenizer):
    pipe, options = build(name, tokenizer)
    sing = sing_for(pipe, tokenizer).enable(pipe, prompt="warm dark room", negative_prompt="white", guidance_scale=2.0)
    with predictions(sing.module.network) as recorded, first_inputs(pipe) as on:
        paint(pipe, options, num_images_per_prompt=2)
    positive, negative = embeddings_of(pipe, "warm dark room", "white")
    (x_1, embeddings, y), *_ = recorded
    torch.testing.assert_close(embeddings, torch.cat([negative, negative, positive, positive]))
    y_neg, y_pos = y.chunk(2)
    bar = float(pipe.scheduler.alphas_cumprod[int(pipe.scheduler.timesteps[0])])
    expected = bar**0.5 * (y_neg + 2 * (y_pos - y_neg)) / 2 + (1 - bar) ** 0.5 * x_1[:2]
    torch.testing.assert_close(on[0][-2:], expected, atol=1e-5, rtol=1e-5)
    sing.enable(pipe)  # again, without: the pipeline's own prompt
    with predictions(sing.module.network) as recorded:
        paint(pipe, options)
    torch.testing.assert_close(recorded[0][1][1:], embeddings_of(pipe, PROMPT, "")[0])


def test_with_a_prompt_of_its_own_embeddings_are_enough(pipe, tokenizer):
    """A module with its own text encoder cannot read the embeddings that a caller passes; its own prompt it can."""
    encoder = make_text_encoder(tokenizer, TEXT_WIDTH + 8, seed=11).requires_grad_(False)
    config = make_config(text_width=TEXT_WIDTH + 8, text_fingerprint=fingerprint(encoder))
    sing = SingDiffusion(SingModule(make_module(width=TEXT_WIDTH + 8), config, PromptEncoder([tokenizer], [encoder])))
    positive, negative = embeddings_of(pipe, PROMPT, "")
    given = {"prompt": None, "prompt_embeds": positive, "negative_prompt_embeds": negative}
    sing.enable(pipe)
    with pytest.raises(SingDiffusionError, match="only prompt_embeds were passed"):
        paint(pipe, {}, **given)
    sing.enable(pipe, prompt="dark")
    assert np.isfinite(paint(pipe, {}, **given)).all()


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "AnimateDiffPipeline", "KandinskyV22Pipeline"])
@pytest.mark.parametrize("color", ["#101820", (16, 24, 32)])
def test_a_color_needs_no_module(name, color, tokenizer):
    pipe, options = build(name, tokenizer)
    with first_inputs(pipe) as off:
        before = paint(pipe, options)
    sing = SingDiffusion().enable(pipe, color=color)
    with first_inputs(pipe) as on:
        paint(pipe, options)
    pixels = (torch.tensor([16, 24, 32.0]) / 127.5 - 1).reshape(1, 3, 1, 1).expand(1, 3, 16, 16)
    with torch.no_grad():
        if hasattr(pipe, "movq"):
            mean = pipe.movq.encode(pixels).latents
        else:
            mean = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
    bar = float(pipe.scheduler.alphas_cumprod[int(pipe.scheduler.timesteps[0])])
    x_1, got = (fold(inputs[0][-1:]) for inputs in (off, on))
    torch.testing.assert_close(got, bar**0.5 * mean + (1 - bar) ** 0.5 * x_1, atol=1e-5, rtol=1e-5)
    sing.disable()
    np.testing.assert_array_equal(paint(pipe, options), before)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"color": "#12345"}, "'#12345' is not a colour; write #rrggbb"),
        ({"color": "nearly black"}, "is not a colour"),
        ({"color": (1, 2)}, "must be red, green and blue within 0..255"),
        ({"color": (0, 0, 256)}, "within 0..255"),
        ({"color": "red", "prompt": "dark"}, "a color or a prompt"),
        ({"negative_prompt": "dark"}, "needs a prompt"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a finite number"),
    ],
)
def test_options_that_make_no_sense_leave_the_pipeline_alone(pipe, sing, options, line):
    with pytest.raises(SingDiffusionError, match=line):
        sing.enable(pipe, **options)
    assert not sing.enabled
    assert "prepare_latents" not in vars(pipe)


def test_a_color_through_an_autoencoder_that_overflows_in_half_precision(pipe):
    """SDXL's has ``force_upcast``: it encodes in float32 and is half again afterwards."""
    pipe.vae.register_to_config(force_upcast=True)
    expected = flat_latents((16, 24, 32), pipe.vae.half().float(), noise())
    pipe.vae.half()
    torch.testing.assert_close(flat_latents((16, 24, 32), pipe.vae, noise()), expected)
    assert pipe.vae.dtype == torch.float16


def test_no_module_and_no_color(pipe, tmp_path):
    with pytest.raises(SingDiffusionError, match="there is no module"):
        SingDiffusion().enable(pipe)
    with pytest.raises(SingDiffusionError, match="there is no module to save"):
        SingDiffusion().save_pretrained(tmp_path / "none")
    pipe.vae = None
    with pytest.raises(SingDiffusionError, match="needs the pipeline's VAE"):
        SingDiffusion().enable(pipe, color="red")


def test_a_pipeline_without_prompts_needs_one_for_the_first_step(tokenizer):
    pipe, _ = build("KandinskyV22Pipeline", tokenizer)
    with pytest.raises(SingDiffusionError, match="KandinskyV22Pipeline encodes no prompt"):
        sing_for(pipe, tokenizer).enable(pipe)


def test_img2img_from_pipe_warns(pipe, sing):
    other = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    with pytest.warns(UserWarning, match="starts from a picture"):
        sing.enable(other)
