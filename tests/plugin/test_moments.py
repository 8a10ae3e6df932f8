"""``moments`` in pipelines: what the U-Net receives, which method is taken, what is refused."""

import pytest
import torch
from diffusers import EulerDiscreteScheduler

from singdiffusion import MeanDecoder, SingDiffusion, SingDiffusionError
from singdiffusion.core.covariance import from_factors
from singdiffusion.core.dct import low_frequencies
from singdiffusion.core.singular import first_step
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import fingerprint

from ..conftest import TEXT_WIDTH, make_config
from .painting import PROMPT, embed, first_input, noise, recording, run
from .zoo import build

K = 2


def make_decoder(covariance_grid=K, width=TEXT_WIDTH):
    torch.manual_seed(3)
    made = MeanDecoder(cross_attention_dim=width, grid=4, covariance_grid=covariance_grid, width=16, layers=1)
    torch.nn.init.normal_(made.mean_out[1].weight)
    return made.eval().requires_grad_(False)


@pytest.fixture
def moments_sing(pipe):
    """A decoder with random weights, and variances that show, which fits ``pipe``."""
    return SingDiffusion(SingModule(make_decoder(), make_config(text_fingerprint=fingerprint(pipe.text_encoder))))


def by_hand(pipe, module, x_1, alpha, sigma, w):
    """alpha y_bar + sigma x_1, stretched frequency by frequency; written out here a second time."""
    n = x_1.shape[-1]
    (y_pos, s_pos), (y_neg, _) = (
        module.predict_moments(x_1, embed(pipe, [words] * len(x_1))) for words in (PROMPT, "")
    )
    y_bar = (y_neg + w * (y_pos - y_neg)) / w if w > 1 else y_pos
    covariance = s_pos.double()  # guidance leaves it alone
    low = low_frequencies(x_1.double(), n).permute(0, 2, 3, 1)
    out = sigma * low
    for i in range(K):
        for j in range(K):
            values, vectors = torch.linalg.eigh(sigma**2 * torch.eye(4) + alpha**2 * covariance[0, i, j])
            out[:, i, j] = low[:, i, j] @ (vectors * values.sqrt() @ vectors.T)
    rows = low_frequencies(torch.eye(n).double()[None], n)[0]
    assert torch.allclose(rows, torch.eye(n).double(), atol=1e-9), "the DCT of the identity, as a check of the basis"
    return alpha * y_bar + _from_all(out.permute(0, 3, 1, 2), n).float()


def _from_all(coefficients, n):
    from scipy.fft import idctn

    return torch.from_numpy(idctn(coefficients.numpy(), norm="ortho", axes=(-2, -1)))


@pytest.mark.parametrize("w", [1.0, 7.5])
def test_what_the_network_receives(pipe, moments_sing, w):
    moments_sing.enable(pipe)
    got, _ = first_input(pipe, guidance_scale=w)
    bar = float(pipe.scheduler.alphas_cumprod[751])
    expected = by_hand(pipe, moments_sing.module.network, noise(), bar**0.5, (1 - bar) ** 0.5, w)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    moments_sing.enable(pipe, method="mean")
    mean, _ = first_input(pipe, guidance_scale=w)
    assert (mean - got).abs().max() > 0.05, "the variance shows"


def test_the_units_of_other_schedulers(pipe, moments_sing):
    """Euler keeps its state in other units; the network receives the same picture of x_1."""
    moments_sing.enable(pipe)
    ddim, timestep = first_input(pipe)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    euler, again = first_input(pipe)
    assert timestep == again
    torch.testing.assert_close(euler, ddim, atol=2e-3, rtol=1e-3)


def test_a_seed_keeps_its_meaning(pipe, moments_sing):
    """A linear map: noise turned round is turned round beside the same mean."""
    moments_sing.enable(pipe)
    x_1 = noise()
    bar = float(pipe.scheduler.alphas_cumprod[751])
    sides = [first_input(pipe, latents=sign * x_1, guidance_scale=1.0)[0] for sign in (1, -1)]
    mean = moments_sing.module.network.predict(x_1, embed(pipe, [PROMPT]))
    torch.testing.assert_close(sum(sides) / 2, bar**0.5 * mean, atol=1e-5, rtol=1e-5)


def test_one_forward_a_call(pipe, moments_sing):
    moments_sing.enable(pipe)
    seen = []
    moments_sing.module.network.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]))
    run(pipe, [PROMPT] * 3)
    assert seen == [6]


def test_the_default_is_what_the_module_can(pipe, moments_sing, sing):
    moments_sing.enable(pipe)
    moments, _ = first_input(pipe)
    moments_sing.enable(pipe, method="moments")
    torch.testing.assert_close(first_input(pipe)[0], moments, atol=0, rtol=0)
    moments_sing.disable()
    sing.enable(pipe)
    paper, _ = first_input(pipe)
    sing.enable(pipe, method="mean")
    torch.testing.assert_close(first_input(pipe)[0], paper, atol=0, rtol=0)


def test_what_is_refused_leaves_what_was(pipe, moments_sing, sing):
    with pytest.raises(
        SingDiffusionError, match="module that predicts the covariance, and this TimeFreeUNet predicts the mean only"
    ):
        sing.enable(pipe, method="moments")
    assert not sing.enabled
    plain = SingDiffusion(SingModule(make_decoder(covariance_grid=0), moments_sing.module.config))
    with pytest.raises(SingDiffusionError, match="this MeanDecoder predicts the mean only"):
        plain.enable(pipe, method="moments")
    plain.enable(pipe).disable()
    with pytest.raises(SingDiffusionError, match="unknown method 'median'; known: mean, moments"):
        moments_sing.enable(pipe, method="median")
    with pytest.raises(SingDiffusionError, match="a flat color has no variance"):
        moments_sing.enable(pipe, method="moments", color="red")
    moments_sing.enable(pipe)


def test_files_keep_it(pipe, moments_sing, tmp_path):
    moments_sing.save_pretrained(tmp_path / "sing")
    moments_sing.enable(pipe)
    before, _ = first_input(pipe)
    moments_sing.disable()
    SingDiffusion.from_pretrained(tmp_path / "sing").enable(pipe)
    torch.testing.assert_close(first_input(pipe)[0], before)


def test_a_video_is_dark_or_bright_as_one(tokenizer):
    """All frames of the first state are moved by the same picture beyond what ``mean`` does."""
    pipe, options = build("AnimateDiffPipeline", tokenizer)
    moments_sing = SingDiffusion(
        SingModule(make_decoder(), make_config(text_fingerprint=fingerprint(pipe.text_encoder)))
    )
    states = []
    for method in ("mean", "moments"):
        moments_sing.enable(pipe, method=method)
        with recording(pipe.unet) as seen:
            pipe(PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(0), **options)
        states.append(seen[0][0][-1])
    moved = states[1] - states[0]
    assert moved.abs().max() > 0.05
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), atol=1e-5, rtol=1e-5)


def test_the_covariance_that_is_drawn_from(pipe, moments_sing):
    """Over many seeds the first state has the covariance that the module predicts, between channels too."""
    moments_sing.enable(pipe)
    x_1 = noise(4000)
    predicted = moments_sing.module.guided_moments(x_1[:1], embed(pipe, [PROMPT]))[1]
    state = []
    for part in x_1.split(500):
        state.append(first_input(pipe, [PROMPT] * len(part), latents=part, guidance_scale=1.0, steps=1)[0])
    alpha2 = float(pipe.scheduler.alphas_cumprod[int(pipe.scheduler.timesteps[0])])
    low = low_frequencies(torch.cat(state).double(), K)
    for i, j in ((0, 0), (1, 1)):
        found = torch.cov(low[:, :, i, j].T)
        expected = (1 - alpha2) * torch.eye(4) + alpha2 * predicted[0, i, j].double()
        torch.testing.assert_close(found, expected, atol=0.1 * float(expected.diagonal().max()), rtol=0)
    factors = moments_sing.module.network(embed(pipe, [PROMPT]))[1]
    torch.testing.assert_close(from_factors(factors) * 64, predicted)


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (8, 1024), (1024, 8), (333, 1000)])
def test_any_height_and_width(moments_sing, size):
    """The whole first step from 8 to 1,024 latents: finite, and as bright as elsewhere."""
    x_1 = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(0))
    text = torch.randn(1, 16, TEXT_WIDTH, generator=torch.Generator().manual_seed(1))
    mean, covariance = moments_sing.module.guided_moments(x_1, text, -text, 7.5)
    state = first_step(mean, x_1, 0.076, 0.9971, covariance)
    assert state.shape == x_1.shape
    assert torch.isfinite(state).all()
    small = moments_sing.module.guided_moments(torch.zeros(1, 4, 8, 8), text, -text, 7.5, "mean")[0]
    torch.testing.assert_close(mean.mean((2, 3)), small.mean((2, 3)), atol=1e-4, rtol=1e-4)
