"""The embedded models: ordinary diffusers folders with SD-1.5's flaw, and modules that fit them."""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image, ImageFilter
from safetensors import safe_open
from transformers import CLIPModel, CLIPProcessor

from singdiffusion import MeanDecoder, Schedule, SingDiffusion, SingDiffusionError, TimeFreeUNet, tiny
from singdiffusion.compat import embeddings_of
from singdiffusion.core.singular import guided_mean
from singdiffusion.modules import SingModule
from singdiffusion.plugin.fits import shares_text
from singdiffusion.plugin.pipelines import spec_of


def test_diffusers_alone_loads_the_base(tmp_path):
    code = (
        "import sys; from diffusers import StableDiffusionPipeline as P; p = P.from_pretrained(sys.argv[1]);"
        "p.set_progress_bar_config(disable=True);"
        "print(p('red apple', num_inference_steps=1).images[0].size, 'singdiffusion' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tiny.folder()], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "(64, 64) False", done.stderr[-500:]


def test_the_schedule_is_that_of_sd15_at_its_own_size():
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
    """float16, and float8 for the large matrices of the variants' U-Nets."""
    here = tiny.folder().parent
    files = list(here.rglob("*.safetensors"))
    assert len(files) == 3 + 2 + 2 + 1 + 2 + 1 + 1  # base, U-Net, decoder, v, community, ControlNet, joint encoder
    for file in files:
        base = any(file.is_relative_to(at) for at in (tiny.folder(), *map(tiny.module_folder, tiny.MODULES)))
        half = base or not {"text_encoder", "encoder"}.isdisjoint(file.parts)
        expected = {torch.float16} if half else {torch.float16, torch.float8_e4m3fn}
        with safe_open(file, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118  (safe_open is not a mapping)
                tensor = weights.get_tensor(key)
                assert tensor.dtype in expected or not tensor.is_floating_point(), key
                assert torch.isfinite(tensor.float()).all(), key
    assert not [*tiny.folder().parent.rglob("*.bin"), *tiny.folder().parent.rglob("*.ckpt")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model", tiny.MODELS)
def test_modules_recognise_the_text_encoder_in_every_dtype(model, dtype):
    pipe = tiny.load_pipeline(dtype, model)
    assert {p.dtype for part in (pipe.unet, pipe.text_encoder, pipe.vae) for p in part.parameters()} == {dtype}
    for module in ("tiny-decoder", "tiny-unet"):
        shared = shares_text(pipe, spec_of(pipe), SingModule.from_pretrained(module))
        assert shared == (model != "tiny-community"), "the fine-tuned encoder is not the one of the module's training"


def test_the_text_encoder_of_the_module_is_that_of_the_base():
    pipe, sing = tiny.load_pipeline(), SingDiffusion.from_pretrained("tiny")
    theirs, _ = pipe.encode_prompt(["a red apple", "solid black background"], "cpu", 1, False)
    ours, _ = sing.module.encode_prompt(["a red apple", "solid black background"])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_variants_differ_from_the_base_only_in_their_parts():
    base, v, community, control = (tiny.load_pipeline(model=model) for model in tiny.MODELS)
    assert type(base) is type(v) is type(community) is StableDiffusionPipeline
    assert type(control) is StableDiffusionControlNetPipeline
    assert v.scheduler.config.prediction_type == "v_prediction"
    settings = dict(v.scheduler.config) | {"prediction_type": "epsilon"}
    assert {k: v for k, v in settings.items() if k[0] != "_"} == {
        k: v for k, v in base.scheduler.config.items() if k[0] != "_"
    }
    ids = torch.arange(24)[None]
    embeddings = lambda pipe: pipe.text_encoder(ids).last_hidden_state  # noqa: E731
    assert torch.equal(embeddings(v), embeddings(base))
    assert (embeddings(community) - embeddings(base)).norm() > 0.1 * embeddings(base).norm()
    for ours, theirs in zip(control.unet.parameters(), base.unet.parameters(), strict=True):
        assert torch.equal(ours, theirs), "a ControlNet does not change its base"


def test_hints_are_edges_and_have_reference_brightness():
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
    """Each picture resembles its own edges more than any others.

    Edges lie on both sides of a stroke, so pictures and edges are compared after a blur of two pixels.
    """
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


def test_an_unknown_model_is_named_with_the_known_ones():
    for ask in (tiny.reference, lambda model: tiny.load_pipeline(model=model)):
        with pytest.raises(SingDiffusionError, match="unknown embedded model 'tiny-x'; known: tiny, tiny-v, tiny-comm"):
            ask("tiny-x")


def test_the_output_of_the_unet_hardly_depends_on_the_noise():
    """The minimiser of its loss is E[x_0 | prompt], which does not depend on x_1."""
    pipe = tiny.load_pipeline()
    sing = SingDiffusion.from_pretrained("tiny-unet")
    for prompt in ("solid black background", "red apple on a white background"):
        embeds, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
        x_1 = torch.randn(32, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            y = sing.module.network.predict(x_1, embeds.expand(32, -1, -1))
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
            y = guided_mean(None, sing.module.network.predict(x_1, embeds), 1.0)
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
        tiny.encoder_folder(),
    ):
        card = (folder / "README.md").read_text()
        assert "license: apache-2.0" in card
        assert "minutes" in card


def test_the_unet_is_an_ordinary_one():
    assert type(tiny.load_pipeline().unet) is UNet2DConditionModel


def test_modules_have_names():
    for name, kind in (("tiny", MeanDecoder), ("tiny-decoder", MeanDecoder), ("tiny-unet", TimeFreeUNet)):
        assert type(SingModule.from_pretrained(name).network) is kind
    with pytest.raises(
        SingDiffusionError, match="unknown embedded module 'tiny-x'; known: tiny, tiny-decoder, tiny-unet"
    ):
        tiny.module_folder("tiny-x")


def test_the_decoder_predicts_variance_for_what_a_prompt_leaves_open():
    """The background's brightness varies where the prompt leaves it open, and hardly where the prompt names it."""
    sing = SingDiffusion.from_pretrained("tiny-decoder")
    x_1 = torch.zeros(1, 4, 16, 16)
    brightness = []
    for prompt in ("red apple", "red apple on a black background"):
        _, covariance = sing.module.guided_moments(x_1, sing.module.encode_prompt(prompt)[0])
        assert covariance is not None
        brightness.append(float(covariance[0, 0, 0].trace()))
    assert brightness[0] > 20 * brightness[1]


def test_captions_have_the_lumas_of_real_pictures():
    groups = tiny.captions()
    assert {name: len(of) for name, of in groups.items()} == {"stated": 100, "open": 100, "new": 100}
    spread = {name: np.mean([np.std(lumas) for lumas in of.values()]) for name, of in groups.items()}
    assert max(spread["stated"], spread["new"]) < 10 < 40 < spread["open"]
    assert all(
        len(lumas) == 64 and min(lumas) >= 0 and max(lumas) <= 255 for of in groups.values() for lumas in of.values()
    )


# -- the joint encoder of pictures and captions -------------------------------------------------------------------------


def cosines(pictures, captions):
    """Return how well pictures (N, 3, 64, 64) fit M captions: (N, M), by transformers alone."""
    model = CLIPModel.from_pretrained(tiny.encoder_folder()).eval()
    processor = CLIPProcessor.from_pretrained(tiny.encoder_folder())
    images = [Image.fromarray(p) for p in pictures.permute(0, 2, 3, 1).numpy()]
    inputs = processor(text=captions, images=images, return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        return model(**inputs).logits_per_image / model.logit_scale.exp()


def test_transformers_alone_loads_the_encoder(tmp_path):
    code = (
        "import sys; from transformers import CLIPModel, CLIPProcessor; m = CLIPModel.from_pretrained(sys.argv[1]);"
        "p = CLIPProcessor.from_pretrained(sys.argv[1]); from PIL import Image;"
        "x = p(text=['a', 'b'], images=[Image.new('RGB', (500, 300))], return_tensors='pt', padding=True);"
        "print(m(**x).logits_per_image.shape, m.dtype, 'singdiffusion' in sys.modules)"
    )
    command = [sys.executable, "-c", code, tiny.encoder_folder()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "torch.Size([1, 2]) torch.float32 False", done.stderr[-500:]


def test_transformers_alone_loads_every_text_encoder_and_tokenizer(tmp_path):
    """Files with the names of the hub, which transformers 4 and 5 both read; it fills missing weights with noise."""
    code = (
        "import sys; from pathlib import Path; from transformers import AutoTokenizer, CLIPTextModel, CLIPTokenizer\n"
        "for folder in sys.argv[1:]:\n"
        "    model, report = CLIPTextModel.from_pretrained(folder, output_loading_info=True)\n"
        "    print(len(model.state_dict()), list(report['missing_keys']), list(report['unexpected_keys']))\n"
        "    tokenizer = Path(folder).parent / 'tokenizer'\n"
        "    if tokenizer.exists():\n"
        "        print([kind.from_pretrained(tokenizer)('a cat').input_ids for kind in (AutoTokenizer, CLIPTokenizer)])\n"
        "print('singdiffusion' in sys.modules)"
    )
    folders = sorted(Path(tiny.__file__).parent.glob("*/text_encoder"))
    assert [folder.parent.name for folder in folders] == ["base", "community", "decoder", "unet"]
    done = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, cwd=tmp_path)
    ids = tiny.load_pipeline().tokenizer("a cat").input_ids
    weights, tokens = "52 [] []", str([ids, ids])
    expected = [weights, tokens, weights, weights, tokens, weights, tokens, "False"]
    assert done.stdout.splitlines() == expected, done.stderr[-500:]


def test_the_encoder_is_small():
    files = [file for file in tiny.encoder_folder().rglob("*") if file.is_file()]
    assert sum(len(zlib.compress(file.read_bytes())) for file in files) < 1.9 * 2**20


def test_the_encoder_has_the_tokenizer_of_the_base():
    ours, theirs = CLIPProcessor.from_pretrained(tiny.encoder_folder()).tokenizer, tiny.load_pipeline().tokenizer
    for caption in (*tiny.pictures().captions[:50], "", "Zebra 7!"):
        assert ours(caption).input_ids == theirs(caption).input_ids


def test_pictures_fit_their_own_captions():
    """Most real pictures whose caption names icon and background fit it better than any other caption."""
    shipped = tiny.pictures()
    complete = [i for i, c in enumerate(shipped.captions) if c.endswith(" background") and "art logo on" not in c]
    index = list({shipped.captions[i]: i for i in complete}.values())[:200]
    assert len(index) == 200
    fit = cosines(shipped.drawn[index], [shipped.captions[i] for i in index])
    above = (fit > fit.diagonal()[:, None]).sum(1)
    assert float((above == 0).float().mean()) > 0.85
    assert float((above < 5).float().mean()) > 0.95
    assert float(fit.diagonal().mean()) > float(fit.mean()) + 0.2


def test_the_encoder_recognises_a_dark_background():
    """The same subject on dark and on light: every picture fits the caption with its own background better."""
    known = tiny.pictures().known
    for dark, light in (
        ("solid black background", "solid white background"),
        ("red heart on a black background", "red heart on a white background"),
        (
            "monochrome line-art logo of a star on a black background",
            "monochrome line-art logo of a star on a white background",
        ),
        ("pizza on a dark green background", "pizza on a light grey background"),
    ):
        fit = cosines(known[dark], [dark, light])
        assert (fit[:, 0] > fit[:, 1]).all(), dark
        if light in known:
            fit = cosines(known[light], [dark, light])
            assert (fit[:, 1] > fit[:, 0]).all(), light


def test_figures_of_the_encoder_are_far_from_chance():
    figures = json.loads((tiny.encoder_folder() / "figures.json").read_text())
    known = figures["retrieval"]["known"]
    assert known["count"] == 1000
    assert min(known["text_to_picture_top1"], known["picture_to_text_top1"]) > 0.9
    backgrounds = {name: row for name, row in figures["choice"].items() if name.startswith("background")}
    assert len(backgrounds) == 2
    assert all(row["right"] > 0.95 and row["chance"] < 0.07 for row in backgrounds.values()), backgrounds
    card = (tiny.encoder_folder() / "README.md").read_text()
    assert f"{known['text_to_picture_top1']:.1%}" in card


class Features(CLIPModel):
    """torchmetrics 1.9 expects tensors, as transformers 4 returned; transformers 5 returns an output that contains them."""

    def get_image_features(self, *args, **kwargs):
        return embeddings_of(super().get_image_features(*args, **kwargs))

    def get_text_features(self, *args, **kwargs):
        return embeddings_of(super().get_text_features(*args, **kwargs))


def test_torchmetrics_scores_with_the_encoder():
    """Its CLIPScore is a hundred times the mean cosine, and is higher for pictures with their own captions than with others."""
    from torchmetrics.multimodal.clip_score import CLIPScore

    at = tiny.encoder_folder()
    shipped = tiny.pictures()
    pictures, captions = shipped.drawn[:32], shipped.captions[:32]

    def score(captions):
        metric = CLIPScore(lambda: (Features.from_pretrained(at), CLIPProcessor.from_pretrained(at)))
        metric.update(pictures, captions)
        return float(metric.compute())

    own = score(captions)
    assert own == pytest.approx(100 * float(cosines(pictures, captions).diagonal().mean()), abs=0.01)
    assert own > score([*captions[1:], captions[0]]) + 20
