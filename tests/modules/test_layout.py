"""Module folders: round trips, one-line errors for damaged files, no code that runs, nothing half written."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from singdiffusion import SingDiffusion, SingDiffusionError
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import PromptEncoder, fingerprint

from ..conftest import make_config, make_module, make_text_encoder, needs_pickles
from ..plugin.test_sing import run

WEIGHTS = "module/diffusion_pytorch_model.safetensors"


def refuse(folder, match):
    """Check that loading fails with one line that matches."""
    with pytest.raises(SingDiffusionError, match=match) as caught:
        SingDiffusion.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_loaded_module_paints_the_same(pipe, sing, sing_folder):
    on = run(sing.enable(pipe)._pipeline)
    sing.disable()
    again = SingDiffusion.from_pretrained(sing_folder).enable(pipe)
    np.testing.assert_array_equal(run(pipe), on)
    assert again.module.config == sing.module.config
    assert again.module.text is None


def test_a_text_encoder_is_saved_and_loaded(tokenizer, tmp_path, pipe):
    encoder = make_text_encoder(tokenizer, 24, seed=4)
    config = make_config(text_width=24, text_fingerprint=fingerprint(encoder))
    sing = SingDiffusion(SingModule(make_module(width=24), config, PromptEncoder([tokenizer], [encoder])))
    on = run(sing.enable(pipe)._pipeline)
    sing.disable()
    sing.save_pretrained(tmp_path / "own")
    SingDiffusion.from_pretrained(tmp_path / "own").enable(pipe)
    np.testing.assert_array_equal(run(pipe), on)


def test_weights_under_the_name_of_the_fp16_variant(pipe, sing, tmp_path):
    sing.module.network.save_pretrained(tmp_path / "half" / "module", variant="fp16")
    (tmp_path / "half" / "sing_config.json").write_text(sing.module.config.model_dump_json())
    assert not (tmp_path / "half" / WEIGHTS).exists()
    on = run(sing.enable(pipe)._pipeline)
    sing.disable()
    SingDiffusion.from_pretrained(tmp_path / "half").enable(pipe)
    np.testing.assert_array_equal(run(pipe), on)


@needs_pickles
def test_weights_in_a_bin_file(pipe, sing, sing_folder):
    """As the authors published the module: tensors in a .bin, which is read without running code."""
    on = run(sing.enable(pipe)._pipeline)
    sing.disable()
    torch.save(load_file(sing_folder / WEIGHTS), (sing_folder / WEIGHTS).with_suffix(".bin"))
    (sing_folder / WEIGHTS).unlink()
    SingDiffusion.from_pretrained(sing_folder).enable(pipe)
    np.testing.assert_array_equal(run(pipe), on)


@pytest.mark.parametrize(
    "options", [{}, {"variant": "fp16"}, pytest.param({"safe_serialization": False}, marks=needs_pickles)]
)
def test_weights_in_shards(pipe, sing, sing_folder, options):
    on = run(sing.enable(pipe)._pipeline)
    sing.disable()
    (sing_folder / WEIGHTS).unlink()
    sing.module.network.save_pretrained(sing_folder / "module", max_shard_size="40KB", **options)
    shards = sorted((sing_folder / "module").glob("diffusion_pytorch_model*-of-*"))
    assert len(shards) > 1
    SingDiffusion.from_pretrained(sing_folder).enable(pipe)
    np.testing.assert_array_equal(run(pipe), on)
    shards[0].unlink()
    refuse(sing_folder, f"lacks {shards[0].name}, which diffusion_pytorch_model.*json names")


def test_an_index_without_a_map(sing_folder):
    (sing_folder / WEIGHTS).rename(sing_folder / "module" / "other.safetensors")
    (sing_folder / f"{WEIGHTS}.index.json").write_text('{"weight_map": ["other.safetensors"]}')
    refuse(sing_folder, "index.json has no weight_map")
    for name in ("../x.safetensors", "/etc/passwd", "config.json", "", "..", 5):
        (sing_folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"conv_in.weight": name}}))
        refuse(sing_folder, "it must be a .safetensors file in the same folder")


@pytest.mark.parametrize(
    "change", [torch.Tensor.int, torch.Tensor.bool, pytest.param(torch.Tensor.to_sparse, marks=needs_pickles)]
)
def test_weights_that_are_not_dense_floating_point_numbers(sing_folder, change):
    weights = load_file(sing_folder / WEIGHTS)
    weights["conv_in.bias"] = change(weights["conv_in.bias"])
    (sing_folder / WEIGHTS).unlink()
    if weights["conv_in.bias"].is_sparse:
        torch.save(weights, (sing_folder / WEIGHTS).with_suffix(".bin"))
    else:
        save_file(weights, sing_folder / WEIGHTS)
    refuse(sing_folder, "conv_in.bias is .*; they must be dense floating-point numbers")


def test_a_subfolder(sing, tmp_path):
    sing.save_pretrained(tmp_path / "deep" / "er")
    assert SingDiffusion.from_pretrained(tmp_path, subfolder="deep/er").module.config == sing.module.config
    with pytest.raises(SingDiffusionError, match="is not a module"):
        SingDiffusion.from_pretrained(tmp_path, subfolder="shallow")


def test_half_precision_and_device(sing_folder):
    half = SingDiffusion.from_pretrained(sing_folder, torch_dtype=torch.bfloat16, device="cpu")
    assert half.module.network.dtype == torch.bfloat16
    assert half.to(torch.float32).module.network.dtype == torch.float32


def test_a_hub_id_in_the_local_cache(sing_folder, tmp_path):
    """The test writes the layout of the hub's cache; an offline process reads it."""
    commit = "0" * 40
    repository = tmp_path / "cache" / "models--someone--sing"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    sing_folder.rename(repository / "snapshots" / commit)
    code = (
        "from singdiffusion import SingDiffusion; import sys;"
        "print(SingDiffusion.from_pretrained('someone/sing', cache_dir=sys.argv[1]).module.config.text_width)"
    )
    env = {"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.stdout.strip() == "16", done.stderr[-400:]


def test_sources_that_do_not_exist(tmp_path):
    refuse(
        "nobody/nothing-at-all",
        "the module nobody/nothing-at-all is not here: there is no such folder, and it is not in the cache",
    )
    refuse(tmp_path / "x y" / "z", "there is no such folder, and it is not a hub id")
    refuse(tmp_path, "is not a module: it has neither sing_config.json")
    (tmp_path / "file").write_text("")
    refuse(tmp_path / "file", "is not a .safetensors file")


@pytest.mark.parametrize("tenths", range(10))
def test_truncated_weights(sing_folder, tenths):
    file = sing_folder / WEIGHTS
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * tenths // 10])
    refuse(sing_folder, "cannot be read")


def test_missing_weights(sing_folder):
    (sing_folder / WEIGHTS).unlink()
    refuse(sing_folder, "has no weights; it needs one of diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(sing_folder, value):
    weights = load_file(sing_folder / WEIGHTS)
    weights["conv_in.bias"][3] = value
    save_file(weights, sing_folder / WEIGHTS, {"format": "pt"})
    refuse(sing_folder, "conv_in.bias has NaN or infinite values")


def test_a_missing_tensor(sing_folder):
    """diffusers would fill it with noise and only warn."""
    weights = load_file(sing_folder / WEIGHTS)
    del weights["conv_out.weight"]
    save_file(weights, sing_folder / WEIGHTS, {"format": "pt"})
    refuse(sing_folder, "lack 1 tensors, such as conv_out.weight")


def test_an_unexpected_tensor(sing_folder):
    """Such as the weights of a larger network; diffusers would only warn."""
    weights = load_file(sing_folder / WEIGHTS)
    weights["down_blocks.7.weight"] = torch.zeros(1)
    save_file(weights, sing_folder / WEIGHTS, {"format": "pt"})
    refuse(sing_folder, "do not match its config.json: down_blocks.7.weight")


def test_weights_of_other_shapes(sing_folder):
    file = sing_folder / "module/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"block_out_channels": [16, 64]}))
    assert str(sing_folder) in refuse(sing_folder, "do not match its config.json: .* has shape")


def test_an_unknown_key_of_a_unet(sing_folder):
    """Published configurations contain keys of other versions of diffusers, so these are ignored."""
    file = sing_folder / "module/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"a_key_of_the_future": 1}))
    assert SingDiffusion.from_pretrained(sing_folder).module.kind == "unet"


@pytest.mark.parametrize("damage", ["missing", "nan", "cut"])
def test_a_damaged_text_encoder(tokenizer, tmp_path, damage):
    """transformers would fill missing weights with noise."""
    encoder = make_text_encoder(tokenizer)
    SingModule(make_module(), make_config(), PromptEncoder([tokenizer], [encoder])).save_pretrained(tmp_path / "own")
    file = tmp_path / "own" / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    key = sorted(weights)[0]
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        changed = weights | {key: weights[key] * float("nan")}
        save_file({k: v for k, v in changed.items() if damage == "nan" or k != key}, file, {"format": "pt"})
    refuse(tmp_path / "own", {"missing": "lack 1 tensors", "nan": "has NaN", "cut": "cannot be read"}[damage])


@needs_pickles
@pytest.mark.parametrize("write", [torch.save, lambda weights, file: file.write_bytes(pickle.dumps(weights))])
def test_a_pickle_is_never_run(sing_folder, tmp_path, write):
    bait = tmp_path / "bait"

    class Trap:
        def __reduce__(self):
            return Path.touch, (bait,)

    (sing_folder / WEIGHTS).unlink()
    write({"conv_in.weight": Trap()}, (sing_folder / WEIGHTS).with_suffix(".bin"))
    refuse(sing_folder, "is not read because it could run code")
    assert not bait.exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"latent_channels": None}, "latent_channels"),
        ({"latent_channels": 0}, "latent_channels"),
        ({"surprise": 1}, "surprise"),
        ({"vae_scaling_factor": "much"}, "vae_scaling_factor"),
        ({"format": 2}, "format"),
        ({"prediction": "noise"}, "prediction"),
    ],
)
def test_a_wrong_configuration(sing_folder, change, match):
    file = sing_folder / "sing_config.json"
    config = {k: v for k, v in (json.loads(file.read_text()) | change).items() if v is not None or k not in change}
    file.write_text(json.dumps(config))
    refuse(sing_folder, f"sing_config.json: {match}")


@pytest.mark.parametrize(("key", "value"), [("latent_channels", 16), ("text_width", 768)])
def test_a_configuration_that_contradicts_the_network(sing_folder, key, value):
    file = sing_folder / "sing_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    refuse(sing_folder, f"contradicts itself: {key} is {value}")


def test_a_configuration_that_is_not_json(sing_folder):
    (sing_folder / "sing_config.json").write_text("{")
    refuse(sing_folder, "sing_config.json cannot be read as JSON")
    (sing_folder / "sing_config.json").write_bytes(b"\xff\xfe\x00")
    refuse(sing_folder, "sing_config.json is not UTF-8")


@pytest.mark.parametrize("content", ["", "[]", '{"_class_name": "UNet2DConditionModel"}'])
def test_a_folder_with_another_network(sing_folder, content):
    (sing_folder / "module/config.json").write_text(content)
    refuse(
        sing_folder,
        "config.json is empty|config.json must hold an object, not a list|holds a UNet2DConditionModel; known networks: MeanDecoder, TimeFreeUNet",
    )


def test_saving_replaces_only_modules(sing, tmp_path):
    sing.save_pretrained(tmp_path / "a")
    sing.save_pretrained(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("miaow")
    with pytest.raises(SingDiffusionError, match="is not a SingDiffusion module; choose another folder"):
        sing.save_pretrained(tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.png").read_text() == "miaow"


def test_a_failed_save_leaves_the_old_module(sing, sing_folder, tokenizer):
    before = (sing_folder / WEIGHTS).read_bytes()
    text = PromptEncoder(["no tokenizer"], [make_text_encoder(tokenizer)])
    broken = SingDiffusion(SingModule(make_module(seed=6), make_config(), text))
    with pytest.raises(AttributeError):  # after the network's weights are written
        broken.save_pretrained(sing_folder)
    assert (sing_folder / WEIGHTS).read_bytes() == before
    assert [path.name for path in sing_folder.parent.iterdir()] == [sing_folder.name]


def test_a_text_encoder_without_its_tokenizer(tokenizer):
    with pytest.raises(SingDiffusionError, match="needs its tokenizer"):
        PromptEncoder([], [make_text_encoder(tokenizer)])


def test_a_text_encoder_of_another_width(tokenizer):
    with pytest.raises(SingDiffusionError, match="takes text of width 16, and its text encoders have width 24"):
        SingModule(make_module(), make_config(), PromptEncoder([tokenizer], [make_text_encoder(tokenizer, 24)]))


def test_files_of_others_stay_and_a_card_of_ones_own(sing, sing_folder):
    (sing_folder / "module" / "notes" / "deep").mkdir(parents=True)
    for name in ("mine.txt", "module/mine.txt", "module/notes/deep/mine"):
        (sing_folder / name).write_text("mine")
    sing.save_pretrained(sing_folder)
    for name in ("mine.txt", "module/mine.txt", "module/notes/deep/mine"):
        assert (sing_folder / name).read_text() == "mine"
    assert "written by singdiffusion" in (sing_folder / "README.md").read_text()
    (sing_folder / "README.md").write_text("my own words")
    stale = sing_folder / "module" / "diffusion_pytorch_model-00001-of-00002.safetensors"
    stale.write_bytes(b"weights of an older module")
    sing.save_pretrained(sing_folder)
    assert (sing_folder / "README.md").read_text() == "my own words"
    assert not stale.exists()
    SingDiffusion.from_pretrained(sing_folder)


def test_a_folder_of_a_text_encoder_without_one_is_none(sing, sing_folder):
    (sing_folder / "text_encoder").mkdir()
    (sing_folder / "text_encoder" / "mine.txt").write_text("mine")
    sing.save_pretrained(sing_folder)
    assert SingDiffusion.from_pretrained(sing_folder).module.text is None
    assert (sing_folder / "text_encoder" / "mine.txt").exists()
