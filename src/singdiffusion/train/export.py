"""The module of a run: its network with the latent space and the text that it was trained for."""

from __future__ import annotations

from typing import Any

from ..data.shards import LatentDataset
from ..modules import SingConfig, SingModule
from ..modules.text import same_encoders
from .config import Config

KEPT = ("guidance_scale", "normalise_guidance")  # settings of a module that stay when it is fine-tuned


def make_module(
    network: Any, config: Config, data: LatentDataset, base_text: tuple[Any, Any], fine_tuned: SingModule | None
) -> SingModule:
    """Return a trained network as a module.

    Args:
        network: with the weights to export.
        base_text: the base's tokenizer and text encoder.
        fine_tuned: the module that the network was fine-tuned from.
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
        sample_size=data.manifest["options"]["size"] // base["vae_scale"],
        prediction="sample" if config.loss == "moments" else config.loss,
        alpha=config.alpha,
        **kept,
    )
    text = _text(config, data, base_text, fine_tuned)
    return SingModule(network.eval().requires_grad_(False), described, *text)


def _text(
    config: Config, data: LatentDataset, base_text: tuple[Any, Any], fine_tuned: SingModule | None
) -> tuple[Any, Any]:
    """Return the tokenizer and text encoder that the module brings, or (None, None).

    A fine-tuned module keeps its own as long as it is the one that the shards were encoded for; otherwise it gets the base's.
    """
    own = (None, None) if fine_tuned is None else (fine_tuned.tokenizer, fine_tuned.text_encoder)
    brings = own[1] is not None
    if brings and same_encoders([own[1]], tuple(data.manifest["base"]["text_fingerprint"])):
        return own
    return base_text if brings or config.bring_text else (None, None)
