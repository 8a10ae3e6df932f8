"""The propositions hold, with the exponents of the mixture's expansion; ``singdiffusion theory`` writes all of it."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from singdiffusion import Schedule, SingDiffusionError, tiny
from singdiffusion.theory import brightness, checks, report
from singdiffusion.theory.oracle import Oracle

LINE = Oracle(torch.tensor([[-1.0], [0.2], [1.0]]))


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("t", [0.2, 0.8])
def test_proposition_1(t):
    """The first moments agree, so the distance is of second order in sigma_{t|s}: slope 2, below the bound's 1/2."""
    curve = checks.proposition_1(LINE, torch.tensor([0.3]), t, np.geomspace(1e-3, 0.2, 8), "t")
    assert curve.exponent[0] == pytest.approx(2, abs=0.02)
    assert curve.worst_ratio < 1
    assert (curve.distance <= curve.bound).all()


def test_proposition_2():
    curve = checks.proposition_2(LINE, np.geomspace(1e-3, 0.5, 8), "t = 1")
    assert curve.exponent[0] == pytest.approx(2, abs=0.02)
    assert curve.worst_ratio < 1
    points = Oracle(torch.randn(30, 50, generator=generator()))
    many = checks.proposition_2_monte_carlo(points, np.geomspace(1e-3, 0.01, 4), "many", 4000, generator())
    assert (many.distance - many.half_width <= many.bound).all()
    assert many.exponent[0] == pytest.approx(2, abs=0.1)


def test_the_singularity_is_removable_by_x_prediction_only():
    found = checks.routes(LINE, [1e-1, 1e-4, 1e-8, 1e-12], 64, generator())
    x_prediction = found.error["x-prediction, float32"]
    assert (x_prediction < 1e-6).all()
    data = LINE.data[:, 0]
    error_of_zero = float(data.mean().abs() / data.std(correction=0))  # the error of y_bar = 0
    for name in ("epsilon", "score"):
        single, double = found.error[f"{name}, float32"], found.error[f"{name}, float64"]
        assert single[0] < 1e-5 < 1e-4 < single[1]
        assert single[-1] == pytest.approx(error_of_zero, rel=1e-3)
        assert (np.diff(double) > 0).all()
        assert double[0] < 1e-14 < 1e-6 < double[-1]
    assert found.to_limit[-1] < 1e-11
    # y_bar - mean = alpha Var(x_0) x + O(alpha^2) as t -> 1
    assert found.to_limit[1] / found.to_limit[2] == pytest.approx(1e4, rel=0.3)


def test_sampling_lands_on_the_data():
    found = checks.landing(LINE, [1.0, 0.5, 0.1, 0.01, 1e-3, 0.0], 50, generator())
    assert (np.diff(found.std) < 0).all()
    assert found.std[-1] == 0
    assert found.distance[-1] < 1e-12
    assert found.distance[-2] < 0.01


def test_the_displacement_doubles_with_resolution():
    found = checks.displacement(Schedule.named("sd15"), (16, 32, 64, 128))
    assert found[64][999] == pytest.approx(4.38, abs=0.01)
    assert found[64][981] == pytest.approx(4.88, abs=0.01)
    np.testing.assert_allclose(found[128], 2 * found[64])


def test_kl_against_closed_forms():
    """One point: KL of two Gaussians. Two distant spikes: entropies. Many dimensions: torch's KL."""
    for mean, std in ((0.0, 1.0), (1.3, 0.4)):
        expected = math.log(std / 0.7) + (0.7**2 + (mean - 0.5) ** 2) / (2 * std**2) - 0.5
        assert brightness.kl_to_normal(np.array([0.5]), 0.7, mean, std) == pytest.approx(expected, abs=1e-6)
    for sigma in (1e-3, 1e-6):  # two distant spikes: cross entropy - H(spikes)
        own = -math.log(2) - math.log(sigma * math.sqrt(2 * math.pi)) - 0.5
        cross = math.log(3 * math.sqrt(2 * math.pi)) + ((0 - 2) ** 2 + (5 - 2) ** 2) / 2 / 18 + sigma**2 / 18
        assert brightness.kl_to_normal(np.array([0.0, 5.0]), sigma, 2.0, 3.0) == pytest.approx(own + cross, abs=1e-6)
    a = torch.randn(4, 4, dtype=torch.float64, generator=generator())
    p = torch.distributions.MultivariateNormal(a[0], a @ a.T + torch.eye(4))
    q = torch.distributions.MultivariateNormal(a[1], 2 * torch.eye(4, dtype=torch.float64))
    expected = float(torch.distributions.kl_divergence(p, q))
    assert brightness.kl_of_normals(p.mean, p.covariance_matrix, q.mean, q.covariance_matrix) == pytest.approx(expected)


def test_proposition_3_on_pictures():
    """Each start restores more: nothing, the mean, the variance too. A start from q gives every picture its share."""
    pictures = tiny.pictures().luma[:200]
    t = checks.time_of_alpha(float(Schedule.named("sd15").alpha(999)))
    found = brightness.starts(pictures, t, 200, generator())
    real = (pictures.mean((1, 2, 3)) + 1) * 127.5
    for start in found.values():
        assert start.shares.sum() == pytest.approx(1)
    assert found["real"].mean == pytest.approx(float(real.mean()), abs=4 * float(real.std()) / math.sqrt(200))
    gap = {name: abs(start.std - float(real.std())) for name, start in found.items()}
    assert gap["moments"] < gap["mean"]
    assert min(found["off"].kl, found["mean"].kl) > found["moments"].kl > 0
    assert min(found["off"].kl_low, found["mean"].kl_low) > found["moments"].kl_low > 0
    assert found["real"].kl_low == pytest.approx(0, abs=1e-9)


def test_invalid_input():
    pictures = tiny.pictures().luma[:3]
    for t, count in ((0.0, 3), (1.1, 3), (0.5, 0)):
        with pytest.raises(SingDiffusionError, match=r"t must be within \(0, 1\] and count positive"):
            brightness.starts(pictures, t, count, generator())
    with pytest.raises(SingDiffusionError, match=r"alpha must be within \[0, 1\], not 1.5"):
        checks.proposition_2(LINE, [1.5], "x")
    with pytest.raises(SingDiffusionError, match=r"sizes must be within \(0, sigma_t = 0.309\], not 0.5"):
        checks.proposition_1(LINE, torch.tensor([0.3]), 0.2, [0.5], "x")


def test_the_embedded_pictures():
    pictures = tiny.pictures()
    assert pictures.drawn.shape == (768, 3, 64, 64)
    assert len(pictures.captions) == 768
    assert all(shown.shape == (64, 3, 64, 64) for shown in pictures.known.values())
    assert pictures.known["solid black background"].max() <= 6
    assert pictures.known["solid white background"].min() >= 249
    apple = pictures.known["red apple on a white background"].float().mean((0, 2, 3))
    assert apple[0] > apple[1] + 20
    assert -1 <= float(pictures.luma.min()) < -0.9 < 0.9 < float(pictures.luma.max()) <= 1


def test_the_command(tmp_path):
    command = [sys.executable, "-m", "singdiffusion", "theory", "--out", tmp_path / "o", "--json", tmp_path / "f.json"]
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env, timeout=500)
    assert done.returncode == 0, done.stderr[-800:]
    names = {file.name for file in (tmp_path / "o").iterdir()}
    stems = "proposition_1 proposition_2 removable landing brightness brightness_all displacement module".split()
    assert names == {f"{stem}{kind}" for stem in stems for kind in (".png", ".svg", "-dark.svg")} | {"theory.json"}
    for stem in stems:
        assert Image.open(tmp_path / "o" / f"{stem}.png").width > 700
    found = json.loads((tmp_path / "o" / "theory.json").read_text())
    assert found == json.loads((tmp_path / "f.json").read_text())
    for name in ("proposition1", "proposition2"):
        assert {"slope", "constant", "worst_ratio_to_bound"} <= set(found[name])
        assert found[name]["worst_ratio_to_bound"] < 1
    assert found["removable"]["x_prediction_error"] < 1e-6 < found["removable"]["epsilon_error"]
    third = found["proposition3"]
    assert {"kl_off", "kl_mean", "kl_moments"} <= set(third)
    assert third["brightness_mean_off"] - third["brightness_mean_real"] > 5, "too bright on dark backgrounds"
    assert abs(third["brightness_mean_mean"] - third["brightness_mean_real"]) < 5
    every = found["proposition3_all"]
    gap = {kind: abs(every[f"brightness_std_{kind}"] - every["brightness_std_real"]) for kind in ("mean", "moments")}
    assert gap["moments"] < gap["mean"] / 2
    for fit in found["module"]:
        assert fit["over_noise"] < 0.25, fit
        assert fit["off_grey"] < 0.3, fit
    assert len(found["module"]) == len(tiny.pictures().known)
    assert report.PARTS == 7
