"""Components of modules and models: which of their files are read, and their text encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..errors import SingDiffusionError
from ..modules import layout
from ..modules.text import PromptEncoder
from ..modules.weights import NETWORK, TEXT_ENCODER, Stems, choose_weights, shards
from .places import Part, Place, files_in, joined, read_config


@dataclass(frozen=True)
class Weights:
    """A component with weights: ``config.json``, one file of weights, or an index and its shards.

    Attributes:
        part: its files.
        main: the file of weights, or the index.
    """

    part: Part
    main: str

    @classmethod
    def find(
        cls, place: Place, folder: str, stems: Stems = NETWORK, variant: str | None = None, half: bool = False
    ) -> Weights:
        """Choose the files of a component (``choose_weights``). Of a repository only an index is downloaded.

        Raises:
            SingDiffusionError: there are no weights, or none of this variant.
        """
        part = Part(place, folder, ())
        main = choose_weights(files_in(place, folder), part.where, stems, variant, half)
        others = []
        if main.endswith(".json"):
            index = Part(place, folder, (main,)).fetch() / main
            others = [file.name for file in shards(index)]
            absent = sorted(set(others) - set(files_in(place, folder)))
            if absent:
                raise SingDiffusionError(f"{part.where} lacks {absent[0]:.80}, which {main} names")
        return cls(Part(place, folder, ("config.json", main, *others)), main)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The contents of ``config.json``; of a repository only this file is downloaded."""
        return read_config(self.part.place, self.part.folder)

    def main_file(self) -> Path:
        """Return the file of weights, or the index, on this machine, with all that it needs."""
        return self.part.fetch() / self.main


@dataclass(frozen=True)
class Text:
    """The tokenizers and text encoders of a module or of its base, not loaded yet."""

    encoders: Sequence[Weights]
    tokenizers: Sequence[Part]

    @classmethod
    def find(cls, place: Place, root: str, ends: Sequence[str], variant: str | None, half: bool) -> Text:
        """Choose the files of ``text_encoder*`` and ``tokenizer*`` in a folder of a place.

        Args:
            place: of the module or model.
            root: folder in it.
            ends: what the components' names end in, among ``layout.TEXT_PARTS``.
            variant, half: as for ``choose_weights``; a variant that only other components have is not asked for.
        """
        names = [joined(root, f"text_encoder{end}") for end in ends]
        encoders = [find_encoder(place, name, variant, half) for name in names]
        tokenizers = [tokenizer_in(place, joined(root, f"tokenizer{end}")) for end in ends]
        return cls(encoders, tokenizers)

    @property
    def parts(self) -> list[Part]:
        """All that ``load`` reads."""
        return [*(encoder.part for encoder in self.encoders), *self.tokenizers]

    def width(self) -> int:
        """Return the width of the embeddings, from the configurations alone.

        Raises:
            SingDiffusionError: an encoder is not CLIP's.
        """
        return sum(_width(encoder) for encoder in self.encoders)

    def load(self, torch_dtype: torch.dtype | None) -> PromptEncoder:
        """Load them; ``torch_dtype`` None is float32."""
        tokenizers = [layout.read_tokenizer(part.fetch()) for part in self.tokenizers]
        encoders = []
        for each in self.encoders:
            file = each.main_file()
            encoders.append(layout.read_text_encoder(file.parent, torch_dtype, file))
        return PromptEncoder(tokenizers, encoders)


def find_encoder(place: Place, folder: str, variant: str | None, half: bool) -> Weights:
    """Choose the files of a text encoder; where it lacks the variant that the network has, its other files count."""
    try:
        return Weights.find(place, folder, TEXT_ENCODER, variant, half)
    except SingDiffusionError:
        if variant is None:
            raise
        return Weights.find(place, folder, TEXT_ENCODER, None, half)


def tokenizer_in(place: Place, folder: str) -> Part:
    """Return a tokenizer's files.

    Raises:
        SingDiffusionError: there are none.
    """
    files = tuple(name for name in files_in(place, folder) if Path(name).suffix in (".json", ".txt"))
    if not files:
        raise SingDiffusionError(f"there is no tokenizer in {Part(place, folder, ()).where}")
    return Part(place, folder, files)


def _width(encoder: Weights) -> int:
    config: Mapping[str, Any] = encoder.config
    inner = config.get("text_config")  # of a whole CLIP model
    config = inner if isinstance(inner, dict) and inner else config
    width = config.get("hidden_size", 768 if config.get("model_type") == "clip" else None)
    if not isinstance(width, int):
        raise SingDiffusionError(
            f"{encoder.part.where}/config.json has no hidden_size; modules use CLIP's text encoders"
        )
    return width
