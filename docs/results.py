"""Run ``singdiffusion evaluate`` on the embedded models and write docs/results.md: ``make results``, an hour on two cores.

Pictures that are painted already are kept. ``python docs/results.py --page-only`` writes the page from the figures that are there.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OUT = HERE.parent / "out" / "evaluation"
WIDTH = 88  # columns of a command on the page
MODELS = "--model tiny --model tiny-v --model tiny-community --model tiny-controlnet"
COMMANDS = {
    "brightness": f"evaluate brightness {MODELS}",
    "fidelity": f"evaluate fidelity {MODELS} --steps 20 --pictures 384",
    "pareto": "evaluate pareto --steps 20 --pictures 384",
    "remedies": "evaluate remedies --steps 20 --pictures 32 --crowd 384",
    "remedies-v": "evaluate remedies --model tiny-v --steps 20 --pictures 32 --crowd 384",
}


def run(name: str) -> dict[str, Any]:
    """Run a command, with the pictures shared by all, and return its figures."""
    out = OUT / name
    args = [*shlex.split(COMMANDS[name]), "--cache", OUT / "pictures", "--out", out, "--device", "cpu"]
    subprocess.run([sys.executable, "-m", "singdiffusion", *map(str, args)], check=True)
    return json.loads((out / "figures.json").read_text())


def load(name: str) -> dict[str, Any]:
    """Return the figures that a command wrote."""
    return json.loads((OUT / name / "figures.json").read_text())


def table(name: str) -> str:
    """Return the tables that a command wrote as Markdown, without its notes."""
    text = (OUT / name / "table.md").read_text()
    lines = text.split("\n")
    last = max(i for i, line in enumerate(lines) if line.startswith("|"))
    return "\n".join(lines[: last + 1])


def command(name: str) -> str:
    """Return the block of code with a command, in lines that fit a page."""
    options = f"{COMMANDS[name]} --out out/{name} --cache out/pictures".split(" --")
    lines = [f"singdiffusion {options[0]}"]
    for option in options[1:]:
        if len(f"{lines[-1]} --{option} \\") <= WIDTH:
            lines[-1] += f" --{option}"
        else:
            lines.append(f"    --{option}")
    broken = " \\\n".join(lines)
    return f"*Needs minutes, all five together an hour.*\n\n```sh\n{broken}\n```"


def by(found: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    """Return the only result with these values."""
    (row,) = [row for row in found["results"] if all(row[key] == value for key, value in wanted.items())]
    return row


def change(after: float, before: float) -> str:
    """Return a change in per cent."""
    return f"{100 * (after / before - 1):+.0f} %"


def fidelity_words(found: dict[str, Any]) -> str:
    """Return what the first step does to each model's distances, in words."""
    lines = []
    for model in ("tiny", "tiny-v", "tiny-community", "tiny-controlnet"):
        parts = []
        for scale in (1.0, 7.5):
            off, on = (by(found, model=model, remedy=name, guidance_scale=scale) for name in ("off", "tiny-moments"))
            changes = " and ".join(
                f"{change(b['frechet'], a['frechet'])} ({b['extractor'].partition(',')[0]})"
                for a, b in zip(off["fidelity"], on["fidelity"], strict=True)
            )
            words = "without guidance" if scale == 1 else f"at guidance {scale:g}"
            parts.append(
                f"{words} {changes}, brightness distance {off['brightness_distance']:.1f} to {on['brightness_distance']:.1f}"
            )
        lines.append(f"- `{model}`: Fréchet distance {'; '.join(parts)}.")
    return "\n".join(lines)


def pareto_words(found: dict[str, Any]) -> str:
    """Return where each curve is better, in words."""
    lines = []
    for each in found["verdicts"]:
        where = ", ".join(f"{low:.2f} to {high:.2f}" for low, high in each["worse"])
        words = (
            f"better at every text score, {each['gain']:.2f} times nearer on average"
            if not where
            else f"better at {each['share']:.0%} of the text scores, worse at {where}"
        )
        lines.append(f"- {each['distance']}, {each['curve']}: {words}.")
    return "\n".join(lines)


def absent_words(found: dict[str, Any]) -> str:
    """Return the remedies that could not be measured, with the reasons."""
    return "\n".join(f"- {each['title']}: {each['reason']}." for each in found["absent"])


def page() -> str:
    """Return docs/results.md."""
    brightness, fidelity, pareto, remedies = (load(name) for name in ("brightness", "fidelity", "pareto", "remedies"))
    miss = {(row["model"], row["remedy"]): row["miss"] for row in brightness["summary"]}
    summed = "; ".join(
        f"`{model}` {miss[model, 'off']:.0f} without and {miss[model, 'tiny-moments']:.0f} with SingDiffusion"
        for model in dict.fromkeys(model for model, _ in miss)
    )
    return (HERE / "results.md.in").read_text().format(
        **{f"command_{name.replace('-', '_')}": command(name) for name in COMMANDS},
        **{f"table_{name.replace('-', '_')}": table(name) for name in COMMANDS},
        summed=summed,
        fidelity_words=fidelity_words(fidelity),
        pareto_words=pareto_words(pareto),
        absent=absent_words(remedies),
        versions=", ".join(f"{key} {value}" for key, value in brightness["versions"].items()),
        real=fidelity["results"][0]["fidelity"][0]["real_pictures"],
    )  # fmt: skip


def main(again: bool) -> None:
    """Write the page and its curves.

    Args:
        again: whether to measure first.
    """
    if again:
        for name in COMMANDS:
            run(name)
    (HERE / "results.md").write_text(page())
    for i, form in product(range(2), (".svg", "-dark.svg")):
        shutil.copy(OUT / "pareto" / f"pareto-{i}{form}", HERE / "pictures" / f"pareto_{i}{form}")


if __name__ == "__main__":
    main("--page-only" not in sys.argv)
