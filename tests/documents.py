"""Run the code of a page: ``python -m tests.documents PAGE`` runs its blocks one after the other, in the current folder.

- ``python``: the blocks of a page share their names.
- ``sh``: bash runs the block and stops at the first command that fails. ``make`` runs dry, in the repository.
- ``console``: the lines after ``$`` run, and the other lines must be in the output, apart from their numbers.

A line above a block that names what the block needs (``*Needs a download.*``) leaves it out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
RUN, SHOWN = ("python", "sh", "console"), ("text", "toml", "json")
FENCE = re.compile(r"^```(?P<kind>.*)\n(?P<code>(?:.*\n)*?)```$", re.M)
NEEDS = re.compile(r"\*Needs .*\b(download|network|GPUs?|hours?|minutes)\b.*\.\*", re.S)
MAKE = f'make() {{ command make --dry-run --directory "{ROOT}" "$@" > /dev/null; }}\n'


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        kind: what follows the fence, such as ``sh``.
        code: the lines.
        line: number of the first one on the page.
        needs: the line above that names what the block needs, or None.
    """

    kind: str
    code: str
    line: int
    needs: str | None


def blocks(page: Path) -> Iterator[Block]:
    """Yield all blocks of a page, in order."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        before = text[: found.start()]
        above = before.rstrip("\n").rpartition("\n\n")[2]
        needs = above if NEEDS.fullmatch(above) else None
        yield Block(found["kind"], found["code"], before.count("\n") + 2, needs)


def runs(page: Path) -> list[Block]:
    """Return the blocks of a page that are run."""
    return [block for block in blocks(page) if block.kind in RUN and block.needs is None]


def run(block: Block, page: Path, names: dict[str, Any]) -> None:
    """Run one block.

    Raises:
        Exception: that of the code, ``CalledProcessError`` for a command that fails, ``AssertionError`` for other output.
    """
    print(f"--- {page.name}:{block.line}", flush=True)
    if block.kind == "python":
        code = "\n" * (block.line - 1) + block.code  # a traceback has the page's line
        exec(compile(code, page.name, "exec"), names)
    elif block.kind == "sh":
        subprocess.run(["bash", "-euo", "pipefail", "-c", MAKE + block.code], check=True)
    else:
        for command, expected in transcript(block.code):
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True)
            print(done.stdout, done.stderr, sep="", flush=True)
            done.check_returncode()
            rest = iter(masked(done.stdout + done.stderr).splitlines())
            for line in expected:
                assert masked(line) in rest, f"{page.name}: {command!r} does not print {line!r} there"


def transcript(code: str) -> list[tuple[str, list[str]]]:
    """Return (command, lines of its output) for each command of a console block; the line ``...`` stands for any lines."""
    parts = re.split(r"^\$ ", code.replace("\\\n", ""), flags=re.M)[1:]
    return [(part.splitlines()[0], [line for line in part.splitlines()[1:] if line != "..."]) for part in parts]


def masked(text: str) -> str:
    """Return text with 0 for each number, because numbers depend on the machine."""
    return re.sub(r"\d[\d,.]*\d|\d", "0", re.sub(r" +", " ", text)).strip()


def main(page: Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in runs(page):
        run(block, page, names)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
