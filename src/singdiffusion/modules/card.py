"""The model card of a module, ``README.md`` in the hub's format, written from its configuration."""

from __future__ import annotations

from typing import Any

from .config import SingConfig
from .text import PromptEncoder

MARK = "<!-- written by singdiffusion; without this line it keeps the text as it is -->"
_USE = """```python
from singdiffusion import SingDiffusion

sing = SingDiffusion.from_pretrained("this folder, or its name on the hub").enable(pipe)
```"""


def text(config: SingConfig, network: Any, encoder: PromptEncoder | None) -> str:
    """Return the model card of a module.

    Args:
        config: of the module; ``config.origin`` gives base, data and figures where they are known.
        network: of the module.
        encoder: its own text encoders.
    """
    from huggingface_hub import ModelCardData

    base = config.origin.base
    head = ModelCardData(
        library_name="singdiffusion",
        pipeline_tag="text-to-image",
        tags=["singdiffusion", "stable-diffusion", "noise-schedule"],
        base_model=base if base.count("/") == 1 else None,  # the hub accepts only names of repositories
    )
    parts = [
        f"---\n{head.to_yaml()}\n---",
        f"# {config.name or 'A SingDiffusion module'}",
        "A network that predicts the average picture of a prompt. [singdiffusion](https://arxiv.org/abs/2403.08381) starts sampling from it, so "
        "that a diffusion model can paint dark and bright pictures. The model itself stays as it is.",
        _USE,
        "## What it fits",
        _rows(_fit(config, encoder)),
        "## How it was made",
        _rows(_origin(config, network)),
    ]
    if config.origin.figures:
        parts += ["## Figures on held-out pictures", _rows({k: f"{v:.4g}" for k, v in config.origin.figures.items()})]
    return "\n\n".join([*parts, MARK]) + "\n"


def _fit(config: SingConfig, encoder: PromptEncoder | None) -> dict[str, Any]:
    own = f"its own, {len(encoder.text_encoders)}" if encoder else "the pipeline's, which must be that of the training"
    shift = f", shift {config.vae_shift_factor:g}" if config.vae_shift_factor else ""
    return {
        "latents": f"{config.latent_channels} channels, VAE scaling factor {config.vae_scaling_factor:g}{shift}",
        "text encoder": f"{own}; embeddings of width {config.text_width}",
        "size of the latents in training": f"{config.sample_size} x {config.sample_size}" if config.sample_size else "",
    }


def _origin(config: SingConfig, network: Any) -> dict[str, Any]:
    guidance = "the pipeline's" if config.guidance_scale is None else f"{config.guidance_scale:g}"
    count = sum(parameter.numel() for parameter in network.parameters())
    return {
        "base": config.origin.base,
        "made from": config.origin.source,
        "data": config.origin.data,
        "network": f"{type(network).__name__}, {count / 1e6:.2f} M parameters",
        "output": config.prediction,
        "guidance of the first step": guidance + (", normalised" if config.normalise_guidance else ""),
    }


def _rows(cells: dict[str, Any]) -> str:
    """Return a Markdown table of two columns; empty cells are left out."""
    rows = [f"| {name} | {_plain(value)} |" for name, value in cells.items() if value]
    return "\n".join(["| | |", "|---|---|", *rows])


def _plain(value: Any) -> str:
    """Return a text that stays in its table cell."""
    return " ".join(str(value).split()).replace("|", "\\|")
