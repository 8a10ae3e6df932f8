"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import diffusers
import transformers

import benchmarks.gpu
from singdiffusion.errors import SingDiffusionError
from singdiffusion.files import write_whole
from singdiffusion.reading import read_json

from .bench import Bench, Rows
from .cost_model import count_flops
from .document import page
from .encoding import encoder_rows, text_rows
from .first_step import first_step_rows, parts_rows, picture_rows
from .training import decoder_rows, format_rows, unet_rows

SECTIONS: dict[str, Callable[[Bench], Rows]] = {
    "first_step": first_step_rows,
    "parts": parts_rows,
    "text": text_rows,
    "decoder": decoder_rows,
    "unet": unet_rows,
    "format": format_rows,
    "encoder": encoder_rows,
    "picture": picture_rows,
}


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=benchmarks.gpu.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, default=Path("build/gpu.json"), help="file of the figures")
    parser.add_argument("--small", action="store_true", help="tiny networks on the CPU, which test this code only")
    parser.add_argument("--seconds", type=float, default=600, help="no row starts later than this (default 600)")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME",
                        help=", ".join(SECTIONS) + " (default: all)")  # fmt: skip
    parser.add_argument("--add", metavar="NOTE",
                        help="keep the JSON file's other sections; the page prints NOTE: which figures are from which run")  # fmt: skip
    parser.add_argument("--write", type=Path, metavar="JSON", help="measure nothing; write the page from this file")
    parser.add_argument("--out", type=Path, default=Path("build/gpu.md"), help="the page (default build/gpu.md)")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> None:
    """Measure the sections asked for, and count the FLOPs of the same work."""
    warnings.simplefilter("ignore")
    diffusers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options.json, Path(scratch), options.small, options.seconds, options.add)
        for name in options.sections:
            bench.run(name, SECTIONS[name](bench))
        bench.figures["flops"] = count_flops()
        bench.save()


def main() -> int:
    """Measure, or write the page."""
    options = arguments()
    try:
        if options.write:
            print(write_whole(options.out, page(read_json(options.write))))
        else:
            measure(options)
    except SingDiffusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
