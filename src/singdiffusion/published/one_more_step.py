"""OneMoreStep's layout: a network that predicts v at t = 1, and pointers to text encoders.

Hu, Zheng, Zheng, Wang, Tao, Cham, "One More Step: A Versatile Plug-and-Play Module for Rectifying Diffusion Schedule Flaws and
Enhancing Low-Frequency Controls", CVPR 2024, arXiv 2311.15744. ``model_index.json`` lists the components ``oms_module``,
``oms_text_encoder`` and ``oms_tokenizer``. Each is a folder whose ``config.json`` names, as ``_name_or_path`` and ``subfolder``,
the repository that holds it. A class name with ``SDXL`` in it means both text encoders of that repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import SingDiffusionError
from ..modules.config import Latents
from ..modules.layout import TEXT_PARTS
from .base import SD_LATENTS, SDXL_LATENTS
from .parts import Text, Weights, find_encoder, tokenizer_in
from .places import Folder, Part, Place, elsewhere, files_in, joined, place_of, read_config

MODULE, TEXT_ENCODER, TOKENIZER = "oms_module", "oms_text_encoder", "oms_tokenizer"

# prediction v = alpha noise - sigma x_0 is -x_0 at t = 1; guidance is uncond + w (text - uncond), not divided by w
USE = {"prediction": "v_prediction", "normalise_guidance": False, "guidance_scale": 1.0}

_SDXL = re.compile(r"(?:^|[^a-z])(?:sd)?xl(?:[^a-z]|$)")
_SD = re.compile(r"(?:^|[^a-z0-9])(?:sd|v)?-?(?:15|21|1\.[45]|2\.[01])(?:[^0-9]|$)")


def find_network(place: Place, root: str, options: Mapping[str, Any], variant: str | None, half: bool) -> Weights:
    """Return the network: in ``oms_module``, or where its pointer leads.

    Args:
        place: of the module.
        root: its folder there.
        options: as for ``places.Repository``, for other repositories.
        variant, half: as for ``choose_weights``.

    Raises:
        SingDiffusionError: there are no weights, or the pointer leads nowhere.
    """
    folder = joined(root, MODULE)
    if _has_weights(place, folder):
        return Weights.find(place, folder, variant=variant, half=half)
    target, inside = _follow(place, folder, options)
    if isinstance(target, type(place)) and target.name == place.name:
        raise SingDiffusionError(f"{Part(place, folder, ()).where} has no weights")
    return Weights.find(target, inside, variant=variant, half=half)


def find_text(place: Place, root: str, options: Mapping[str, Any], variant: str | None, half: bool) -> Text:
    """Return the text encoders and tokenizers: in the module's own folders, or where the pointers lead.

    Args: as for ``find_network``.

    Raises:
        SingDiffusionError: a component is missing, or its pointer leads nowhere.
    """
    encoder, tokenizer = joined(root, TEXT_ENCODER), joined(root, TOKENIZER)
    if "SDXL" in str(_pointer(place, encoder).get("_class_name")):
        target, _ = _follow(place, encoder, options)
        return Text.find(target, "", TEXT_PARTS, variant, half)
    if _has_weights(place, encoder):
        weights = find_encoder(place, encoder, variant, half)
    else:
        weights = find_encoder(*_follow(place, encoder, options), variant, half)
    if any(Path(name).name in ("vocab.json", "tokenizer.json") for name in files_in(place, tokenizer)):
        return Text([weights], [tokenizer_in(place, tokenizer)])
    return Text([weights], [tokenizer_in(*_follow(place, tokenizer, options))])


def _has_weights(place: Place, folder: str) -> bool:
    return any(Path(name).suffix in (".safetensors", ".bin") for name in files_in(place, folder))


def latents_of(place: Place, root: str, text_width: int) -> Latents:
    """Return the latent space, by the repository's name in the network's pointer, or by the folder's own name.

    The layout stores no VAE. The published names end in ``15_21`` (Stable Diffusion 1 and 2) or contain ``xl``.

    Raises:
        SingDiffusionError: neither name has such a part.
    """
    known = known_latents(place, root)
    if known is not None:
        return known
    if text_width == 2048:  # the width of SDXL's two text encoders, and of no other base of this layout
        return SDXL_LATENTS
    raise SingDiffusionError(
        f"the latent space of {place.name} is unknown: its name contains neither '15_21' nor 'xl'; pass a base, the model "
        "whose latents the module was trained on",
        setting="base",
    )


def known_latents(place: Place, root: str) -> Latents | None:
    """Return the latent space that the network's pointer or the folder's own name stands for, or None."""
    pointer = _pointer(place, joined(root, MODULE)).get("_name_or_path", "")
    found = (latents_by_name(name) for name in (str(pointer), joined(place.name, root)))
    return next((each for each in found if each is not None), None)


def latents_by_name(name: str) -> Latents | None:
    """Return the latent space that the last part of a folder's or repository's name stands for, or None."""
    last = re.split(r"[\\/]", name.rstrip("\\/"))[-1].lower()
    if _SDXL.search(last):
        return SDXL_LATENTS
    return SD_LATENTS if _SD.search(last) else None


def _pointer(place: Place, folder: str) -> dict[str, Any]:
    """Return the contents of a component's ``config.json``."""
    if "config.json" not in files_in(place, folder):
        raise SingDiffusionError(f"{Part(place, folder, ()).where} has no config.json, which names where its files are")
    return read_config(place, folder)


def _follow(place: Place, folder: str, options: Mapping[str, Any]) -> tuple[Place, str]:
    """Return the place that a component's pointer names, and the folder there.

    A relative path counts from the module's folder, then from the current one, as in diffusers.
    """
    pointer = _pointer(place, folder)
    name, inside = pointer.get("_name_or_path"), pointer.get("subfolder") or ""
    if not isinstance(name, str) or not name or not isinstance(inside, str):
        raise SingDiffusionError(f"{Part(place, folder, ()).where}/config.json names no _name_or_path")
    if name == place.name:
        return place, inside
    if isinstance(place, Folder) and (place.path / name).is_dir():
        return Folder(place.path / name), inside
    what = f"the {folder.rsplit('/', 1)[-1].removeprefix('oms_').replace('_', ' ')} of {place.name}"
    return place_of(name, what, **elsewhere(options)), inside
