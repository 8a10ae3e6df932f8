"""Text encoders: a comparison of the base's with the module's, and prompts as embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import SingDiffusionError

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

    Raises:
        SingDiffusionError: one is not finite.
    """
    config = text_encoder.config
    length = min(16, getattr(config, "max_position_embeddings", 16))  # T5 has no such limit
    ids = torch.arange(1, length + 1).mul(37).remainder(config.vocab_size - 2)
    device = next(text_encoder.parameters()).device
    if device.type == "meta":  # offloaded: its hook moves weights and tokens to one device
        device = torch.device("cpu")
    hidden = text_encoder(ids[None].to(device)).last_hidden_state[0, -1, :FINGERPRINT]
    found = tuple(round(float(value), 5) for value in hidden.float())
    if not all(map(math.isfinite, found)):
        raise SingDiffusionError(
            "a text encoder computes NaN or infinite values: its weights are wrong, or too large for its dtype"
        )
    return found


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
def hidden_states(ids: Sequence[Tensor], tokenizers: Sequence[Any], text_encoders: Sequence[Any]) -> Tensor:
    """Return the embeddings of token ids, as diffusers' pipelines make them.

    One encoder contributes its last hidden states (Stable Diffusion 1 and 2, T5), two their next-to-last ones side by side (SDXL).

    Args:
        ids: token ids (B, L), one tensor per encoder, on its device.
        tokenizers: one per encoder; T5's padding is masked.
        text_encoders: one or two transformers models.

    Returns:
        Shape (B, L, D), in the encoders' dtype; D is the sum of their widths.
    """
    several, found = len(text_encoders) > 1, []
    for row, tokenizer, encoder in zip(ids, tokenizers, text_encoders, strict=True):
        given: dict[str, Any] = {"input_ids": row}
        if "T5" in type(encoder).__name__:
            given["attention_mask"] = (row != tokenizer.pad_token_id).long()
        output = encoder(**given, output_hidden_states=several)
        found.append(output.hidden_states[-2] if several else output.last_hidden_state)
    return torch.cat(found, -1)


class PromptEncoder:
    """The tokenizers and text encoders of a module: one as in Stable Diffusion, or two as in SDXL.

    Args:
        tokenizers: one per encoder.
        text_encoders: frozen transformers models on one device (``hidden_states`` defines what is used of them).

    Raises:
        SingDiffusionError: there is no encoder, or the numbers of tokenizers and encoders differ.
    """

    def __init__(self, tokenizers: Sequence[Any], text_encoders: Sequence[Any]):
        if not text_encoders or len(tokenizers) != len(text_encoders):
            raise SingDiffusionError(
                f"every text encoder needs its tokenizer: there are {len(text_encoders)} and {len(tokenizers)}"
            )
        self.tokenizers, self.text_encoders = list(tokenizers), list(text_encoders)

    @property
    def width(self) -> int:
        """D, the width of the embeddings."""
        return sum(encoder.config.hidden_size for encoder in self.text_encoders)

    @property
    def length(self) -> int | None:
        """Rows of the embeddings of a prompt; None where the encoders have no fixed length (T5)."""
        pairs = zip(self.tokenizers, self.text_encoders, strict=True)
        lengths = {_length(*pair) for pair in pairs if hasattr(pair[1].config, "max_position_embeddings")}
        return lengths.pop() if len(lengths) == 1 else None

    @property
    def device(self) -> torch.device:
        """Device of the encoders."""
        return next(self.text_encoders[0].parameters()).device

    def fingerprint(self) -> tuple[float, ...]:
        """Return the fingerprints of the encoders, one after the other."""
        return tuple(value for encoder in self.text_encoders for value in fingerprint(encoder))

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> PromptEncoder:
        """Move or cast the encoders, and return this object."""
        for encoder in self.text_encoders:
            encoder.to(device=device, dtype=dtype)
        return self

    def encode(self, prompts: list[str]) -> Tensor:
        """Return embeddings (B, L, D) of prompts, padded and cut to the tokenizers' length as diffusers' pipelines do."""
        ids = [self._ids(prompts, *pair) for pair in zip(self.tokenizers, self.text_encoders, strict=True)]
        return hidden_states(ids, self.tokenizers, self.text_encoders)

    def _ids(self, prompts: list[str], tokenizer: Any, encoder: Any) -> Tensor:
        length = _length(tokenizer, encoder)
        tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return tokens.input_ids.to(self.device)


def _length(tokenizer: Any, encoder: Any) -> int:
    return min(tokenizer.model_max_length, encoder.config.max_position_embeddings)


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
