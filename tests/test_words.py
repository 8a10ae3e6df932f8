"""Plain words: the terms that this project replaced do not come back, in prose or in names (CONTRIBUTING.md, "How we write").

Run as a script it checks the files that are named: ``python tests/test_words.py src/singdiffusion/core``.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("src", "recipes", "benchmarks", "tests", "docs", "examples", ".ci")
SUFFIXES = (".py", ".md", ".in", ".js", ".css", ".toml", ".html")
FILES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile", "pyproject.toml", "zensical.toml")

_EACH = "pictures?|rows?|lines?|numbers?|figures?|seeds?|steps?|files?|frequencies|captions?|bytes|columns?|curves?|one|once|pairs?"
_PER = "prompt|picture|channel|frame|caption|side|second|process|epoch|row|extractor|remedy|column|step|million|run|file|shard"

# pattern -> the word to use; patterns see text in lower case
PROSE = {
    r"\b(told|tells?|telling)\b": "predicts, returns, reports, shows, or passive voice",
    r"\b(says|said|unsaid|saying)\b": "states, names, reports, prints; software does not speak",
    r"\b(hears?|heard)\b": "receives, reads",
    r"\bknows\b": "has, contains, reads ('known' is fine for a lookup)",
    r"\bspeaks?\b": "prints",
    r"\b(go|goes|going|gone|went) on\b": "resume, continue",
    r"\bgrounds?\b": "background",
    r"\banew\b": "again",
    r"\bbesides\b": "also, in addition",
    r"\bnothing else\b": "only",
    r"\b(or|and|, |; )else\b|[,;] else\b": "otherwise",
    r", for (it|they|there|this|that|these|those|he|she|we|you)\b": "because",
    rf"\b({_EACH}) an? ({_PER})\b": "per",
    r"\bmean[ _]gr[ae]ys?\b": "mean luma",
    r"\btrained on from\b|\bgone on from\b": "fine-tuned",
    r"\bfor people:": "description",
}  # fmt: skip
NAMES = {
    r"^_?told|_told$|_told_": "guided_moments, returned, values",
    r"said": "truncation_notes, preprocessing_description, message",
    r"tells_": "predicts_covariance",
    r"^variances$": "covariance_grid",
    r"^_?held$": "_pipeline",
    r"colour": "color",
    r"mean_gr[ae]y|^gr[ae]ys?$|gr[ae]ys?_": "mean_luma",
    r"^Encoded$": "LatentDataset",
    r"^Keeper$": "CheckpointStore",
}
# (file, pattern) -> why the words may stay there; a file alone excuses every pattern
EXCEPTIONS: dict[tuple[str, str] | str, str] = {
    "tests/test_words.py": "it holds the list",
}


def files() -> Iterator[Path]:
    for name in FILES:
        yield ROOT / name
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in SUFFIXES and "__pycache__" not in file.parts and file.is_file():
                yield file


def texts(file: Path) -> Iterator[tuple[int, str, str]]:
    """(line, kind, text) of a file; kind is "prose" or "name". In Python, names, comments and strings apart from code."""
    content = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        for number, line in enumerate(content.split("\n"), 1):
            yield number, "prose", line
        return
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "NAME":
            yield token.start[0], "name", token.string
        elif kind in ("STRING", "COMMENT") or kind.startswith("FSTRING"):
            for offset, line in enumerate(token.string.split("\n")):
                yield token.start[0] + offset, "prose", line


def findings(chosen: Iterator[Path] | list[Path]) -> list[str]:
    found = []
    for file in chosen:
        where = file.relative_to(ROOT).as_posix()
        if where in EXCEPTIONS:
            continue
        for line, kind, text in texts(file):
            for pattern, instead in (PROSE if kind == "prose" else NAMES).items():
                if (where, pattern) in EXCEPTIONS:
                    continue
                match = re.search(pattern, text.lower() if kind == "prose" else text)
                if match:
                    found.append(f"{where}:{line}: {match[0]!r}; use: {instead}")
    return found


def test_plain_words():
    found = findings(files())
    assert not found, f"{len(found)} words that this project replaced:\n" + "\n".join(found[:40])


def test_every_exception_is_still_needed():
    for key in EXCEPTIONS:
        where = key if isinstance(key, str) else key[0]
        assert (ROOT / where).is_file(), f"{where} is gone"
        if isinstance(key, tuple):
            rules = PROSE | NAMES
            assert key[1] in rules, f"{key[1]} is not a pattern"
            assert any(
                re.search(key[1], text.lower() if kind == "prose" else text) for _, kind, text in texts(ROOT / where)
            ), f"{key} excuses nothing"


if __name__ == "__main__":
    arguments = [Path(argument).resolve() for argument in sys.argv[1:]]
    chosen = [f for f in files() if not arguments or any(f == a or a in f.parents for a in arguments)]
    lines = findings(chosen)
    print("\n".join(lines) or "no findings")
    sys.exit(bool(lines))
