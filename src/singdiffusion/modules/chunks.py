"""Prompt embeddings of other lengths than those of the training: long prompts in several chunks, rows of zeros, missing rows.

Tools for long prompts encode a prompt in pieces of the text encoder's length and put their embeddings one after the other. A network
was trained on one such piece, so it reads the chunks one by one. Their predictions are averaged with weights: the distance of a chunk's
prediction from that of the empty prompt. So a chunk that names nothing, such as the empty one that fills up a short prompt beside a
long negative prompt, has no weight (measured by benchmarks/chunks.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Chunks:
    """Embeddings of B prompts, each in n chunks of the text encoder's length.

    Attributes:
        rows: shape (B, n, length, D).
        present: whether a chunk has any row that is not zero; bool, shape (B, n).
        fits: whether all rows belong to whole chunks.
    """

    rows: Tensor
    present: Tensor
    fits: bool


def is_one_chunk(embeddings: Tensor, length: int) -> bool:
    """Return whether embeddings (B, L, D) are what the text encoder computes: L is its length, and no row is zero."""
    return embeddings.shape[1] == length and not bool((embeddings == 0).all(-1).any())


def fill_zeros(embeddings: Tensor, empty: Tensor | None) -> Tensor:
    """Return embeddings (B, L, D) with those of the empty prompt (1, L, D) for prompts that are zeros throughout.

    SDXL's pipelines pass zeros for an empty negative prompt (``force_zeros_for_empty_prompt``). Unchanged where the empty prompt's are
    not known, or have another number of rows.
    """
    if empty is None or empty.shape[1] != embeddings.shape[1]:
        return embeddings
    zeros = (embeddings == 0).all(-1).all(-1)
    return torch.where(zeros[:, None, None], empty.to(embeddings), embeddings)


def split(embeddings: Tensor, length: int) -> Chunks:
    """Return embeddings (B, L, D) in chunks of ``length`` rows.

    Rows that are zero or missing repeat the row before them: padding follows the end of a prompt, and in a causal text encoder it is
    computed from the same prompt.
    """
    batch, count, _ = embeddings.shape
    real = ~(embeddings == 0).all(-1)
    last = torch.arange(count, device=real.device).expand(batch, -1).masked_fill(~real, 0).cummax(1).values
    filled = embeddings.gather(1, last[..., None].expand_as(embeddings))
    missing = -count % length
    filled = torch.cat([filled, filled[:, -1:].expand(-1, missing, -1)], 1)
    real = F.pad(real, (0, missing)).unflatten(1, (-1, length))
    present = real.any(-1)
    return Chunks(filled.unflatten(1, (-1, length)), present, missing == 0 and bool((real.all(-1) == present).all()))


def weights_of(predictions: Tensor, present: Tensor, empty: Tensor | None) -> Tensor:
    """Return the weights of a prompt's chunks, which sum to 1.

    Args:
        predictions: of each chunk, shape (B, n, C, H, W).
        present: as in ``Chunks``; every prompt has at least one.
        empty: prediction of the empty prompt, shape (B, C, H, W); None: not known, and chunks count alike.

    Returns:
        Shape (B, n). Chunks that all predict what the empty prompt does count alike.
    """
    alike = present.float()
    if empty is None:
        return alike / alike.sum(1, keepdim=True)
    distances = (predictions - empty[:, None]).flatten(2).float().norm(dim=2) * alike
    known = distances.sum(1, keepdim=True) > 0
    found = torch.where(known, distances, alike)
    return found / found.sum(1, keepdim=True)
