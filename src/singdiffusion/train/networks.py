"""The network of a run: fresh, from a base's U-Net as its weights allow, or a module that is gone on with."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch

from ..data.shards import LatentDataset
from ..errors import SingDiffusionError
from ..modules import MeanDecoder, SingConfig, SingModule, TimeFreeUNet
from ..modules.decoder import preset_options
from ..painting.bases import load_unet
from ..published import load_module
from .config import Config


class Start(NamedTuple):
    """The network, float32; a line that says where its weights come from; and the module that it is gone on from, if it is."""

    network: Any
    origin: str
    module: SingModule | None = None


def build(config: Config, data: LatentDataset, decoder: type[MeanDecoder] = MeanDecoder) -> Start:
    """The network that a run starts with; ``decoder`` is the class of a fresh one.

    Raises:
        SingDiffusionError: options are unknown or contradict the data, or what it should start from does not fit.
    """
    spec = config.network
    require_data(config, data)
    torch.manual_seed(spec.seed)
    if spec.init_module is not None:
        return _module(spec.init_module, config, data)
    if spec.kind == "decoder":
        network, origin = _made(decoder, _decoder_options(config, data)), "fresh weights"
    elif spec.init is not None:
        network, origin = _from_base(spec.init, spec.options, data)
    else:
        network, origin = _made(TimeFreeUNet, _unet_shape(data) | spec.options), "fresh weights"
    _require_shape(network, data)
    return Start(network, origin)


def require_data(config: Config, data: LatentDataset) -> None:
    """Raise SingDiffusionError if the shards are not what the network learns from."""
    if config.network.kind == "unet" and data.low_frequency is not None:
        raise SingDiffusionError(
            f"{data.folder} holds low frequencies only, and a U-Net needs latents: encode without --low-frequency, or "
            "train a decoder"
        )


def _identity(data: LatentDataset) -> tuple[int, int]:
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
    options = ({} if preset is None else preset_options(preset)) | options | given
    if bool(options.get("covariance_grid")) != (config.loss == "moments"):
        raise SingDiffusionError(
            "network.options.covariance_grid goes with loss = 'moments', and must then be at least 1"
        )
    known = data.low_frequency
    grid = options.get("grid", inspect.signature(MeanDecoder).parameters["grid"].default)
    if known is not None and grid > known:
        raise SingDiffusionError(
            f"the decoder's grid of {grid} wants more frequencies than the {known} a side that {data.folder} holds; "
            f"say network.options.grid={known} or less"
        )
    return options


def _made(kind: Any, options: dict[str, Any]) -> Any:
    known = inspect.signature(kind).parameters
    foreign = sorted(set(options) - set(known))
    if foreign:
        raise SingDiffusionError(f"network.options: a {kind.__name__} has no {foreign[0]}")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
    except SingDiffusionError:
        raise
    except Exception as error:  # diffusers raises many kinds for options that do not go together
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SingDiffusionError(f"network.options do not make a {kind.__name__}: {line[:200]}") from error


def _from_base(base: str, options: dict[str, Any], data: LatentDataset) -> tuple[Any, str]:
    unet = load_unet(base)
    if not options:
        network = TimeFreeUNet.from_unet(unet)
        return network, f"all weights but those of the time from the U-Net of {base}"
    network = _made(TimeFreeUNet, _unet_shape(data) | options)
    theirs, ours = unet.state_dict(), network.state_dict()
    taken = {key: theirs[key] for key, value in ours.items() if key in theirs and theirs[key].shape == value.shape}
    if not taken:
        raise SingDiffusionError(f"no weight of the U-Net of {base} has a place in this network")
    network.load_state_dict(ours | taken)
    share = sum(v.numel() for v in taken.values()) / sum(v.numel() for v in ours.values())
    return network, f"{len(taken)} of {len(ours)} tensors ({share:.0%} of the weights) from the U-Net of {base}"


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


def _module(source: str, config: Config, data: LatentDataset) -> Start:
    module = load_module(source)
    network = module.network.requires_grad_(True)
    kind = module.kind
    if kind != config.network.kind:
        raise SingDiffusionError(
            f"{source} is a {kind}, and network.kind says {config.network.kind}; say --set network.kind={kind}"
        )
    _require_prediction(module.config, config, source)
    if kind == "decoder" and module.predicts_covariance != (config.loss == "moments"):
        raise SingDiffusionError(
            f"{source} has covariance_grid {network.config['covariance_grid']}, which does not go with loss {config.loss}; "
            f"set loss = {'moments' if module.predicts_covariance else 'sample'}"
        )
    _require_latents(module.config, data, source)
    _require_shape(network, data)
    return Start(network, f"the module {source}", module)


def _require_prediction(theirs: SingConfig, config: Config, source: str) -> None:
    for key, told, ours in (
        ("loss", theirs.prediction, "sample" if config.loss == "moments" else config.loss),
        ("alpha", theirs.alpha, config.alpha),
    ):
        if told != ours:
            raise SingDiffusionError(f"{source} was trained with {key} {told}, not {ours}; say --set {key}={told}")


def _require_latents(config: SingConfig, data: LatentDataset, source: str) -> None:
    identity = data.manifest["base"]
    for name in ("latent_channels", "vae_scaling_factor", "text_width"):
        if getattr(config, name) != identity[name]:
            raise SingDiffusionError(
                f"{source} has {name} {getattr(config, name)}, and the shards in {data.folder} {identity[name]}"
            )


def _require_shape(network: Any, data: LatentDataset) -> None:
    channels, width = _identity(data)
    given = network.config
    ours = given.get("latent_channels") or given.get("in_channels")
    if ours != channels or given.get("out_channels", channels) != channels:
        raise SingDiffusionError(f"the network is for {ours} latent channels, and the shards have {channels}")
    if given["cross_attention_dim"] != width:
        raise SingDiffusionError(
            f"the network is for text of width {given['cross_attention_dim']}, and that of the shards' base is {width}"
        )
