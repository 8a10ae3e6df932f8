"""Every block of code in the documents runs as it stands, in a folder with what a reader has, or says what it needs."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from singdiffusion import tiny

from .commands import ENV
from .documents import PAGES, ROOT, RUN, SHOWN, blocks, runs

BIN = Path(sys.executable).parent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page):
    assert page.read_text().count("\n```") % 2 == 0
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        assert block.kind in RUN + SHOWN, f"{where}: say {', '.join(RUN + SHOWN)} after the fence"
        if block.kind == "text":
            assert not re.search(
                r"^\s*(\$ |pip |python |make |singdiffusion |accelerate |import |from )", block.code, re.M
            ), where


def a_readers_folder(here):
    """A model's folder, a module as its authors publish it, pictures with captions: whatever pages take for granted."""
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
    said = tmp_path / "said.txt"  # a file, for what a page starts in the background would hold a pipe open
    with said.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.documents", str(page)],
            cwd=tmp_path, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(timeout=600)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert status == 0, said.read_text()[-3000:]
