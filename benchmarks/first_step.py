"""What the first step costs: the same call with and without it, in turn, in one process.

    make bench            or: python benchmarks/first_step.py --pairs 10 --json out/bench.json

Reported is the ratio with / without, pair by pair: seconds depend on the machine, their ratio hardly.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from singdiffusion import SingDiffusion, tiny


def seconds(pipe: Any, steps: int, seed: int) -> float:
    """Wall clock of one picture."""
    started = time.perf_counter()
    pipe("red apple on a black background", num_inference_steps=steps, generator=torch.Generator().manual_seed(seed))
    return time.perf_counter() - started


def ratios(steps: int, pairs: int) -> list[float]:
    """with / without, one a pair, the order within a pair swapped every time; a first pair warms up and is dropped."""
    pipe = tiny.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    sing = SingDiffusion.from_pretrained("tiny").enable(pipe)
    found = []
    for pair in range(pairs + 1):
        took = {}
        for on in (pair % 2 == 0, pair % 2 == 1):
            if on:
                took[on] = seconds(pipe, steps, pair)
            else:
                with sing.disabled():
                    took[on] = seconds(pipe, steps, pair)
        found.append(took[True] / took[False])
    return found[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = {}
    for steps in (10, 50):
        found = ratios(steps, options.pairs)
        figures[f"{steps} steps"] = {
            "median": round(statistics.median(found), 4),
            "min": round(min(found), 4),
            "max": round(max(found), 4),
            "pairs": len(found),
        }
        print(f"{steps} steps: with / without = {figures[f'{steps} steps']}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
