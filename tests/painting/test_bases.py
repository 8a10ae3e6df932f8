"""Base models from folders, hub ids and single files: loaded whole or in part, or one line."""

import json

import pytest
import torch
from safetensors.torch import save_file

from singdiffusion import SingDiffusionError, tiny
from singdiffusion.painting.bases import load_model, load_text, load_unet, require_name
from singdiffusion.painting.scheduler_names import set_scheduler
from singdiffusion.painting.sizes import check_size, own_size, whole_size


@pytest.fixture
def folder(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_is_loaded_whole_or_in_part(pipe, folder):
    loaded = load_model(str(folder), "cpu", torch.float32)
    assert type(loaded) is type(pipe)
    assert torch.equal(loaded.unet.conv_in.weight, pipe.unet.conv_in.weight)
    assert torch.equal(load_unet(str(folder)).conv_in.weight, pipe.unet.conv_in.weight)
    (tokenizer,), (encoder,) = load_text(str(folder), torch.bfloat16)
    assert tokenizer("a room").input_ids == pipe.tokenizer("a room").input_ids
    assert encoder.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_an_embedded_model_goes_by_its_name():
    assert tuple(own_size(load_model("tiny", "cpu"))) == (64, 64)
    assert load_unet("tiny").dtype == torch.float32
    for model in tiny.MODELS:
        require_name(model)


@pytest.mark.parametrize(
    ("model", "config", "match", "setting"),
    [
        ("nowhere", None, "there is no model 'nowhere': it is not embedded", "model"),
        (
            "owner/name",
            None,
            "the model owner/name is not here: there is no such folder, and it is not in the cache",
            None,
        ),
        ("{tmp}", None, "is not a diffusers model: it has no model_index.json", None),
        ("{tmp}/damaged", None, "the model .*damaged cannot be read", None),
        ("{tmp}/damaged", "{tmp}/damaged", "is not a single file, and only these need", "model_config"),
        ("{tmp}/model.ckpt", None, "is not a .safetensors file; other files could run code", None),
        ("{tmp}/one.safetensors", "{tmp}", "is not a diffusers model", None),
        ("{tmp}/one.safetensors", "{tmp}/flat", "is a Nothing, which has no single files", "model_config"),
        ("{tmp}/one.safetensors", None, "without a network it needs a folder of configurations", "model_config"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(tmp_path, model, config, match, setting):
    (tmp_path / "model.ckpt").write_bytes(b"PK")
    save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors")
    for name, index in (
        ("damaged", {"unet": ["diffusers", "UNet2DConditionModel"]}),
        ("flat", {"_class_name": "Nothing"}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(SingDiffusionError, match=match) as raised:
        load_model(
            model.format(tmp=tmp_path),
            "cpu",
            "float32",
            None if config is None else tmp_path.parent / config.format(tmp=tmp_path),
        )
    assert "\n" not in str(raised.value)
    assert raised.value.setting == setting


def test_a_scheduler_that_needs_a_package_is_one_line(pipe, monkeypatch):
    import diffusers

    def missing(config):
        raise ImportError("\nDPMSolverSDEScheduler requires the torchsde library\nbut it was not found")

    monkeypatch.setattr(diffusers, "DPMSolverSDEScheduler", type("Missing", (), {"from_config": staticmethod(missing)}))
    with pytest.raises(
        SingDiffusionError, match="needs a package that is not installed: DPMSolver.* torchsde library$"
    ):
        set_scheduler(pipe, "dpm++-sde")


def test_sizes(pipe):
    assert own_size(pipe) == (16, 16)
    assert whole_size(pipe, None, None) == (None, None)
    assert whole_size(pipe, 32, None) == (32, 16)
    check_size(pipe, 32, None)
    with pytest.raises(SingDiffusionError, match="width must be a positive multiple of 4 .* not 15; try 16") as raised:
        check_size(pipe, 32, 15)
    assert raised.value.setting == "width"


def test_a_pipeline_that_does_not_paint_from_a_prompt_is_one_line():
    with pytest.raises(SingDiffusionError, match="a Other does not paint from a prompt alone"):
        own_size(type("Other", (), {})())


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        (
            "unet/config.json",
            {"layers_per_block": 10**7},
            "unet/config.json: layers_per_block must be a whole number within",
        ),
        ("unet/config.json", {"norm_eps": [1]}, "unet/config.json: norm_eps must be a number above 0"),
        ("unet/config.json", {"dropout": "none"}, "unet/config.json: dropout must be a number, not 'none'"),
        (
            "unet/config.json",
            {"layers_per_block": 1000, "transformer_layers_per_block": 1000},
            "more than 100000 weights",
        ),
        ("vae/config.json", {"block_out_channels": [10**9, 8]}, "vae/config.json: block_out_channels must be"),
        (
            "text_encoder/config.json",
            {"num_hidden_layers": 10**30},
            "text_encoder/config.json: num_hidden_layers must be",
        ),
        (
            "scheduler/scheduler_config.json",
            {"num_train_timesteps": 10**12},
            "num_train_timesteps must be a whole number within",
        ),
        ("model_index.json", {"unet": ["diffusers", 5]}, "unet must be a library and a class"),
        ("model_index.json", {"../unet": ["diffusers", "UNet2DConditionModel"]}, "names the component '../unet'"),
        ("model_index.json", {"_class_name": 5}, "_class_name must be text"),
    ],
)
def test_wrong_values_name_their_file_and_key(folder, file, changes, match):
    content = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(SingDiffusionError, match=match) as raised:
        load_model(str(folder), "cpu", "float32")
    assert "\n" not in str(raised.value)


def test_a_transformers_table_of_positions_and_a_models_weights_must_fit_into_memory(folder, monkeypatch):
    monkeypatch.setattr("singdiffusion.memory.free_memory", lambda: 100_000)
    with pytest.raises(SingDiffusionError, match="model as bfloat16 needs about") as raised:
        load_model(str(folder), "cpu", "bfloat16")
    assert raised.value.setting == "torch_dtype"
    load_model(str(folder), "cpu", "float32")  # stays in its files
    file = folder / "unet" / "config.json"
    sizes = {"pos_embed_max_size": 2**16, "num_attention_heads": 24, "attention_head_dim": 64, "patch_size": 2}
    file.write_text(json.dumps(json.loads(file.read_text()) | sizes))
    with pytest.raises(SingDiffusionError, match="the table of positions for a side of 65536 needs about"):
        load_model(str(folder), "cpu", "float32")
