"""Starting from a flat colour: for users without a module who choose how bright the picture shall be."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from ...plugin import SingDiffusion
from ...plugin.color import parse_color
from .plugged import Plugged, plugged

MID_GREY = "#808080"


class FlatColor(Plugged):
    """alpha times the latent of one flat colour, for any prompt, plus sigma noise (``SingDiffusion.enable(color=...)``).

    One colour serves all prompts: it is right for prompts that mean it and wrong for others, so a table needs both kinds. Mid grey is the
    choice without knowledge of the picture.

    Args:
        color: "#rrggbb" or a CSS colour name.

    Raises:
        SingDiffusionError: it is not a colour.
    """

    needs = "a colour for each prompt"

    def __init__(self, color: str = MID_GREY):
        self.color = "#{:02x}{:02x}{:02x}".format(*parse_color(color))
        self.sing = SingDiffusion()

    @property
    def name(self) -> str:
        return f"flat-{self.color[1:]}"

    @property
    def title(self) -> str:
        return f"flat {self.color} start"

    def settings(self, pipe: Any) -> dict[str, Any]:
        return {"remedy": "flat", "color": self.color}

    def applied(self, pipe: Any) -> AbstractContextManager[dict[str, Any]]:
        return plugged(self.sing, pipe, color=self.color)
