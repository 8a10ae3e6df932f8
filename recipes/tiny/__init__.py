"""Make everything under ``singdiffusion/tiny``: ``python -m recipes.tiny all``, or ``make tiny``."""
