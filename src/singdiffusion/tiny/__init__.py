"""The embedded models: small Stable Diffusions of 64 x 64 pictures, with SD-1.5's flaw at SD-1.5's strength, and modules for them.

Nothing is downloaded. ``recipes/tiny`` in the repository makes every file in this folder again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..compat import diffusers_dtype, transformers_dtype
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

# Model -> the parts in which it differs from the base (diffusers' name of the part -> its folder here).
_PARTS: dict[str, dict[str, str]] = {
    "tiny": {},
    "tiny-v": {"unet": "v/unet", "scheduler": "v/scheduler"},
    "tiny-community": {"unet": "community/unet", "text_encoder": "community/text_encoder"},
    "tiny-controlnet": {"controlnet": "controlnet"},
}

MODELS = tuple(_PARTS)
"""Names of the embedded models.

- ``tiny``: the base.
- ``tiny-v``: predicts v, as Stable Diffusion 2.
- ``tiny-community``: U-Net and text encoder fine-tuned to another style, as community checkpoints are.
- ``tiny-controlnet``: the base with a ControlNet for edges.
"""


MODULES = {"tiny": "decoder", "tiny-decoder": "decoder", "tiny-unet": "unet"}
"""Name of each embedded module -> its folder here; every module serves all ``MODELS``.

- ``tiny``, ``tiny-decoder``: the default, a ``MeanDecoder`` that predicts mean and covariance.
- ``tiny-unet``: a ``TimeFreeUNet``, as in the paper.
"""


def _present(path: Path) -> Path:
    if not path.exists():
        raise SingDiffusionError(f"the embedded model is incomplete: {path} is missing; reinstall singdiffusion")
    return path


def _known(model: str) -> str:
    if model not in MODELS:
        raise SingDiffusionError(f"unknown embedded model {model!r}; known: {', '.join(MODELS)}")
    return model


def folder() -> Path:
    """Return the base's folder, which ``StableDiffusionPipeline.from_pretrained`` loads.

    Raises:
        SingDiffusionError: it is missing.
    """
    return _present(_HERE / "base")


def module_folder(module: str = "tiny") -> Path:
    """Return the folder of an embedded module, which ``SingDiffusion.from_pretrained`` loads.

    Args:
        module: one of ``MODULES``.

    Raises:
        SingDiffusionError: the name is unknown, or the folder is missing.
    """
    if module not in MODULES:
        raise SingDiffusionError(f"unknown embedded module {module!r}; known: {', '.join(MODULES)}")
    return _present(_HERE / MODULES[module])


def encoder_folder() -> Path:
    """Return the folder of a joint encoder of pictures and captions, which measures how well a picture fits its caption.

    ``CLIPModel.from_pretrained`` and ``CLIPProcessor.from_pretrained`` load it, in float32. It works for the embedded
    models' pictures and captions only; its ``README.md`` and ``figures.json`` have its accuracy.

    Raises:
        SingDiffusionError: it is missing.
    """
    return _present(_HERE / "encoder")


def load_pipeline(torch_dtype: torch.dtype | None = None, model: str = "tiny") -> Any:
    """Return an embedded model as an ordinary diffusers pipeline, on the CPU.

    Args:
        torch_dtype: float32 (default), bfloat16 or float16. Files hold float16, and float8 for large matrices of the
            variants.
        model: one of ``MODELS``.

    Returns:
        A ``StableDiffusionPipeline``; for ``tiny-controlnet`` a ``StableDiffusionControlNetPipeline``.

    Raises:
        SingDiffusionError: the name is unknown, or a file is missing.
    """
    import diffusers
    import torch
    import transformers

    dtype = torch_dtype or torch.float32
    loaders: dict[str, Any] = {
        "unet": lambda at: diffusers.UNet2DConditionModel.from_pretrained(at, **diffusers_dtype(dtype)),
        "controlnet": lambda at: diffusers.ControlNetModel.from_pretrained(at, **diffusers_dtype(dtype)),
        "scheduler": lambda at: diffusers.DDIMScheduler.from_pretrained(at),
        "text_encoder": lambda at: transformers.CLIPTextModel.from_pretrained(at, **transformers_dtype(dtype)),
    }
    parts = {name: loaders[name](str(_present(_HERE / at))) for name, at in _PARTS[_known(model)].items()}
    pipeline = (
        diffusers.StableDiffusionControlNetPipeline if "controlnet" in parts else diffusers.StableDiffusionPipeline
    )
    return pipeline.from_pretrained(str(folder()), **diffusers_dtype(dtype), local_files_only=True, **parts)


def hints() -> dict[str, Image.Image]:
    """Return edges for ``tiny-controlnet``, white on black: name -> picture of a line icon that no model here was trained on.

    Raises:
        SingDiffusionError: they are missing.
    """
    from PIL import Image

    made = {}
    for file in sorted(_present(_HERE / "controlnet" / "hints").glob("*.png")):
        with Image.open(file) as picture:
            made[file.stem] = picture.convert("RGB")
    return made


def reference(model: str = "tiny") -> dict[str, dict[str, float]]:
    """Return the brightness that a model's pictures should have, measured on real ones.

    Args:
        model: one of ``MODELS``; for ``tiny-controlnet`` the real pictures are drawn along ``hints()``.

    Returns:
        ``{prompt: {"mean", "std", "count"}}``: mean and standard deviation over ``count`` pictures of a picture's mean luma
        (Rec. 601, 0..255).

    Raises:
        SingDiffusionError: the name is unknown, or the file is missing.
    """
    stored = json.loads(_present(_HERE / "reference.json").read_text())
    return stored["hints" if _known(model) == "tiny-controlnet" else "prompts"]


def captions() -> dict[str, dict[str, list[float]]]:
    """Return captions to measure brightness on, with the mean luma (Rec. 601, 0..255) of 64 real pictures of each.

    Returns:
        ``{group: {caption: lumas}}`` with a hundred captions per group. ``stated``: the caption names the background or the
        light. ``open``: it does not. ``new``: it does, and no picture of the training set had this caption.

    Raises:
        SingDiffusionError: the file is missing.
    """
    return json.loads(_present(_HERE / "captions.json").read_text())


@dataclass(frozen=True)
class Pictures:
    """Real pictures from the distribution that the embedded models were trained on: icons on plain backgrounds.

    Attributes:
        known: prompt -> pictures of that prompt only, uint8 (M, 3, 64, 64).
        drawn: pictures drawn at random, uint8 (N, 3, 64, 64).
        captions: of ``drawn``, N.
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
    """Return the real pictures that come with the package, a small sample of the training distribution.

    Raises:
        SingDiffusionError: a file is missing.
    """
    import numpy as np
    import torch
    from PIL import Image

    contents = json.loads(_present(_HERE / "pictures.json").read_text())
    side, columns = contents["side"], contents["columns"]
    with Image.open(_present(_HERE / "pictures.png")) as sheet:
        rgb = np.asarray(sheet.convert("RGB"))
    tiles = rgb.reshape(rgb.shape[0] // side, side, columns, side, 3).transpose(0, 2, 4, 1, 3)
    every = torch.from_numpy(tiles.reshape(-1, 3, side, side).copy())
    known, start = {}, 0
    for prompt, count in contents["known"].items():
        known[prompt] = every[start : start + count]
        start += count
    return Pictures(known, every[start : start + len(contents["captions"])], contents["captions"])
