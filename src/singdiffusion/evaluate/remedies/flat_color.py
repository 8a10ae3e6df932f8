"""Starting from a flat colour: what a user does who has no module and knows how bright the picture shall be."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from ...plugin import SingDiffusion
from ...plugin.color import parse_color
from .plugged import plugged, refusal

GREY = "#808080"


class FlatColour:
    """alpha times the latent of one flat colour, whatever the prompt, plus sigma noise (``SingDiffusion.enable(color=...)``).

    The colour is the user's, one for all prompts: right for a prompt that means it and wrong for others, as a table shows that
    has both. Mid grey is where nothing is known of the picture.

    Args:
        colour: "#rrggbb" or a CSS colour name.

    Raises:
        SingDiffusionError: it is no colour.
    """

    needs = "a colour for each prompt"

    def __init__(self, colour: str = GREY):
        self.colour = "#{:02x}{:02x}{:02x}".format(*parse_color(colour))
        self.sing = SingDiffusion()

    @property
    def name(self) -> str:
        return f"flat-{self.colour[1:]}"

    @property
    def title(self) -> str:
        return f"flat {self.colour} start"

    def unfit(self, pipe: Any) -> str | None:
        return refusal(pipe, self.applied(pipe))

    def settings(self, pipe: Any) -> dict[str, Any]:
        return {"remedy": "flat", "colour": self.colour}

    def applied(self, pipe: Any) -> AbstractContextManager[dict[str, Any]]:
        return plugged(self.sing, pipe, color=self.colour)

    def networks(self) -> list[Any]:
        return []
