"""A decoder's path from files to the first step imports neither diffusers nor transformers, so other hosts can use it."""

import json
import os
import subprocess
import sys

import singdiffusion

BLOCKED = ("diffusers", "transformers", "torchvision")

CODE = """
import sys

blocked = sys.argv[1].split()


class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")


sys.meta_path.insert(0, Block())

import importlib, json, pkgutil, torch
import singdiffusion.core
from singdiffusion.core.singular import first_step
from singdiffusion import MeanDecoder, Schedule, SingConfig, SingDiffusionError, SingModule

for module in pkgutil.iter_modules(singdiffusion.core.__path__):
    importlib.import_module(f"singdiffusion.core.{module.name}")

module = SingModule.from_pretrained("tiny-decoder", text_encoder=False)
assert isinstance(module.network, MeanDecoder)
generator = torch.Generator().manual_seed(0)
x_1 = torch.randn(2, module.config.latent_channels, 16, 24, generator=generator)
negative, prompt = torch.randn(2, 2, 77, module.config.text_width, generator=generator)
mean, covariance = module.guided_moments(x_1, prompt, negative, guidance_scale=7.5)
state = first_step(mean, x_1, 0.0683, (1 - 0.0683**2) ** 0.5, covariance)
module.save_pretrained(sys.argv[2])
again = SingModule.from_pretrained(sys.argv[2]).guided_moments(x_1, prompt, negative, guidance_scale=7.5)
print(json.dumps({
    "shape": list(state.shape),
    "finite": bool(torch.isfinite(state).all()),
    "changed": float((state - x_1).abs().max()),
    "covariance": list(covariance.shape),
    "same_when_saved": torch.equal(again[0], mean) and torch.equal(again[1], covariance),
    "imported": sorted({name.partition(".")[0] for name in sys.modules} & set(blocked)),
}))
"""


def test_the_first_step_of_a_decoder_without_diffusers_and_transformers(tmp_path):
    command = [sys.executable, "-c", CODE, " ".join(BLOCKED), str(tmp_path / "saved")]
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr[-800:]
    found = json.loads(done.stdout)
    assert found["shape"] == [2, 4, 16, 24]
    assert found["finite"]
    assert found["changed"] > 0.01
    assert found["covariance"] == [2, 4, 4, 4, 4]
    assert found["same_when_saved"]
    assert found["imported"] == []


def test_every_public_name_exists():
    for name in singdiffusion.__all__:
        assert getattr(singdiffusion, name) is not None


def test_the_block_works():
    """The U-Net is a diffusers model, and cannot be imported."""
    code = CODE.split("import importlib")[0] + "from singdiffusion.modules import TimeFreeUNet"
    done = subprocess.run([sys.executable, "-c", code, " ".join(BLOCKED)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "diffusers is blocked" in done.stderr
