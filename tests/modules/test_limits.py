"""Absurd, wrong-typed and contradictory sizes in configurations: one line with the key, before time or memory is spent."""

import json
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from singdiffusion import SingDiffusionError
from singdiffusion.modules import MeanDecoder, SingModule, TimeFreeUNet
from singdiffusion.modules.limits import building, require_memory_to_cast, require_sizes
from singdiffusion.modules.text import PromptEncoder

from ..conftest import UNET_SIZE, make_config, make_module, make_text_encoder, needs_pickles

WEIGHTS = "module/diffusion_pytorch_model.safetensors"


def refuse(work, match):
    started = time.monotonic()
    with pytest.raises(SingDiffusionError, match=match) as caught:
        work()
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("layers_per_block", 10**7, "layers_per_block must be a whole number within 1..1000, not 10000000"),
        ("layers_per_block", [1, 10**30], "layers_per_block must be"),
        ("layers_per_block", None, "layers_per_block must not be null"),
        ("transformer_layers_per_block", -1, "transformer_layers_per_block must be"),
        ("block_out_channels", [10**9, 8], "block_out_channels must be"),
        ("block_out_channels", ["16", 32], "block_out_channels must be .*, not '16'"),
        ("in_channels", True, "in_channels must be .*, not True"),
        ("in_channels", [4], r"in_channels must be .*, not \[4\]"),
        ("cross_attention_dim", 0, "cross_attention_dim must be"),
        ("norm_eps", "small", "norm_eps must be a number above 0"),
        ("down_block_types", ["DownBlock2D", 5], "down_block_types must be text"),
        ("an_unknown_key", 10**30, "an_unknown_key must be within"),
    ],
)
def test_a_unet(key, value, match):
    config = UNET_SIZE | {"in_channels": 4, "out_channels": 4, key: value}
    refuse(lambda: TimeFreeUNet.empty(config, "x").state_dict(), match)


def test_a_unet_of_too_many_weights():
    """Each number is within its bounds; their product is not."""
    config = UNET_SIZE | {"layers_per_block": 1000, "transformer_layers_per_block": 1000}
    refuse(lambda: TimeFreeUNet.empty(config, "x"), "it would have more than 10000 weights")


@pytest.mark.parametrize(
    ("key", "value"), [("width", 10**9), ("layers", 10**6), ("grid", 0), ("cross_attention_dim", None), ("width", 1.5)]
)
def test_a_decoder(key, value):
    refuse(lambda: MeanDecoder(**{key: value}), f"{key} must be a whole number")


def test_a_decoder_larger_than_its_file(tmp_path):
    SingModule(MeanDecoder(cross_attention_dim=16, width=8, grid=2, layers=1), make_config()).save_pretrained(
        tmp_path / "m"
    )
    file = tmp_path / "m" / "module" / "config.json"
    good = json.loads(file.read_text())
    for changes in (
        {"width": 2**20},
        {"width": 2**20, "cross_attention_dim": 2**20},
        {"grid": 2**16},
        {"layers": 1000},
    ):
        file.write_text(json.dumps(good | changes))
        refuse(lambda: SingModule.from_pretrained(tmp_path / "m"), "do not match|lack|makes no MeanDecoder|needs")


def test_a_text_encoder(tokenizer, tmp_path):
    text = PromptEncoder([tokenizer], [make_text_encoder(tokenizer)])
    SingModule(make_module(), make_config(), text).save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "text_encoder" / "config.json"
    good = json.loads(file.read_text())
    for changes, match in (
        ({"num_hidden_layers": 10**30}, "num_hidden_layers must be a whole number within 1..1000"),
        ({"num_attention_heads": -1}, "num_attention_heads must be"),
        ({"num_attention_heads": 3}, "not a multiple|must be divisible"),
        ({"vocab_size": 10**9}, "vocab_size must be"),
        ({"vocab_size": 10**6}, "do not match its config.json: they are"),
        ({"max_position_embeddings": 2**20}, "do not match its config.json: they are"),
        ({"hidden_size": "16"}, "hidden_size must be"),
        ({"layer_norm_eps": None, "hidden_size": None}, "hidden_size must not be null"),
    ):
        file.write_text(json.dumps(good | changes))
        refuse(lambda: SingModule.from_pretrained(tmp_path / "m"), match)
    file.write_text(json.dumps(good))
    tokens = tmp_path / "m" / "tokenizer" / "tokenizer_config.json"
    tokens.write_text(json.dumps(json.loads(tokens.read_text()) | {"model_max_length": -5}))
    refuse(
        lambda: SingModule.from_pretrained(tmp_path / "m"), "model_max_length must be a number of at least 1, not -5"
    )


def test_what_published_networks_have():
    require_sizes(
        {"layers_per_block": 2, "transformer_layers_per_block": [0, 2, [4, 4]], "num_attention_heads": None}, "x"
    )
    require_sizes({"text_config": {"vocab_size": 262144, "rope_theta": 10000000}, "sample_size": [60, 90]}, "x")


def test_memory(monkeypatch):
    monkeypatch.setattr("singdiffusion.memory.free_memory", lambda: 1000)
    require_memory_to_cast([torch.zeros(1000)], torch.float32, "x")  # stays in its file
    refuse(
        lambda: require_memory_to_cast([torch.zeros(1000).half()], torch.float32, "x"),
        "the network in x as float32 needs about",
    )
    monkeypatch.setattr("singdiffusion.modules.limits.LARGE", 100)
    with pytest.raises(SingDiffusionError, match="its weight weight needs about"), building("a network"):
        torch.nn.Linear(20, 20)


def test_a_block_ends_the_count():
    with building("a network", 2):
        torch.nn.Linear(2, 2)
    torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))


@needs_pickles
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda value: torch.zeros(1).expand(value.shape), "repeats the numbers that it stores"),
        (lambda value: value.to("meta"), "is without data"),
        (lambda value: value[None], "has shape"),
        (lambda value: value[0], "has shape"),
        (lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), "must be dense floating-point numbers"),
        (lambda value: value.to(torch.complex64), "must be dense floating-point numbers"),
        (lambda value: value[:0], "has shape"),
    ],
)
def test_weights_in_pickles(tmp_path, change, match):
    SingModule(make_module(), make_config()).save_pretrained(tmp_path / "m")
    weights = load_file(tmp_path / "m" / WEIGHTS)
    weights["conv_in.bias"] = change(weights["conv_in.bias"])
    (tmp_path / "m" / WEIGHTS).unlink()
    torch.save(weights, (tmp_path / "m" / WEIGHTS).with_suffix(".bin"))
    refuse(lambda: SingModule.from_pretrained(tmp_path / "m"), match)


def test_finite_but_absurd_weights_name_the_module(tmp_path):
    SingModule(make_module(), make_config(name="mine")).save_pretrained(tmp_path / "m")
    weights = load_file(tmp_path / "m" / WEIGHTS)
    save_file({key: value + 1e38 for key, value in weights.items()}, tmp_path / "m" / WEIGHTS)
    module = SingModule.from_pretrained(tmp_path / "m")
    refuse(
        lambda: module.guided_moments(torch.ones(1, 4, 8, 8), torch.ones(1, 5, 16)),
        "the module mine predicts NaN or infinite",
    )
