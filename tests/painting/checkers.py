"""A real, small safety checker, set to withhold what a test wants."""

from typing import Any

import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import CLIPConfig

from singdiffusion.compat import clip_image_processor, embeddings_of

SIDE = 32


def add_checker(pipe: Any, withheld: Any = None, passes: Any = None) -> None:
    """Give a Stable Diffusion pipeline a safety checker that withholds one picture and passes another; without these it withholds all.

    Its network has random weights. Its one concept is the embedding of ``withheld``, and the threshold is half way to that of ``passes``.
    """
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = small | {"image_size": SIDE, "patch_size": 8, "projection_dim": 8, "initializer_factor": 5.0}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=small, vision_config=vision, projection_dim=8)).eval()
    checker.concept_embeds_weights.data.fill_(2)  # a cosine is never above it
    checker.special_care_embeds_weights.data.fill_(2)
    size = {"height": SIDE, "width": SIDE}
    extractor = clip_image_processor()(size={"shortest_edge": SIDE}, crop_size=size)
    if withheld is None:
        checker.concept_embeds_weights.data[0] = -2  # and never below this
    else:
        ours, others = (_embedding(checker, extractor, image) for image in (withheld, passes))
        cosine = float(torch.cosine_similarity(ours, others, dim=0))
        assert cosine < 0.99, "the two pictures look alike to the checker"
        checker.concept_embeds.data[0] = ours
        checker.concept_embeds_weights.data[0] = (1 + cosine) / 2
    pipe.register_modules(safety_checker=checker, feature_extractor=extractor)
    pipe.register_to_config(requires_safety_checker=True)


@torch.no_grad()
def _embedding(checker: Any, extractor: Any, image: Any) -> torch.Tensor:
    pixels = extractor(image, return_tensors="pt").pixel_values
    return checker.visual_projection(embeddings_of(checker.vision_model(pixels)[1]))[0]
