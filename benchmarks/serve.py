"""Time from the click to the picture: the page in Chromium, the HTTP API, the pipeline and the command, in one run.

    make bench-serve

All paint one prompt without and with the first step, in turn, several times. The page counts from the click on Paint until the browser
has drawn both pictures. The API is called by Gradio's client. The pipeline's two calls are those of ``singdiffusion generate
--compare``, in a process that has loaded the model. The command is measured as a whole, with the loading of the model.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from gradio_client import Client
from playwright.sync_api import Page, sync_playwright

from singdiffusion import SingDiffusion, tiny
from singdiffusion.painting.paint import paint
from tests.web.serving import serve

PROMPT = "red apple on a dark blue background"


def main(
    steps: int = 50,
    pairs: int = 15,
    commands: Annotated[int, typer.Option(help="How often the whole command is run.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Print medians, and their ratios to the pipeline's own calls."""
    threads = str(torch.get_num_threads())
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    found: dict[str, list[float]] = {"page": [], "api": [], "pipeline": [], "command": []}
    with serve(env={"OMP_NUM_THREADS": threads}) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        ways = {
            "page": page_way(browser.new_page(), served.url, steps),
            "api": api_way(served.url, steps),
            "pipeline": pipeline_way(steps),
        }
        for way in ways.values():
            way(1_000_000)  # warm
        for i in range(pairs):
            for name, way in ways.items():
                found[name].append(seconds(way, i + 1))
        for i in range(commands):
            found["command"].append(seconds(command_way(steps), i + 1))
        browser.close()
    figures = {"steps": steps, "pairs": pairs, "threads": int(threads)} | summary(found)
    print(json.dumps(figures, indent=2))
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


def seconds(way: Callable[[int], Any], seed: int) -> float:
    """Return how long one way takes; the page returns its own time, which leaves out the typing of the seed."""
    start = time.perf_counter()
    own = way(seed)
    return own if isinstance(own, float) else time.perf_counter() - start


def page_way(page: Page, url: str, steps: int) -> Callable[[int], float]:
    """Return what clicks Paint with a seed and waits for both pictures."""
    page.goto(url)
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    page.get_by_label("Steps").first.fill(str(steps))
    page.get_by_label("Seed", exact=True).press("Tab")

    def click(seed: int) -> float:
        page.get_by_label("Seed", exact=True).fill(str(seed))
        page.get_by_label("Seed", exact=True).press("Tab")
        page.wait_for_timeout(300)
        start = time.perf_counter()
        page.get_by_role("button", name="Paint", exact=True).click()
        shown = f"[...document.querySelectorAll('.facts span')].some(n => n.textContent === 'seed {seed}')"
        drawn = "[...document.querySelectorAll('.compare img')].every(n => n.complete)"
        page.wait_for_function(f"{shown} && {drawn}", polling=10)
        return time.perf_counter() - start

    return click


def api_way(url: str, steps: int) -> Callable[[int], Any]:
    """Return what calls the HTTP API with a seed."""
    client = Client(url, verbose=False)
    return lambda seed: client.predict(PROMPT, seed=seed, num_inference_steps=steps, api_name="/paint")


def pipeline_way(steps: int) -> Callable[[int], None]:
    """Return what calls the pipeline without and with the first step from a seed."""
    pipe = tiny.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    sing = SingDiffusion.from_pretrained("tiny").enable(pipe)
    options = {"num_inference_steps": steps, "guidance_scale": 7.5}

    def pipeline(seed: int) -> None:
        paint(pipe, [PROMPT], [seed], **options)
        with sing.disabled():
            paint(pipe, [PROMPT], [seed], **options)

    return pipeline


def command_way(steps: int) -> Callable[[int], None]:
    """Return what runs ``singdiffusion generate --compare`` with a seed."""

    def command(seed: int) -> None:
        with tempfile.TemporaryDirectory() as out:
            words = ["generate", PROMPT, "--out", out, "--compare", "--steps", str(steps), "--seed", str(seed)]
            subprocess.run([sys.executable, "-m", "singdiffusion", *words], check=True, capture_output=True)

    return command


def summary(found: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians in seconds, and the median ratios to the pipeline's calls of the same turn."""
    medians = {name: statistics.median(times) for name, times in found.items()}
    ratios = {
        f"{name} over pipeline": statistics.median(a / b for a, b in zip(found[name], found["pipeline"], strict=True))
        for name in ("page", "api")
    }
    return {"seconds": medians} | ratios | {"page over command": medians["page"] / medians["command"]}


if __name__ == "__main__":
    typer.run(main)
