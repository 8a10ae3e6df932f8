"""The library names a setting, and the command line adds the option of the command that runs."""

import importlib
import pkgutil

import pytest
import typer

from singdiffusion import SingDiffusionError, cli
from singdiffusion.cli.flags import flag_of, message, running_command

from ..commands import refused

for module in pkgutil.iter_modules(cli.__path__):
    importlib.import_module(f"{cli.__name__}.{module.name}")  # commands register themselves
GROUP = typer.main.get_command(cli.app)


@pytest.mark.parametrize(
    ("command", "setting", "flag"),
    [
        ("generate", "control", "--control"),
        ("generate", "num_inference_steps", "--steps"),
        ("generate", "guidance_scale", "--guidance"),
        ("generate", "negative_prompt", "--negative"),
        ("generate", "torch_dtype", "--dtype"),
        ("generate", "model_config", "--model-config"),
        ("generate", "first_step.prompt", "--first-prompt"),
        ("generate", "first_step.guidance_scale", "--first-guidance"),
        ("generate", "nope", None),
        ("generate", "data.base", None),
        ("serve", "first_step.prompt", None),
        ("serve", "port", "--port"),
        ("audit", "model", None),  # an argument, not an option
        ("audit", "latents", "--latents"),
        ("evaluate brightness", "module", "--module"),
        ("train", "network.kind", "--set network.kind=..."),
        ("train", "steps", "--set steps=..."),
        ("train", "validation.prompts", "--set validation.prompts=..."),
        ("train", "data.shards", "--shards"),
        ("train", "network.init_module", "--init-module"),
        ("train", "out", "--out"),
        ("train", "torch_dtype", None),
        ("train", "network.nope", None),
    ],
)
def test_each_setting_has_the_option_of_its_command(command, setting, flag):
    found = running_command(GROUP, command.split())
    assert flag_of(setting, found) == flag
    line = message(SingDiffusionError("it is wrong", setting=setting), found)
    assert line == ("it is wrong" if flag is None else f"it is wrong ({flag})")


def test_a_message_without_a_setting_stays_as_it_is():
    assert message(SingDiffusionError("it is wrong"), running_command(GROUP, ["generate"])) == "it is wrong"


def test_words_that_name_no_command_are_the_group():
    assert running_command(GROUP, []) is running_command(GROUP, ["--version"]) is GROUP
    assert running_command(GROUP, ["evaluate"]).name == "evaluate"


def test_a_real_command_adds_its_own_option():
    refused("audit", "tiny", "--scheduler", "magic", match="or diffusers' class names (--scheduler)")
