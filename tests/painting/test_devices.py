"""Device and precision: what was asked for, and what ``auto`` chooses."""

import inspect

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline

from singdiffusion import SingDiffusionError
from singdiffusion.painting import devices
from singdiffusion.painting.bases import load_model
from singdiffusion.painting.devices import choose_device, choose_dtype, describe, differs_from_auto, encoding_dtype

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
SD15 = {"unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel", "vae": "AutoencoderKL"}
SDXL = SD15 | {"text_encoder_2": "CLIPTextModelWithProjection"}
PIXART = {"transformer": "PixArtTransformer2DModel", "text_encoder": "T5EncoderModel", "vae": "AutoencoderKL"}
FLOYD = {"unet": "UNet2DConditionModel", "text_encoder": "T5EncoderModel"}


@pytest.mark.parametrize("components", [None, SD15, SDXL, PIXART])
def test_auto_is_float32_on_the_cpu(components):
    assert choose_dtype("auto", CPU, components) == torch.float32


@pytest.mark.parametrize(
    ("components", "dtype"),
    [
        (None, torch.float16),
        (SD15, torch.float16),
        (SDXL, torch.float16),
        (PIXART, torch.bfloat16),
        (FLOYD, torch.bfloat16),
    ],
)
@pytest.mark.parametrize("device", [CUDA, MPS])
def test_auto_on_a_gpu_is_the_half_precision_that_does_not_overflow(monkeypatch, components, dtype, device):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert choose_dtype("auto", device, components) == dtype


def test_a_gpu_that_only_emulates_bfloat16_gets_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert choose_dtype("auto", CUDA, PIXART) == torch.float32
    assert choose_dtype("auto", CUDA, SDXL) == torch.float16


def test_a_name_or_a_dtype_is_taken_as_it_is():
    assert choose_dtype("bfloat16", CUDA, SD15) == torch.bfloat16
    assert choose_dtype(torch.float16, CPU, PIXART) == torch.float16
    with pytest.raises(SingDiffusionError, match="unknown dtype 'int3'; known: auto, float32") as raised:
        choose_dtype("int3", CPU)
    assert raised.value.setting == "torch_dtype"


def test_auto_takes_the_accelerator_of_torch_before_2_6(monkeypatch):
    monkeypatch.delattr(torch, "accelerator", raising=False)
    here = {"cuda": False, "xpu": False, "mps": False}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here["cuda"])
    monkeypatch.setattr(torch.xpu, "is_available", lambda: here["xpu"])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: here["mps"])
    assert choose_device() == CPU
    for kind in ("mps", "xpu", "cuda"):  # each goes before those already there
        here[kind] = True
        assert choose_device().type == kind


@pytest.mark.skipif(not hasattr(torch, "accelerator"), reason="this torch has no torch.accelerator")
def test_auto_takes_the_accelerator_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    for found in (CUDA, MPS):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda found=found: found)
        assert choose_device() == found
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert choose_device() == CPU


ABSENT = ("warp9", "hpu", "privateuseone", "vulkan", "cuda:99", "cpu:-1", "")  # torch has some of the names


@pytest.mark.parametrize(
    ("name", "match"), [*((name, f"'{name}' is not available here") for name in ABSENT), ("meta", "computes nothing")]
)
def test_a_device_that_is_not_there_is_one_line(name, match):
    with pytest.raises(SingDiffusionError, match=match) as raised:
        choose_device(name)
    assert raised.value.setting == "device"


def test_a_vae_encodes_in_float32_where_float16_would_overflow():
    upcast, safe = (AutoencoderKL(force_upcast=value) for value in (True, False))
    assert encoding_dtype(torch.float16, upcast) == torch.float32
    assert encoding_dtype(torch.bfloat16, upcast) == torch.bfloat16
    assert encoding_dtype(torch.float16, safe) == torch.float16


def test_diffusers_itself_decodes_in_float32_where_a_vae_asks_for_it():
    """What lets ``auto`` choose float16 for SDXL; a test of ours fails when diffusers drops it."""
    assert AutoencoderKL().config.force_upcast
    assert "force_upcast" in inspect.getsource(StableDiffusionXLPipeline.__call__)


def test_a_model_is_loaded_onto_its_device_in_its_precision():
    pipe = load_model("tiny")
    assert describe(pipe) == f"{choose_device()}, {str(choose_dtype('auto', choose_device())).removeprefix('torch.')}"
    assert differs_from_auto(pipe) == {}
    half = load_model("tiny", "cpu", "bfloat16")
    assert describe(half) == "cpu, bfloat16"
    assert differs_from_auto(half)["torch_dtype"] == "bfloat16"


def test_auto_reads_the_parts_of_a_folder(make_pipe, tmp_path, monkeypatch):
    make_pipe().save_pretrained(tmp_path / "model")
    seen = []
    choose = devices.choose_dtype
    monkeypatch.setattr(
        "singdiffusion.painting.bases.choose_dtype",
        lambda name, device, components=None: seen.append(components) or choose(name, device, components),
    )
    load_model(str(tmp_path / "model"), "cpu")
    assert seen[-1]["text_encoder"] == "CLIPTextModel"
    assert seen[-1]["unet"] == "UNet2DConditionModel"
