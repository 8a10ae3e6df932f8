"""The module that fits a pipeline."""

from __future__ import annotations

import sys
from typing import Any

import torch

from ..errors import SingDiffusionError, visible
from ..published.choose import Choice, Needs, choose
from ..published.load import HALF
from .fits import latents_of, text_encoders, text_width
from .pipelines import spec_of, untouched


def choose_for(pipe: Any, torch_dtype: torch.dtype | None = None, **hub: Any) -> Choice | None:
    """Return the module that fits a pipeline; None for a pipeline that stays as it is.

    Args:
        pipe: the pipeline.
        torch_dtype: in which the module will be used; in half precision the hub's fp16 files are preferred.
        hub: ``cache_dir``, ``local_files_only`` and ``token``, as for ``published.load_module``.

    Raises:
        SingDiffusionError: the pipeline's class is unknown, no module fits, or the one that fits cannot be had.
    """
    if untouched(pipe) is not None:
        return None
    spec = spec_of(pipe)
    latents = latents_of(pipe, spec)
    if latents is None:
        raise SingDiffusionError(
            "the pipeline has no VAE, by which its latent space is known; name a module", setting="module"
        )
    width = text_width(pipe, spec) if spec.embeddings is not None else 0
    return choose(Needs(latents, width, text_encoders(pipe)), half=torch_dtype in HALF, **hub)


def module_dtype(pipe: Any) -> torch.dtype:
    """Return the precision of a module for a pipeline: the pipeline's own, or float32 where that is none for computing."""
    return pipe.dtype if pipe.dtype in (torch.float16, torch.bfloat16, torch.float32) else torch.float32


def print_line(line: str) -> None:
    """Print a line on stderr."""
    print(visible(line), file=sys.stderr)
