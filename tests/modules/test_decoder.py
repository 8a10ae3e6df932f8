"""The decoder that sees no noise: any size, its own files, and a place in the plug-in like any other module's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singdiffusion import MeanDecoder, SingDiffusion, SingDiffusionError
from singdiffusion.core.dct import low_frequencies
from singdiffusion.modules import SingModule
from singdiffusion.modules.decoder import PRESETS

from ..conftest import TEXT_WIDTH, make_config


def decoder(**options):
    torch.manual_seed(0)
    made = MeanDecoder(cross_attention_dim=TEXT_WIDTH, **({"grid": 4, "width": 16, "layers": 2} | options))
    torch.nn.init.normal_(made.mean_out[1].weight)  # a fresh one says 0
    return made.eval().requires_grad_(False)


TEXT = torch.randn(2, 7, TEXT_WIDTH, generator=torch.Generator().manual_seed(1))


def test_a_fresh_one_says_average_grey():
    fresh = MeanDecoder(cross_attention_dim=TEXT_WIDTH, grid=4, width=16, layers=1)
    assert torch.equal(fresh.predict(torch.randn(2, 4, 8, 8), TEXT), torch.zeros(2, 4, 8, 8))


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (4, 4), (5, 9), (2, 3)])
def test_any_size(size):
    x_1 = torch.randn(2, 4, *size)
    assert decoder().predict(x_1, TEXT).shape == x_1.shape


def test_it_does_not_see_the_noise_but_the_prompt():
    made = decoder()
    first, second = made.predict(torch.randn(2, 4, 8, 8), TEXT), made.predict(torch.randn(2, 4, 8, 8), TEXT)
    assert torch.equal(first, second)
    assert not torch.allclose(first[0], first[1], atol=1e-3)


def test_the_same_picture_at_another_size():
    """Brightness and the lowest frequencies do not change with the size of the picture."""
    made = decoder(covariance_grid=2)
    small, large = (made.predict_moments(torch.zeros(2, 4, n, n), TEXT) for n in (8, 32))
    assert torch.allclose(small[0].mean((2, 3)), large[0].mean((2, 3)), atol=1e-5)
    assert torch.allclose(low_frequencies(small[0], 4) / 8, low_frequencies(large[0], 4) / 32, atol=1e-5)
    assert torch.allclose(small[1] / 8**2, large[1] / 32**2), "variances of coefficients grow with the number of pixels"
    assert (torch.linalg.eigvalsh(small[1]) > 0).all()


def test_the_covariance_does_not_bend_what_serves_the_mean():
    """Its gradient ends where the mean's features are read."""
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
    """Odd sizes and extreme aspect ratios too: finite, and as bright as at any other size."""
    made = decoder(covariance_grid=2)
    mean, covariance = made.predict_moments(torch.empty(1, 4, 1, 1).expand(1, 4, height, width), TEXT[:1])
    assert mean.shape == (1, 4, height, width)
    assert torch.isfinite(mean).all()
    assert torch.isfinite(covariance).all()
    small = made.predict(torch.zeros(1, 4, 8, 8), TEXT[:1])
    torch.testing.assert_close(mean.mean((2, 3)), small.mean((2, 3)), atol=1e-4, rtol=1e-4)


def test_files_and_plug_in(pipe, tmp_path):
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


def test_bad_options():
    with pytest.raises(SingDiffusionError, match="covariance_grid must be within 0..4, the decoder's grid, not 5"):
        decoder(covariance_grid=5)
    with pytest.raises(SingDiffusionError, match="width must be a whole number of at least 1, not 0"):
        decoder(width=0)
    with pytest.raises(SingDiffusionError, match="unknown decoder preset 'sd3'; known: tiny, sd15, sdxl"):
        MeanDecoder.preset("sd3")
    with pytest.raises(SingDiffusionError, match="predicts no covariance"):
        decoder().predict_moments(torch.zeros(2, 4, 8, 8), TEXT)
