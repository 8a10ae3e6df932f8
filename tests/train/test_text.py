"""Embeddings are those of the base's own pipeline, from the cache or computed, with one encoder or two."""

import pytest
import torch

from singdiffusion import SingDiffusionError
from singdiffusion.data.base import Base
from singdiffusion.data.shards import LatentDataset
from singdiffusion.painting.bases import load_text
from singdiffusion.train.text import TextEmbedder, embedder_for

from ..conftest import make_text_encoder
from ..plugin import zoo
from .world import COLORS


def embedder(world, cache=64, base=None):
    tokenizers, encoders = load_text(str(base or world / "base"), torch.float32)
    return embedder_for(LatentDataset(world / "shards"), tokenizers, encoders, torch.float32, cache)


def tokens(world, words):
    tokenizers, _ = load_text(str(world / "base"), torch.float32)
    given = {"padding": "max_length", "max_length": 16, "return_tensors": "pt"}
    return [tokenizers[0](words, **given).input_ids]


@pytest.mark.parametrize("cache", [64, 0])
def test_embeddings_are_the_pipelines(world, pipe, cache):
    made, line = embedder(world, cache)
    words = ["black", "", "white", "black"]
    expected, _ = pipe.encode_prompt(words, torch.device("cpu"), 1, False)
    assert torch.allclose(made(tokens(world, words)), expected, atol=1e-6)
    assert (made.kept is None) == (cache == 0)
    assert (
        "embeddings are computed at every step" if cache == 0 else "6 distinct captions of 48 pictures kept"
    ) in line


def test_kept_ones_are_the_same_to_the_bit(world):
    """In any batch, and in any process."""
    first, second = embedder(world)[0], embedder(world)[0]
    whole = first(tokens(world, list(COLORS)))
    for i, word in enumerate(COLORS):
        assert torch.equal(second(tokens(world, [word]))[0], whole[i])


def test_two_encoders(tmp_path, tokenizer):
    """SDXL's penultimate hidden states side by side."""
    pipe = zoo.build("StableDiffusionXLPipeline", tokenizer)[0]
    pipe.save_pretrained(tmp_path)
    tokenizers, encoders = load_text(str(tmp_path), torch.float32)
    made = TextEmbedder(tokenizers, encoders, torch.float32)
    ids = Base.of(pipe, "xl").tokens(["a red room", ""])
    expected = pipe.encode_prompt(["a red room", ""], device=torch.device("cpu"), do_classifier_free_guidance=False)[0]
    assert torch.allclose(made([row.long() for row in ids]), expected, atol=1e-6)


def test_another_text_encoder_is_refused(world, pipe, tmp_path, tokenizer):
    pipe.text_encoder = make_text_encoder(tokenizer, seed=9)
    pipe.save_pretrained(tmp_path / "other")
    with pytest.raises(
        SingDiffusionError, match="were encoded for the text encoder of random, and data.base has another"
    ):
        embedder(world, base=tmp_path / "other")


def test_bases_without_text_are_one_line(world, tmp_path):
    for where, match in (
        (tmp_path / "nothing" / "there" / "x", "there is no model"),
        (tmp_path, "is not a diffusers model: it has no model_index.json"),
        ("owner/name", "the model owner/name is not here: there is no such folder, and it is not in the cache"),
    ):
        with pytest.raises(SingDiffusionError, match=match):
            load_text(str(where), torch.float32)
    index = world / "base" / "model_index.json"
    index.write_text(index.read_text().replace('"transformers",\n    "CLIPTextModel"', '"os",\n    "system"'))
    with pytest.raises(SingDiffusionError, match="text_encoder is of the library os, not of transformers"):
        load_text(str(world / "base"), torch.float32)
