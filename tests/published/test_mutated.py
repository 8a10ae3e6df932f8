"""Modules in every layout in which one file is changed: loaded, or refused with our own error, and soon."""

import json
import time
from contextlib import suppress

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from singdiffusion import MeanDecoder, SingDiffusionError
from singdiffusion.modules import SingModule
from singdiffusion.modules.text import PromptEncoder, fingerprint
from singdiffusion.published import load_module
from singdiffusion.published.convert import convert

from ..conftest import make_config, make_module, make_text_encoder
from ..mutations import damaged, mutated
from .layouts import unet_config, write_one_more_step


@pytest.fixture(scope="module")
def layouts(tmp_path_factory, tokenizer):
    """A folder with a small module of each layout."""
    folder, encoder, unet = tmp_path_factory.mktemp("layouts"), make_text_encoder(tokenizer, seed=8), make_module()
    config, text = make_config(text_fingerprint=fingerprint(encoder)), PromptEncoder([tokenizer], [encoder])
    SingModule(unet, config, text).save_pretrained(folder / "ours")
    decoder = MeanDecoder(cross_attention_dim=16, width=16, layers=1, grid=4, covariance_grid=2)
    SingModule(decoder, make_config()).save_pretrained(folder / "decoder")
    write_one_more_step(folder / "oms_15_21", unet, tokenizer, encoder)
    (folder / "authors").mkdir()
    (folder / "authors" / "config.json").write_text(json.dumps(unet_config(unet)))
    save_file(unet.state_dict(), folder / "authors" / "diffusion_pytorch_model.safetensors")
    (folder / "single").mkdir()
    convert(folder / "authors", folder / "single" / "one.safetensors", bring_text=False)
    return folder


def load_changed(folder, file, content):
    """Load the module of a layout with another content of a file, which is then restored."""
    kept = file.read_bytes()
    file.write_bytes(content)
    started = time.monotonic()
    try:
        with suppress(SingDiffusionError):
            source = file if folder.name == "single" else folder
            module = load_module(source, text_encoder=folder.name not in ("authors", "single"))
            assert all(torch.isfinite(value).all() for value in module.network.state_dict().values())
    finally:
        file.write_bytes(kept)
    assert time.monotonic() - started < 20


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_change_of_a_configuration(layouts, data):
    files = [file for file in sorted(layouts.rglob("*.json")) if file.name != "tokenizer.json"]
    file = data.draw(st.sampled_from(files))
    changed = data.draw(mutated(json.loads(file.read_bytes())))
    load_changed(layouts / file.relative_to(layouts).parts[0], file, json.dumps(changed).encode())


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_damage_of_weights(layouts, data):
    file = data.draw(st.sampled_from(sorted(layouts.rglob("*.safetensors"))))
    load_changed(layouts / file.relative_to(layouts).parts[0], file, data.draw(damaged(file.read_bytes())))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_change_of_a_header(layouts, data):
    """The table in front of the weights: names, dtypes, shapes, places in the file, and both configurations."""
    file = layouts / "single" / "one.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(data.draw(mutated(json.loads(content[8 : 8 + length])))).encode()
    load_changed(file.parent, file, len(header).to_bytes(8, "little") + header + content[8 + length :])
