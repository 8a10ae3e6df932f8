"""The decoder that sees no noise: any size, its own files, and a place in the plug-in like any other module's."""

import pytest
import torch

from singdiffusion import MeanDecoder, SingDiffusion, SingDiffusionError
from singdiffusion.core.dct import low_frequencies

from ..conftest import TEXT_WIDTH, make_config


def decoder(**options):
    torch.manual_seed(0)
    made = MeanDecoder(
        cross_attention_dim=TEXT_WIDTH, **({"grid": 4, "patch": 2, "width": 16, "layers": 2, "heads": 2} | options)
    )
    torch.nn.init.normal_(made.out[1].weight)  # a fresh one says 0
    return made.eval().requires_grad_(False)


TEXT = torch.randn(2, 7, TEXT_WIDTH, generator=torch.Generator().manual_seed(1))


def test_a_fresh_one_says_average_grey():
    fresh = MeanDecoder(cross_attention_dim=TEXT_WIDTH, grid=4, width=16, layers=1, heads=2)
    assert torch.equal(fresh.predict(torch.randn(2, 4, 8, 8), TEXT), torch.zeros(2, 4, 8, 8))


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (4, 4), (5, 9), (2, 3)])
def test_any_size(size):
    x_1 = torch.randn(2, 4, *size)
    assert decoder().predict(x_1, TEXT).shape == x_1.shape


def test_patches_lie_where_their_queries_are():
    """Query (i, j) fills the cells from (2 i, 2 j), row by row in each channel."""
    made = decoder()
    said = torch.arange(4 * 16.0).reshape(1, 4, 16)  # 4 queries, each 4 channels of 2 x 2
    picture = made._joined(said)
    assert picture.shape == (1, 4, 4, 4)
    for query in range(4):
        i, j = divmod(query, 2)
        for channel in range(4):
            cells = picture[0, channel, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            assert torch.equal(cells.flatten(), said[0, query, 4 * channel : 4 * channel + 4])


def test_it_does_not_see_the_noise_but_the_prompt():
    made = decoder()
    first, second = made.predict(torch.randn(2, 4, 8, 8), TEXT), made.predict(torch.randn(2, 4, 8, 8), TEXT)
    assert torch.equal(first, second)
    assert not torch.allclose(first[0], first[1], atol=1e-3)


def test_the_same_picture_at_another_size():
    """Brightness and the lowest frequencies do not change with the size of the picture."""
    made = decoder(variances=2)
    small, large = (made.predict_moments(torch.zeros(2, 4, n, n), TEXT) for n in (8, 32))
    assert torch.allclose(small[0].mean((2, 3)), large[0].mean((2, 3)), atol=1e-5)
    assert torch.allclose(low_frequencies(small[0], 4) / 8, low_frequencies(large[0], 4) / 32, atol=1e-5)
    assert torch.allclose(small[1] / 8**2, large[1] / 32**2), "variances of coefficients grow with the number of pixels"
    assert (small[1] > 0).all()


def test_gradient_checkpointing_changes_nothing():
    made = decoder(variances=2).requires_grad_(True).train()
    gradients = []
    for on in (False, True):
        if on:
            made.enable_gradient_checkpointing()
        made.zero_grad()
        mean, variance = made(TEXT)
        (mean.square().sum() + variance.sum()).backward()
        gradients.append([p.grad.clone() for p in made.parameters()])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_files_and_plug_in(pipe, tmp_path):
    sing = SingDiffusion(decoder(), make_config())
    sing.save_pretrained(tmp_path / "sing")
    loaded = SingDiffusion.from_pretrained(tmp_path / "sing").enable(pipe)
    assert isinstance(loaded.module, MeanDecoder)

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
    with pytest.raises(SingDiffusionError, match="variances must be within 0..4, the decoder's grid, not 5"):
        decoder(variances=5)
    with pytest.raises(SingDiffusionError, match="heads must divide width: 3 does not divide 16"):
        decoder(heads=3)
    with pytest.raises(SingDiffusionError, match="patch must divide grid: 3 does not divide 4"):
        decoder(patch=3)
    with pytest.raises(SingDiffusionError, match="tells no variances"):
        decoder().predict_moments(torch.zeros(2, 4, 8, 8), TEXT)
