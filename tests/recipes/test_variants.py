"""Training data of the variants: captions of another form, edges; and a ControlNet that starts as a copy of the base."""

import re

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.tiny import base
from recipes.tiny.pictures import ICON_SIZES, SIZE
from recipes.tiny.variants import CommunityWorld, control_network, edges
from recipes.tiny.vocabulary import COLORS, PLACES


def world():
    icon = lambda size: np.ones((size, size, 4), np.float32)  # noqa: E731
    renderings = [icon(size) for size in ICON_SIZES]
    views = {place: np.full((1, SIZE, SIZE, 3), 0.18, np.float16) for place in PLACES}
    return CommunityWorld({"red-apple": renderings}, {"key": renderings}, views)


def test_captions_of_the_community_have_another_form():
    rng = np.random.default_rng(0)
    captions = [world().sample(rng)[1] for _ in range(400)]
    own = [caption for caption in captions if caption.startswith("noto style")]
    assert 0.6 < len(own) / len(captions) < 0.8
    colors = "|".join(COLORS)
    assert all(re.fullmatch(rf"noto style, red apple(, ({colors}) bg)?", caption) for caption in own), set(own)
    assert any(caption == "noto style, red apple" for caption in own)


@settings(max_examples=50, deadline=None)
@given(top=st.integers(1, 40), left=st.integers(1, 40), side=st.integers(2, 20), level=st.integers(0, 255))
def test_edges_are_where_the_color_changes(top, left, side, level):
    flat = np.full((SIZE, SIZE, 3), level, np.uint8)
    assert not edges(flat).any()
    drawn = flat.copy()
    drawn[top : top + side, left : left + side, 1] = (level + 128) % 256
    found = edges(drawn)
    assert found[top - 1, left : left + side].all()
    assert found[top + side - 1, left : left + side].all()
    assert not found[top : top + side - 1, left : left + side - 1].any()


def test_an_untrained_controlnet_changes_nothing(tmp_path):
    """Its last layers are zero, so the base's prediction stays the same until it is trained."""
    base.unet().save_pretrained(tmp_path / "unet")
    unet, control = base.load_unet(tmp_path), control_network(tmp_path).eval()
    assert control.config.addition_embed_type_num_heads == unet.config.addition_embed_type_num_heads
    x, t, text = torch.randn(2, 4, 16, 16), torch.tensor([10, 900]), torch.randn(2, 24, 128)
    with torch.no_grad():
        down, mid = control(x, t, text, controlnet_cond=torch.rand(2, 3, 64, 64), return_dict=False)
        plain = unet(x, t, text).sample
        guided = unet(x, t, text, down_block_additional_residuals=down, mid_block_additional_residual=mid).sample
    assert torch.equal(plain, guided)
    assert torch.equal(control.add_embedding.pool.k_proj.weight, unet.add_embedding.pool.k_proj.weight)
