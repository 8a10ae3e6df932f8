"""Remedies: the network's first input, a pipeline that is unchanged afterwards, why some do not fit, and their brightness.

[ZT] is cited in full in ``singdiffusion.evaluate.remedies.zero_snr``.
"""

import json
import math

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, HeunDiscreteScheduler

from singdiffusion import SingDiffusionError, tiny
from singdiffusion.core.schedule import Schedule
from singdiffusion.evaluate.digests import digest
from singdiffusion.evaluate.remedies import (
    FirstStep,
    FlatColor,
    Off,
    OneMoreStep,
    SignalLeak,
    Trailing,
    ZeroSnr,
    available,
)
from singdiffusion.painting.luma import mean_luma
from singdiffusion.painting.paint import paint

from ..conftest import SD15, make_module, make_text_encoder
from ..plugin.painting import embed, expected_mean, noise, recording, run
from ..plugin.zoo import build, build_untouched
from ..published.layouts import write_one_more_step
from .starts import ALPHA, BAR, SIGMA, Stopped, first_under, predicting_v, statistics_for, stop


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


# -- a pipeline that is unchanged afterwards --------------------------------------------------------------------------


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
        with pytest.raises(Stopped), remedy.applied(pipe) as more:
            run(pipe, callback_on_step_end=stop, **more)
        assert {key: id(value) for key, value in vars(pipe).items() if not key.startswith("_")} == {
            key: id(value) for key, value in attributes.items() if not key.startswith("_")
        }, name
        assert json.dumps(dict(pipe.config), default=str) == config, name
        np.testing.assert_array_equal(run(pipe), before, err_msg=name)
    np.testing.assert_array_equal(painted[0], before, err_msg="off")


def test_galleries_of_different_remedies_are_apart(pipe, every):
    digests = [digest(remedy.settings(pipe)) for remedy in every.values()]
    assert len(set(digests)) == len(every) == len({remedy.title for remedy in every.values()})


# -- the network's first input ----------------------------------------------------------------------------------------


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


# -- zero terminal SNR ------------------------------------------------------------------------------------------------


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


# -- why some do not fit ----------------------------------------------------------------------------------------------


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


def test_what_is_not_a_one_more_step_module(pipe, sing_folder, tmp_path):
    with pytest.raises(SingDiffusionError, match="is not a OneMoreStep module: it does not predict v at t = 1"):
        OneMoreStep(str(sing_folder))
    with pytest.raises(SingDiffusionError, match="is not a module"):
        OneMoreStep(str(tmp_path))


def test_a_one_more_step_module_as_it_is_published(pipe, tokenizer, tmp_path):
    write_one_more_step(tmp_path / "oms_15_21", make_module(), tokenizer, make_text_encoder(tokenizer, seed=8))
    assert OneMoreStep(str(tmp_path / "oms_15_21")).unfit(pipe) is None


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


# -- brightness, on the embedded models -------------------------------------------------------------------------------

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
