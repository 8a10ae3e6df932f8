"""Remedies: the network's first input, a pipeline that is unchanged afterwards, why some do not fit, and their brightness and cost.

[ZT] is cited in full in ``singdiffusion.evaluate.remedies.zero_snr``.
"""

import copy
import json
import math
from contextlib import nullcontext

import diffusers
import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from singdiffusion import MeanDecoder, SingDiffusionError, tiny
from singdiffusion.core.dct import from_low_frequencies
from singdiffusion.core.schedule import Schedule
from singdiffusion.data import encode, manifest, sources
from singdiffusion.data.base import Base
from singdiffusion.evaluate.digests import digest
from singdiffusion.evaluate.metrics import cost
from singdiffusion.evaluate.remedies import (
    FirstStep,
    FlatColor,
    LatentStatistics,
    Off,
    OneMoreStep,
    SignalLeak,
    Trailing,
    ZeroSnr,
    available,
)
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import fingerprint
from singdiffusion.painting.luma import mean_luma
from singdiffusion.painting.paint import paint

from ..conftest import SD15, TEXT_WIDTH, make_config, make_module
from ..data.corpus import picture
from ..plugin.painting import embed, expected_mean, first_input, noise, recording, run
from ..plugin.zoo import build, build_untouched

K = manifest.STATISTICS


def some_latents(count=200, seed=3):
    """Latents whose channels' means are not 0 and are correlated."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(4, 4, generator=generator)
    level = torch.randn(count, 4, 1, 1, generator=generator) * 2 + torch.tensor([1.0, -2.0, 0.5, 3.0]).reshape(4, 1, 1)
    return torch.einsum("cd,ndhw->nchw", mix, level + torch.randn(count, 4, 8, 8, generator=generator))


def statistics_for(pipe):
    return LatentStatistics.of_latents(some_latents(), Base.of(pipe, "small").identity())


def predicting_v(pipe, **changes):
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, prediction_type="v_prediction", **changes)
    return pipe


@pytest.fixture
def decoder_folder(pipe, tmp_path):
    torch.manual_seed(1)
    module = MeanDecoder(4, TEXT_WIDTH, grid=4, covariance_grid=2, width=16, layers=1).eval()
    torch.nn.init.normal_(module.mean_out[1].weight)
    text = fingerprint(pipe.text_encoder)
    SingModule(module, make_config(text_fingerprint=text)).save_pretrained(tmp_path / "decoder")
    return tmp_path / "decoder"


@pytest.fixture
def oms_folder(pipe, tmp_path):
    """A converted OneMoreStep module is a U-Net without time whose output is v at t = 1, used without our guidance."""
    own = {"prediction": "v_prediction", "guidance_scale": 1.0, "normalise_guidance": False}
    config = make_config(text_fingerprint=fingerprint(pipe.text_encoder), **own)
    SingModule(make_module(), config).save_pretrained(tmp_path / "oms")
    return tmp_path / "oms"


@pytest.fixture
def every(pipe, sing_folder, decoder_folder, oms_folder):
    """All remedies, for ``pipe``."""
    made = [
        Off(),
        Trailing(),
        ZeroSnr(),
        ZeroSnr(guidance_rescale=0.7),
        ZeroSnr(spacing="leading"),
        SignalLeak(statistics_for(pipe)),
        FlatColor(),
        FlatColor("navy"),
        OneMoreStep(str(oms_folder)),
        FirstStep(str(sing_folder)),
        FirstStep(str(decoder_folder), "mean"),
        FirstStep(str(decoder_folder)),
    ]
    return {remedy.name: remedy for remedy in made}


# -- a pipeline that is unchanged afterwards --------------------------------------------------------------------------------------


class _Stopped(Exception):
    pass


def _stop(*_):
    raise _Stopped


def test_every_remedy_changes_the_picture_and_leaves_nothing_behind(pipe, every):
    """Also where the call inside is interrupted."""
    predicting_v(pipe)
    before, attributes, config = run(pipe), dict(vars(pipe)), json.dumps(dict(pipe.config), default=str)
    painted = []
    for name, remedy in every.items():
        assert remedy.unfit(pipe) is None, name
        with remedy.applied(pipe) as more:
            inside = run(pipe, **more)
        assert not any(np.array_equal(inside, other) for other in painted), name
        painted.append(inside)
        with pytest.raises(_Stopped), remedy.applied(pipe) as more:
            run(pipe, callback_on_step_end=_stop, **more)
        assert {key: id(value) for key, value in vars(pipe).items() if not key.startswith("_")} == {
            key: id(value) for key, value in attributes.items() if not key.startswith("_")
        }, name
        assert json.dumps(dict(pipe.config), default=str) == config, name
        np.testing.assert_array_equal(run(pipe), before, err_msg=name)
    np.testing.assert_array_equal(painted[0], before, err_msg="off")


def test_galleries_of_different_remedies_are_apart(pipe, every):
    digests = [digest(remedy.settings(pipe)) for remedy in every.values()]
    assert len(set(digests)) == len(every) == len({remedy.title for remedy in every.values()})


# -- the network's first input -----------------------------------------------------------------------------------------

SCHEDULERS = {
    "ddim": lambda: DDIMScheduler(**SD15, steps_offset=1, clip_sample=False, set_alpha_to_one=False),
    "euler": lambda: EulerDiscreteScheduler(**SD15, steps_offset=1, timestep_spacing="leading"),
}
BAR = Schedule.named("sd15").alphas_cumprod
ALPHA, SIGMA = math.sqrt(BAR[751]), math.sqrt(1 - BAR[751])  # 4 leading steps start at 751


@pytest.fixture(params=SCHEDULERS)
def scheduled_pipe(request, pipe):
    pipe.scheduler = SCHEDULERS[request.param]()
    return pipe


def first_under(remedy, pipe, **options):
    with remedy.applied(pipe) as more:
        return first_input(pipe, **(options | more))


def test_trailing_starts_from_the_same_noise_at_the_last_timestep(scheduled_pipe):
    got, timestep = first_under(Trailing(), scheduled_pipe)
    assert timestep == 999
    sigma = 1 if isinstance(scheduled_pipe.scheduler, DDIMScheduler) else math.sqrt(1 - BAR[999])  # Euler's own choice
    torch.testing.assert_close(got, sigma * noise(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("color", ["#000000", "white", "#808080", "navy"])
def test_a_flat_color(scheduled_pipe, color):
    pipe = scheduled_pipe
    rgb = {"#000000": (0, 0, 0), "white": (255,) * 3, "#808080": (128,) * 3, "navy": (0, 0, 128)}[color]
    pixels = torch.tensor(rgb, dtype=torch.float32).reshape(1, 3, 1, 1).expand(1, 3, 16, 16) / 127.5 - 1
    with torch.no_grad():
        latent = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
    got, timestep = first_under(FlatColor(color), pipe)
    assert timestep == 751
    torch.testing.assert_close(got, ALPHA * latent + SIGMA * noise(), atol=1e-5, rtol=1e-5)


def test_one_more_step_predicts_v_and_is_not_guided(scheduled_pipe, oms_folder):
    """v = -x_0 at t = 1."""
    pipe, remedy = scheduled_pipe, OneMoreStep(str(oms_folder))
    with torch.no_grad():
        v = remedy.module.network.predict(noise(), embed(pipe, ["a dark room"]))
    got, _ = first_under(remedy, pipe)
    torch.testing.assert_close(got, -ALPHA * v + SIGMA * noise(), atol=1e-5, rtol=1e-5)


def test_the_papers_mean(scheduled_pipe, sing_folder):
    remedy = FirstStep(str(sing_folder))
    got, _ = first_under(remedy, scheduled_pipe)
    mean = expected_mean(scheduled_pipe, remedy.module.network, noise())
    torch.testing.assert_close(got, ALPHA * mean + SIGMA * noise(), atol=1e-5, rtol=1e-5)


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
        raise _Stopped

    seen = []
    handle = pipe.unet.register_forward_pre_hook(look)
    with pytest.raises(_Stopped), SignalLeak(statistics).applied(pipe):
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


# -- zero terminal SNR -----------------------------------------------------------------------------------------------------


def two_inputs(remedy, pipe, **options):
    """The network's first two inputs, its first output, and their timesteps."""
    outputs = []
    handle = pipe.unet.register_forward_hook(lambda _, __, out: outputs.append(out[0].clone()))
    with recording(pipe.unet) as seen, remedy.applied(pipe) as more:
        run(pipe, **(options | more))
    handle.remove()
    return [sample for sample, _ in seen[:2]], outputs[0], [int(timestep) for _, timestep in seen[:2]]


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_zero_snr_starts_at_pure_noise_and_continues_from_v(pipe, rescale):
    """At alpha = 0: x_0 = -v and the noise is x. Guidance rescale returns v to the prompt's own deviation in part ([ZT] equations 15, 16)."""
    predicting_v(pipe)
    (first, second), v, timesteps = two_inputs(ZeroSnr(guidance_rescale=rescale), pipe)
    assert timesteps == [999, 749]
    torch.testing.assert_close(first[1:], noise(), atol=1e-5, rtol=1e-5)
    v_neg, v_pos = v.chunk(2)
    guided = v_neg + 7.5 * (v_pos - v_neg)
    guided = guided * (rescale * v_pos.std() / guided.std() + 1 - rescale)
    bar = Schedule.named("sd15").rescale_zero_terminal_snr().alphas_cumprod[749]
    expected = math.sqrt(bar) * -guided + math.sqrt(1 - bar) * noise()
    torch.testing.assert_close(second[1:], expected, atol=1e-5, rtol=1e-4)


def test_zero_snr_with_leading_timesteps_starts_before_the_end(pipe):
    """This is defined for an epsilon model: the schedule is another, and alpha is not 0 yet."""
    (first, second), noise_pos, timesteps = two_inputs(ZeroSnr(spacing="leading"), pipe, guidance_scale=1.0)
    assert timesteps == [751, 501]
    torch.testing.assert_close(first, noise(), atol=1e-5, rtol=1e-5)
    bar = Schedule.named("sd15").rescale_zero_terminal_snr().alphas_cumprod
    x_0 = (noise() - math.sqrt(1 - bar[751]) * noise_pos) / math.sqrt(bar[751])
    expected = math.sqrt(bar[501]) * x_0 + math.sqrt(1 - bar[501]) * noise_pos
    torch.testing.assert_close(second, expected, atol=1e-4, rtol=1e-4)


def test_zero_snr_as_published_is_undefined_for_epsilon(pipe):
    assert str(ZeroSnr().unfit(pipe)).startswith("it predicts epsilon")
    with ZeroSnr().applied(pipe):
        assert not np.isfinite(run(pipe)).all(), "diffusers has changed: update the remedy"


# -- why some do not fit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["StableDiffusionImg2ImgPipeline"])
def test_pipelines_that_start_from_a_picture(tokenizer, pipe, name):
    painter = build_untouched(name, tokenizer)
    for remedy in (Trailing(), ZeroSnr(), SignalLeak(statistics_for(pipe)), FlatColor()):
        assert remedy.unfit(painter) == "it starts from a picture, not from noise"


def test_schedulers_that_cannot(pipe):
    pipe.scheduler = HeunDiscreteScheduler(**SD15)
    assert ZeroSnr().unfit(pipe) == "HeunDiscreteScheduler has no rescale_betas_zero_snr"
    # from_config keeps options that a class does not have, which must not count
    pipe.scheduler = HeunDiscreteScheduler.from_config(DDIMScheduler(**SD15, rescale_betas_zero_snr=True).config)
    assert ZeroSnr().unfit(pipe) == "HeunDiscreteScheduler has no rescale_betas_zero_snr"
    pipe.scheduler = diffusers.EDMEulerScheduler()
    assert Trailing().unfit(pipe) == "EDMEulerScheduler has no timestep_spacing"


def test_what_the_scheduler_does_already(pipe):
    pipe.scheduler = DDIMScheduler(**SD15, timestep_spacing="trailing")
    assert Trailing().unfit(pipe) == "its DDIMScheduler takes the same timesteps without it"
    predicting_v(pipe, rescale_betas_zero_snr=True)
    assert ZeroSnr().unfit(pipe) == "its scheduler does so already"
    assert ZeroSnr(guidance_rescale=0.7).unfit(pipe) is None


def test_a_pipeline_without_guidance_rescale(tokenizer):
    pipe = predicting_v(build("StableDiffusionControlNetPipeline", tokenizer)[0])
    assert ZeroSnr().unfit(pipe) is None
    unfit = ZeroSnr(guidance_rescale=0.7).unfit(pipe)
    assert unfit == "StableDiffusionControlNetPipeline takes no guidance_rescale"


def test_a_signal_leak_of_another_latent_space(make_pipe):
    remedy = SignalLeak(statistics_for(make_pipe()))
    assert remedy.unfit(make_pipe(seed=1)) == "the statistics are of another VAE's latents"
    assert remedy.unfit(make_pipe()) is None


def test_what_is_not_a_one_more_step_module(pipe, sing_folder, tmp_path):
    with pytest.raises(SingDiffusionError, match="is not a OneMoreStep module: it does not predict v at t = 1"):
        OneMoreStep(str(sing_folder))
    (tmp_path / "published" / "oms_module").mkdir(parents=True)
    with pytest.raises(SingDiffusionError, match="singdiffusion convert .*published FOLDER"):
        OneMoreStep(str(tmp_path / "published"))


def test_what_is_not_a_color():
    with pytest.raises(SingDiffusionError, match="'gray-ish' is no"):
        FlatColor("gray-ish")


def test_the_table_has_a_fixed_order_and_reasons_for_what_is_absent(pipe, sing_folder, decoder_folder, oms_folder):
    modules = [str(sing_folder), str(decoder_folder)]
    fitting, absent = available(pipe, modules, colors=["black", "white"], one_more_step=str(oms_folder))
    assert [type(remedy) for remedy in fitting] == [
        Off, Trailing, ZeroSnr, FlatColor, FlatColor, OneMoreStep, FirstStep, FirstStep, FirstStep,
    ]  # fmt: skip
    assert [remedy.method for remedy in fitting[-3:]] == ["mean", "mean", "moments"]
    assert fitting[-1].module is fitting[-2].module, "one module in memory, not two"
    why = {each.name: each.reason for each in absent}
    assert list(why) == [
        "zero-snr",
        "zero-snr-guidance-rescale",
        "signal-leak",
        "offset-noise",
        "input-perturbation",
    ]
    assert "predicts epsilon" in why["zero-snr"]
    assert "singdiffusion encode" in why["signal-leak"]
    assert "base retrained" in why["offset-noise"]


def test_what_does_not_fit_is_absent_with_its_reason(make_pipe, sing_folder):
    fitting, absent = available(make_pipe(scaling=0.5), [str(sing_folder)])
    assert not any(isinstance(remedy, FirstStep) for remedy in fitting)
    reason = next(each.reason for each in absent if each.title.startswith("SingDiffusion"))
    assert reason.startswith("the module is for another latent space: VAE scaling factor 0.18215")


# -- statistics --------------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "there is no manifest.json in"),
        ("{", "manifest.json cannot be read as JSON"),
        ("{}", "is damaged"),
        ("[]", "manifest.json must hold a JSON object, not a list"),
    ],
)
def test_a_folder_without_statistics(tmp_path, content, line):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(SingDiffusionError, match=line):
        LatentStatistics.of_folder(tmp_path)


# -- brightness, on the embedded models ---------------------------------------------------------------------------

BLACK, WHITE = "solid black background", "solid white background"


def mean_lumas(pipe, remedy, prompt, steps=10):
    with remedy.applied(pipe) as more:
        options = {"num_inference_steps": steps, "guidance_scale": 7.5} | more
        return np.array([mean_luma(image) for image in paint(pipe, [prompt] * 8, range(8), **options)])


@pytest.fixture(scope="module")
def painter():
    pipe = tiny.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    return pipe, available(pipe, embedded=True, colors=["black", "white"])


@pytest.mark.slow
def test_brightness_on_the_embedded_model(painter):
    pipe, (fitting, _) = painter
    found = {remedy.name: [mean_lumas(pipe, remedy, prompt) for prompt in (BLACK, WHITE)] for remedy in fitting}
    mean = {name: (float(black.mean()), float(white.mean())) for name, (black, white) in found.items()}
    off = mean["off"]
    # less signal is lost where alpha is less
    for name in ("trailing", "zero-snr-leading"):
        assert mean[name][0] < off[0], name
        assert mean[name][1] > off[1], name
    # a flat start pulls every prompt
    assert max(mean["flat-000000"]) < 30
    assert min(mean["flat-ffffff"]) > 225
    # a leak that ignores the prompt gives variety, of the wrong kind too
    assert found["signal-leak"][0].std() > 2 * found["off"][0].std()
    assert found["signal-leak"][1].std() > 2 * found["off"][1].std()
    # the prompt's own mean was missing
    for name in ("tiny-unet-mean", "tiny-mean", "tiny-moments"):
        assert mean[name][0] < 5, name
        assert mean[name][1] > 250, name


def test_zero_snr_on_a_model_that_predicts_v():
    pipe = tiny.load_pipeline(model="tiny-v")
    pipe.set_progress_bar_config(disable=True)
    off, zero, rescaled = (
        mean_lumas(pipe, remedy, WHITE) for remedy in (Off(), ZeroSnr(), ZeroSnr(guidance_rescale=0.7))
    )
    assert abs(zero.mean() - 253.4) < abs(off.mean() - 253.4)
    assert rescaled.mean() < zero.mean(), "guidance rescale reduces contrast"


# -- cost -----------------------------------------------------------------------------------------------------------


class Longer(Off):
    """Takes as many steps more as a remedy with a cost would."""

    name = title = "longer"

    def applied(self, pipe):
        return nullcontext({"num_inference_steps": 40})


def test_seconds_are_those_of_the_steps(pipe):
    """Twenty times the steps: the rest of the pipeline keeps the ratio below that, and far above 1."""
    done = []
    found = cost.measure(pipe, Longer(), "a room", pairs=7, advance=done.append, num_inference_steps=2)
    assert sum(done) == 2 * (7 + 1)
    assert found.pairs == 7
    assert 2 < found.ratio < 22
    assert found.interval is not None
    assert found.interval[0] > 0
    assert found.extra == pytest.approx(found.seconds - found.seconds_off, rel=0.5)
    assert json.loads(json.dumps(found.as_json()))["mib"] == 0


def test_few_pairs_have_no_interval(pipe):
    assert cost.measure(pipe, Trailing(), "a room", pairs=2, num_inference_steps=2).interval is None


def test_memory_counts_what_the_pipeline_does_not_have(pipe, sing_folder):
    remedy = FirstStep(str(sing_folder))
    module = sum(p.numel() * p.element_size() for p in remedy.module.network.parameters()) / 2**20
    assert cost.extra_memory(pipe, Off()) == 0
    assert cost.extra_memory(pipe, remedy) == pytest.approx(module)
    remedy.module.text_encoder, remedy.module.tokenizer = (
        pipe.text_encoder,
        pipe.tokenizer,
    )  # shared: nothing more
    assert cost.extra_memory(pipe, remedy) == pytest.approx(module)
    own = copy.deepcopy(pipe.text_encoder)
    remedy.module.text_encoder = own
    text = sum(t.numel() * t.element_size() for t in [*own.parameters(), *own.buffers()]) / 2**20
    assert cost.extra_memory(pipe, remedy) == pytest.approx(module + text)
