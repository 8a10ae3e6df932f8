"""Try wrong inputs for a while: ``make fuzz MINUTES=20``. Prints how many there were and what came of them; ends with 1 after a fault."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from .search import search


def main() -> int:
    """Search in two processes and print the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=Path, default=Path("build/faults.txt"))
    given = parser.parse_args()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(search, [given.minutes] * 2, [given.seed, given.seed + 1]))
    total, faults = 0, []
    for name in parts[0][0]:
        both = [found[name] for found, _ in parts if name in found]
        outcomes = sum((each.outcomes for each in both), both[0].outcomes.__class__())
        faults += [fault for each in both for fault in each.faults]
        total += sum(outcomes.values())
        words = ", ".join(f"{count} {what}" for what, count in outcomes.most_common())
        print(
            f"{name:40} {sum(outcomes.values()):7}: {words}; the slowest took {max(each.slowest for each in both):.1f} s"
        )
    memory = max(most for _, most in parts)
    print(
        f"{total} inputs, {len(faults)} faults (a traceback, a hang over 60 s, something half-written), {memory:.1f} GiB at most"
    )
    if faults:
        given.faults.parent.mkdir(parents=True, exist_ok=True)
        given.faults.write_text("\n\n".join(faults), encoding="utf-8", errors="backslashreplace")
        print(f"the faults are in {given.faults}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
