"""Prompt embeddings from token ids, computed by the base's text encoders, and kept for captions that occur again."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.shards import LatentDataset
from ..errors import SingDiffusionError
from ..memory import require_memory
from ..modules.text import hidden_states, same_encoders
from .batches import caption_counts

BLOCK = 64  # captions that are embedded together when the cache is filled


class TextEmbedder:
    """Token ids -> embeddings (B, L, D), as the base's pipeline makes them (``modules.text.hidden_states``).

    The cache is filled before training, always in the same blocks. So an embedding is the same to the bit, whenever and in whichever
    process it is computed.

    Args:
        tokenizers, encoders: of the base, frozen, on the device.
        dtype: of the embeddings.
    """

    def __init__(self, tokenizers: list[Any], encoders: list[Any], dtype: torch.dtype):
        self.tokenizers, self.encoders, self.dtype = tokenizers, encoders, dtype
        self.device = next(encoders[0].parameters()).device
        self.rows: dict[bytes, int] = {}
        self.kept: Tensor | None = None

    def empty(self, lengths: list[int]) -> list[Tensor]:
        """Return token ids int64 (L,) of "", one tensor per tokenizer."""
        return [
            tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids[0]
            for tokenizer, length in zip(self.tokenizers, lengths, strict=True)
        ]

    @torch.no_grad()
    def encode(self, ids: list[Tensor]) -> Tensor:
        """Compute embeddings of token ids (B, L), one tensor per encoder."""
        there = [row.to(self.device) for row in ids]
        return hidden_states(there, self.tokenizers, self.encoders).to(self.dtype)

    def fill(self, captions: list[bytes], lengths: list[int]) -> None:
        """Compute and keep the embeddings of captions.

        Args:
            captions: each the bytes of its int32 token ids, those of all tokenizers side by side.
            lengths: number of token ids of each tokenizer.
        """
        parts = []
        for start in range(0, len(captions), BLOCK):
            block = np.stack([np.frombuffer(caption, np.int32) for caption in captions[start : start + BLOCK]])
            ids = torch.from_numpy(block.astype(np.int64)).split(lengths, 1)
            parts.append(self.encode(list(ids)).cpu())
        self.rows = {caption: i for i, caption in enumerate(captions)}
        self.kept = torch.cat(parts)

    def __call__(self, ids: list[Tensor]) -> Tensor:
        """Return embeddings of token ids (B, L), one tensor per encoder, on the encoders' device; from the cache if it is filled."""
        if self.kept is None:
            distinct, back = torch.unique(torch.cat(ids, 1), dim=0, return_inverse=True)
            return self.encode(list(distinct.split([row.shape[1] for row in ids], 1)))[back.to(self.device)]
        found = [self.rows[row.tobytes()] for row in torch.cat(ids, 1).int().numpy()]
        return self.kept[found].to(self.device, non_blocking=True)


def embedder_for(
    data: LatentDataset, tokenizers: list[Any], encoders: list[Any], dtype: torch.dtype, cache_mib: int
) -> tuple[TextEmbedder, str]:
    """Return the embedder of a data set, its cache filled if the embeddings fit, and a line on how much the cache saves.

    Raises:
        SingDiffusionError: the shards were not encoded with these text encoders.
    """
    identity = data.manifest["base"]
    lengths = identity["tokens"]
    if len(lengths) != len(encoders) or not same_encoders(encoders, tuple(identity["text_fingerprint"])):
        raise SingDiffusionError(
            f"the shards in {data.folder} were encoded for the text encoder of {identity['name']}, and data.base has another",
            setting="data.base",
        )
    embedder = TextEmbedder(tokenizers, encoders, dtype)
    each = sum(lengths) * identity["text_width"] // len(lengths) * dtype.itemsize
    counts = caption_counts(data, (cache_mib << 20) // each)
    if counts is None:
        return embedder, f"more distinct captions than fit into {cache_mib} MiB: embeddings are computed at every step"
    empty = torch.cat(embedder.empty(lengths)).int().numpy().tobytes()
    captions = [empty, *(caption for caption in counts if caption != empty)]
    require_memory(len(captions) * each, f"the embeddings of {len(captions):,} captions", "data.text_cache_mib")
    embedder.fill(captions, lengths)
    share = 1 - len(captions) / max(1, len(data))
    return embedder, (
        f"{len(captions):,} distinct captions of {len(data):,} pictures kept, {len(captions) * each / 2**20:.0f} MiB: "
        f"saves {max(0.0, share):.0%} of the text encoding in the first epoch, all of it later"
    )
