"""Stage 4: the modules, by the package's own commands: ``encode``, then ``train`` with presets ``tiny-unet`` and ``tiny-decoder``."""

import shutil
import subprocess
import sys
from pathlib import Path

from . import base, corpus

PRESETS = {"module": "tiny-unet", "decoder": "tiny-decoder"}


def train(folder: Path, stage: str, steps: int | None = None) -> None:
    """Encode the training pictures with this folder's base and train a module on them.

    Args:
        folder: the working folder; gets ``STAGE/``, its figures ``STAGE.json`` and the plot ``STAGE.png``.
        stage: ``module``, the paper's U-Net, or ``decoder``.
        steps: in place of the preset's number.
    """
    pipeline, shards, run = folder / "pipeline", folder / "shards", folder / f"run-{stage}"
    pictures = corpus.write(folder)
    base.pipeline(folder).save_pretrained(pipeline)
    _command("encode", pictures, shards, "--base", pipeline, "--batch", 50)
    more = [] if steps is None else ["--set", f"steps={steps}"]
    where = ["--shards", shards, "--out", run, "--set", f"data.base={pipeline}"]
    _command("train", "--config", PRESETS[stage], *where, *more, "--json", folder / f"{stage}.json")
    shutil.rmtree(folder / stage, ignore_errors=True)
    shutil.copytree(run / "module", folder / stage)
    shutil.copy(run / "loss.png", folder / f"{stage}.png")


def _command(*words: object) -> None:
    done = subprocess.run([sys.executable, "-m", "singdiffusion", *map(str, words)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
