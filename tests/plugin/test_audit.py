"""The verdict on well-known schedules, from their configurations, against the table of alphas and closed forms."""

import json
import math
from contextlib import suppress
from pathlib import Path

import diffusers
import pytest
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from singdiffusion import SingDiffusionError, audit, tiny

from ..conftest import SD15
from ..mutations import mutated

DATA = Path(__file__).parents[1] / "files" / "audit"
LATENTS = json.loads((DATA / "latents.json").read_text())


def of(name, steps=50, **options):
    return audit(DATA / f"{name}.json", steps, latents=LATENTS[name], **options)


@pytest.mark.parametrize(
    ("steps", "timestep", "alpha", "gain"),
    [(50, 981, 0.07600, 13.120), (20, 951, 0.09031, 11.028), (10, 901, 0.11834, 8.391), (4, 751, 0.23605, 4.117)],
)
def test_stable_diffusion_1_5(steps, timestep, alpha, gain):
    found = of("sd-1.5", steps)
    assert found.first_timestep == timestep
    assert found.alpha == pytest.approx(alpha, abs=1e-5)
    assert found.gain == pytest.approx(gain, abs=1e-3)
    assert found.d == pytest.approx(64 / gain, rel=1e-4)
    assert found.terminal_snr == pytest.approx(0.06826**2 / (1 - 0.06826**2), rel=1e-3)
    assert (found.verdict, found.prediction_type, found.warnings) == ("present", "epsilon", ())


@pytest.mark.parametrize(
    ("name", "alpha", "d", "verdict"),
    [
        ("sd-2.1-v", 0.0760, 7.32, "present"),  # 0.0760 * 96 / 0.9971
        ("sdxl", 0.0760, 9.76, "present"),
        ("pixart-alpha", 0.00635, 0.813, "mild"),
        ("cosxl-like", 1 / math.hypot(1, 120), 128 / 120, "mild"),
        ("zero-snr-v-trailing", 0.0, 0.0, "absent"),
        ("zero-snr-v-trailing-euler", 2**-12, 128 * 2**-12, "absent"),
        ("zero-snr-v-leading", 0.0083, 0.53, "mild"),
        ("flow-matching", 0.0, 0.0, "absent"),
    ],
)
def test_well_known_schedules(name, alpha, d, verdict):
    found = of(name)
    assert found.alpha == pytest.approx(alpha, rel=5e-3, abs=1e-9)
    assert found.d == pytest.approx(d, rel=5e-3, abs=1e-9)
    assert found.verdict == verdict


def test_combinations_that_break():
    assert "divides by zero" in of("zero-snr-epsilon").warnings[0]
    assert 'timestep_spacing="trailing"' in of("zero-snr-v-leading").warnings[0]
    for name in ("sd-1.5", "sd-2.1-v", "zero-snr-v-trailing", "flow-matching", "cosxl-like"):
        assert of(name).warnings == ()


def test_json_has_no_infinity():
    found = of("flow-matching")
    assert found.gain == math.inf
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["gain"] is None
    assert {"prediction_type", "terminal_snr", "first_timestep", "alpha", "sigma", "gain", "d", "verdict"} <= set(
        found.as_json()
    )


def test_what_people_read():
    text = str(of("sd-1.5"))
    assert text.startswith("present: sampling starts at pure noise, training ended well before")
    assert "what to do: enable a SingDiffusion module" in text
    assert "first timestep 981: alpha 0.076, sigma 0.9971, gain 13.12, d 4.88" in text


def test_pipelines_schedulers_and_configurations_say_the_same(pipe):
    pipe.scheduler = DDIMScheduler(**SD15, timestep_spacing="leading", steps_offset=1)
    pipe.scheduler.set_timesteps(7)
    kept = pipe.scheduler.timesteps.clone()
    by_pipe = audit(pipe, 50)
    assert by_pipe == audit(pipe.scheduler, 50, latents=8)
    assert by_pipe == audit(dict(pipe.scheduler.config) | {"_class_name": "DDIMScheduler"}, 50, latents=(8, 8))
    assert by_pipe.latents == (8, 8)
    assert (pipe.scheduler.timesteps == kept).all(), "the pipeline's own timesteps stay"


def test_the_embedded_model_has_the_flaw_of_stable_diffusion():
    """alpha_T * 16 / sigma_T = 4.4, SD-1.5's own at t = 999: its trailing spacing starts there."""
    found = audit("tiny", 50, scheduler="DDIMScheduler")
    assert found.verdict == "present"
    trailing = DDIMScheduler.from_config(tiny.load_pipeline().scheduler.config, timestep_spacing="trailing")
    assert audit(trailing, 50, latents=16).d == pytest.approx(64 * 0.06826 / 0.99767, rel=1e-3)


def test_a_models_folder_needs_no_weights(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    for file in (tmp_path / "model").rglob("*.safetensors"):
        file.unlink()
    assert audit(str(tmp_path / "model"), 20).latents == (8, 8)


def test_another_scheduler():
    found = of("sd-1.5", 10, scheduler="DDIMScheduler")
    assert (found.scheduler, found.first_timestep) == ("DDIMScheduler", 901)
    found = of("sd-1.5", 10, scheduler="EulerDiscreteScheduler")  # takes its own default spacing, as in diffusers
    assert (found.scheduler, found.first_timestep) == ("EulerDiscreteScheduler", 999)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(1, 200),
    height=st.integers(1, 256),
    width=st.integers(1, 256),
    name=st.sampled_from(sorted(set(LATENTS) - {"zero-snr-epsilon"})),
)
def test_d_is_the_formula(steps, height, width, name):
    found = audit(DATA / f"{name}.json", steps, latents=(height, width))
    assert found.d == pytest.approx(found.alpha * math.sqrt(height * width) / found.sigma)
    assert found.verdict == ("present" if found.d >= 2 else "mild" if found.d >= 0.2 else "absent")


def test_more_steps_lose_less_with_leading_spacing():
    ds = [of("sd-1.5", steps).d for steps in (4, 10, 20, 50, 100)]
    assert ds == sorted(ds, reverse=True)


def test_fails_in_one_line(tmp_path, pipe):
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "nameless.json").write_text("{}")
    (tmp_path / "foreign.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    (tmp_path / "odd.json").write_text(json.dumps(SD15 | {"_class_name": "DDIMScheduler", "beta_schedule": "cubic"}))
    for target, line in (
        (tmp_path / "list.json", "must hold an object, not a list"),
        (tmp_path / "broken.json", "cannot be read as JSON"),
        (tmp_path / "nameless.json", "it has no _class_name"),
        (tmp_path / "foreign.json", "unknown scheduler 'UNet2DConditionModel'"),
        (tmp_path / "odd.json", "odd.json: beta_schedule must be one of linear, "),
        (tmp_path, "not a diffusers model"),
        ("not a model", "not a hub id"),
        ("nobody/nothing", "it is not in the cache, and HF_HUB_OFFLINE is set"),
        (3, "a int cannot be audited"),
        (DDIMScheduler(**SD15), "size of the latents is unknown"),
    ):
        with pytest.raises(SingDiffusionError, match=line):
            audit(target)
    for options, line in (
        ({"num_inference_steps": 0}, "num_inference_steps must be a positive integer"),
        ({"latents": (0, 4)}, "latents must be positive"),
        ({"num_inference_steps": 2000}, "refuses 2000 steps"),
        ({"scheduler": "Magic"}, "unknown scheduler 'Magic'"),
    ):
        with pytest.raises(SingDiffusionError, match=line):
            audit(pipe, **options)


def test_single_classes_that_have_no_first_step():
    with pytest.raises(SingDiffusionError, match="inverts pictures to noise"):
        audit(diffusers.DDIMInverseScheduler(**SD15), latents=8)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_change_of_a_configuration_is_judged_or_named(data):
    good = data.draw(st.sampled_from([json.loads((DATA / f"{name}.json").read_text()) for name in sorted(LATENTS)]))
    config = data.draw(mutated(good))
    steps, latents = data.draw(st.sampled_from([1, 50, 1000])), data.draw(st.sampled_from([8, (2, 70000), "a"]))
    with suppress(SingDiffusionError):
        json.dumps(audit(config, steps, latents=latents).as_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"trained_betas": [1, 1], "num_train_timesteps": 2}, "trained_betas"),
        ({"trained_betas": "low"}, "trained_betas"),
        ({"trained_betas": [0.1, None]}, "trained_betas"),
        ({"beta_start": 2}, "beta_start"),
        ({"beta_end": -0.1}, "beta_end"),
        ({"num_train_timesteps": 0}, "num_train_timesteps"),
        ({"num_train_timesteps": True}, "num_train_timesteps"),
        ({"num_train_timesteps": 10**12}, "num_train_timesteps"),
        ({"prediction_type": "noise"}, "prediction_type"),
        ({"timestep_spacing": 3}, "timestep_spacing"),
        ({"steps_offset": 10**9}, "steps_offset"),
        ({"clip_sample": "no"}, "clip_sample"),
        ({"_class_name": "EDMEulerScheduler", "sigma_max": None}, "sigma_max"),
    ],
)
def test_wrong_values_are_named_by_their_key(changes, key):
    with pytest.raises(SingDiffusionError, match=f"^the configuration: {key} must be "):
        audit(SD15 | {"_class_name": "DDIMScheduler"} | changes, latents=8)


@pytest.mark.parametrize("size", [-1, 0, 10**9, "64", [8, 8, 8], True, [8, None], 8.5])
def test_a_wrong_size_of_latents_in_a_models_folder(tmp_path, size):
    for name, content in (
        ("scheduler/scheduler_config.json", SD15 | {"_class_name": "DDIMScheduler"}),
        ("unet/config.json", {"sample_size": size}),
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(SingDiffusionError, match="unet/config.json: sample_size of the latents must be positive"):
        audit(tmp_path)
    (tmp_path / "model_index.json").write_text("[")
    with pytest.raises(SingDiffusionError, match="model_index.json cannot be read as JSON"):
        audit(tmp_path)
