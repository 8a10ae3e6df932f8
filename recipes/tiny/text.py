"""The tokenizer (a small byte-level BPE in CLIP's format) and the text encoder (a small CLIPTextModel)."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LENGTH = 24  # tokens a caption, start and end among them
WIDTH = 128
VOCABULARY = 2048


def train_tokenizer(captions: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Fit the BPE merges to the captions and save it with ``vocab.json`` and ``merges.txt``, CLIP's own layout."""
    # Every letter and digit also as a word of its own, so that any word a user types can be spelt.
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
    """The tokenizer of this folder, fitted to the captions if there is none."""
    if folder.exists():
        return CLIPTokenizer.from_pretrained(folder)
    return train_tokenizer(sorted(set(captions)), folder)


def ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids int64 [B, LENGTH], padded and cut as StableDiffusionPipeline does."""
    return tokenizer(captions, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids


def encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
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
