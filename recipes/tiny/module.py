"""Stage 4: the module, made by the package's own commands: ``encode``, then ``train`` with the preset ``tiny``."""

import shutil
import subprocess
import sys
from pathlib import Path

from . import base, corpus


def train(folder: Path, steps: int | None = None) -> None:
    """Encode the composites with this folder's base and train the module on them: ``module/``, ``module.json``, ``module.png``."""
    pipeline, shards, run = folder / "pipeline", folder / "shards", folder / "run"
    pictures = corpus.write(folder)
    base.pipeline(folder).save_pretrained(pipeline)
    _command("encode", pictures, shards, "--base", pipeline, "--batch", 50)
    more = [] if steps is None else ["--set", f"steps={steps}"]
    where = ["--shards", shards, "--out", run, "--set", f"data.base={pipeline}"]
    _command("train", "--config", "tiny", *where, *more, "--json", folder / "module.json")
    shutil.rmtree(folder / "module", ignore_errors=True)
    shutil.copytree(run / "module" / "module", folder / "module")
    shutil.copy(run / "loss.png", folder / "module.png")


def _command(*words: object) -> None:
    done = subprocess.run([sys.executable, "-m", "singdiffusion", *map(str, words)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
