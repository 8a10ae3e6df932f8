"""The tokenizer (a small byte-level BPE in CLIP's format) and the text encoder (a small CLIPTextModel)."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LENGTH = 24  # tokens per caption, with start and end
WIDTH = 128
VOCABULARY = 2048


def train_tokenizer(captions: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Fit the BPE merges to the captions and save it with ``vocab.json`` and ``merges.txt``, CLIP's own layout."""
    # Letters and digits are also words, so that any word that a user types can be tokenized.
    alphabet = [character for character in "abcdefghijklmnopqrstuvwxyz0123456789" for _ in range(4)]
    tokenizer = CLIPTokenizer().train_new_from_iterator([*captions, *alphabet], vocab_size=VOCABULARY)
    tokenizer.model_max_length = LENGTH
    tokenizer.save_pretrained(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CLIPTokenizer.from_pretrained(folder)


def tokenizer(folder: Path, captions: Iterable[str]) -> CLIPTokenizer:
    """Return the tokenizer of this folder; if there is none, fit one to the captions and save it."""
    if folder.exists():
        return CLIPTokenizer.from_pretrained(folder)
    return train_tokenizer(sorted(set(captions)), folder)


def ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Return token ids int64 [B, LENGTH], padded and truncated as in StableDiffusionPipeline."""
    return tokenizer(captions, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids


def encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained text encoder."""
    torch.manual_seed(1)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            projection_dim=WIDTH,
        )
    )
