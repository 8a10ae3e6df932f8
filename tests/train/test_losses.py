"""The losses against closed forms: parametrisations, Parseval, torch's own normal distribution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singdiffusion import MeanDecoder, SingDiffusionError, TimeFreeUNet
from singdiffusion.core.covariance import from_factors, whitened
from singdiffusion.core.dct import low_frequencies
from singdiffusion.core.singular import as_sample, target_of
from singdiffusion.train.losses import Objective, decoder_loss, deviations, likelihood

from .world import DECODER, UNET

SIZE = (8, 8)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(["sample", "v_prediction", "epsilon"]), st.floats(0.01, 0.99), st.integers(0, 99))
def test_targets_are_the_inverse_of_as_sample(prediction, alpha, seed):
    y, x_1 = draw(2, 3, seed=seed).double(), draw(2, 3, seed=seed + 1000).double()
    assert torch.allclose(as_sample(prediction, target_of(prediction, y, x_1, alpha), x_1, alpha), y, atol=1e-9)


def test_targets_are_those_of_diffusers():
    """v and epsilon as the base's scheduler defines them, with x_1 in the place of alpha x_0 + sigma noise."""
    alpha, y, noise = 0.3, draw(2, 3), draw(2, 3, seed=1)
    sigma = (1 - alpha**2) ** 0.5
    x = alpha * y + sigma * noise
    assert torch.allclose(target_of("epsilon", y, x, alpha), noise, atol=1e-5)
    assert torch.allclose(target_of("v_prediction", y, x, alpha), alpha * noise - sigma * y, atol=1e-5)
    assert torch.equal(target_of("v_prediction", y, noise, 0.0), -y)


def test_epsilon_is_refused_at_t_1():
    with pytest.raises(SingDiffusionError, match="epsilon needs an alpha above 0"):
        target_of("epsilon", draw(2, 3), draw(2, 3))
    with pytest.raises(SingDiffusionError, match="alpha must be within .0, 1., not 1"):
        as_sample("sample", draw(2, 3), draw(2, 3), 1.0)
    with pytest.raises(SingDiffusionError, match="unknown prediction 'x'; known: sample, v_prediction, epsilon"):
        as_sample("x", draw(2, 3), draw(2, 3))


@pytest.mark.parametrize("loss", ["sample", "v_prediction", "epsilon"])
def test_the_unets_loss_is_that_of_its_output(loss):
    alpha = 0.25
    torch.manual_seed(0)
    network = TimeFreeUNet(in_channels=4, out_channels=4, cross_attention_dim=16, sample_size=8, **UNET)
    objective = Objective(network, loss, alpha)
    y, x_1, text = draw(3, 4, *SIZE), draw(3, 4, *SIZE, seed=1), draw(3, 5, 16, seed=2)
    found = objective(y, x_1, text, SIZE)
    expected = torch.nn.functional.mse_loss(network.predict(x_1, text), target_of(loss, y, x_1, alpha))
    assert torch.allclose(found, expected)
    predicted, covariance = objective(None, x_1, text, SIZE)
    assert covariance is None
    assert torch.allclose(predicted, as_sample(loss, network.predict(x_1, text), x_1, alpha))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(4, 12), st.integers(4, 12), st.integers(0, 99))
def test_a_decoders_loss_is_the_latents_squared_error(grid, height, width, seed):
    y = draw(3, 2, height, width, seed=seed)
    amplitudes = draw(3, 2, grid, grid, seed=seed + 1)
    expected = (MeanDecoder.mean(amplitudes, height, width) - y).square().mean()
    assert torch.allclose(decoder_loss(amplitudes, y, (height, width)), expected, atol=1e-5)


def test_low_frequency_shards_train_the_same():
    """The gradient of a decoder is the same from coefficients and from latents: the missing frequencies do not depend on it."""
    y = draw(3, 2, *SIZE)
    gradients = []
    for given_ in (y, low_frequencies(y, 4)):
        amplitudes = draw(3, 2, 4, 4, seed=1).requires_grad_(True)
        decoder_loss(amplitudes, given_, SIZE).backward()
        gradients.append(amplitudes.grad)
    assert torch.allclose(*gradients, atol=1e-7)


def test_likelihood_is_torchs():
    y, mean, factors = draw(5, 2, *SIZE), draw(5, 2, 4, 4, seed=1), draw(5, 3, 3, 3, seed=2)
    found = likelihood(whitened(deviations(mean, factors, y, SIZE), factors), factors)
    coefficients = low_frequencies(y, 3) / 8
    away = (coefficients - mean[..., :3, :3]).permute(0, 2, 3, 1)
    expected = -torch.distributions.MultivariateNormal(torch.zeros(2), from_factors(factors)).log_prob(away)
    assert torch.allclose(found.sum(1), expected, atol=1e-4)


@pytest.mark.parametrize("grid", [4, 8])
def test_moments_ends_at_mean_and_variance(grid):
    """A decoder trained to the end on one prompt predicts the data's own mean and covariance between channels.

    Also one with as many frequencies as a latent has.
    """
    torch.manual_seed(0)
    network = MeanDecoder(latent_channels=2, cross_attention_dim=6, covariance_grid=2, **(DECODER | {"grid": grid}))
    objective = Objective(network, "moments", 0.0)
    y = 0.7 * draw(64, 2, *SIZE) + draw(1, 2, 1, 1, seed=5)
    y[:, 1] -= 0.8 * y[:, 0]
    text = draw(1, 3, 6, seed=3).expand(64, -1, -1)
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for _ in range(600):
        optimizer.zero_grad()
        objective(y, None, text, SIZE).backward()
        optimizer.step()
    mean, covariance = network.predict_moments(y[:1], text[:1])
    low = low_frequencies(y, 2)
    assert torch.allclose(low_frequencies(mean, 2), low.mean(0, keepdim=True), atol=0.05)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert torch.allclose(covariance[0, i, j], torch.cov(low[:, :, i, j].T, correction=0), rtol=0.1, atol=0.01)


def test_a_variance_does_not_move_the_mean():
    """The gradient of the mean is that of the squared error only."""
    torch.manual_seed(0)
    network = MeanDecoder(latent_channels=2, cross_attention_dim=6, covariance_grid=2, **DECODER)
    y, text = draw(4, 2, *SIZE), draw(4, 3, 6, seed=3)
    found = []
    for loss in (
        lambda: Objective(network, "moments", 0.0)(y, None, text, SIZE),
        lambda: decoder_loss(network(text)[0], y, SIZE),
    ):
        network.zero_grad()
        loss().backward()
        found.append(network.mean_out[1].weight.grad.clone())
    assert torch.equal(*found)
