"""Stage 4: the modules, made by the package's own commands: ``encode``, then ``train`` with the presets ``tiny-unet`` and ``tiny-decoder``."""

import shutil
import subprocess
import sys
from pathlib import Path

from . import base, corpus

PRESETS = {"module": "tiny-unet", "decoder": "tiny-decoder"}


def train(folder: Path, stage: str, steps: int | None = None) -> None:
    """Encode the composites with this folder's base and train a module on them: ``module/`` or ``decoder/``, with ``.json``, ``.png``."""
    pipeline, shards, run = folder / "pipeline", folder / "shards", folder / f"run-{stage}"
    pictures = corpus.write(folder)
    base.pipeline(folder).save_pretrained(pipeline)
    _command("encode", pictures, shards, "--base", pipeline, "--batch", 50)
    more = [] if steps is None else ["--set", f"steps={steps}"]
    where = ["--shards", shards, "--out", run, "--set", f"data.base={pipeline}"]
    _command("train", "--config", PRESETS[stage], *where, *more, "--json", folder / f"{stage}.json")
    shutil.rmtree(folder / stage, ignore_errors=True)
    shutil.copytree(run / "module" / "module", folder / stage)
    shutil.copy(run / "loss.png", folder / f"{stage}.png")


def _command(*words: object) -> None:
    done = subprocess.run([sys.executable, "-m", "singdiffusion", *map(str, words)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
