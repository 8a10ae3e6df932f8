"""The score of pictures and captions by a real small CLIP model, against the cosine computed by hand."""

import shutil

import pytest
import torch
from transformers import CLIPModel, CLIPTokenizer

from singdiffusion import SingDiffusionError, tiny
from singdiffusion.evaluate.metrics.features import clip_images
from singdiffusion.evaluate.metrics.text_score import PictureTextScore

from .clip import save_clip

CAPTIONS = ["red apple on a dark blue background", "solid black background", "a very dark photo of a forest", "bell"]
LONG = "a bell and a star and a moon and a sun and a tree and a house and a car and a boat and a fish"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("models") / "small-clip")


@pytest.fixture
def pictures():
    return torch.randint(0, 256, (5, 3, 40, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@torch.no_grad()
def by_hand(folder, pictures, captions):
    """100 times the mean cosine, one caption at a time and so without padding; a long one loses words before its end token."""
    network, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    pixels = clip_images(folder)(pictures)
    images = network.visual_projection(network.vision_model(pixels).pooler_output)
    texts = []
    for caption in captions:
        ids = tokenizer(caption).input_ids
        ids = ids if len(ids) <= 24 else [*ids[:23], tokenizer.eos_token_id]
        texts.append(network.text_projection(network.text_model(torch.tensor([ids])).pooler_output[0]))
    return 100 * torch.nn.functional.cosine_similarity(images, torch.stack(texts)).mean().item()


def test_the_mean_cosine_in_parts(clip, pictures):
    score, captions = PictureTextScore(clip), [*CAPTIONS, LONG]
    score.see(pictures[:2], captions[:2])
    score.see(pictures[2:], captions[2:])
    found = score.compute()
    assert found.score == pytest.approx(max(by_hand(clip, pictures, captions), 0), abs=1e-3)
    assert (found.pictures, found.truncated) == (5, 1)
    assert found.label == "CLIP score"
    assert found.backbone.startswith("small-clip, weights ")
    assert found.protocol.startswith("resized by Pillow")


def test_the_sign(clip, pictures):
    """A positive cosine counts as it is, a negative one as 0."""
    each = {caption: by_hand(clip, pictures[:1], [caption]) for caption in [*CAPTIONS, LONG, "moon", "fish", "house"]}
    network = CLIPModel.from_pretrained(clip)
    for sign in (1, -1):
        network.text_projection.weight.data *= sign
        network.save_pretrained(clip.parent / f"sign{sign}")
        for other in [
            *clip.glob("*token*"),
            clip / "vocab.json",
            clip / "merges.txt",
            clip / "preprocessor_config.json",
        ]:
            shutil.copy(other, clip.parent / f"sign{sign}")
        for caption, cosine in each.items():
            score = PictureTextScore(clip.parent / f"sign{sign}")
            score.see(pictures[:1], [caption])
            assert score.compute().score == pytest.approx(max(sign * cosine, 0), abs=1e-3)
    assert max(abs(cosine) for cosine in each.values()) > 1


def test_the_end_of_a_long_caption_is_not_read_and_its_end_token_is(clip, pictures):
    def score(caption):
        score = PictureTextScore(clip)
        score.see(pictures[:1], [caption])
        return score.compute()

    assert score(LONG).score == score(LONG + " and a bird").score
    assert (score(LONG).truncated, score(CAPTIONS[0]).truncated) == (1, 0)


def test_the_embedded_encoder_s_score_is_not_a_clip_score(clip, pictures, monkeypatch):
    monkeypatch.setattr(tiny, "encoder_folder", lambda: clip, raising=False)
    score = PictureTextScore()
    score.see(pictures, [*CAPTIONS, LONG])
    found = score.compute()
    assert found.label == "picture-text score, embedded encoder"
    assert "CLIP" not in found.label + found.backbone
    assert found.backbone.startswith("embedded encoder, weights ")


def test_what_cannot_be_scored(clip, pictures, tmp_path):
    score = PictureTextScore(clip)
    with pytest.raises(SingDiffusionError, match="5 pictures have 1 captions"):
        score.see(pictures, ["bell"])
    with pytest.raises(SingDiffusionError, match="score of no pictures"):
        score.compute()
    with pytest.raises(SingDiffusionError, match="the CLIP model openai/clip-vit-base-patch32 is not a folder here"):
        PictureTextScore("openai/clip-vit-base-patch32")
    bare = save_clip(tmp_path / "bare")
    for file in [*bare.glob("*token*"), bare / "vocab.json", bare / "merges.txt"]:
        file.unlink()
    with pytest.raises(
        SingDiffusionError, match="the tokenizer of .*bare (has 2 tokens, and its text encoder has 1448|cannot be read)"
    ):
        PictureTextScore(bare)


def test_nan_is_an_error(clip, pictures, tmp_path):
    network = CLIPModel.from_pretrained(save_clip(tmp_path / "nan"))
    network.visual_projection.weight.data[:] = float("nan")
    network.save_pretrained(tmp_path / "nan")
    score = PictureTextScore(tmp_path / "nan")
    score.see(pictures[:1], ["bell"])
    with pytest.raises(SingDiffusionError, match="returns NaN"):
        score.compute()
