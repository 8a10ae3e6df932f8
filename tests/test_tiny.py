"""What ships: the embedded base is an ordinary diffusers folder with SD-1.5's flaw, and the module fits it."""

import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionPipeline, UNet2DConditionModel
from PIL import ImageFilter
from safetensors import safe_open

from singdiffusion import MeanDecoder, Schedule, SingDiffusion, SingDiffusionError, TimeFreeUNet, tiny
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
    files = [file for file in tiny.folder().parent.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    in_the_wheel = sum(len(zlib.compress(file.read_bytes())) for file in files)
    assert in_the_wheel < 48 * 2**20
    assert pipe.vae_scale_factor == 4
    assert pipe.unet.config.sample_size == 16


def test_weights_are_small_safetensors_and_finite():
    """float16; the large matrices of the variants float8."""
    here = tiny.folder().parent
    files = list(here.rglob("*.safetensors"))
    assert len(files) == 3 + 2 + 2 + 1 + 2 + 1  # base, U-Net, decoder, v, community, ControlNet
    for file in files:
        base = any(file.is_relative_to(at) for at in (tiny.folder(), *map(tiny.module_folder, tiny.MODULES)))
        expected = {torch.float16} if base or "text_encoder" in file.parts else {torch.float16, torch.float8_e4m3fn}
        with safe_open(file, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118  (safe_open is no mapping)
                tensor = weights.get_tensor(key)
                assert tensor.dtype in expected or not tensor.is_floating_point(), key
                assert torch.isfinite(tensor.float()).all(), key
    assert not [*tiny.folder().parent.rglob("*.bin"), *tiny.folder().parent.rglob("*.ckpt")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model", tiny.MODELS)
def test_the_module_knows_its_base_in_every_dtype(model, dtype):
    pipe = tiny.load_pipeline(dtype, model)
    assert {p.dtype for part in (pipe.unet, pipe.text_encoder, pipe.vae) for p in part.parameters()} == {dtype}
    for module in ("tiny-decoder", "tiny-unet"):
        sing = SingDiffusion.from_pretrained(module).enable(pipe)
        assert sing._shares_text == (model != "tiny-community"), "a tuned encoder is not the one it was trained with"
        sing.disable()


def test_the_modules_own_text_encoder_is_the_bases():
    pipe, sing = tiny.load_pipeline(), SingDiffusion.from_pretrained("tiny")
    theirs, _ = pipe.encode_prompt(["a red apple", "solid black background"], "cpu", 1, False)
    ours, _ = sing.encode(["a red apple", "solid black background"])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_variants_differ_from_the_base_in_what_they_say():
    base, v, community, control = (tiny.load_pipeline(model=model) for model in tiny.MODELS)
    assert type(base) is type(v) is type(community) is StableDiffusionPipeline
    assert type(control) is StableDiffusionControlNetPipeline
    assert v.scheduler.config.prediction_type == "v_prediction"
    settings = dict(v.scheduler.config) | {"prediction_type": "epsilon"}
    assert {k: v for k, v in settings.items() if k[0] != "_"} == {
        k: v for k, v in base.scheduler.config.items() if k[0] != "_"
    }
    ids = torch.arange(24)[None]
    said = lambda pipe: pipe.text_encoder(ids).last_hidden_state  # noqa: E731
    assert torch.equal(said(v), said(base))
    assert (said(community) - said(base)).norm() > 0.1 * said(base).norm()
    for ours, theirs in zip(control.unet.parameters(), base.unet.parameters(), strict=True):
        assert torch.equal(ours, theirs), "a ControlNet leaves its base as it is"


def test_hints_are_edges_and_know_how_bright_their_pictures_are():
    hints = tiny.hints()
    assert len(hints) == 8
    for name, image in hints.items():
        assert (image.size, image.mode) == ((64, 64), "RGB"), name
        levels = np.asarray(image)
        assert set(np.unique(levels)) == {0, 255}
        assert 0.03 < (levels > 0).mean() < 0.4, name
    ours, plain = tiny.reference("tiny-controlnet"), tiny.reference()
    assert list(ours) == list(plain)
    assert [ours[p] == plain[p] for p in ours] == [True, True, False, False]


def test_the_controlnet_follows_its_hints():
    """The painted picture goes with the very edges that it was given, and with no others', at the scale of a stroke (edges lie on
    both sides of it, so both are blurred by two pixels)."""
    pipe = tiny.load_pipeline(model="tiny-controlnet")
    pipe.set_progress_bar_config(disable=True)
    SingDiffusion.from_pretrained("tiny").enable(pipe)
    hints = list(tiny.hints().values())
    images = pipe(
        ["monochrome line-art logo on a black background"] * len(hints), image=hints, num_inference_steps=10,
        guidance_scale=5.0, generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    flat = lambda image: np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(2)), float).ravel()  # noqa: E731
    likeness = np.corrcoef([flat(i) for i in images] + [flat(h) for h in hints])[: len(hints), len(hints) :]
    assert (likeness.argmax(1) == np.arange(len(hints))).all(), likeness.round(2)
    assert np.diag(likeness).min() > 0.7


def test_unknown_models_are_named():
    for ask in (tiny.reference, lambda model: tiny.load_pipeline(model=model)):
        with pytest.raises(SingDiffusionError, match="unknown embedded model 'tiny-x'; known: tiny, tiny-v, tiny-comm"):
            ask("tiny-x")


def test_the_modules_output_hardly_hangs_on_the_noise():
    """The minimiser is E[x_0 | prompt], which x_1 says nothing of: a free check of any trained module."""
    pipe = tiny.load_pipeline()
    sing = SingDiffusion.from_pretrained("tiny-unet")
    for prompt in ("solid black background", "red apple on a white background"):
        embeds, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
        x_1 = torch.randn(32, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            y = sing.module.predict(x_1, embeds.expand(32, -1, -1))
        over_noise = y.mean((2, 3)).std(0).norm()
        assert over_noise < 0.1 * y.mean((2, 3)).norm(dim=1).mean()


@pytest.mark.parametrize("module", ["tiny-unet", "tiny-decoder"])
def test_black_and_white_means_decode_to_black_and_white(module):
    pipe = tiny.load_pipeline()
    sing = SingDiffusion.from_pretrained(module)
    x_1 = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    for prompt, value in (("solid black background", 0), ("solid white background", 255)):
        embeds, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
        with torch.no_grad():
            y = guided_mean(None, sing.module.predict(x_1, embeds), 1.0)
            picture = pipe.vae.decode(y / pipe.vae.config.scaling_factor).sample
        assert float((picture.clamp(-1, 1) + 1).mean() * 127.5) == pytest.approx(value, abs=20)


def test_reference_is_of_the_four_prompts():
    prompts = tiny.reference()
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
    here = tiny.folder().parent
    for folder in (
        tiny.folder(),
        *map(tiny.module_folder, tiny.MODULES),
        here / "v",
        here / "community",
        here / "controlnet",
    ):
        card = (folder / "README.md").read_text()
        assert "license: apache-2.0" in card
        assert "minutes" in card
    assert "What it can and cannot do" in (tiny.folder() / "README.md").read_text()


def test_its_config_is_a_plain_unet():
    assert type(tiny.load_pipeline().unet) is UNet2DConditionModel


def test_the_modules_by_name():
    for name, kind in (("tiny", MeanDecoder), ("tiny-decoder", MeanDecoder), ("tiny-unet", TimeFreeUNet)):
        assert type(SingDiffusion.from_pretrained(name).module) is kind
    with pytest.raises(
        SingDiffusionError, match="unknown embedded module 'tiny-x'; known: tiny, tiny-decoder, tiny-unet"
    ):
        tiny.module_folder("tiny-x")


def test_the_decoder_tells_what_a_prompt_leaves_open():
    """The ground's brightness varies where it is not said, and hardly where it is."""
    sing = SingDiffusion.from_pretrained("tiny-decoder")
    x_1 = torch.zeros(1, 4, 16, 16)
    brightness = []
    for prompt in ("red apple", "red apple on a black background"):
        _, covariance = sing.moments(x_1, sing.encode(prompt)[0])
        assert covariance is not None
        brightness.append(float(covariance[0, 0, 0].trace()))
    assert brightness[0] > 20 * brightness[1]


def test_captions_have_real_pictures_lumas():
    groups = tiny.captions()
    assert {name: len(of) for name, of in groups.items()} == {"said": 100, "unsaid": 100, "new": 100}
    spread = {name: np.mean([np.std(lumas) for lumas in of.values()]) for name, of in groups.items()}
    assert max(spread["said"], spread["new"]) < 10 < 40 < spread["unsaid"]
    assert all(
        len(lumas) == 64 and min(lumas) >= 0 and max(lumas) <= 255 for of in groups.values() for lumas in of.values()
    )
