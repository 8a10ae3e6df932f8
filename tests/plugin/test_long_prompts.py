"""Embeddings as tools for long prompts pass them, empty prompts as zeros, and text encoders that were removed: the right brightness."""

import pytest
import torch

from singdiffusion import SingDiffusion, SingDiffusionError, tiny
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import PromptEncoder, fingerprint
from singdiffusion.painting.luma import mean_luma

from ..conftest import TEXT_WIDTH, make_config, make_module, make_text_encoder
from .painting import NEGATIVE, PROMPT, expected_mean, first_input, noise, run, true_alpha_sigma
from .zoo import KEPT, build

BLACK, WHITE = "solid black background", "solid white background"


@pytest.fixture(scope="module")
def embedded():
    pipe = tiny.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    SingDiffusion.from_pretrained("tiny").enable(pipe)
    return pipe


@torch.no_grad()
def encoded(pipe, prompt):
    tokens = pipe.tokenizer(prompt, padding="max_length", max_length=24, truncation=True, return_tensors="pt")
    return pipe.text_encoder(tokens.input_ids)[0]


@pytest.mark.parametrize(
    "layout", ["empty chunk", "chunk of zeros", "long negative prompt", "zeros for the negative prompt"]
)
def test_the_brightness_of_long_prompts(embedded, layout):
    """As compel and the long-prompt pipelines give them; before, black came out at 92 and white at 130."""
    for prompt, within in ((BLACK, (0, 3)), (WHITE, (250, 255))):
        a, e = encoded(embedded, prompt), encoded(embedded, "")
        positive, negative = {
            "empty chunk": (torch.cat([a, e], 1), torch.cat([e, e], 1)),
            "chunk of zeros": (torch.cat([a, 0 * e], 1), torch.cat([e, 0 * e], 1)),
            "long negative prompt": (torch.cat([a, e], 1), torch.cat([e, encoded(embedded, "red apple")], 1)),
            "zeros for the negative prompt": (a, 0 * e),
        }[layout]
        generator = torch.Generator().manual_seed(0)
        options = {"prompt_embeds": positive, "negative_prompt_embeds": negative, "generator": generator}
        luma = mean_luma(embedded(num_inference_steps=10, **options).images[0])
        assert within[0] <= luma <= within[1], (prompt, luma)


def test_rows_without_padding_are_named(embedded):
    a = encoded(embedded, BLACK)[:, :5]
    with pytest.warns(UserWarning, match="have 5 rows, some of which are zero or fit no chunk of 24"):
        embedded(prompt_embeds=a, negative_prompt_embeds=a, num_inference_steps=1)


def test_sdxl_without_a_negative_prompt(tokenizer):
    """SDXL's pipeline passes zeros; the module gets the empty prompt, in one forward."""
    pipe, _ = build("StableDiffusionXLPipeline", tokenizer)
    module = make_module(width=2 * TEXT_WIDTH)
    config = make_config(text_width=2 * TEXT_WIDTH, vae_scaling_factor=0.13025)
    SingDiffusion(SingModule(module, config)).enable(pipe)
    got, timestep = first_input(pipe, **KEPT)
    given, zeros, *_ = pipe.encode_prompt(PROMPT)
    empty, *_ = pipe.encode_prompt("")
    assert not zeros.any()
    with torch.no_grad():
        y_neg, y_pos = (module.predict(noise(), each) for each in (empty, given))
    alpha, sigma = true_alpha_sigma(pipe.scheduler, timestep)
    expected = alpha * (y_neg + 7.5 * (y_pos - y_neg)) / 7.5 + sigma * noise()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_guidance_in_the_first_step_alone(pipe, sing):
    """The pipeline paints without guidance, so it makes no negative embeddings: the empty prompt's are encoded."""
    sing.enable(pipe, guidance_scale=3.0)
    got, timestep = first_input(pipe, guidance_scale=1.0)
    alpha, sigma = true_alpha_sigma(pipe.scheduler, timestep)
    mean = expected_mean(pipe, sing.module.network, noise(), w=3.0)
    torch.testing.assert_close(got, alpha * mean + sigma * noise(), atol=1e-5, rtol=1e-5)


def removed(pipe):
    """Return embeddings that a user computed before removing the text encoder, to free its memory."""
    embeddings = pipe.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE)
    pipe.text_encoder = None
    return {"prompt_embeds": embeddings[0], "negative_prompt_embeds": embeddings[1]}


def test_a_prompt_of_its_own_without_the_pipelines_text_encoder(pipe, tokenizer):
    encoder = make_text_encoder(tokenizer)
    encoder.load_state_dict(pipe.text_encoder.state_dict())
    text = PromptEncoder([tokenizer], [encoder])
    sing = SingDiffusion(SingModule(make_module(), make_config(text_fingerprint=fingerprint(encoder)), text))
    sing.enable(pipe, prompt="white", guidance_scale=2.0)
    expected, _ = first_input(pipe)
    given = removed(pipe)
    got, _ = first_input(pipe, None, **given)
    torch.testing.assert_close(got, expected)
    sing.enable(pipe)  # the embeddings that were passed
    first_input(pipe, None, **given)


def test_without_any_text_encoder_a_prompt_of_its_own_is_one_line(pipe, sing):
    sing.enable(pipe, prompt="white")
    given = removed(pipe)
    with pytest.raises(SingDiffusionError, match="text encoder was removed, and the module has none of its own"):
        run(pipe, None, **given)
    sing.enable(pipe, guidance_scale=3.0)
    with pytest.raises(
        SingDiffusionError, match="there is no text encoder that makes them; pass negative_prompt_embeds"
    ):
        run(pipe, None, prompt_embeds=given["prompt_embeds"], guidance_scale=1.0)
