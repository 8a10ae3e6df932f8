"""``singdiffusion audit`` and ``singdiffusion convert`` as real processes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from singdiffusion import SingDiffusion

from ..commands import Refusals, cli
from ..conftest import make_module
from ..published.layouts import unet_config

DATA = Path(__file__).parents[1] / "files" / "audit"


def test_audit(tmp_path):
    printed, _ = cli(
        "audit",
        DATA / "sd-1.5.json",
        "--latents",
        64,
        64,
        "--steps",
        10,
        "--scheduler",
        "ddim",
        "--json",
        tmp_path / "a.json",
    )
    assert printed.startswith("present: sampling starts at pure noise")
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["scheduler"], found["first_timestep"], found["verdict"]) == ("DDIMScheduler", 901, "present")
    assert abs(found["d"] - 7.63) < 0.01
    assert cli("audit", "tiny")[0].startswith("present")
    assert "Example:\n    singdiffusion audit" in cli("audit", "--help")[0]


@pytest.mark.slow
def test_audit_fails_in_one_line(tmp_path):
    (tmp_path / "huge.json").write_text(json.dumps({"_class_name": "DDIMScheduler", "num_train_timesteps": 10**12}))
    with Refusals() as each:
        each.refused("audit", DATA / "sd-1.5.json", match="size of the latents is unknown")
        each.refused("audit", DATA / "sd-1.5.json", "--latents", 0, 64, match="latents must be positive")
        each.refused("audit", DATA / "sd-1.5.json", "--latents", 10**9, 64, match="latents must be positive")
        each.refused("audit", tmp_path, match="diffusers model")
        each.refused("audit", "tiny", "--scheduler", "magic", match="unknown scheduler 'magic'")
        each.refused("audit", "tiny", "--steps", 0, match="--steps", status=2)
        each.refused(
            "audit",
            tmp_path / "huge.json",
            "--latents",
            8,
            8,
            match="num_train_timesteps must be a whole number within",
        )
        each.refused("audit", "tiny", "--json", tmp_path, match="is a folder; name a file")


@pytest.mark.slow
def test_convert(tmp_path):
    module, folder = make_module(), tmp_path / "authors"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(unet_config(module)))
    torch.save(module.state_dict(), folder / "diffusion_pytorch_model.bin")
    assert "latents of 4 channels, text of width 16" in cli("convert", folder, tmp_path / "ours", "--no-text")[0]
    assert torch.equal(
        SingDiffusion.from_pretrained(tmp_path / "ours").module.network.conv_in.weight,
        module.state_dict()["conv_in.weight"],
    )
    cli("convert", tmp_path / "ours", tmp_path / "one.safetensors", "--dtype", "float16")
    assert load_file(tmp_path / "one.safetensors")["model.diffusion_model.out.2.bias"].dtype == torch.float16
    assert "Example:\n    singdiffusion convert" in cli("convert", "--help")[0]
    (tmp_path / "other.safetensors").write_text("letter")
    with Refusals() as each:
        each.refused("convert", tmp_path / "nowhere", tmp_path / "x", match="there is no such folder")
        each.refused("convert", folder, tmp_path / "x", "--dtype", "int3", match="unknown dtype")
        each.refused(
            "convert",
            folder,
            tmp_path / "x",
            match="pass a base, the model whose text encoder it was trained with (--base)",
        )
        each.refused("convert", "no/source", tmp_path / "other.safetensors", match="is not a module's single file")
    assert (tmp_path / "other.safetensors").read_text() == "letter"
    assert not (tmp_path / "x").exists()
