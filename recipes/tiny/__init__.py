"""How everything under ``singdiffusion/tiny`` is made: ``python -m recipes.tiny all`` (or ``make tiny``)."""
