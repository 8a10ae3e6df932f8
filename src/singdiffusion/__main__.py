"""Run the command line: ``python -m singdiffusion``."""

from .cli import main

main()
