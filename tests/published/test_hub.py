"""The hub over HTTP, with a real client: what is downloaded, what is refused, and a module that is pushed and loaded again."""

import json
import os
import subprocess
import sys

import pytest

from singdiffusion import SingDiffusion
from singdiffusion.modules import SingModule

from ..conftest import make_config, make_module, make_text_encoder
from .hub import serving
from .layouts import write_one_more_step, write_text

NAME = "h1t/oms_b_openclip_15_21"


@pytest.fixture
def hub(tmp_path):
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as hub:
        yield hub


def python(code, hub, tmp_path, *args):
    """Run code with an empty cache, against the small hub; return its output."""
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env |= {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, env=env, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


FIND = """
import sys, torch
from singdiffusion import SingDiffusion, SingDiffusionError
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(sys.argv[1])
for dtype in (torch.float16, None, None):
    lines = []
    try:
        sing = SingDiffusion.for_pipeline(pipe, torch_dtype=dtype, report=lines.append)
        print(lines[-1], "|", sing.module.network.dtype)
    except SingDiffusionError as error:
        print(error)
"""


def test_a_public_module_is_downloaded(hub, tmp_path, make_pipe, tokenizer):
    """Of each network one file, and the line before it gives size and licence; the second time nothing is downloaded."""
    make_pipe(width=24).save_pretrained(tmp_path / "model")
    module, folder = make_module(), hub.root / NAME
    write_one_more_step(folder, module, text="someone/openclip", name=NAME)
    half = folder / "oms_module" / "diffusion_pytorch_model.fp16.safetensors"
    module.half().save_pretrained(tmp_path / "half", variant="fp16")
    half.write_bytes((tmp_path / "half" / half.name).read_bytes())
    (folder / "card.json").write_text(json.dumps({"license": "mit\x1b[31m"}))
    write_text(hub.root / "someone" / "openclip", tokenizer, make_text_encoder(tokenizer))
    (hub.root / "someone" / "openclip" / "unet").mkdir()
    (hub.root / "someone" / "openclip" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(bytes(9999))
    first, second, third = python(FIND, hub, tmp_path, tmp_path / "model").stdout.splitlines()
    text = sum(f.stat().st_size for f in (hub.root / "someone" / "openclip").rglob("*/*") if f.parent.name != "unet")
    for line, network, dtype in (
        (first, half, "torch.float16"),
        (second, half.with_name("diffusion_pytorch_model.safetensors"), "torch.float32"),
    ):
        assert line.startswith(f"module {NAME} (OneMoreStep, for Stable Diffusion 1 and 2), downloads ")
        assert line.endswith(f"; terms: https://huggingface.co/{NAME}, mit31m | {dtype}")
        size = int(line.split("downloads ")[1].split(" kB")[0]) * 1000
        expected = network.stat().st_size + (text if network == half else 0)
        assert abs(size - expected) < 20_000  # the small files were read to find out
    assert "from the hub's cache" in third
    fetched = sorted(hub.downloaded)
    assert len(fetched) == len(set(fetched))
    assert not any("unet" in name or "model_index" in name for name in fetched)


@pytest.mark.slow
def test_a_public_module_that_the_hub_refuses(hub, tmp_path, make_pipe):
    make_pipe().save_pretrained(tmp_path / "model")
    hub.gated.add(NAME)
    lines = python(FIND, hub, tmp_path, tmp_path / "model").stdout.splitlines()
    assert lines[0].startswith(
        f"{NAME} would fit, but the module {NAME} is not here: there is no such folder, and it is gated"
    )
    assert lines[0].endswith("name another module, start from a flat color, or train a module")
    hub.gated.clear()
    lines = python(FIND, hub, tmp_path, tmp_path / "model").stdout.splitlines()
    assert "the hub has no public repository of that name; name another module" in lines[0]


PUSH = """
import sys
from singdiffusion import SingDiffusion, SingDiffusionError
sing = SingDiffusion.from_pretrained(sys.argv[1])
print(sing.push_to_hub("me/mine", token="hf_x"))
print(SingDiffusion.from_pretrained("me/mine").module.config == sing.module.config)
try:
    sing.push_to_hub("no such/name/at all", token="hf_x")
except SingDiffusionError as error:
    print(error)
"""


def test_a_module_is_pushed(hub, tmp_path):
    SingModule(make_module(), make_config(name="mine")).save_pretrained(tmp_path / "ours")
    address, same, refused = python(PUSH, hub, tmp_path, tmp_path / "ours").stdout.splitlines()
    assert address.startswith(f"{hub.url}/me/mine/commit/")
    assert same == "True"
    assert refused == "'no such/name/at all' is not a hub id such as 'owner/name'"
    card = (hub.root / "me" / "mine" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: singdiffusion\n")
    assert "# mine\n" in card


def test_without_a_module_there_is_nothing_to_push():
    from singdiffusion import SingDiffusionError

    with pytest.raises(SingDiffusionError, match="there is no module to save"):
        SingDiffusion().push_to_hub("me/mine")
