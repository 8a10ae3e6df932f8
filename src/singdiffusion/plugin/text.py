"""Text encoders: is the base's the one that the module was trained with, and, where it is not, encoding with our own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FINGERPRINT = 32  # numbers kept
TOLERANCE = 0.03  # relative: bfloat16 moves a fingerprint by less than 1 %, another encoder by about 100 %


@torch.no_grad()
def fingerprint(text_encoder: Any) -> tuple[float, ...]:
    """What an encoder says to a fixed row of tokens: the first numbers of the last token's hidden state.

    It tells encoders apart by what they do, whatever their dtype or the files they came from; a LoRA or a fine-tune
    shows as soon as it matters.
    """
    config = text_encoder.config
    length = min(16, getattr(config, "max_position_embeddings", 16))  # T5 has no such limit
    ids = torch.arange(1, length + 1).mul(37).remainder(config.vocab_size - 2)
    device = next(text_encoder.parameters()).device
    if device.type == "meta":  # offloaded: hooks bring weights and tokens together, wherever that is
        device = torch.device("cpu")
    hidden = text_encoder(ids[None].to(device)).last_hidden_state[0, -1, :FINGERPRINT]
    return tuple(round(float(value), 5) for value in hidden.float())


def same_encoders(text_encoders: list[Any], expected: tuple[float, ...] | None) -> bool:
    """Whether a pipeline's encoders (SDXL has two) have the expected fingerprints, one after the other, within ``TOLERANCE``.

    True where none is expected, and where the pipeline has no encoder to ask: its embeddings come from elsewhere.
    """
    if expected is None or not text_encoders:
        return True
    return same_fingerprint([value for encoder in text_encoders for value in fingerprint(encoder)], expected)


def same_fingerprint(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether two fingerprints are equal within ``TOLERANCE``, which is what other machines and dtypes move them by."""
    a, b = torch.tensor(ours), torch.tensor(theirs)
    return a.shape == b.shape and bool((a - b).norm() <= TOLERANCE * b.norm())


@torch.no_grad()
def encode(prompts: list[str], tokenizer: Any, text_encoder: Any, device: torch.device) -> Tensor:
    """Prompts to embeddings (B, L, D), padded and cut to the tokenizer's length as StableDiffusionPipeline does."""
    length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
    tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return text_encoder(tokens.input_ids.to(device))[0]
