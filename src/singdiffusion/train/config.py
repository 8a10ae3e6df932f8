"""The configuration of a training run: read from a TOML file or a preset, with changes on top."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import SingDiffusionError, validation_line
from ..reading import DEEPEST, parse_toml, read_toml

LARGEST_SIZE = 2**20  # a number in network.options
LONGEST_LIST = 100  # in network.options
MOST_BLOCKS = 2000  # of a network; that of SDXL has 70


def _name(value: str | Path) -> str | Path:
    """Return a name that files and models can have."""
    text = str(value)
    if text in ("", ".") or "\0" in text:
        raise ValueError("must be a name, not empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("must be text in UTF-8") from error
    return value


Name = Annotated[str, AfterValidator(_name)]
Folder = Annotated[Path, AfterValidator(_name)]
# bounds that no run reaches: steps and places in a batch are 32 bits of the seed of noise (train.batches)
Whole = Annotated[int, Field(strict=True, lt=2**32)]
Number = Annotated[float, Field(strict=True)]
Decay = Annotated[float, Field(strict=True, ge=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(_Section):
    """The data of a run.

    Attributes:
        shards: folder that ``singdiffusion encode`` wrote.
        base: the model that the shards were encoded with: ``tiny``, a folder, or a hub id. Training needs its text encoder only.
        held_out: number of pictures kept for validation.
        caption_dropout: share of captions replaced by "", for classifier-free guidance.
        text_cache_mib: memory for the embeddings of distinct captions; if they do not fit, all are computed at every step.
        workers: processes that read batches ahead; 0: the training process reads them itself.
        verify: check each shard's SHA-256 against the manifest before the first step; once, until its file changes.
    """

    shards: Folder
    base: Name
    held_out: Whole = Field(default=512, ge=0)
    caption_dropout: Number = Field(default=0.1, ge=0, le=1)
    text_cache_mib: Whole = Field(default=4096, ge=0)
    workers: Whole = Field(default=0, ge=0, le=64)
    verify: bool = True


class Network(_Section):
    """The network of a run, and where its first weights come from.

    Attributes:
        kind: ``unet``, a ``TimeFreeUNet`` (the paper's), or ``decoder``, a ``MeanDecoder``.
        init: a base model; the network starts from those weights of its U-Net that fit. ``options`` may change the shape.
        init_module: a module to fine-tune: a folder, a hub id or ``tiny``. It keeps its shape.
        options: arguments of the network's class; channels, size and text width come from the data.
        seed: of fresh weights.
    """

    kind: Literal["unet", "decoder"] = "unet"
    init: Name | None = None
    init_module: Name | None = None
    options: dict[str, Any] = {}
    seed: Whole = Field(default=0, ge=0)

    @field_validator("options")
    @classmethod
    def _plain_options(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, option in value.items():
            _require_plain(name, option)
        layers = math.prod(_largest(option) for name, option in value.items() if "layers" in name)
        blocks = layers * max((len(option) for option in value.values() if isinstance(option, list)), default=1)
        if blocks > MOST_BLOCKS:  # a network is made block by block, so more would take minutes to refuse
            raise ValueError(f"they make about {blocks:,} blocks; at most {MOST_BLOCKS:,} are possible")
        return value

    @model_validator(mode="after")
    def _one_start(self) -> Network:
        if self.init is not None and self.init_module is not None:
            raise ValueError("init and init_module exclude each other")
        if self.init is not None and self.kind == "decoder":
            raise ValueError(
                "a decoder cannot start from a base's U-Net: leave out init, or fine-tune a decoder with init_module"
            )
        if self.init_module is not None and self.options:
            raise ValueError("a module that is fine-tuned keeps its shape: leave out options")
        return self


class Optimizer(_Section):
    """AdamW.

    Attributes:
        name: ``adamw``, or ``adamw8bit``, which needs bitsandbytes.
        rate: peak of the learning rate.
        betas: decay of its two averages.
        weight_decay: decoupled from the gradient.
        clip: largest norm of the gradient; larger gradients are scaled down to it.
    """

    name: Literal["adamw", "adamw8bit"] = "adamw"
    rate: Number = Field(default=1e-4, gt=0)
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: Number = Field(default=0.01, ge=0)
    clip: Number = Field(default=1.0, gt=0)


class Schedule(_Section):
    """The learning rate at each step.

    Attributes:
        shape: ``constant``, or ``cosine``, which falls after ``hold``.
        warm_up: steps over which the rate rises linearly to its peak.
        hold: share of the run after which the rate falls.
        final: share of the peak at the end of the run.
    """

    shape: Literal["cosine", "constant"] = "cosine"
    warm_up: Whole = Field(default=500, ge=0)
    hold: Number = Field(default=0.0, ge=0, lt=1)
    final: Number = Field(default=0.02, ge=0, le=1)


class Checkpoints(_Section):
    """When checkpoints are written: after so many steps or minutes, whichever comes first, and when a signal stops the run.

    Attributes:
        every_steps: steps between two; None: only the time counts.
        every_minutes: minutes between two; None: only the steps count.
        keep: number of checkpoints kept; older ones are deleted.
    """

    every_steps: Whole | None = Field(default=None, ge=1)
    every_minutes: Number | None = Field(default=10.0, gt=0)
    keep: Whole = Field(default=2, ge=1)


class Log(_Section):
    """What a run records.

    Attributes:
        every: steps between two lines in log.jsonl, and between two reports to the trackers.
        trackers: names of accelerate's trackers, such as tensorboard and wandb.
    """

    every: Whole = Field(default=10, ge=1)
    trackers: list[str] = ["tensorboard"]


class Validation(_Section):
    """Validation on held-out pictures, with the averaged weights.

    Attributes:
        every: steps between validations; the end of the run always has one.
        batch: pictures at once.
        noises: draws of x_1 from which the variance of the output is estimated.
        prompts: painted by the base without and with the module at each validation; the base is loaded at the start and kept.
        steps: denoising steps of these pictures.
        guidance_scale: of these pictures.
    """

    every: Whole = Field(default=1000, ge=1)
    batch: Whole = Field(default=64, ge=1)
    noises: Whole = Field(default=4, ge=2, le=1000)
    prompts: list[str] = Field(default=[], max_length=100)
    steps: Whole = Field(default=30, ge=1, le=1000)
    guidance_scale: Number = 7.5


class Config(_Section):
    """A training run.

    Attributes:
        name: a description, also written into the module's configuration.
        out: folder of the run: checkpoints, logs, samples, and at the end ``module/``.
        loss: ``sample``, the paper's x-prediction; ``v_prediction`` and ``epsilon``, OneMoreStep's; ``moments``: mean and covariance.
        alpha: for ``v_prediction`` and ``epsilon``, the alpha_t at which they are defined, see ``core.singular.as_sample``.
        steps: number of optimizer steps.
        batch: pictures per step, over all processes.
        micro_batch: pictures that a process takes at once; gradients are summed up to ``batch``. None: all of its share.
        seed: of the order of pictures, noise and caption dropout.
        ema: decay of the averaged weights; 0: no averaging.
        precision: of autocast; weights and optimizer stay float32.
        gradient_checkpointing: compute activations twice to save memory.
        compile: use torch.compile.
        channels_last: memory format of a U-Net.
        bring_text: write the base's text encoder into the module, for bases that have another.
        timeout: seconds that a process waits for the others before it gives up.
    """

    name: str = ""
    out: Folder
    data: Data
    network: Network = Network()
    loss: Literal["sample", "v_prediction", "epsilon", "moments"] = "sample"
    alpha: Number = Field(default=0.0, ge=0, lt=1)
    steps: Whole = Field(ge=1)
    batch: Whole = Field(default=64, ge=1, le=2**20)
    micro_batch: Whole | None = Field(default=None, ge=1)
    seed: Whole = Field(default=0, ge=0)
    ema: Number = Field(default=0.999, ge=0, lt=1)
    precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    compile: bool = False
    channels_last: bool = False
    bring_text: bool = False
    timeout: Number = Field(default=600.0, ge=1, le=1e7)
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    checkpoints: Checkpoints = Checkpoints()
    log: Log = Log()
    validation: Validation = Validation()

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if (self.micro_batch or 0) > self.batch:
            raise ValueError(f"micro_batch must be at most batch, {self.batch}, not {self.micro_batch}")
        if self.loss == "epsilon" and self.alpha == 0:
            raise ValueError(
                "loss epsilon needs alpha above 0, such as the base's last (0.068 for SD-1.5): at alpha = 0 its target is the input"
            )
        if self.network.kind == "decoder" and self.loss not in ("sample", "moments"):
            raise ValueError(
                f"a decoder has no noise as input and cannot learn {self.loss}; loss must be sample or moments"
            )
        if self.network.kind == "decoder" and self.gradient_checkpointing:
            raise ValueError("a decoder has no gradient checkpointing: gradient_checkpointing must be false")
        if self.network.kind == "unet" and self.loss == "moments":
            raise ValueError("loss moments needs a decoder: network.kind must be decoder")
        return self


# Settings that may differ when a run resumes; any other difference makes it another run.
FREE = ("name", "out", "steps", "micro_batch", "timeout", "compile", "gradient_checkpointing", "bring_text")
FREE_SECTIONS = ("checkpoints", "log", "validation")
FREE_DATA = (
    "shards",
    "base",
    "text_cache_mib",
    "workers",
    "verify",
)  # pictures and text encoder are compared by their digests


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the settings that decide a run's course and differ between two configurations, as "key: before, now".

    Args:
        before, now: configurations as JSON.
    """
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
    """Return the names that ``load_config`` takes in place of a file."""
    return sorted(file.name.removesuffix(".toml") for file in _presets().iterdir() if file.name.endswith(".toml"))


def _presets() -> Any:
    return resources.files(__package__) / "presets"


def read(source: str) -> dict[str, Any]:
    """Return the raw values of a TOML file or a preset.

    Raises:
        SingDiffusionError: ``source`` is neither, or cannot be read as TOML.
    """
    if source in preset_names():
        return parse_toml((_presets() / f"{source}.toml").read_text("utf-8"), source)
    try:
        exists = Path(source).exists()
    except (OSError, ValueError):  # a name that no file can have
        exists = False
    if not exists:
        raise SingDiffusionError(f"{source} is neither a file nor a preset ({', '.join(preset_names())})")
    return read_toml(Path(source))


def load_config(source: str, changes: list[str] | None = None, given: Mapping[str, Any] | None = None) -> Config:
    """Return the configuration of a file or a preset, with changes.

    Args:
        source: path of a TOML file, or one of ``preset_names()``.
        changes: "section.key=value", where value is TOML; a bare word is a string.
        given: values by "section.key"; ``changes`` come after them.

    Raises:
        SingDiffusionError: the source cannot be read, or a value is unknown, missing or wrong.
    """
    values = read(source)
    for path, value in (given or {}).items():
        _set(values, path, value)
    for change in changes or []:
        path, separator, text = change.partition("=")
        if not separator or not all(path.strip().split(".")):
            raise SingDiffusionError(f"a change must be key=value, such as data.held_out=100, not {change!r:.80}")
        try:
            change.encode()
        except UnicodeEncodeError as error:
            raise SingDiffusionError(f"the change {change:.80} is not UTF-8") from error
        _set(values, path.strip(), _value(text.strip()))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        section = first["type"] == "value_error" and first["loc"] in ((), ("network",))
        key = None if section else ".".join(map(str, first["loc"]))
        known = f"; known: {', '.join(_known(first['loc'][:-1]))}" if first["type"] == "extra_forbidden" else ""
        raise SingDiffusionError(f"{source}: {validation_line(error)}{known}", setting=key) from error


def _known(path: Sequence[str | int]) -> list[str]:
    """Return the names of the settings in a section."""
    kind: Any = Config
    for name in path:
        kind = kind.model_fields[name].annotation
    return list(kind.model_fields)


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    *sections, last = path.split(".")
    if len(sections) > DEEPEST:
        raise SingDiffusionError(f"the change of {path:.40}... is wrong: it names {len(sections)} sections")
    inner = values
    for key in sections:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            raise SingDiffusionError(f"the change of {path:.80} is wrong: {key} has no keys of its own")
    inner[last] = value


def _value(text: str) -> Any:
    """Return a value that is written in TOML, None for "none", and a text that is neither as it is."""
    try:
        found = parse_toml(f"value = {text}", "the value")
    except SingDiffusionError:
        return None if text == "none" else text
    return found["value"] if list(found) == ["value"] else text


def _require_plain(name: str, option: Any) -> None:
    """Raise ValueError, which pydantic reports, for an option that no network has: it would fill the memory, or run on and on."""
    if isinstance(option, list):
        if len(option) > LONGEST_LIST:
            raise ValueError(f"{name} has {len(option):,} entries; at most {LONGEST_LIST} are taken")
        for each in option:
            _require_plain(name, each)
    elif isinstance(option, float) and not math.isfinite(option):
        raise ValueError(f"{name} must be a finite number, not {option}")
    elif isinstance(option, int | float) and abs(option) > LARGEST_SIZE:
        raise ValueError(f"{name} must be at most {LARGEST_SIZE:,}")
    elif not isinstance(option, str | int | float | None):
        raise ValueError(f"{name} must be a number, text, true, false or a list, not a {type(option).__name__}")


def _largest(option: Any) -> int:
    """Return the largest whole number of an option; at least 1."""
    if isinstance(option, list):
        return max(map(_largest, option), default=1)
    return max(1, option) if isinstance(option, int) else 1
