"""Networks that estimate E[x_0 | prompt]. All follow one protocol: ``predict(x_1, prompt_embeds) -> y_bar``."""

from .decoder import MeanDecoder
from .unet import TimeFreeUNet

__all__ = ["MeanDecoder", "TimeFreeUNet"]
