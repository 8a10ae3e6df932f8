"""Every block of code in the documents runs as it stands, in a folder with what a reader has, or states what it needs.

Commands that are not run, those for real models among them, are parsed by the command line itself.
"""

import contextlib
import functools
import importlib
import os
import pkgutil
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image

from singdiffusion import cli, tiny
from singdiffusion.painting.scheduler_names import scheduler_class

from .commands import ENV
from .documents import PAGES, ROOT, RUN, SHOWN, blocks, runs

BIN = Path(sys.executable).parent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_kind(page):
    assert page.read_text().count("\n```") % 2 == 0
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        assert block.kind in RUN + SHOWN, f"{where}: write {', '.join(RUN + SHOWN)} after the fence"
        if block.kind == "text":
            assert not re.search(
                r"^\s*(\$ |pip |python |make |singdiffusion |accelerate |import |from )", block.code, re.M
            ), where


# -- commands that are not run -------------------------------------------------------------------------------------------


@functools.cache
def command_line():
    """Return the command ``singdiffusion`` with all its commands."""
    for module in pkgutil.iter_modules(cli.__path__):
        importlib.import_module(f"{cli.__name__}.{module.name}")  # commands register themselves
    return typer.main.get_command(cli.app)


def command_of(words):
    """Return a command by its words, such as ["evaluate", "pareto", "--out", "out"], and the words that are left."""
    command, words = command_line(), list(words)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    return command, words


def commands_in(code):
    """Yield the words after ``singdiffusion`` of each command in shell code; ``accelerate`` and the like may start it."""
    joined = re.sub(r"\\\n\s*", " ", code)
    for line in joined.splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("|&;<>"):
                words.append(word)
                continue
            if "singdiffusion" in words and not words[0].startswith(("pip", "cd", "hf")):
                yield words[words.index("singdiffusion") + 1 :]
            words = []


def require_values(command, values):
    """Assert what the options' types do not hold: names of schedulers, precisions and presets, and folders instead of hub ids."""
    from singdiffusion.painting.devices import AUTO, DTYPES
    from singdiffusion.train.config import preset_names

    if values.get("scheduler"):
        scheduler_class(values["scheduler"])
    assert values.get("dtype") in (None, AUTO, *DTYPES)
    if command == "train":
        assert values["config"] in (*preset_names(), "FILE")
    if command == "convert" and not values["source"].startswith("h1t/"):  # OneMoreStep's name theirs
        assert values["base"], "the module must record its latent space and its text encoder"
        assert values["bring_text"], "a module for several models brings its text encoder"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one_that_the_command_line_takes(page):
    for block in blocks(page):
        for words in commands_in(block.code) if block.kind in ("sh", "console") else ():
            command, rest = command_of(words)
            try:
                if rest not in (["--help"], ["--version"]):
                    require_values(command.name, command.make_context(command.name, rest).params)
            except Exception as error:
                text = error.format_message() if hasattr(error, "format_message") else error
                raise AssertionError(f"{page.name}:{block.line}: singdiffusion {' '.join(words)}: {text}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_in_a_sentence_is_one_of_its_command(page):
    sentences = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for quoted in re.findall(r"`singdiffusion ([^`]+)`", sentences):
        command, rest = command_of(quoted.replace("\n", " ").replace("...", "").split())
        known = {name for parameter in command.params for name in parameter.opts} | {"--help", "--version"}
        unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known]
        assert not unknown, f"{page.name}: `singdiffusion {quoted}`"


# -- blocks that are run -------------------------------------------------------------------------------------------------


def a_readers_folder(here):
    """Make what pages take for granted: a model's folder, a module as its authors publish it, pictures with captions."""
    (here / "path" / "to").mkdir(parents=True)
    (here / "path" / "to" / "model").symlink_to(tiny.folder())
    (here / "path" / "to" / "module").symlink_to(tiny.module_folder())
    shutil.copy(tiny.folder() / "scheduler" / "scheduler_config.json", here / "path" / "to")
    shutil.copytree(tiny.module_folder("tiny-unet") / "module", here / "published-module")
    (here / "examples").symlink_to(ROOT / "examples")
    (here / "pictures").mkdir()
    shown = tiny.pictures()
    for i, (picture, caption) in enumerate(zip(shown.drawn[:50], shown.captions, strict=False)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(here / "pictures" / f"{i}.png")
        (here / "pictures" / f"{i}.txt").write_text(caption)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=lambda page: page.name)
def test_every_block_runs(page, tmp_path):
    a_readers_folder(tmp_path)
    path = os.pathsep.join([str(BIN), ENV["PATH"]])
    env = ENV | {"PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    assert shutil.which("singdiffusion", path=path), "the command is not installed"
    log = tmp_path / "log.txt"  # a file: a process that a page leaves in the background would keep a pipe open
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.documents", str(page)],
            cwd=tmp_path, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(timeout=600)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert status == 0, log.read_text()[-3000:]
