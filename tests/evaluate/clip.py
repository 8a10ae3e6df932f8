"""A real, small CLIP model with random weights and the embedded models' tokenizer, in transformers' layout."""

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from singdiffusion import tiny
from singdiffusion.compat import clip_image_processor, hub_vocabulary

SIDE, WIDTH = 32, 8


def save_clip(folder, seed=0, **images):
    tokenizer = CLIPTokenizer.from_pretrained(tiny.folder() / "tokenizer")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
    marks = {f"{which}_token_id": getattr(tokenizer, f"{which}_token_id") for which in ("bos", "eos", "pad")}
    config = CLIPConfig(
        text_config=small | words | marks,
        vision_config=small | {"image_size": SIDE, "patch_size": 8},
        projection_dim=WIDTH,
    )
    torch.manual_seed(seed)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    hub_vocabulary(folder)
    size = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    clip_image_processor()(**(size | images)).save_pretrained(folder)
    return folder
