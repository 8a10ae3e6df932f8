"""``python -m singdiffusion`` is ``singdiffusion``."""

from .cli import main

main()
