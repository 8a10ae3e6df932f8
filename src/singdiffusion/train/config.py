"""The configuration of a training run: a TOML file or a preset, changed by ``--set``."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import SingDiffusionError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(_Section):
    """What is trained on.

    Attributes:
        shards: folder that ``singdiffusion encode`` wrote.
        base: the model that it was written with: ``tiny``, a folder, or a hub id. Its text encoder is used, nothing else.
        held_out: pictures kept for validation.
        caption_dropout: share of captions replaced by "", for classifier-free guidance.
        text_cache_mib: embeddings of distinct captions are kept up to this; beyond it all are computed at every step.
        workers: processes that read batches ahead; 0: the training process reads them itself.
    """

    shards: Path
    base: str
    held_out: int = Field(default=512, ge=0)
    caption_dropout: float = Field(default=0.1, ge=0, le=1)
    text_cache_mib: int = Field(default=4096, ge=0)
    workers: int = Field(default=0, ge=0, le=64)


class Network(_Section):
    """What is trained.

    Attributes:
        kind: ``unet``, a ``TimeFreeUNet`` (the paper's), or ``decoder``, a ``MeanDecoder``.
        init: a base model whose U-Net's weights it starts from, as far as they fit; ``options`` may change its shape.
        init_module: a module to go on from: its folder, a hub id or ``tiny``; its shape is kept.
        options: arguments of the network's class; channels, size and text width come from the data.
        seed: of its first weights.
    """

    kind: Literal["unet", "decoder"] = "unet"
    init: str | None = None
    init_module: str | None = None
    options: dict[str, Any] = {}
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_start(self) -> Network:
        if self.init is not None and self.init_module is not None:
            raise ValueError("init and init_module exclude each other")
        if self.init is not None and self.kind == "decoder":
            raise ValueError(
                "a decoder cannot start from a base's U-Net: leave init out, or go on from a decoder by init_module"
            )
        if self.init_module is not None and self.options:
            raise ValueError("a module that is gone on from keeps its shape: leave out options")
        return self


class Optimizer(_Section):
    """AdamW.

    Attributes:
        name: ``adamw``, or ``adamw8bit``, which needs bitsandbytes.
        rate: peak of the learning rate.
        betas: decay of its two averages.
        weight_decay: decoupled from the gradient.
        clip: norm at which gradients are cut.
    """

    name: Literal["adamw", "adamw8bit"] = "adamw"
    rate: float = Field(default=1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)


class Schedule(_Section):
    """Learning rate by step.

    Attributes:
        shape: ``constant``, or ``cosine``, which falls after ``hold``.
        warm_up: steps over which it rises linearly to the peak.
        hold: share of the run after which it falls.
        final: share of the peak to which it falls.
    """

    shape: Literal["cosine", "constant"] = "cosine"
    warm_up: int = Field(default=500, ge=0)
    hold: float = Field(default=0.0, ge=0, lt=1)
    final: float = Field(default=0.02, ge=0, le=1)


class Checkpoints(_Section):
    """When they are written, whichever comes first; and in any case when the run is told to stop.

    Attributes:
        every_steps: steps between two; None: time alone decides.
        every_minutes: minutes between two; None: steps alone decide.
        keep: how many of the last stay.
    """

    every_steps: int | None = Field(default=None, ge=1)
    every_minutes: float | None = Field(default=10.0, gt=0)
    keep: int = Field(default=2, ge=1)


class Log(_Section):
    """What is told of a run.

    Attributes:
        every: steps between two lines in log.jsonl and to the trackers.
        trackers: tensorboard, wandb, ... as accelerate knows them.
    """

    every: int = Field(default=10, ge=1)
    trackers: list[str] = ["tensorboard"]


class Validation(_Section):
    """On held-out pictures, with the averaged weights.

    Attributes:
        every: steps between validations; there is one at the end in any case.
        batch: pictures at once.
        noises: draws of x_1 over which the output's variance is taken.
        prompts: painted with the base and the module each time; this loads the base.
        steps: denoising steps of these pictures.
        guidance_scale: of these pictures.
    """

    every: int = Field(default=1000, ge=1)
    batch: int = Field(default=64, ge=1)
    noises: int = Field(default=4, ge=2)
    prompts: list[str] = []
    steps: int = Field(default=30, ge=1)
    guidance_scale: float = 7.5


class Config(_Section):
    """A training run.

    Attributes:
        name: for people, and in the module's configuration.
        out: folder of the run: checkpoints, logs, samples, and at the end ``module/``.
        loss: ``sample``, the paper's x-prediction; ``v_prediction`` and ``epsilon``, OneMoreStep's; ``moments``: mean and variance.
        alpha: at which v or epsilon is meant, see ``core.singular.as_sample``.
        steps: optimizer steps in all.
        batch: pictures a step, over all processes.
        micro_batch: pictures of one process at once; gradients are summed up to ``batch``. None: no accumulation.
        seed: of the order of pictures, noise and caption dropout.
        ema: decay of the averaged weights; 0: none are kept.
        precision: autocast; weights and optimizer stay float32.
        gradient_checkpointing: memory for time.
        compile: by torch.compile.
        channels_last: memory format of a U-Net.
        bring_text: put the base's text encoder into the module, for bases that have others.
        timeout: seconds after which a process that waits for another one in vain gives up.
    """

    name: str = ""
    out: Path
    data: Data
    network: Network = Network()
    loss: Literal["sample", "v_prediction", "epsilon", "moments"] = "sample"
    alpha: float = Field(default=0.0, ge=0, lt=1)
    steps: int = Field(ge=1)
    batch: int = Field(default=64, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    ema: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    compile: bool = False
    channels_last: bool = False
    bring_text: bool = False
    timeout: float = Field(default=600.0, gt=0)
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    checkpoints: Checkpoints = Checkpoints()
    log: Log = Log()
    validation: Validation = Validation()

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if self.loss == "epsilon" and self.alpha == 0:
            raise ValueError(
                "at alpha = 0 the noise says nothing of the picture; epsilon needs alpha, such as the base's last (0.068 for SD-1.5)"
            )
        if self.network.kind == "decoder" and self.loss not in ("sample", "moments"):
            raise ValueError(f"a decoder sees no noise and cannot learn {self.loss}; use sample or moments")
        if self.network.kind == "unet" and self.loss == "moments":
            raise ValueError("moments needs a decoder: network.kind = 'decoder'")
        return self


# What may change when a run is gone on with; anything else would make it another run.
FREE = ("name", "out", "steps", "micro_batch", "timeout", "compile", "gradient_checkpointing", "bring_text")
FREE_SECTIONS = ("checkpoints", "log", "validation")
FREE_DATA = ("shards", "base", "text_cache_mib", "workers")  # that pictures and base are the same is asked elsewhere


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two configurations (as JSON) that decide a run's course: "key: before, now"."""
    found = []
    for key, value in now.items():
        if key in FREE or key in FREE_SECTIONS:
            continue
        theirs = before.get(key)
        if isinstance(value, dict) and isinstance(theirs, dict) and key != "options":
            inner = {k: v for k, v in value.items() if not (key == "data" and k in FREE_DATA)}
            found += [f"{key}.{k}: {theirs.get(k)}, now {v}" for k, v in inner.items() if theirs.get(k) != v]
        elif theirs != value:
            found.append(f"{key}: {theirs}, now {value}")
    return found


def preset_names() -> list[str]:
    """Names that ``load_config`` knows without a file."""
    return sorted(file.name.removesuffix(".toml") for file in _presets().iterdir() if file.name.endswith(".toml"))


def _presets() -> Any:
    return resources.files(__package__) / "presets"


def read(source: str) -> dict[str, Any]:
    """The raw values of a TOML file or a preset.

    Raises:
        SingDiffusionError: it is neither, or no TOML.
    """
    if source in preset_names():
        text = (_presets() / f"{source}.toml").read_text("utf-8")
    else:
        try:
            text = Path(source).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SingDiffusionError(
                f"--config {source} is no readable file, nor a preset ({', '.join(preset_names())})"
            ) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SingDiffusionError(f"{source} is no TOML: {error}") from error


def load_config(source: str, changes: list[str] | None = None) -> Config:
    """A configuration from a file or a preset, with changes "section.key=value" (TOML values; bare words are strings).

    Raises:
        SingDiffusionError: it cannot be read, or a value is unknown, missing or wrong.
    """
    values = read(source)
    for change in changes or []:
        _set(values, change)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise SingDiffusionError(_plainly(source, error)) from error


def _plainly(source: str, error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    hints = {"missing": "is missing; say it in the file or with --set", "extra_forbidden": "is unknown"}
    said = hints.get(first["type"]) or f"is wrong: {first['msg'].removeprefix('Value error, ')}, not {first['input']!r}"
    if not where or first["type"] == "value_error":
        said = ("is wrong: " if where else "") + first["msg"].removeprefix("Value error, ")
    return f"{source}: {where} {said}".replace(":  ", ": ")


def _set(values: dict[str, Any], change: str) -> None:
    path, separator, text = change.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise SingDiffusionError(f"--set {change} is no key=value, such as data.held_out=100")
    inner = values
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            raise SingDiffusionError(f"--set {change}: {key} has no keys of its own")
    inner[keys[-1]] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return None if text == "none" else text
