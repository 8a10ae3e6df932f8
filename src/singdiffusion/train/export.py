"""The module of a run: its network with the latent space and the text that it was trained for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.shards import LatentDataset
from ..files import bare_name
from ..modules import SingConfig, SingModule
from ..modules.config import Origin
from ..modules.text import PromptEncoder, same_encoders
from .config import Config

KEPT = ("guidance_scale", "normalise_guidance")  # settings of a module that stay when it is fine-tuned


def make_module(
    network: Any,
    config: Config,
    data: LatentDataset,
    base_text: PromptEncoder,
    fine_tuned: SingModule | None,
    figures: Mapping[str, float],
) -> SingModule:
    """Return a trained network as a module.

    Args:
        network: with the weights to export.
        base_text: the base's tokenizers and text encoders.
        fine_tuned: the module that the network was fine-tuned from.
        figures: of the last validation, for the model card.
    """
    base = data.manifest["base"]
    kept = {} if fine_tuned is None else {name: getattr(fine_tuned.config, name) for name in KEPT}
    described = SingConfig(
        name=config.name,
        latent_channels=base["latent_channels"],
        vae_scaling_factor=base["vae_scaling_factor"],
        vae_shift_factor=base["vae_shift_factor"],
        text_width=base["text_width"],
        text_fingerprint=tuple(base["text_fingerprint"]),
        text_length=base_text.length,
        sample_size=data.manifest["options"]["size"] // base["vae_scale"],
        prediction="sample" if config.loss == "moments" else config.loss,
        alpha=config.alpha,
        origin=_origin(config, data, fine_tuned, figures),
        **kept,
    )
    text = _text(config, data, base_text, fine_tuned)
    return SingModule(network.eval().requires_grad_(False), described, text)


def _origin(config: Config, data: LatentDataset, fine_tuned: SingModule | None, figures: Mapping[str, float]) -> Origin:
    before = "" if fine_tuned is None else f", after the training of {fine_tuned.config.name or 'another module'}"
    return Origin(
        base=bare_name(data.manifest["base"]["name"]),
        data=f"{len(data):,} captioned pictures, {config.steps:,} steps of {config.batch}{before}",
        figures={name: float(value) for name, value in figures.items()},
    )


def _text(
    config: Config, data: LatentDataset, base_text: PromptEncoder, fine_tuned: SingModule | None
) -> PromptEncoder | None:
    """Return the tokenizers and text encoders that the module brings, or None.

    A fine-tuned module keeps its own as long as they are those that the shards were encoded for; otherwise it gets the base's.
    """
    own = None if fine_tuned is None else fine_tuned.text
    if own is not None and same_encoders(own.text_encoders, tuple(data.manifest["base"]["text_fingerprint"])):
        return own
    return base_text if own is not None or config.bring_text else None
