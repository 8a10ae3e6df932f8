"""The Fréchet distance against its closed form, and the features it is taken on."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from singdiffusion import SingDiffusionError
from singdiffusion.evaluate.fidelity import EfficientNetLite0, FrechetDistance


class Means(torch.nn.Module):
    """Three features: the means of the channels."""

    num_features = 3

    def forward(self, pictures):
        return pictures.double().mean((2, 3))


def draw(count, low, high, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)


def by_hand(one, two):
    one, two = (Means()(pictures).numpy() for pictures in (one, two))
    s, t = np.cov(one.T), np.cov(two.T)
    return ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)


def test_the_distance_is_that_of_two_normal_distributions():
    real, generated = draw(50, 0, 200, 0), draw(40, 50, 256, 1)
    distance = FrechetDistance(real, Means())
    assert distance(generated) == pytest.approx(by_hand(real, generated), rel=1e-6)
    other = draw(40, 0, 30, 2)
    assert distance(other) == pytest.approx(by_hand(real, other), rel=1e-6), (
        "the real ones are kept, no generated ones are"
    )
    assert distance(real) == pytest.approx(0, abs=1e-6)


def test_too_few_pictures():
    with pytest.raises(SingDiffusionError, match="needs at least 2 real pictures, not 1"):
        FrechetDistance(draw(1, 0, 9, 0), Means())
    with pytest.raises(SingDiffusionError, match="needs at least 2 generated pictures, not 0"):
        FrechetDistance(draw(2, 0, 9, 0), Means())(draw(0, 0, 9, 0))


def test_features_of_efficientnet():
    """Trained weights, which see more than brightness: a shape is nearer to itself moved by a pixel than to a plain ground."""
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
