"""Text encoders: a comparison of the base's with the module's, and prompts as embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FINGERPRINT = 32  # numbers of a fingerprint
TOLERANCE = 0.03  # relative: bfloat16 changes a fingerprint by less than 1 %, another encoder by about 100 %


@torch.no_grad()
def fingerprint(text_encoder: Any) -> tuple[float, ...]:
    """Return the first numbers of an encoder's last hidden state for a fixed row of tokens.

    The output identifies an encoder independently of its dtype and file, and a LoRA or fine-tuning of the encoder changes it.

    Args:
        text_encoder: a transformers model with ``last_hidden_state``.

    Returns:
        ``FINGERPRINT`` numbers, rounded to five decimals.
    """
    config = text_encoder.config
    length = min(16, getattr(config, "max_position_embeddings", 16))  # T5 has no such limit
    ids = torch.arange(1, length + 1).mul(37).remainder(config.vocab_size - 2)
    device = next(text_encoder.parameters()).device
    if device.type == "meta":  # offloaded: its hook moves weights and tokens to one device
        device = torch.device("cpu")
    hidden = text_encoder(ids[None].to(device)).last_hidden_state[0, -1, :FINGERPRINT]
    return tuple(round(float(value), 5) for value in hidden.float())


def same_encoders(text_encoders: list[Any], expected: tuple[float, ...] | None) -> bool:
    """Return whether a pipeline's encoders have the expected fingerprint; SDXL's two are concatenated.

    True where none is expected, and where the pipeline has no encoder, because its embeddings come from elsewhere.
    """
    if expected is None or not text_encoders:
        return True
    return same_fingerprint([value for encoder in text_encoders for value in fingerprint(encoder)], expected)


def same_fingerprint(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Return whether two fingerprints are equal within ``TOLERANCE``, which covers other machines and dtypes."""
    a, b = torch.tensor(ours), torch.tensor(theirs)
    return a.shape == b.shape and bool((a - b).norm() <= TOLERANCE * b.norm())


@torch.no_grad()
def encode(prompts: list[str], tokenizer: Any, text_encoder: Any, device: torch.device) -> Tensor:
    """Return embeddings (B, L, D) of prompts, padded and cut to the tokenizer's length as StableDiffusionPipeline does."""
    length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
    tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return text_encoder(tokens.input_ids.to(device))[0]


def prompts_per_picture(
    prompt: str | Sequence[str], negative_prompt: str | Sequence[str] | None, num_images_per_prompt: int
) -> tuple[list[str], list[str]]:
    """Return prompts and negative prompts, one per picture, as diffusers' pipelines pair them."""
    positive = [prompt] if isinstance(prompt, str) else list(prompt)
    if negative_prompt is None or isinstance(negative_prompt, str):
        negative = [negative_prompt or ""] * len(positive)
    else:
        negative = list(negative_prompt)
    repeat = lambda rows: [row for row in rows for _ in range(num_images_per_prompt)]  # noqa: E731
    return repeat(positive), repeat(negative)
