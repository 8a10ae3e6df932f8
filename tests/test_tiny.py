"""What ships: the embedded base is an ordinary diffusers folder with SD-1.5's flaw, and the module fits it."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open

from singdiffusion import Schedule, SingDiffusion, TimeFreeUNet, tiny
from singdiffusion.core.singular import guided_mean


def test_diffusers_alone_loads_it(tmp_path):
    code = (
        "import sys; from diffusers import StableDiffusionPipeline as P; p = P.from_pretrained(sys.argv[1]);"
        "p.set_progress_bar_config(disable=True);"
        "print(p('red apple', num_inference_steps=1).images[0].size, 'singdiffusion' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tiny.folder()], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "(64, 64) False", done.stderr[-500:]


def test_its_schedule_is_sd15s_at_its_own_size():
    pipe = tiny.load_pipeline()
    assert isinstance(pipe, StableDiffusionPipeline)
    schedule = Schedule.from_config(pipe.scheduler)
    sd15 = Schedule.named("sd15")
    t = torch.arange(0, 1000, 111)
    torch.testing.assert_close(schedule.snr(t), 16 * sd15.snr(t), rtol=1e-4, atol=0)
    d = lambda s, side: float(s.alpha(999) * side / s.sigma(999))  # noqa: E731
    assert d(schedule, 16) == pytest.approx(d(sd15, 64), rel=1e-4)
    assert d(sd15, 64) == pytest.approx(4.38, abs=0.01)


def test_sizes():
    pipe = tiny.load_pipeline()
    assert sum(p.numel() for p in pipe.unet.parameters()) <= 10e6
    total = sum(file.stat().st_size for file in tiny.folder().parent.rglob("*") if file.is_file())
    assert total < 48 * 2**20
    assert pipe.vae_scale_factor == 4
    assert pipe.unet.config.sample_size == 16


def test_weights_are_half_precision_safetensors_and_finite():
    files = [*tiny.folder().rglob("*.safetensors"), *tiny.module_folder().rglob("*.safetensors")]
    assert len(files) == 4
    for file in files:
        with safe_open(file, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118  (safe_open is no mapping)
                tensor = weights.get_tensor(key)
                assert tensor.dtype == torch.float16 or not tensor.is_floating_point(), key
                assert torch.isfinite(tensor.float()).all(), key
    assert not [*tiny.folder().parent.rglob("*.bin"), *tiny.folder().parent.rglob("*.ckpt")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_module_knows_its_base_in_every_dtype(dtype):
    pipe = tiny.load_pipeline(dtype)
    sing = SingDiffusion.from_pretrained("tiny").enable(pipe)
    assert isinstance(sing.module, TimeFreeUNet)
    assert sing.text_encoder is None, "it shares the base's"
    assert sing._shares_text


def test_the_modules_output_hardly_hangs_on_the_noise():
    """The minimiser is E[x_0 | prompt], which x_1 says nothing of: a free check of any trained module."""
    pipe = tiny.load_pipeline()
    sing = SingDiffusion.from_pretrained("tiny")
    for prompt in ("solid black background", "red apple on a white background"):
        embeds, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
        x_1 = torch.randn(32, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            y = sing.module.predict(x_1, embeds.expand(32, -1, -1))
        over_noise = y.mean((2, 3)).std(0).norm()
        assert over_noise < 0.1 * y.mean((2, 3)).norm(dim=1).mean()


def test_black_and_white_means_decode_to_black_and_white():
    pipe = tiny.load_pipeline()
    sing = SingDiffusion.from_pretrained("tiny")
    x_1 = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    for prompt, value in (("solid black background", 0), ("solid white background", 255)):
        embeds, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
        with torch.no_grad():
            y = guided_mean(None, sing.module.predict(x_1, embeds), 1.0)
            picture = pipe.vae.decode(y / pipe.vae.config.scaling_factor).sample
        assert float((picture.clamp(-1, 1) + 1).mean() * 127.5) == pytest.approx(value, abs=20)


def test_reference_is_of_the_four_prompts():
    prompts = tiny.reference()["prompts"]
    means = np.array([row["mean"] for row in prompts.values()])
    assert list(prompts) == [
        "solid black background",
        "solid white background",
        "monochrome line-art logo on a black background",
        "monochrome line-art logo on a white background",
    ]
    assert means[0] < 10 < 245 < means[1]
    assert means[2] < 90 < 165 < means[3]


def test_every_model_has_a_card():
    for folder in (tiny.folder(), tiny.module_folder()):
        card = (folder / "README.md").read_text()
        assert "license: apache-2.0" in card
        assert "minutes" in card
    assert "What it can and cannot do" in (tiny.folder() / "README.md").read_text()


def test_its_config_is_a_plain_unet():
    assert type(tiny.load_pipeline().unet) is UNet2DConditionModel
