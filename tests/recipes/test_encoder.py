"""Training of the joint encoder: contents of captions, targets where several captions are true, augmentation that keeps brightness."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.tiny import encoder
from recipes.tiny.encoder import LOGO, Content, augment, contrast, other_background, relation
from recipes.tiny.pictures import ICON_SIZES, SIZE, World, luma
from recipes.tiny.vocabulary import COLORS, LIGHT, PLACES


def world():
    renderings = [np.ones((size, size, 4), np.float32) for size in ICON_SIZES]
    views = {place: np.full((1, SIZE, SIZE, 3), 0.18, np.float16) for place in PLACES}
    names = ("red-apple", "sun")
    return World(dict.fromkeys(names, renderings), dict.fromkeys(names, renderings), views)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_content_of_a_caption_gives_the_caption_again(seed):
    rng = np.random.default_rng(seed)
    picture, caption = world().sample(rng)
    content = Content.parse(caption)
    other = other_background(caption, rng)
    if content.background is None:
        assert not re.search(rf" on an? ({'|'.join(COLORS)}) background|^solid .+ background|^an? ", caption)
    else:
        assert content.background in (LIGHT if "photo" in caption else COLORS)
        assert content.caption(content.background) == caption
        assert other != caption
    assert Content.parse(other) == Content(content.subject, Content.parse(other).background)
    if content.subject == "solid" and content.background in COLORS:
        assert abs(luma(picture).mean() - luma(np.array(COLORS[content.background]))) < 8


RELATIONS = {  # (a picture's caption, a caption) -> true of it, unknown, or neither
    ("red apple", "red apple"): "true",
    ("red apple on a black background", "red apple"): "true",
    ("red apple", "red apple on a black background"): "unknown",
    ("red apple on a white background", "red apple on a black background"): "false",
    ("red apple on a black background", "sun on a black background"): "false",
    ("solid black background", "solid background"): "true",
    ("solid background", "solid black background"): "unknown",
    ("solid black background", "solid dark blue background"): "false",
    (f"{LOGO} of a sun on a black background", f"{LOGO} on a black background"): "true",
    (f"{LOGO} of a sun on a black background", LOGO): "true",
    (f"{LOGO} of a sun", f"{LOGO} on a black background"): "unknown",
    (f"{LOGO} on a black background", f"{LOGO} of a sun on a black background"): "unknown",
    (f"{LOGO} on a black background", f"{LOGO} of a sun"): "unknown",
    (f"{LOGO} on a black background", f"{LOGO} of a sun on a white background"): "false",
    (f"{LOGO} of a sun", f"{LOGO} of an apple"): "false",
    (f"{LOGO} of a sun", "sun"): "false",
    ("sun", LOGO): "false",
    ("a photo of a forest", "photo of a forest"): "true",
    ("photo of a forest", "a photo of a forest"): "unknown",
    ("a dark photo of a forest", "a very dark photo of a forest"): "false",
    ("a photo of a field at dawn", "a photo of a forest"): "false",
}  # fmt: skip


def test_which_captions_are_true_of_which_pictures():
    pictures, captions = sorted({p for p, _ in RELATIONS}), sorted({c for _, c in RELATIONS})
    true, unknown = relation(pictures, captions)
    for (picture, caption), expected in RELATIONS.items():
        at = pictures.index(picture), captions.index(caption)
        assert {(True, False): "true", (False, True): "unknown", (False, False): "false"}[
            bool(true[at]), bool(unknown[at])
        ] == expected, (picture, caption)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_picture_of_a_batch_has_a_true_caption_and_a_false_one(seed):
    x, own, offered = encoder.batch(world(), (seed,), 16)
    assert x.shape == (16, 3, SIZE, SIZE)
    assert len(set(offered)) == len(offered)
    true, unknown = relation(own, offered)
    assert not (true & unknown).any()
    for i, caption in enumerate(own):
        assert true[i, offered.index(caption)]
        if Content.parse(caption).background is not None:
            assert (~true[i] & ~unknown[i]).any(), "at least its own subject on another background"


def test_the_loss_of_a_perfect_score_is_the_entropy_of_its_targets():
    """The best of a row with k true captions is log k. Pairs that are left out have no effect, nor has a row without a true one."""
    true = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    unknown = torch.tensor([[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]).bool()
    best = torch.where(true, 50.0, 0.0).masked_fill(unknown, 90.0)
    assert float(contrast(best, true, unknown)) == pytest.approx(math.log(2) / 2, abs=1e-6)
    flat = torch.zeros(3, 4).masked_fill(unknown, 90.0)
    assert float(contrast(flat, true, unknown)) == pytest.approx(math.log(3), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(level=st.floats(-1, 1), seed=st.integers(0, 2**32 - 1))
def test_augmented_pictures_keep_their_brightness_and_color(level, seed):
    x = torch.full((4, 3, SIZE, SIZE), level)
    x[:, 2] = -level
    y = augment(x, np.random.default_rng(seed))
    assert not torch.equal(x, y)
    torch.testing.assert_close(y.mean((2, 3)), x.mean((2, 3)), atol=0.006, rtol=0)  # five standard errors of the noise
    assert float((y - x).std()) < 1.1 * encoder.NOISE


def test_augmented_pictures_are_shifted_ones():
    x = torch.full((64, 3, SIZE, SIZE), -1.0)
    x[:, :, 30:34, 30:34] = 1.0
    y = augment(x, np.random.default_rng(0))
    rows, columns = ((y[:, 0] > 0).any(axis).float().argmax(1) for axis in (2, 1))
    for first in (rows, columns):
        assert 30 - encoder.SHIFT - 1 <= int(first.min()) < 28
        assert 32 < int(first.max()) <= 30 + encoder.SHIFT + 1


def test_top_counts_rows_whose_own_value_ranks_high():
    cosines = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.6], [0.1, 0.3, 0.2]])
    assert encoder._top(cosines, 1) == pytest.approx(1 / 3, abs=1e-4)
    assert encoder._top(cosines, 2) == pytest.approx(2 / 3, abs=1e-4)
    assert encoder._top(cosines, 3) == 1


def test_a_missing_stage_is_named(tmp_path):
    with pytest.raises(SystemExit, match="no trained encoder in .*run the stage `encoder` first"):
        encoder.load(tmp_path / "encoder")
    with pytest.raises(SystemExit, match="no tokenizer in .*run the stage `base` first"):
        encoder.processor(tmp_path)
