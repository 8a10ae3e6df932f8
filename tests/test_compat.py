"""Differences between versions: each answer is that of the installed version, and the list of what old versions lack is right."""

import inspect
import json
import warnings
from importlib.metadata import version
from importlib.util import find_spec

import diffusers
import pytest
import torch
from diffusers import UNet2DConditionModel
from packaging.version import Version
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from singdiffusion import SingDiffusionError, compat, tiny
from singdiffusion.modules import SingModule
from singdiffusion.modules.weights import read_weights
from singdiffusion.plugin.pipelines import PIPELINES, UNTOUCHED
from singdiffusion.plugin.schedulers import FAMILIES

CLASSES = [*PIPELINES, *UNTOUCHED, *(name for family in FAMILIES for name in family.classes)]
OPTIONS = ("use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas")


@pytest.mark.parametrize(
    ("package", "distribution"), [("torch", "torch"), ("diffusers", "diffusers"), ("PIL", "pillow")]
)
def test_release_is_the_installed_one(package, distribution):
    assert compat.release(package) == Version(version(distribution)).release[:2]


def test_what_old_versions_of_diffusers_lack():
    here = compat.release("diffusers")
    for name in CLASSES:
        assert hasattr(diffusers, name) == (here >= compat.SINCE.get(name, (0, 30))), name
    known = inspect.signature(diffusers.DPMSolverMultistepScheduler.__init__).parameters
    for option in OPTIONS:
        assert (option in known) == (here >= compat.SINCE[option]), option
    modular = (
        find_spec("diffusers.modular_pipelines.stable_diffusion_xl")
        if find_spec("diffusers.modular_pipelines")
        else None
    )
    assert (modular is not None) == (here >= compat.SINCE["modular_pipelines"])


def test_the_precision_is_set_and_no_library_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        unet = UNet2DConditionModel.from_pretrained(tiny.folder() / "unet", **compat.diffusers_dtype(torch.bfloat16))
    text = CLIPTextModel.from_pretrained(tiny.folder() / "text_encoder", **compat.transformers_dtype(torch.bfloat16))
    assert (unet.dtype, text.dtype) == (torch.bfloat16, torch.bfloat16)


def test_a_saved_module_has_the_names_of_the_hub(tmp_path):
    """So that a module that was saved beside the newest libraries can be loaded beside older ones."""
    SingModule.from_pretrained("tiny").save_pretrained(tmp_path / "saved")
    weights = load_file(tmp_path / "saved" / "text_encoder" / "model.safetensors")
    assert {name.split(".")[0] for name in weights} == {"text_model"}
    tokenizer = tmp_path / "saved" / "tokenizer"
    merges = (
        json.loads((tokenizer / "tokenizer.json").read_text())["model"]["merges"]
        if (tokenizer / "tokenizer.json").exists()
        else []
    )
    assert all(isinstance(merge, str) for merge in merges)
    shipped = tiny.folder() / "tokenizer"
    assert json.loads((tokenizer / "vocab.json").read_text()) == json.loads((shipped / "vocab.json").read_text())
    assert (tokenizer / "merges.txt").read_text().split("\n") == (shipped / "merges.txt").read_text().split("\n")
    (tokenizer / "tokenizer.json").unlink(missing_ok=True)
    again = CLIPTokenizer.from_pretrained(tokenizer)
    assert again("a cat").input_ids == tiny.load_pipeline().tokenizer("a cat").input_ids


@pytest.mark.parametrize(("torch_version", "refused"), [("2.4.1", True), ("2.5.1+cu124", True), ("2.6.0", False)])
def test_a_pickle_is_refused_below_torch_2_6(tmp_path, monkeypatch, torch_version, refused):
    monkeypatch.setattr(torch, "__version__", torch_version)
    torch.save({"conv_in.weight": torch.zeros(1)}, tmp_path / "diffusion_pytorch_model.bin")
    if refused:
        with pytest.raises(
            SingDiffusionError,
            match=rf"from which torch {torch_version.replace('+', '.')} can run code .CVE-2025-32434",
        ):
            read_weights(tmp_path)
    else:
        assert list(read_weights(tmp_path)) == ["conv_in.weight"]
