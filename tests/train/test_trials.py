"""What this machine cannot do is refused before any work: nothing is read, and no folder is made."""

import pytest
import torch

from singdiffusion import SingDiffusionError, compat
from singdiffusion.train.config import load_config
from singdiffusion.train.loop import Trainer
from singdiffusion.train.optimisation import make_optimizer
from singdiffusion.train.trials import try_machine
from tests.commands import cli, refused

from .world import DECODER, as_file, config


@pytest.mark.parametrize(
    ("changes", "match", "setting"),
    [
        ({"precision": "fp16"}, "precision fp16 needs a GPU, and this run is on the CPU", "precision"),
        ({"optimizer__name": "adamw8bit"}, "adamw8bit (needs bitsandbytes|does not work)", "optimizer.name"),
    ],
)
def test_refused_before_the_data_is_read(tmp_path, changes, match, setting):
    lines = []
    with pytest.raises(SingDiffusionError, match=match) as caught:
        Trainer(config(tmp_path / "nowhere", steps=2, **changes), lines.append, cpu=True)
    assert caught.value.setting == setting
    assert not lines
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "match", "env"),
    [
        ("precision=fp16", "precision must be bf16 or no (--set precision=...)", {}),
        ("compile=true", "compile does not work on the device cpu", {"CXX": "/nowhere"}),
    ],
)
def test_the_command_prints_one_line(tmp_path, change, match, env):
    file = as_file(tmp_path)
    words = ("train", "--config", file, "--device", "cpu", "--set", change)
    out, err = cli(*words, status=1, TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"), **env)
    (line,) = err.splitlines()
    assert out == ""
    assert line.startswith("error: ")
    assert match in line


def test_checkpointing_is_refused_for_a_network_without_it(tmp_path):
    decoder = {"network": {"kind": "decoder", "options": DECODER}}
    file = as_file(tmp_path, **decoder)
    with pytest.raises(SingDiffusionError, match="a decoder has no gradient checkpointing"):
        load_config(str(file), ["gradient_checkpointing=true"])
    match = "gradient_checkpointing must be false"
    refused("train", "--config", file, "--set", "gradient_checkpointing=true", match=match)


def test_what_works_here_passes(tmp_path):
    for precision in ("no", "bf16"):
        try_machine(config(tmp_path, precision=precision), torch.device("cpu"))
    weight = torch.nn.Parameter(torch.ones(4))
    weight.grad = torch.ones(4)
    optimizer = make_optimizer(config(tmp_path).optimizer, [weight])
    optimizer.step()
    assert optimizer.defaults["fused"] == compat.fuses_adamw() == (compat.release("torch") >= (2, 4))
