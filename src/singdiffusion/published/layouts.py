"""Layouts in which modules are published: ours, SingDiffusion's authors', OneMoreStep's. Each is recognised by its files.

Nothing large is read or downloaded here: a ``Published`` holds which files make the module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from ..errors import SingDiffusionError, validation_line
from ..modules import SingConfig, layout
from ..modules.config import Latents
from . import one_more_step
from .base import SD15, SD_LATENTS, Base
from .parts import Text, Weights
from .places import Part, Place, elsewhere, files_in, joined, read_config

KINDS = {"ours": "this package", "authors": "SingDiffusion's authors", "one-more-step": "OneMoreStep"}


@dataclass(frozen=True)
class Published:
    """A module whose layout is known.

    Attributes:
        kind: among ``KINDS``.
        config: of the module, without the fingerprint of a text that is not loaded yet.
        network: its files.
        text: returns the files of its text encoders, None where it brings none; raises if they are not here.
        brings_text: whether the text is the module's own; otherwise it is that of its base.
    """

    kind: str
    config: SingConfig
    network: Weights
    text: Callable[[], Text | None]
    brings_text: bool

    def parts(self, with_text: bool = True) -> list[Part]:
        """Return all that loading reads."""
        text = self.text() if with_text else None
        return [self.network.part, *(text.parts if text else [])]


def recognise(
    place: Place,
    root: str = "",
    *,
    base: Base | None = None,
    variant: str | None = None,
    half: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Published:
    """Return the module in a folder or repository.

    Args:
        place: the folder or repository.
        root: folder of the module there.
        base: the model that it was trained for, which the authors' layout and OneMoreStep's do not name. By default Stable Diffusion
            1.5 for the authors' layout.
        variant: of the weights, such as "fp16".
        half: whether the weights will be used in half precision.
        options: as for ``places.Repository``, for the repositories that pointers and defaults name.

    Raises:
        SingDiffusionError: it is no module, its files are incomplete, or its latent space is unknown.
    """
    options = options or {}
    at_root, names = files_in(place, root), place.names()
    latents = None if base is None else base.latents()
    if layout.CONFIG in at_root:
        found = _ours(place, root, variant, half)
    elif any(name.startswith(joined(root, one_more_step.MODULE) + "/") for name in names):
        found = _one_more_step(place, root, latents, variant, half, options)
    elif "config.json" in at_root:
        _refuse_other_networks(read_config(place, root), Part(place, root, ()).where)
        found = _authors(place, root, latents or SD_LATENTS, variant, half, options)
    else:
        model = "; it is a whole model" if "model_index.json" in at_root else ""
        raise SingDiffusionError(
            f"{Part(place, root, ()).where} is not a module{model}: it has neither {layout.CONFIG} (ours), nor "
            f"{one_more_step.MODULE}/ (OneMoreStep), nor config.json (SingDiffusion's authors)"
        )
    return found if base is None else _for_base(found, base, variant, half)


def _ours(place: Place, root: str, variant: str | None, half: bool) -> Published:
    config = layout.read_config(Part(place, root, (layout.CONFIG,)).fetch())
    network = Weights.find(place, joined(root, "module"), variant=variant, half=half)
    found = {end: files_in(place, joined(root, f"text_encoder{end}")) for end in layout.TEXT_PARTS}
    ends = [end for end, names in found.items() if any(map(layout.is_part, names))]
    text = lambda: Text.find(place, root, ends, variant, half) if ends else None  # noqa: E731
    return Published("ours", config, network, text, bool(ends))


def _authors(
    place: Place, root: str, latents: Latents, variant: str | None, half: bool, options: Mapping[str, Any]
) -> Published:
    """Return a module whose text is that of its base; only Stable Diffusion 1's width has a default."""
    where = Part(place, root, ()).where
    network = Weights.find(place, root, variant=variant, half=half)
    config = config_of(network.config, latents, where)

    def text() -> Text:
        if config.text_width != 768:
            raise SingDiffusionError(
                f"{where} takes text of width {config.text_width}, which is not Stable Diffusion 1's; pass a base, the model "
                "whose text encoder it was trained with",
                setting="base",
            )
        try:
            return Base.named(SD15, **elsewhere(options)).text(half=half)
        except SingDiffusionError as error:
            raise SingDiffusionError(
                f"{where} was trained with the text encoder of Stable Diffusion 1.5, and {error}; pass a base, a folder or hub id "
                "with that text encoder",
                setting="base",
            ) from error

    return Published("authors", config, network, text, brings_text=False)


def _one_more_step(
    place: Place, root: str, latents: Latents | None, variant: str | None, half: bool, options: Mapping[str, Any]
) -> Published:
    network = one_more_step.find_network(place, root, options, variant, half)
    where, unet = Part(place, root, ()).where, network.config
    width = unet.get("cross_attention_dim")
    if latents is None:
        latents = one_more_step.latents_of(place, root, width if isinstance(width, int) else 0)
    elif (known := one_more_step.known_latents(place, root)) is not None:
        _require_same(known, latents, where)
    config = config_of(unet, latents, where, **one_more_step.USE)

    def text() -> Text:
        found = one_more_step.find_text(place, root, options, variant, half)
        _require_width(config, found, where)
        return found

    return Published("one-more-step", config, network, text, brings_text=True)


def _for_base(found: Published, base: Base, variant: str | None, half: bool) -> Published:
    """Return a module with the latent space of a base, and with its text if the width fits or the module brings none."""
    config, where = found.config, found.network.part.where
    _require_same(config.latents, base.latents(), where)
    text = base.text(variant, half)
    if text.width() == config.text_width:
        config = config.model_copy(update={"text_fingerprint": None})  # computed when the text is loaded
        return replace(found, config=config, text=lambda: text)
    if not found.brings_text:
        _require_width(config, text, where)
    return found


def config_of(unet: Mapping[str, Any], latents: Latents, where: Any, **changes: Any) -> SingConfig:
    """Return the configuration of a module with this U-Net.

    Args:
        unet: its ``config.json``.
        latents: the latent space.
        where: its origin, for messages.
        changes: of the configuration.

    Raises:
        SingDiffusionError: the U-Net has no width of text, or other latents.
    """
    width, size, channels = unet.get("cross_attention_dim"), unet.get("sample_size"), unet.get("in_channels", 4)
    if not isinstance(width, int):
        raise SingDiffusionError(f"the configuration in {where} lacks cross_attention_dim, the width of the text")
    if channels != latents.channels:
        raise SingDiffusionError(
            f"{where} is for latents of {channels!r:.20} channels, and its base has {latents.channels}"
        )
    values = {
        "latent_channels": latents.channels,
        "vae_scaling_factor": latents.scaling,
        "vae_shift_factor": latents.shift or None,
        "text_width": width,
        "sample_size": size if isinstance(size, int) else None,
    }
    try:
        return SingConfig.model_validate(values | changes)
    except ValidationError as error:
        raise SingDiffusionError(f"the configuration in {where}: {validation_line(error)}") from error


def _require_same(known: Latents, of_base: Latents, where: str) -> None:
    """Raise SingDiffusionError if a module's latent space, where it is known, is not that of the base that was named."""
    if not known.same(of_base):
        raise SingDiffusionError(
            f"{where} is for latents of {known.channels} channels with VAE factor {known.scaling:g}, and the base has "
            f"{of_base.channels} with {of_base.scaling:g}; pass the base that it was trained for",
            setting="base",
        )


def _refuse_other_networks(config: Mapping[str, Any], where: str) -> None:
    """Raise SingDiffusionError for a ``config.json`` of something that is no U-Net, such as a text encoder or a VAE."""
    name = config.get("_class_name")
    if name in layout.NETWORKS:
        raise SingDiffusionError(
            f"{where} is the network of a module; name the folder above it, which has {layout.CONFIG}"
        )
    if "model_type" in config or (isinstance(name, str) and "UNet" not in name):
        raise SingDiffusionError(
            f"{where} is not a module: its config.json is that of a {name or config.get('model_type') or 'network without a name'}"
        )


def _require_width(config: SingConfig, text: Text, where: str) -> None:
    width = text.width()
    if width != config.text_width:
        place = text.encoders[0].part.place.name
        raise SingDiffusionError(
            f"{where} takes text of width {config.text_width}, and the text encoder in {place} has width {width}"
        )
