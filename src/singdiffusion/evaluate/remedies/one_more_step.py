"""OneMoreStep: a network that predicts v at t = 1, with guidance of its own.

Its estimate of the picture at t = 1 is -v, and the step with it is ours (``core.singular.as_sample``). So it needs only a published
module. Source: Hu, Zheng, Zheng, Wang, Tao, Cham, "One More Step: A Versatile
Plug-and-Play Module for Rectifying Diffusion Schedule Flaws and Enhancing Low-Frequency Controls", CVPR 2024, arXiv 2311.15744.
"""

from __future__ import annotations

from typing import Any

from ...errors import SingDiffusionError
from .first_step import FirstStep

NAME, TITLE, NEEDS = "one-more-step", "OneMoreStep", "a OneMoreStep module for the latent space"


class OneMoreStep(FirstStep):
    """A OneMoreStep module.

    Args:
        module: its folder or hub id, as published or converted.

    Raises:
        SingDiffusionError: the module is not found, or is not one of OneMoreStep's.
    """

    needs = NEEDS

    def __init__(self, module: str):
        super().__init__(module, "mean")
        config = self.module.config
        if config.prediction != "v_prediction" or config.alpha != 0:
            raise SingDiffusionError(f"{module} is not a OneMoreStep module: it does not predict v at t = 1")

    @property
    def name(self) -> str:
        return NAME

    @property
    def title(self) -> str:
        return TITLE

    def settings(self, pipe: Any) -> dict[str, Any]:
        return super().settings(pipe) | {"remedy": NAME}
