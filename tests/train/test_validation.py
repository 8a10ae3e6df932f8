"""Validation against closed forms: networks whose figures are all known."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from singdiffusion.core.covariance import FLOOR
from singdiffusion.core.dct import from_low_frequencies, low_frequencies
from singdiffusion.data.shards import LatentDataset
from singdiffusion.painting.bases import load_text
from singdiffusion.train.config import Validation
from singdiffusion.train.text import embedder_for
from singdiffusion.train.validation import floor, validate

from .world import encoded


def figures(folder, model, rows=None, needs_noise=True):
    data = LatentDataset(folder / "shards")
    embed, _ = embedder_for(data, *load_text(str(folder / "base"), torch.float32), torch.float32, 64)
    rows = np.arange(len(data)) if rows is None else rows
    accelerator = Accelerator(cpu=True)
    return validate(
        accelerator, model, embed, data, rows, floor(data, rows), Validation(noises=3, batch=7), needs_noise
    )


class Fixed(nn.Module):
    """A network whose prediction is a given function of x_1 and the embeddings."""

    def __init__(self, predict):
        super().__init__()
        self.predict = predict

    def forward(self, y, x_1, text, size):
        assert y is None
        return self.predict(x_1, text)


def by_caption(world):
    """Return token ids of a caption -> (embedding, latents), and all latents."""
    data = LatentDataset(world / "shards")
    embed, _ = embedder_for(data, *load_text(str(world / "base"), torch.float32), torch.float32, 64)
    y, ids = data.read(np.arange(len(data)))
    made = {}
    for row in {tuple(r.tolist()) for r in ids[0]}:
        one = torch.tensor(row)
        made[row] = embed([one[None]])[0], y[(ids[0] == one).all(1)]
    return made, y


def oracle(world):
    """Return a network that predicts the mean of the pictures that have the caption."""
    known, _ = by_caption(world)
    texts = torch.stack([text for text, _ in known.values()])
    means = torch.stack([pictures.mean(0) for _, pictures in known.values()])

    def predict(x_1, text):
        nearest = (text[:, None] - texts[None]).flatten(2).norm(dim=2).argmin(1)
        return means[nearest], None

    return Fixed(predict)


def test_zero_has_the_datas_power(world):
    _, y = by_caption(world)
    found = figures(world, Fixed(lambda x_1, text: (torch.zeros_like(x_1), None)))
    assert found["loss"] == pytest.approx(float(y.square().mean()), rel=1e-5)
    assert found["channel_mean"] == pytest.approx(float(y.mean((2, 3)).square().mean()), rel=1e-5)
    assert found["over_noise"] == 0
    assert found["repeated"] == 1


def test_dependence_on_the_noise_is_measured(world):
    """A network that returns the noise depends on it fully: over 3 draws its deviation is sqrt(3) times the size of its mean."""
    found = figures(world, Fixed(lambda x_1, text: (x_1, None)))
    _, y = by_caption(world)
    assert found["loss"] == pytest.approx(1 + float(y.square().mean()), rel=0.05)
    assert found["over_noise"] == pytest.approx(3**0.5, rel=0.1), "variance 1, and that of the mean of three a third"


def test_the_best_constant_per_prompt_has_no_excess(world):
    """In-sample means have an error of (n - 1) / n of the unbiased variance: the excess is minus 1 / n of it."""
    known, _ = by_caption(world)
    found = figures(world, oracle(world))
    share = np.mean([float(p.var(0).mean()) * -1 / len(p) for _, p in known.values() for _ in p])
    means = np.mean([float(p.mean((2, 3)).var(0).mean()) * -1 / len(p) for _, p in known.values() for _ in p])
    assert found["excess"] == pytest.approx(share, rel=1e-3)
    assert found["channel_mean_excess"] == pytest.approx(means, rel=1e-3)


def test_excess_is_the_distance_from_the_mean(world):
    """A constant c added to the oracle's output adds c^2 to the excess."""
    best = oracle(world)
    plain = figures(world, best)
    off = figures(world, Fixed(lambda x_1, text: (best.predict(x_1, text)[0] + 0.5, None)))
    assert off["excess"] - plain["excess"] == pytest.approx(0.25, rel=1e-4)
    assert off["channel_mean_excess"] - plain["channel_mean_excess"] == pytest.approx(0.25, rel=1e-4)


def test_without_repeated_captions_there_is_no_excess(world):
    """The figures leave it out, because it was not measured."""
    data = LatentDataset(world / "shards")
    _, ids = data.read(np.arange(len(data)))
    rows = np.array(sorted({tuple(row.tolist()): i for i, row in enumerate(ids[0])}.values()))
    found = figures(world, oracle(world), rows)
    assert found["repeated"] == 0
    assert "excess" not in found


def test_buckets(pipe, tmp_path):
    folder = encoded(pipe, tmp_path, size=32, shapes=[(48, 24), (24, 48)], count=20)
    data = LatentDataset(folder / "shards")
    assert len(data.groups) == 2
    found = figures(folder, Fixed(lambda x_1, text: (torch.zeros_like(x_1), None)))
    parts = [data.read(np.arange(a, b))[0] for a, b in zip(data.starts, data.starts[1:], strict=False)]
    power = np.mean([float(row.square().mean()) for part in parts for row in part])
    assert found["loss"] == pytest.approx(power, rel=1e-5)


def test_coverage_of_a_calibrated_prediction(world):
    """With the true mean and variance of normal data, coverage is 50 % and 90 %, and the likelihood is the entropy."""
    data = LatentDataset(world / "shards")
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(len(data), 4, 2, 2, generator=generator, dtype=torch.float64) * 0.3
    row = iter(range(len(data)))
    data.read = lambda rows: (  # type: ignore[method-assign]
        from_low_frequencies(8 * drawn[rows], 8, 8).float(), LatentDataset.read(LatentDataset(world / "shards"), rows)[1]
    )  # fmt: skip
    assert next(row) == 0
    embed, _ = embedder_for(data, *load_text(str(world / "base"), torch.float32), torch.float32, 64)
    factors = torch.cat([torch.full((4,), np.log(0.3**2 - FLOOR)), torch.zeros(6)])[:, None, None].expand(-1, 2, 2)
    network = Fixed(lambda x_1, text: (torch.zeros(len(text), 4, 8, 8), factors.expand(len(text), -1, -1, -1)))
    rows = np.arange(len(data))
    found = validate(
        Accelerator(cpu=True), network, embed, data, rows, floor(data, rows), Validation(), needs_noise=False
    )
    count = drawn.numel()
    for name, share in (("coverage_50", 0.5), ("coverage_90", 0.9)):
        assert found[name] == pytest.approx(share, abs=3 * (share * (1 - share) / count) ** 0.5)
    assert found["dispersion"] == pytest.approx(1, abs=3 * (2 / count) ** 0.5)
    entropy = 0.5 + 0.5 * np.log(2 * np.pi) + np.log(0.3)
    assert found["likelihood"] == pytest.approx(entropy, abs=3 * (0.5 / count) ** 0.5)
    assert torch.allclose(low_frequencies(from_low_frequencies(drawn, 8, 8), 2), drawn)
