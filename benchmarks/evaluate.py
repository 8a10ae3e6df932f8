"""What painting at scale costs: batches against one picture at a time, and the memory of 3,000 pictures against that of 300.

    make bench-evaluate      or: python benchmarks/evaluate.py --json build/bench-evaluate.json     (ten minutes on two cores)

Speed: the embedded model, 50 steps, guidance scale 7.5, float32. One picture per call, as many scripts do, is compared with several per call,
in turn and `--rounds` times; the ratio is that of medians. Memory: the peak of `singdiffusion evaluate fidelity` (2 steps, off and on, Fréchet
distances, text score by the embedded encoder) as a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from singdiffusion import tiny
from singdiffusion.evaluate.gallery import jobs_of_captions
from singdiffusion.evaluate.painter import Painter
from singdiffusion.evaluate.processes import Processes
from singdiffusion.evaluate.remedies import Off
from singdiffusion.files import write_whole
from singdiffusion.painting.prompts import named

BATCHES = (1, 4, 16, 32, 64)
PICTURES = 64
SIZES = (300, 3000)

# A child's peak begins with its parent's memory, so a small process runs the command.
PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "singdiffusion", *sys.argv[1:]], check=True, stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def pictures_per_second(batch: int, count: int) -> float:
    """Paint ``count`` pictures into a new gallery and return the speed."""
    pipe = tiny.load_pipeline()
    jobs = jobs_of_captions(named(tiny.pictures().captions), count, 0)
    options = {"num_inference_steps": 50, "guidance_scale": 7.5}
    with tempfile.TemporaryDirectory() as folder:
        painter = Painter("tiny", pipe, Path(folder), Processes(), options, batch=batch)
        painter.paint(Off(), jobs[:batch], guidance_scale=2.0)  # warms up
        started = time.perf_counter()
        painter.paint(Off(), jobs)
        return count / (time.perf_counter() - started)


def peak_mib(pictures: int) -> float:
    """Return the peak memory of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        args = ["evaluate", "fidelity", "--pictures", pictures, "--steps", 2, "--guidance", 1, "--out", folder]
        command = [sys.executable, "-c", PEAK, *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])


def measure(rounds: int) -> dict[str, Any]:
    """Return every figure."""
    speeds: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for i in range(rounds):
        for batch, found in speeds.items():
            found.append(pictures_per_second(batch, PICTURES if batch > 1 else PICTURES // 4))
            print(f"round {i + 1}: {batch} per call: {found[-1]:.2f} pictures/s", flush=True)
    medians = {batch: statistics.median(found) for batch, found in speeds.items()}
    peaks = {count: peak_mib(count) for count in SIZES}
    print(f"peaks: {peaks}", flush=True)
    return {
        "pictures_per_second": {str(batch): found for batch, found in medians.items()},
        "default_over_one": medians[16] / medians[1],
        "best_over_one": max(medians.values()) / medians[1],
        "peak_mib": {str(count): peak for count, peak in peaks.items()},
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("build/bench-evaluate.json"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    figures = measure(options.rounds)
    write_whole(options.json, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
