"""``clip_skip`` of the pipeline's call: the first step uses the pipeline's own embeddings, whatever it made of them."""

import pytest
import torch

from singdiffusion.compat import release

from .painting import NEGATIVE, PROMPT
from .test_pipelines import paint, plug, predictions, sing_for
from .zoo import build

# diffusers reads ``text_encoder.text_model``, which transformers 5.6 took away (docs/faq.md)
BROKEN = release("transformers") >= (5, 6)


def encode(pipe, clip_skip):
    return pipe.encode_prompt(
        prompt=PROMPT, negative_prompt=NEGATIVE, do_classifier_free_guidance=True, device=torch.device("cpu"),
        num_images_per_prompt=1, clip_skip=clip_skip,
    )[:2]  # fmt: skip


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "StableDiffusionXLPipeline"])
def test_the_first_step_uses_the_pipelines_own_embeddings(name, tokenizer):
    pipe, options = build(name, tokenizer)
    if BROKEN and "XL" not in name:
        pytest.skip("diffusers' own clip_skip does not work here; the next test checks that it is theirs")
    sing = sing_for(pipe, tokenizer)
    plug(sing, pipe)
    with predictions(sing.module.network) as recorded:
        paint(pipe, options, negative_prompt=NEGATIVE, clip_skip=1)
    ((_, embeddings, _),) = recorded
    positive, negative = encode(pipe, 1)
    torch.testing.assert_close(embeddings, torch.cat([negative, positive]))
    assert not torch.equal(positive, encode(pipe, None)[0]), "clip_skip changes the embeddings"


@pytest.mark.skipif(not BROKEN, reason="clip_skip works with these versions")
def test_where_it_fails_it_fails_without_singdiffusion_too(tokenizer):
    pipe, options = build("StableDiffusionPipeline", tokenizer)
    with pytest.raises(AttributeError, match="has no attribute 'text_model'"):
        paint(pipe, options, negative_prompt=NEGATIVE, clip_skip=1)
