"""From click to picture: the page in Chromium, against the command line, in one run.

    make bench-serve

Ways to one prompt without and with the first step, in turn, several times: the page, from the click on Paint until the browser has
drawn both pictures; the HTTP API, by Gradio's client; the calls of the pipeline that ``singdiffusion generate --compare`` makes, in a process that has loaded the model; and that
command as a whole, which loads it first.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from gradio_client import Client
from playwright.sync_api import sync_playwright

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
    """Medians, and their ratios."""
    pipe = tiny.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    sing = SingDiffusion.from_pretrained("tiny").enable(pipe)
    threads = str(torch.get_num_threads())
    chromium = shutil.which("chromium") or shutil.which("google-chrome")

    def pipeline(seed: int) -> float:
        start = time.perf_counter()
        options = {"num_inference_steps": steps, "guidance_scale": 7.5}
        paint(pipe, [PROMPT], [seed], **options)
        with sing.disabled():
            paint(pipe, [PROMPT], [seed], **options)
        return time.perf_counter() - start

    def command(seed: int) -> float:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as out:
            words = [
                "-m",
                "singdiffusion",
                "generate",
                PROMPT,
                "--out",
                out,
                "--compare",
                "--steps",
                str(steps),
                "--seed",
                str(seed),
            ]
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
        return time.perf_counter() - start

    with serve(env={"OMP_NUM_THREADS": threads}) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(served.url)
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

        client = Client(served.url, verbose=False)

        def api(seed: int) -> float:
            start = time.perf_counter()
            client.predict(PROMPT, seed=seed, steps=steps, api_name="/paint")
            return time.perf_counter() - start

        click(1_000_000)  # warm
        api(0)
        pipeline(0)
        found: dict[str, list[float]] = {"page": [], "api": [], "pipeline": [], "command": []}
        for i in range(pairs):
            found["page"].append(click(i + 1))
            found["api"].append(api(i + 1))
            found["pipeline"].append(pipeline(i + 1))
        for i in range(commands):
            found["command"].append(command(i + 1))
        browser.close()
    medians = {name: statistics.median(times) for name, times in found.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(found[name], found["pipeline"], strict=True))
        for name in ("page", "api")
    }
    figures = {
        "steps": steps,
        "pairs": pairs,
        "threads": int(threads),
        "seconds": medians,
        "page over pipeline": ratios["page"],
        "api over pipeline": ratios["api"],
        "page over command": medians["page"] / medians["command"],
    }
    print(json.dumps(figures, indent=2))
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
