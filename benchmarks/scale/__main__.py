"""The cost model behind docs/scale.md.

python -m benchmarks.scale              # count, and print the tables of what is counted
python -m benchmarks.scale --write      # count, and write docs/scale.md with the stored measurements

OMP_NUM_THREADS=1 python -m benchmarks.scale --measure     # measure first, and store: two minutes and 16 GB of memory
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from singdiffusion.files import write_whole
from singdiffusion.reading import read_json

from .counts import ASSUMED, counted, published_share
from .page import page
from .tables import counted_tables

MEASURED = Path(__file__).parent / "measured.json"
PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure again, and store the figures in measured.json")
    parser.add_argument("--busy", action="store_true", help="with --measure: another process runs at the same time")
    parser.add_argument("--write", action="store_true", help="write docs/scale.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    flops = counted()
    if options.measure:
        from .measure import measured

        write_whole(MEASURED, json.dumps(measured(flops, options.busy), indent=1) + "\n")
    figures: dict[str, Any] = {"flops": flops, "published_share": published_share(flops), "assumed": vars(ASSUMED)}
    figures |= read_json(MEASURED)
    print("\n\n".join(counted_tables(flops).values()))
    if options.json:
        write_whole(options.json, json.dumps(figures, indent=2) + "\n")
    if options.write:
        print(f"\n{write_whole(PAGE, page(figures))}")


if __name__ == "__main__":
    main()
