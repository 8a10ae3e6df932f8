"""The embedded Stable Diffusions: 64 x 64 pictures, SD-1.5's flaw at SD-1.5's strength, and the modules that cure them.

Nothing is downloaded. ``recipes/tiny`` in the repository makes every file in this folder again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SingDiffusionError

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

__all__ = [
    "MODELS",
    "Pictures",
    "captions",
    "encoder_folder",
    "folder",
    "hints",
    "load_pipeline",
    "module_folder",
    "pictures",
    "reference",
]

_HERE = Path(__file__).parent

# Model -> the parts that take the place of the base's own (diffusers' name of the part -> its folder here).
_PARTS: dict[str, dict[str, str]] = {
    "tiny": {},
    "tiny-v": {"unet": "v/unet", "scheduler": "v/scheduler"},
    "tiny-community": {"unet": "community/unet", "text_encoder": "community/text_encoder"},
    "tiny-controlnet": {"controlnet": "controlnet"},
}

MODELS = tuple(_PARTS)
"""``tiny``, the base; ``tiny-v``, which predicts v as Stable Diffusion 2 does; ``tiny-community``, tuned to another style, its
text encoder too, as community checkpoints are; ``tiny-controlnet``, the base with a ControlNet for edges."""


MODULES = {"tiny": "decoder", "tiny-decoder": "decoder", "tiny-unet": "unet"}
"""Modules, every one of which serves all models here: ``tiny-decoder``, a ``MeanDecoder`` that tells mean and covariance, which is the
default, ``tiny``; ``tiny-unet``, a ``TimeFreeUNet`` as in the paper."""


def _present(path: Path) -> Path:
    if not path.exists():
        raise SingDiffusionError(f"the embedded model is incomplete: {path} is missing; reinstall singdiffusion")
    return path


def _known(model: str) -> str:
    if model not in MODELS:
        raise SingDiffusionError(f"unknown embedded model {model!r}; known: {', '.join(MODELS)}")
    return model


def folder() -> Path:
    """The base model in diffusers' own layout: ``StableDiffusionPipeline.from_pretrained(folder())`` loads it."""
    return _present(_HERE / "base")


def module_folder(module: str = "tiny") -> Path:
    """An embedded module, one of ``MODULES``, in the layout that ``SingDiffusion.from_pretrained`` reads.

    Raises:
        SingDiffusionError: the name is unknown, or its files are missing.
    """
    if module not in MODULES:
        raise SingDiffusionError(f"unknown embedded module {module!r}; known: {', '.join(MODULES)}")
    return _present(_HERE / MODULES[module])


def encoder_folder() -> Path:
    """A joint encoder of pictures and captions of the embedded world, in transformers' own layout: how well a picture fits its caption.

    ``CLIPModel.from_pretrained(encoder_folder())`` and ``CLIPProcessor.from_pretrained(encoder_folder())`` load it, in float32. It knows
    that world only; what it can tell is in its ``README.md`` and ``figures.json``.
    """
    return _present(_HERE / "encoder")


def load_pipeline(torch_dtype: torch.dtype | None = None, model: str = "tiny") -> Any:
    """An embedded model as an ordinary diffusers pipeline, on the CPU.

    Args:
        torch_dtype: float32 (default), bfloat16 or float16; the weights are stored in float16, those of the variants' large
            matrices in float8.
        model: one of ``MODELS``.

    Returns:
        A ``StableDiffusionPipeline``; for ``tiny-controlnet`` a ``StableDiffusionControlNetPipeline``.

    Raises:
        SingDiffusionError: the name is unknown, or a file of the embedded model is missing.
    """
    import diffusers
    import torch
    import transformers

    dtype = torch_dtype or torch.float32
    loaders: dict[str, Any] = {
        "unet": lambda at: diffusers.UNet2DConditionModel.from_pretrained(at, dtype=dtype),
        "controlnet": lambda at: diffusers.ControlNetModel.from_pretrained(at, dtype=dtype),
        "scheduler": lambda at: diffusers.DDIMScheduler.from_pretrained(at),
        "text_encoder": lambda at: transformers.CLIPTextModel.from_pretrained(at, dtype=dtype),
    }
    parts = {name: loaders[name](str(_present(_HERE / at))) for name, at in _PARTS[_known(model)].items()}
    pipeline = (
        diffusers.StableDiffusionControlNetPipeline if "controlnet" in parts else diffusers.StableDiffusionPipeline
    )
    return pipeline.from_pretrained(str(folder()), dtype=dtype, local_files_only=True, **parts)


def hints() -> dict[str, Image.Image]:
    """Name -> edges of a line icon that no model here was trained on, white on black, for ``tiny-controlnet``."""
    from PIL import Image

    made = {}
    for file in sorted(_present(_HERE / "controlnet" / "hints").glob("*.png")):
        with Image.open(file) as picture:
            made[file.stem] = picture.convert("RGB")
    return made


def reference(model: str = "tiny") -> dict:
    """Brightness of the pictures that a model should paint, by caption: of the training distribution, or along ``hints()``.

    Returns:
        ``{caption: {"mean", "std", "count"}}``: mean over pictures of a picture's mean luma (Rec. 601, 0..255), and its
        standard deviation over pictures.
    """
    stored = json.loads(_present(_HERE / "reference.json").read_text())
    return stored["hints" if _known(model) == "tiny-controlnet" else "prompts"]


def captions() -> dict[str, dict[str, list[float]]]:
    """Captions to measure brightness on, and the mean luma (Rec. 601, 0..255) of 64 real pictures of each.

    Returns:
        ``{group: {caption: lumas}}``, a hundred captions a group: ``said`` names the background or the light, ``unsaid`` does not; ``new``
        names it in words that no picture of the training set had for a caption.
    """
    return json.loads(_present(_HERE / "captions.json").read_text())


@dataclass(frozen=True)
class Pictures:
    """Real pictures of the distribution that the embedded models were trained on, icons on plain grounds.

    Attributes:
        known: prompt -> pictures of just that prompt, uint8 (M, 3, 64, 64).
        drawn: pictures of all kinds, uint8 (N, 3, 64, 64).
        captions: theirs, N.
    """

    known: dict[str, Tensor]
    drawn: Tensor
    captions: list[str]

    @property
    def luma(self) -> Tensor:
        """Luma of ``drawn`` (Rec. 601), float64 (N, 1, 64, 64) in -1..1."""
        import torch

        weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
        return torch.einsum("nchw,c->nhw", self.drawn.double(), weights)[:, None] / 127.5 - 1


def pictures() -> Pictures:
    """The pictures that come with the package, a small sample of the training distribution (``recipes/tiny`` draws them)."""
    import numpy as np
    import torch
    from PIL import Image

    told = json.loads(_present(_HERE / "pictures.json").read_text())
    side, columns = told["side"], told["columns"]
    with Image.open(_present(_HERE / "pictures.png")) as sheet:
        rgb = np.asarray(sheet.convert("RGB"))
    tiles = rgb.reshape(rgb.shape[0] // side, side, columns, side, 3).transpose(0, 2, 4, 1, 3)
    every = torch.from_numpy(tiles.reshape(-1, 3, side, side).copy())
    known, start = {}, 0
    for prompt, count in told["known"].items():
        known[prompt] = every[start : start + count]
        start += count
    return Pictures(known, every[start : start + len(told["captions"])], told["captions"])
