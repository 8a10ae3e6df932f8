"""``MeanDecoder``: independent of the noise, any size, its files, and its use in the plug-in."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from singdiffusion import MeanDecoder, SingDiffusion, SingDiffusionError
from singdiffusion.core.dct import low_frequencies
from singdiffusion.modules import SingModule
from singdiffusion.modules.decoder import PRESETS

from ..conftest import TEXT_WIDTH, make_config


def decoder(**options):
    torch.manual_seed(0)
    made = MeanDecoder(cross_attention_dim=TEXT_WIDTH, **({"grid": 4, "width": 16, "layers": 2} | options))
    torch.nn.init.normal_(made.mean_out[1].weight)  # a new one predicts 0
    return made.eval().requires_grad_(False)


TEXT = torch.randn(2, 7, TEXT_WIDTH, generator=torch.Generator().manual_seed(1))


def test_a_new_decoder_predicts_average_grey():
    new = MeanDecoder(cross_attention_dim=TEXT_WIDTH, grid=4, width=16, layers=1)
    assert torch.equal(new.predict(torch.randn(2, 4, 8, 8), TEXT), torch.zeros(2, 4, 8, 8))


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (4, 4), (5, 9), (2, 3)])
def test_any_size(size):
    x_1 = torch.randn(2, 4, *size)
    assert decoder().predict(x_1, TEXT).shape == x_1.shape


def test_the_output_depends_on_the_prompt_and_not_on_the_noise():
    made = decoder()
    first, second = made.predict(torch.randn(2, 4, 8, 8), TEXT), made.predict(torch.randn(2, 4, 8, 8), TEXT)
    assert torch.equal(first, second)
    assert not torch.allclose(first[0], first[1], atol=1e-3)


def test_amplitudes_do_not_depend_on_the_size():
    """Brightness and the lowest frequencies do not change with the size of the picture."""
    made = decoder(covariance_grid=2)
    small, large = (made.predict_moments(torch.zeros(2, 4, n, n), TEXT) for n in (8, 32))
    assert torch.allclose(small[0].mean((2, 3)), large[0].mean((2, 3)), atol=1e-5)
    assert torch.allclose(low_frequencies(small[0], 4) / 8, low_frequencies(large[0], 4) / 32, atol=1e-5)
    assert torch.allclose(small[1] / 8**2, large[1] / 32**2), "variances of coefficients grow with the number of pixels"
    assert (torch.linalg.eigvalsh(small[1]) > 0).all()


def test_the_loss_of_the_covariance_leaves_the_mean_unchanged():
    """Its gradient stops at the features that both share."""
    made = decoder(covariance_grid=2).requires_grad_(True).train()
    made(TEXT)[1].square().sum().backward()
    assert all(p.grad is None for n, p in made.named_parameters() if not n.startswith("covariance_out"))
    assert all(p.grad.abs().sum() > 0 for p in made.covariance_out.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_presets_stay_small(name):
    made = MeanDecoder.preset(name, covariance_grid=4)
    assert sum(p.numel() for p in made.parameters()) < 20e6
    assert (
        made.predict(torch.zeros(1, 4, 64, 64), torch.zeros(1, 77, made.config["cross_attention_dim"])).shape[-1] == 64
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(8, 1024), st.integers(8, 1024))
def test_any_latent_from_8_to_1024(height, width):
    """Odd sizes and extreme aspect ratios are included; values are finite, and brightness does not change with the size."""
    made = decoder(covariance_grid=2)
    mean, covariance = made.predict_moments(torch.empty(1, 4, 1, 1).expand(1, 4, height, width), TEXT[:1])
    assert mean.shape == (1, 4, height, width)
    assert torch.isfinite(mean).all()
    assert torch.isfinite(covariance).all()
    small = made.predict(torch.zeros(1, 4, 8, 8), TEXT[:1])
    torch.testing.assert_close(mean.mean((2, 3)), small.mean((2, 3)), atol=1e-4, rtol=1e-4)


def test_a_saved_decoder_paints_the_same(pipe, tmp_path):
    sing = SingDiffusion(SingModule(decoder(), make_config()))
    sing.save_pretrained(tmp_path / "sing")
    loaded = SingDiffusion.from_pretrained(tmp_path / "sing").enable(pipe)
    assert isinstance(loaded.module.network, MeanDecoder)

    def paint():
        generator = torch.Generator().manual_seed(0)
        return pipe("a", num_inference_steps=2, output_type="latent", generator=generator).images

    on = paint()
    with loaded.disabled():
        assert not torch.allclose(on, paint(), atol=1e-3)
    loaded.disable()
    sing.enable(pipe)
    assert torch.equal(on, paint())


# -- files ------------------------------------------------------------------------------------------------------------

WEIGHTS = "module/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    """A saved module with a decoder that predicts the covariance."""
    SingModule(decoder(covariance_grid=2), make_config()).save_pretrained(tmp_path / "sing")
    return tmp_path / "sing"


def moments(module):
    return module.guided_moments(torch.zeros(2, 4, 8, 8), TEXT)


def assert_refused(folder, match):
    """Check that loading fails with one line that names the folder and matches."""
    with pytest.raises(SingDiffusionError, match=match) as caught:
        SingModule.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model", "diffusion_pytorch_model.fp16"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
@pytest.mark.parametrize("loaded", [None, torch.float32, torch.float16, torch.bfloat16])
def test_round_trip(folder, name, stored, loaded):
    """Weights come back exactly, under either name; the default dtype is float32."""
    original = decoder(covariance_grid=2).to(stored)
    SingModule(original, make_config()).save_pretrained(folder)
    (folder / WEIGHTS).rename(folder / "module" / f"{name}.safetensors")
    module = SingModule.from_pretrained(folder, torch_dtype=loaded)
    assert module.config == make_config()
    assert module.network.config == original.config
    assert not module.network.training
    assert not any(parameter.requires_grad for parameter in module.network.parameters())
    for key, value in original.to(loaded or torch.float32).state_dict().items():
        assert torch.equal(module.network.state_dict()[key], value), key
    for ours, theirs in zip(moments(module), moments(SingModule(original, make_config())), strict=True):
        assert torch.equal(ours, theirs)


def test_a_loaded_module_does_not_depend_on_its_files(folder):
    """Memory that maps a file would change with it, and on some systems block the next save."""
    module = SingModule.from_pretrained(folder)
    before = moments(module)
    (folder / WEIGHTS).write_bytes(bytes((folder / WEIGHTS).stat().st_size))
    assert all(torch.equal(a, b) for a, b in zip(before, moments(module), strict=True))


def without(key):
    return lambda weights: {name: value for name, value in weights.items() if name != key}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (without("mean_out.1.bias"), "lack 1 tensors, such as mean_out.1.bias$"),
        (
            lambda weights: weights | {"blocks.2.1.weight": torch.zeros(1)},
            "blocks.2.1.weight has no place in that network",
        ),
        (
            lambda weights: weights | {"text_in.1.bias": torch.full((16,), math.nan)},
            "text_in.1.bias has NaN or infinite",
        ),
        (
            lambda weights: weights | {"text_in.1.bias": torch.full((16,), math.inf)},
            "text_in.1.bias has NaN or infinite",
        ),
        (
            lambda weights: weights | {"text_in.1.bias": torch.zeros(15)},
            r"text_in.1.bias has shape \(15,\), and its configuration needs \(16,\)",
        ),
    ],
    ids=["missing", "unexpected", "NaN", "infinite", "shape"],
)
def test_damaged_weights(folder, change, match):
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, {"format": "pt"})
    assert_refused(folder, match)


@pytest.mark.parametrize("tenths", range(10))
def test_truncated_weights(folder, tenths):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) * tenths // 10])
    assert_refused(folder, "cannot be read")


def test_no_weights(folder):
    (folder / WEIGHTS).unlink()
    assert_refused(folder, "has no weights")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"depth": 3}, "unknown setting 'depth' of a MeanDecoder; known: latent_channels, cross_attention_dim, grid"),
        ({"width": 24}, r"has shape \(.*\), and its configuration needs \(.*\)"),
        ({"width": "wide"}, "width must be a whole number within 1..1048576, not 'wide'"),
        ({"latent_channels": 0}, "latent_channels must be a whole number within 1..1048576, not 0"),
        ({"covariance_grid": -1}, "covariance_grid must be a whole number within 0..65536, not -1"),
        ({"covariance_grid": 0}, "covariance_out.* has no place in that network"),
        ({"layers": 3}, "lack 6 tensors, such as blocks.2"),
        ({"cross_attention_dim": 24}, "and its configuration needs"),
    ],
)
def test_a_wrong_configuration_of_the_network(folder, change, match):
    file = folder / "module" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert_refused(folder, match)


def test_diffusers_entries_in_the_configuration_are_ignored(folder):
    file = folder / "module" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_diffusers_version": "0.35.0", "_name_or_path": "x"}))
    assert SingModule.from_pretrained(folder).kind == "decoder"


def test_invalid_options():
    with pytest.raises(SingDiffusionError, match="covariance_grid must be within 0..4, the decoder's grid, not 5"):
        decoder(covariance_grid=5)
    with pytest.raises(SingDiffusionError, match="width must be a whole number within 1..1048576, not 0"):
        decoder(width=0)
    with pytest.raises(SingDiffusionError, match="unknown decoder preset 'sd3'; known: tiny, sd15, sdxl"):
        MeanDecoder.preset("sd3")
    with pytest.raises(SingDiffusionError, match="predicts no covariance"):
        decoder().predict_moments(torch.zeros(2, 4, 8, 8), TEXT)
