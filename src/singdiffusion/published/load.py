"""``load_module``: an embedded module, or one in any published layout, from this machine or from the hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from .. import tiny
from ..errors import SingDiffusionError, one_line_error
from ..files import bare_name
from ..modules import SingConfig, SingModule, layout
from ..modules.text import PromptEncoder
from ..modules.weights import read_weights
from .base import Base
from .layouts import Published, recognise
from .places import Folder, elsewhere, place_of

HALF = (torch.float16, torch.bfloat16)


def load_module(
    source: str | os.PathLike,
    *,
    base: str | os.PathLike | None = None,
    torch_dtype: torch.dtype | None = None,
    device: Any = None,
    text_encoder: bool = True,
    variant: str | None = None,
    subfolder: str = "",
    **hub: Any,
) -> SingModule:
    """Load a module from this machine or from the hub.

    Args:
        source: ``"tiny"`` (embedded; or another of ``tiny.MODULES``); a folder or hub id in this package's layout, in that of
            SingDiffusion's authors or in OneMoreStep's; or a ``.safetensors`` file in the original key layout.
        base: folder or hub id of the model whose latent space and text encoder the module was trained for, where the module does
            not name it. By default Stable Diffusion 1.5 for the authors' layout.
        torch_dtype: of its weights; float32 by default.
        device: to move it to.
        text_encoder: whether to load the module's text encoders; False for a host that encodes prompts itself.
        variant: "fp16" reads only the half-precision files of a repository; by default these count where there are no others, or
            where ``torch_dtype`` is half.
        subfolder: folder of the module in ``source``.
        hub: ``revision``, ``cache_dir``, ``local_files_only`` and ``token``, as for ``huggingface_hub.snapshot_download``.

    Raises:
        SingDiffusionError: the module is not found, is of no known layout, or its files are damaged.
    """
    if torch_dtype is not None and not isinstance(torch_dtype, torch.dtype):
        raise SingDiffusionError(f"torch_dtype must be a torch.dtype, such as torch.float16, not {torch_dtype!r:.40}")
    subfolder = subfolder or ""
    single = os.path.isfile(source)
    if str(source) in tiny.MODULES or single:
        _refuse_options(source, subfolder=subfolder, variant=variant, base=None if single else base)
    if str(source) in tiny.MODULES:
        module = SingModule.from_pretrained(str(source), torch_dtype=torch_dtype, text_encoder=text_encoder)
    elif single:
        module = load_single_file(Path(source), base, None, torch_dtype or torch.float32, text_encoder, **hub)
    else:
        half = torch_dtype in HALF
        found = find(source, base=base, variant=variant, half=half, subfolder=subfolder, **hub)
        module = build(found, torch_dtype or torch.float32, text_encoder)
    module.source = str(source)
    return module if device is None else module.to(device)


def _refuse_options(source: Any, **options: Any) -> None:
    given = [name for name, value in options.items() if value]
    if given:
        raise SingDiffusionError(
            f"{source} has no {given[0]}: that is an option for folders and hub ids", setting=given[0]
        )


def find(
    source: str | os.PathLike,
    *,
    base: str | os.PathLike | None = None,
    variant: str | None = None,
    half: bool = False,
    subfolder: str = "",
    **hub: Any,
) -> Published:
    """Return which files make a module; nothing large is downloaded. Arguments as for ``load_module``.

    Args:
        half: whether the weights will be used in half precision.

    Raises:
        SingDiffusionError: the module is not found, or is of no known layout.
    """
    place = place_of(source, "the module", **hub)
    if isinstance(place, Folder) and subfolder:
        place, subfolder = Folder(place.path / subfolder), ""
    of_base = None if base is None else Base.named(base, **elsewhere(hub))
    return recognise(place, subfolder.strip("/"), base=of_base, variant=variant, half=half, options=hub)


def build(found: Published, torch_dtype: torch.dtype | None, text_encoder: bool = True) -> SingModule:
    """Load a module whose files are known, downloaded where they are not here.

    Args:
        found: as from ``find``.
        torch_dtype: of its weights; None keeps the network's own.
        text_encoder: whether to load its text encoders.

    Raises:
        SingDiffusionError: a file cannot be had, or is damaged.
    """
    text_files = found.text() if text_encoder else None  # before the network, which is larger
    network = _network(found, torch_dtype)
    text = None if text_files is None else text_files.load(torch_dtype)
    config = with_text(found.config, text)
    if found.kind != "ours":
        source = bare_name(found.network.part.place.name)
        config = config.model_copy(update={"origin": config.origin.model_copy(update={"source": source})})
    return SingModule(network, config, text)


def _network(found: Published, torch_dtype: torch.dtype | None) -> Any:
    file = found.network.main_file()
    folder = file.parent
    if found.kind != "ours":
        return layout.build_network(found.network.config, read_weights(file), folder, torch_dtype)
    network = layout.read_network(folder, torch_dtype, file)
    layout.require_match(network, found.config, folder.parent)
    return network


def with_text(config: SingConfig, text: PromptEncoder | None) -> SingConfig:
    """Return a configuration with the fingerprint and the length of a text, where it has none yet."""
    if text is None or config.text_fingerprint is not None:
        return config
    with one_line_error("the module's text encoders cannot encode"):
        found = text.fingerprint()
    return config.model_copy(update={"text_fingerprint": found, "text_length": text.length})


def load_single_file(
    file: Path,
    base: str | os.PathLike | None,
    unet: dict[str, Any] | None,
    torch_dtype: torch.dtype | None,
    text_encoder: bool = True,
    **hub: Any,
) -> SingModule:
    """Load a module from a ``.safetensors`` file; with a base, its text encoders come with it.

    Args:
        unet: configuration of its U-Net, for a file without one.
        torch_dtype: of its weights; None keeps the network's own.

    Raises:
        SingDiffusionError: the file is of another kind, damaged or incomplete.
    """
    from . import single_file  # needs diffusers

    model = None if base is None else Base.named(base, **hub)
    network, config = single_file.read(file, model, unet, torch_dtype)
    if model is None or not text_encoder:
        return SingModule(network, config)
    text = model.text()
    if text.width() != config.text_width:
        raise SingDiffusionError(
            f"{file} takes text of width {config.text_width}, and the text encoder in {base} has width {text.width()}",
            setting="base",
        )
    loaded = text.load(torch_dtype)
    return SingModule(network, with_text(config.model_copy(update={"text_fingerprint": None}), loaded), loaded)
