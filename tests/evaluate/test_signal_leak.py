"""The signal leak: the state that the network receives, written out from the latents, and its statistics."""

import json
import math

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singdiffusion import SingDiffusionError
from singdiffusion.core.dct import from_low_frequencies
from singdiffusion.data import encode, manifest, sources
from singdiffusion.data.base import Base
from singdiffusion.evaluate.remedies import LatentStatistics, SignalLeak, available

from ..data.corpus import picture
from ..plugin.painting import noise, run
from .starts import ALPHA, SIGMA, Stopped, first_under, some_latents, statistics_for

K = manifest.STATISTICS


def leaked(x_1, latents, alpha, sigma):
    """The signal leak's state, written out with scipy's DCT and square roots from the latents themselves."""
    every = scipy.fft.dctn(latents.double().numpy(), axes=(-2, -1), norm="ortho")
    state = scipy.fft.dctn(x_1.double().numpy(), axes=(-2, -1), norm="ortho") * sigma
    for h in range(K):
        for w in range(K):
            low = every[:, :, h, w]
            covariance = np.cov(low.T, ddof=0)
            root = scipy.linalg.sqrtm(sigma**2 * np.eye(4) + alpha**2 * covariance).real
            state[:, :, h, w] = alpha * low.mean(0) + state[:, :, h, w] / sigma @ root.T
    return torch.from_numpy(scipy.fft.idctn(state, axes=(-2, -1), norm="ortho")).float()


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_the_signal_leak_for_any_guidance(scheduled_pipe, guidance):
    remedy = SignalLeak(statistics_for(scheduled_pipe))
    got, _ = first_under(remedy, scheduled_pipe, guidance_scale=guidance)
    torch.testing.assert_close(got, leaked(noise(), some_latents(), ALPHA, SIGMA), atol=1e-5, rtol=1e-5)


def test_the_signal_leak_of_larger_pictures(pipe):
    """Amplitudes stay the same: the mean picture at twice the size has twice the DCT coefficients."""
    statistics = statistics_for(pipe)
    got, _ = first_under(SignalLeak(statistics), pipe, height=32, width=16)
    means = (got - SIGMA * torch.randn(1, 4, 16, 8, generator=torch.Generator().manual_seed(0))).mean((-2, -1))
    x_1 = torch.randn(1, 4, 16, 8, generator=torch.Generator().manual_seed(0)).mean((-2, -1))
    covariance = SIGMA**2 * np.eye(4) + ALPHA**2 * 16 * 8 * statistics.covariance[0, 0].double().numpy()
    root = torch.from_numpy(scipy.linalg.sqrtm(covariance).real).float()
    expected = ALPHA * statistics.mean[:, 0, 0] + (root - SIGMA * torch.eye(4)) @ x_1[0]
    torch.testing.assert_close(means[0], expected, atol=1e-5, rtol=1e-4)


def test_the_signal_leak_has_the_moments_of_the_statistics(pipe):
    """Over n pictures, for a normal coefficient: Var[mean_i] = S_ii / n, Var[S_ij] = (S_ii S_jj + S_ij^2) / n; five deviations."""
    n, statistics = 4000, statistics_for(pipe)

    def look(_, args):
        seen.append(args[0])
        raise Stopped

    seen = []
    handle = pipe.unet.register_forward_pre_hook(look)
    with pytest.raises(Stopped), SignalLeak(statistics).applied(pipe):
        run(pipe, guidance_scale=1.0, num_images_per_prompt=n)
    handle.remove()
    low = torch.from_numpy(scipy.fft.dctn(seen[0].double().numpy(), axes=(-2, -1), norm="ortho"))[:, :, :K, :K]
    expected = SIGMA**2 * torch.eye(4) + ALPHA**2 * 64 * statistics.covariance.double()
    spread = expected.diagonal(dim1=-2, dim2=-1)
    mean_error = low.mean(0).permute(1, 2, 0) - ALPHA * 8 * statistics.mean.permute(1, 2, 0)
    assert (mean_error.abs() < 5 * (spread / n).sqrt()).all()
    off = low - low.mean(0)
    found = torch.einsum("nchw,ndhw->hwcd", off, off) / n
    deviation = ((spread[..., None] * spread[..., None, :] + expected**2) / n).sqrt()
    assert ((found - expected).abs() < 5 * deviation).all()
    assert (spread[0, 0] > 2 * SIGMA**2).all(), "so that N(0, I) would not pass"


def test_a_signal_leak_of_another_latent_space(make_pipe):
    remedy = SignalLeak(statistics_for(make_pipe()))
    assert remedy.unfit(make_pipe(seed=1)) == "the statistics are of another VAE's latents"
    assert remedy.unfit(make_pipe()) is None


# -- statistics --------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(height=st.integers(K, 12), width=st.integers(K, 12), seed=st.integers(0, 99))
def test_amplitudes_do_not_grow_with_the_picture(height, width, seed):
    amplitudes = torch.randn(20, 3, K, K, generator=torch.Generator().manual_seed(seed)) + 1
    found = LatentStatistics.of_latents(
        from_low_frequencies(amplitudes * math.sqrt(height * width), height, width), {"name": "x"}
    )
    torch.testing.assert_close(found.mean, amplitudes.mean(0), atol=1e-5, rtol=1e-5)
    expected = torch.stack([torch.cov(amplitudes[:, :, h, w].T, correction=0) for h in range(K) for w in range(K)])
    torch.testing.assert_close(found.covariance.flatten(0, 1), expected, atol=1e-4, rtol=1e-4)


@pytest.fixture
def encoded(pipe, tmp_path):
    """A folder that ``singdiffusion encode`` wrote, and the latents of its pictures."""
    (tmp_path / "in").mkdir()
    for i in range(9):
        picture(i).save(tmp_path / "in" / f"{i}.png")
        (tmp_path / "in" / f"{i}.txt").write_text(f"picture {i}")
    source, base, out = sources.open_source(str(tmp_path / "in"), unit_size=4), Base.of(pipe, "small"), tmp_path / "out"
    out.mkdir()
    encode.encode(source, out, base, encode.Options(16))
    manifest.write_manifest(source, out)
    pixels = torch.stack([torch.from_numpy(np.asarray(picture(i)).copy()) for i in range(9)])
    return out, base.latents(pixels)


def test_statistics_of_a_manifest(pipe, encoded):
    folder, latents = encoded
    found = LatentStatistics.of_folder(folder)
    expected = LatentStatistics.of_latents(latents, {})
    torch.testing.assert_close(found.mean, expected.mean, atol=1e-5, rtol=1e-4)
    size = float(expected.covariance.abs().max())
    torch.testing.assert_close(found.covariance, expected.covariance, atol=1e-4 * size, rtol=1e-3)
    assert SignalLeak(found).unfit(pipe) is None
    fitting, _ = available(pipe, [], statistics=folder)
    assert [remedy.name for remedy in fitting if isinstance(remedy, SignalLeak)] == ["signal-leak"]


def damaged(key, value):
    """A small manifest of two channels and one frequency, with another value at a dotted key."""
    base = {
        "latent_channels": 2,
        "vae_scaling_factor": 0.2,
        "vae_shift_factor": None,
        "vae_fingerprint": [1.0],
        "vae_scale": 8,
    }
    whole: dict = {"options": {"size": 64}, "base": base, "shards": []}
    whole |= {"low_frequency_mean": [[[0.0]]] * 2, "low_frequency_covariance": [[[[1.0, 0.0], [0.0, 1.0]]]]}
    *folders, last = key.split(".")
    (whole[folders[0]] if folders else whole)[last] = value
    return json.dumps(whole)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "there is no manifest.json in"),
        ("{", "manifest.json cannot be read as JSON"),
        ("{}", "manifest.json: options is missing"),
        ("[]", "manifest.json: the content must be an object, not "),
        (damaged("options.size", "512"), "options.size must be a whole number, not '512'"),
        (damaged("options.size", 1), "its low frequencies are no mean and covariance; encode again"),
        (damaged("options.size", 0), "options.size must be at least 1, not 0"),
        (damaged("base.vae_scale", 0), "base.vae_scale must be at least 1, not 0"),
        (damaged("base.vae_scaling_factor", -1), "base.vae_scaling_factor must be greater than 0"),
        (damaged("base.vae_fingerprint", ["x"]), "'base.vae_fingerprint.0' must be a number"),
        (damaged("base.latent_channels", 3), "its low frequencies are no mean and covariance"),
        (damaged("low_frequency_mean", [[[0.0]], [[0.0, 1.0]]]), "its low frequencies are no mean"),
        (damaged("low_frequency_mean", [[[1e300]]] * 2), "must be at most"),
        (damaged("low_frequency_mean", [0.0]), "'low_frequency_mean.0' is wrong"),
        (damaged("low_frequency_covariance", [[[[-1.0, 0.0], [0.0, 1.0]]]]), "its low frequencies are no mean"),
        (damaged("low_frequency_covariance", [[[[1.0, 0.5], [0.0, 1.0]]]]), "its low frequencies are no mean"),
    ],
)
def test_a_folder_without_statistics(tmp_path, content, line):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(SingDiffusionError, match=line):
        LatentStatistics.of_folder(tmp_path)
