"""Measure the time to the first picture: ``singdiffusion generate`` beside diffusers alone, and how much of both is imports.

    python benchmarks/imports.py --json docs/imports.json     (two minutes on two cores)

Both paint one picture of the embedded model in 20 steps, each in a new process, in turn. ``--before FOLDER`` also measures another version of
this package, from its folder ``src``. Imports are the sum of ``python -X importtime``; the times of processes are measured without it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from singdiffusion import tiny
from singdiffusion.files import write_whole

ALONE = """
import sys, torch
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(sys.argv[1])
pipe.set_progress_bar_config(disable=True)
pipe("a cat", num_inference_steps=20, generator=torch.Generator().manual_seed(0)).images[0].save(sys.argv[2] + "/alone.png")
"""


def commands(out: str, before: Path | None) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return name -> arguments of Python, and changes of the environment."""
    ours = ["-m", "singdiffusion", "generate", "a cat", "--steps", "20", "--out", out]
    found = {"alone": (["-c", ALONE, str(tiny.folder()), out], {}), "generate": (ours, {})}
    return found | ({} if before is None else {"before": (ours, {"PYTHONPATH": str(before / "src")})})


def seconds(arguments: list[str], env: dict[str, str]) -> float:
    """Return how long a process takes."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=os.environ | env, check=True, capture_output=True)
    return time.perf_counter() - begun


def imports(arguments: list[str], env: dict[str, str]) -> tuple[float, int]:
    """Return seconds of imports, and their number, without those that the code after them makes."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, env=os.environ | env, check=True, capture_output=True, text=True)
    each = [int(micro) for micro in re.findall(r"^import time:\s+(\d+) \|", done.stderr, re.M)]
    return sum(each) / 1e6, len(each)


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="runs of each command")
    parser.add_argument("--before", type=Path, help="folder of another version of this package")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        found = commands(out, options.before)
        for run in found.values():  # once without counting: the files come into the disk's cache
            seconds(*run)
        times: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(options.pairs):
            for name, run in found.items():
                times[name].append(seconds(*run))
        figures = {}
        for name, run in found.items():
            spent, count = imports(*run)
            figures[name] = {
                "seconds": round(statistics.median(times[name]), 2),
                "import_seconds": round(spent, 2),
                "modules": count,
            }
    text = json.dumps(figures | {"pairs": options.pairs}, indent=1) + "\n"
    print(text)
    if options.json:
        write_whole(options.json, text.encode())


if __name__ == "__main__":
    main()
