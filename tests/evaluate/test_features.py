"""Extractors: trained weights, CLIP's own preprocessing without torchvision, clean-fid's resizing."""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from singdiffusion import SingDiffusionError, tiny
from singdiffusion.evaluate.metrics.features import ClipImages, EfficientNetLite0, clean_resize, make_extractor

from .clip import SIDE, WIDTH, save_clip


def draw(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_features_of_efficientnet():
    """They see more than brightness: a shape is nearer to itself moved by a pixel than to a plain background."""
    network = EfficientNetLite0()
    plain, shape = (
        torch.full((1, 3, 64, 64), 200, dtype=torch.uint8),
        torch.full((1, 3, 64, 64), 200, dtype=torch.uint8),
    )
    shape[:, :, 20:44, 20:44] = torch.tensor([220, 20, 20], dtype=torch.uint8)[:, None, None]
    seen = network(torch.cat([plain, shape, shape.roll(1, -1)]))
    assert seen.shape == (3, 1280)
    assert torch.isfinite(seen).all()
    assert (seen[1] - seen[2]).norm() < 0.5 * (seen[1] - seen[0]).norm()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (299, 299), (5, 400), (512, 768)])
def test_clean_resizing_is_pillow_s_of_each_channel_in_float(height, width):
    pictures = draw(2, 3, height, width)
    resized = clean_resize(pictures)
    assert resized.shape == (2, 3, 299, 299)
    assert resized.dtype == torch.float32
    for picture, found in zip(pictures.numpy(), resized.numpy(), strict=True):
        for channel in range(3):
            alone = Image.frombytes("F", (width, height), picture[channel].astype(np.float32).tobytes())
            expected = np.clip(np.asarray(alone.resize((299, 299), Image.Resampling.BICUBIC)), 0, 255)
            np.testing.assert_array_equal(found[channel], expected)


def test_clean_resizing_does_not_alias():
    """One-pixel stripes shrunk fourfold are grey; without antialiasing they would be black or white."""
    stripes = torch.zeros(1, 3, 1200, 1200, dtype=torch.uint8)
    stripes[..., ::2] = 255
    inner = clean_resize(stripes)[..., 10:-10, 10:-10]
    assert (inner - 127.5).abs().max() < 3


def test_inception_without_torch_fidelity():
    if importlib.util.find_spec("torch_fidelity"):
        pytest.skip("torch-fidelity is installed")
    with pytest.raises(SingDiffusionError, match=r"pip install '\.\[inception\]'\)\): No module named 'torch_fid"):
        make_extractor("inception")


# -- CLIP -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("models") / "small-clip")


def literally(picture):
    """As OpenAI's: the shorter side to 32 (bicubic), the middle 32 x 32, normalised: uint8 (3, H, W) -> (3, 32, 32)."""
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    scale = SIDE / min(image.size)
    image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    pixels = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), np.float32) / 255
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return torch.from_numpy(((pixels - np.array(mean)) / np.array(std)).transpose(2, 0, 1)).float()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 96), (20, 20), (32, 3)])
def test_embeddings_are_the_model_s_own(clip, height, width):
    pictures, extractor, network = draw(3, 3, height, width), ClipImages(clip), CLIPModel.from_pretrained(clip).eval()
    with torch.no_grad():
        pixels = torch.stack([literally(picture) for picture in pictures])
        expected = network.visual_projection(network.vision_model(pixels).pooler_output)
        found = extractor(pictures)
    assert found.shape == (3, extractor.num_features) == (3, WIDTH)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_names_depend_on_the_weights_and_not_on_the_path(clip, tmp_path):
    same, other = save_clip(tmp_path / "small-clip"), save_clip(tmp_path / "2" / "small-clip", seed=1)
    names = [ClipImages(folder).name for folder in (clip, same, other)]
    assert names[0] == names[1] != names[2]
    assert all(name.startswith("CLIP small-clip, weights ") for name in names)


def test_the_protocol_is_the_processor_s(tmp_path):
    square = {"size": {"height": 32, "width": 32}, "do_center_crop": False, "resample": 2}
    assert (
        ClipImages(save_clip(tmp_path / "a")).protocol
        == "resized by Pillow (shorter side to 32, bicubic), middle 32 x 32 cropped, the model's own normalisation; image embeddings of 8 numbers"
    )
    assert "(to 32 x 32, bilinear), the model's" in ClipImages(save_clip(tmp_path / "b", **square)).protocol


def test_what_is_not_a_clip_model(clip, tmp_path):
    with pytest.raises(
        SingDiffusionError, match="the CLIP model no/where is not a folder here, and the hub did not return"
    ):
        ClipImages("no/where")
    with pytest.raises(SingDiffusionError, match=r"is not a CLIP model of pictures and text: weights are missing"):
        ClipImages(tiny.folder() / "text_encoder")
    half = save_clip(tmp_path / "half")
    weights = load_file(half / "model.safetensors")
    text = {key: value for key, value in weights.items() if "vision" not in key}
    save_file(text, half / "model.safetensors", {"format": "pt"})
    with pytest.raises(SingDiffusionError, match="weights are missing"):
        ClipImages(half)
    bare = save_clip(tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(SingDiffusionError, match="the CLIP model .*bare cannot be read: .*") as raised:
        ClipImages(bare)
    assert "\n" not in str(raised.value)


# -- by name ----------------------------------------------------------------------------------------------------------


def test_by_name(clip, monkeypatch):
    monkeypatch.setattr(tiny, "encoder_folder", lambda: clip, raising=False)
    assert isinstance(make_extractor("efficientnet"), EfficientNetLite0)
    assert make_extractor("clip", clip).name.startswith("CLIP small-clip")
    assert make_extractor("tiny").name.startswith("embedded encoder, weights ")
    for name in ("tiny", "efficientnet", "clip"):
        extractor = make_extractor(name, clip if name == "clip" else None)
        assert extractor.protocol
        assert extractor(draw(2, 3, 40, 40)).shape == (2, extractor.num_features)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("dino", None, "unknown extractor 'dino'; known: tiny, efficientnet, inception, clip"),
        ("clip", None, "needs weights: a folder or a hub id"),
        ("tiny", "file", "tiny has its own weights"),
        ("efficientnet", "file", "efficientnet has its own weights"),
    ],
)
def test_wrong_names(name, weights, message):
    with pytest.raises(SingDiffusionError, match=message):
        make_extractor(name, weights)
