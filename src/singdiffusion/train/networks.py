"""The network of a run: fresh, with the weights of a base's U-Net that fit, or a module that is fine-tuned."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch

from ..data.shards import LatentDataset
from ..errors import SingDiffusionError, one_line_error
from ..memory import require_memory
from ..modules import MeanDecoder, SingConfig, SingModule, TimeFreeUNet
from ..modules.decoder import preset_options
from ..painting.bases import load_unet
from ..published import load_module
from .config import Config

WEIGHT = 4  # bytes of a parameter in float32


class Start(NamedTuple):
    """What a run starts with.

    Attributes:
        network: in float32.
        origin: where its weights come from, for the user.
        fine_tuned: the module that it is fine-tuned from, if it is.
    """

    network: Any
    origin: str
    fine_tuned: SingModule | None = None


def build(config: Config, data: LatentDataset, decoder: type[MeanDecoder] = MeanDecoder, on_cpu: bool = False) -> Start:
    """Return the network that a run starts with.

    Args:
        decoder: class of a fresh decoder.
        on_cpu: whether it is trained on the CPU, whose memory then also holds gradients and averages.

    Raises:
        SingDiffusionError: options are unknown or contradict the data, or what the network should start from does not fit.
    """
    spec, more = config.network, _training_bytes(config) if on_cpu else 0
    require_data(config, data)
    torch.manual_seed(spec.seed)
    if spec.init_module is not None:
        start = _from_module(spec.init_module, config, data)
    elif spec.kind == "decoder":
        start = Start(_made(decoder, _decoder_options(config, data), more), "fresh weights")
    elif spec.init is not None:
        start = Start(*_from_base(spec.init, spec.options, data, more))
    else:
        start = Start(_made(TimeFreeUNet, _unet_shape(data) | spec.options, more), "fresh weights")
    _require_shape(start.network, data)
    _require_memory(parameter_count(start.network), more)
    return start


def _training_bytes(config: Config) -> int:
    """Return bytes per parameter that training takes beside the weights: gradient, the optimizer's two averages, averaged weight."""
    return WEIGHT * (3 + bool(config.ema))


def _require_memory(count: int, each: int) -> None:
    """Check that the memory suffices for ``each`` bytes per parameter."""
    require_memory(each * count, f"the training of {count / 1e6:,.0f} M parameters", "network.options")


def require_data(config: Config, data: LatentDataset) -> None:
    """Raise SingDiffusionError if the shards do not have what the network learns from."""
    if config.network.kind == "unet" and data.low_frequency is not None:
        raise SingDiffusionError(
            f"{data.folder} holds low frequencies only, and a U-Net needs latents: encode these, or train a decoder",
            setting="network.kind",
        )


def _identity(data: LatentDataset) -> tuple[int, int]:
    """Return (latent channels, text width) of the base of the shards."""
    base = data.manifest["base"]
    return base["latent_channels"], base["text_width"]


def _unet_shape(data: LatentDataset) -> dict[str, Any]:
    channels, width = _identity(data)
    side = data.manifest["options"]["size"] // data.manifest["base"]["vae_scale"]
    return {"in_channels": channels, "out_channels": channels, "cross_attention_dim": width, "sample_size": side}


def _decoder_options(config: Config, data: LatentDataset) -> dict[str, Any]:
    channels, width = _identity(data)
    options: dict[str, Any] = {"latent_channels": channels, "cross_attention_dim": width}
    if config.loss == "moments":
        options["covariance_grid"] = 4
    given = dict(config.network.options)
    preset = given.pop("preset", None)
    options = ({} if preset is None else preset_options(str(preset))) | options | given
    covariance_grid = options.get("covariance_grid", 0)
    if bool(covariance_grid) != (config.loss == "moments"):
        right = "at least 1" if config.loss == "moments" else "0"
        raise SingDiffusionError(
            f"network.options.covariance_grid must be {right} with loss {config.loss}, not {covariance_grid}",
            setting="network.options.covariance_grid",
        )
    stored = data.low_frequency
    grid = options.get("grid", inspect.signature(MeanDecoder).parameters["grid"].default)
    if stored is not None and isinstance(grid, int) and grid > stored:
        raise SingDiffusionError(
            f"network.options.grid must be at most {stored}, the frequencies per side in {data.folder}, not {grid}",
            setting="network.options.grid",
        )
    return options


def _made(kind: Any, options: dict[str, Any], more: int) -> Any:
    """Return a network with fresh weights; ``more`` bytes per parameter must be left beside them."""
    known = inspect.signature(kind).parameters
    foreign = sorted(set(options) - set(known))
    if foreign:
        raise SingDiffusionError(f"network.options: a {kind.__name__} has no {foreign[0]}")
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    with one_line_error(f"network.options do not make a {kind.__name__}"):
        with torch.device("meta"):
            count = parameter_count(kind(**given))
        _require_memory(count, WEIGHT + more)
        return kind(**given)


def parameter_count(network: Any) -> int:
    """Return the number of parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def _from_base(base: str, options: dict[str, Any], data: LatentDataset, more: int) -> tuple[Any, str]:
    """Return a ``TimeFreeUNet`` with weights of a base's U-Net, and their origin."""
    unet = load_unet(base)
    if not options:
        network = TimeFreeUNet.from_unet(unet)
        return network, f"weights of the U-Net of {base}, all but those of its time input"
    network = _made(TimeFreeUNet, _unet_shape(data) | options, more)
    theirs, ours = unet.state_dict(), network.state_dict()
    taken = {key: theirs[key] for key, value in ours.items() if key in theirs and theirs[key].shape == value.shape}
    if not taken:
        raise SingDiffusionError(
            f"none of the weights of the U-Net of {base} fits this network; leave out network.options to have its shape",
            setting="network.options",
        )
    network.load_state_dict(ours | taken)
    share = sum(v.numel() for v in taken.values()) / sum(v.numel() for v in ours.values())
    return network, f"{len(taken)} of {len(ours)} tensors ({share:.0%} of the weights) from the U-Net of {base}"


# -- fine-tuning ------------------------------------------------------------------------------------------------------


def settings_of_module(source: str) -> dict[str, Any]:
    """Return what a configuration must hold to fine-tune a module: kind, loss and alpha.

    Raises:
        SingDiffusionError: there is no such module.
    """
    module = load_module(source)
    return {
        "network.kind": module.kind,
        "loss": "moments" if module.predicts_covariance else module.config.prediction,
        "alpha": module.config.alpha,
    }


def _from_module(source: str, config: Config, data: LatentDataset) -> Start:
    """Return a module's network to fine-tune."""
    module = load_module(source)
    network = module.network.requires_grad_(True)
    if module.kind != config.network.kind:
        raise SingDiffusionError(
            f"{source} is a {module.kind}: network.kind must be {module.kind}, not {config.network.kind}",
            setting="network.kind",
        )
    _require_prediction(module.config, config, source)
    if module.kind == "decoder" and module.predicts_covariance != (config.loss == "moments"):
        right = "moments" if module.predicts_covariance else "sample"
        raise SingDiffusionError(
            f"{source} has covariance_grid {network.config['covariance_grid']}: loss must be {right}, not {config.loss}",
            setting="loss",
        )
    _require_latents(module.config, data, source)
    return Start(network, f"weights of the module {source}", module)


def _require_prediction(theirs: SingConfig, config: Config, source: str) -> None:
    for key, right, ours in (
        ("loss", theirs.prediction, "sample" if config.loss == "moments" else config.loss),
        ("alpha", theirs.alpha, config.alpha),
    ):
        if right != ours:
            raise SingDiffusionError(
                f"{source} was trained with {key} {right}: {key} must be {right}, not {ours}", setting=key
            )


def _require_latents(config: SingConfig, data: LatentDataset, source: str) -> None:
    identity = data.manifest["base"]
    for name in ("latent_channels", "vae_scaling_factor", "text_width"):
        if getattr(config, name) != identity[name]:
            raise SingDiffusionError(
                f"{source} has {name} {getattr(config, name)}, and the shards in {data.folder} have {identity[name]}"
            )


def _require_shape(network: Any, data: LatentDataset) -> None:
    channels, width = _identity(data)
    given = network.config
    ours = given.get("latent_channels") or given.get("in_channels")
    if ours != channels or given.get("out_channels", channels) != channels:
        raise SingDiffusionError(f"the network has {ours} latent channels, and the shards have {channels}")
    if given["cross_attention_dim"] != width:
        raise SingDiffusionError(
            f"the network takes text of width {given['cross_attention_dim']}, and the text of the shards' base has {width}"
        )
