"""A model with the modules that fit it, and pictures of one request, without and with."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from .. import tiny
from ..choices import SCHEDULERS, scheduler_class
from ..errors import SingDiffusionError
from ..painting.luma import mean_luma
from ..painting.paint import paint
from ..painting.sizes import check_size, own_size
from ..plugin import Audit, SingDiffusion, audit
from ..plugin.color import parse_color
from ..plugin.pipelines import untouched
from .settings import OFF, OWN, Limits, Settings


class Cancelled(Exception):
    """The visitor does not want it any more."""


@dataclass(frozen=True)
class Method:
    """One choice of first step.

    Attributes:
        label: for people.
        sing: the module's; None: off.
        name: ``mean`` or ``moments``.
        module: the module's name, for visitors; ``none`` without one.
    """

    label: str
    sing: SingDiffusion | None = None
    name: str | None = None
    module: str = "none"


@dataclass(frozen=True)
class Pair:
    """One seed's picture without and, unless the method is off, with the first step."""

    seed: int
    without: Image.Image
    with_: Image.Image | None

    @property
    def greys(self) -> tuple[float, float | None]:
        """Mean luma, 0..255, without and with."""
        return mean_luma(self.without), None if self.with_ is None else mean_luma(self.with_)


@dataclass(frozen=True)
class Result:
    settings: Settings
    pairs: list[Pair]
    seconds: float
    made_with: dict[str, Any] = field(default_factory=dict)  # for the metadata of a file


OnStep = Callable[[str, int, int], None]  # part ("without" or "with"), step, steps


class Studio:
    """Paints requests, one at a time: a pipeline's scheduler serves one call.

    Args:
        model: its name, for reports.
        pipe: the pipeline, on its device.
        modules: those that fit it, each under its name.
        controls: what a ControlNet can follow, by name.
        examples: prompts to try.
        limits: the most that a request may ask for.
        names: model's or module's name -> what visitors may see of it.

    Raises:
        SingDiffusionError: a module does not fit, or two would have the same name on the page.
    """

    def __init__(
        self,
        model: str,
        pipe: Any,
        modules: Mapping[str, SingDiffusion] | None = None,
        *,
        controls: Mapping[str, Image.Image] | None = None,
        examples: Sequence[str] = (),
        limits: Limits | None = None,
        names: Callable[[str], str] = str,
    ):
        self.model = names(model)
        self._names = names
        self.pipe = pipe
        self.controls = dict(controls or {})
        self.examples = list(examples)
        self.limits = limits or Limits()
        self.schedulers = [OWN, *(name for name in SCHEDULERS if _importable(name))]
        self._own_scheduler = pipe.scheduler
        self.nothing_to_fix = untouched(pipe)
        self.methods = self._methods({} if self.nothing_to_fix else modules or {})
        pipe.set_progress_bar_config(disable=True)
        if getattr(pipe, "controlnet", None) is not None and not self.controls:
            raise SingDiffusionError("this model has a ControlNet; say what to follow: --control PICTURE")

    def _methods(self, modules: Mapping[str, SingDiffusion]) -> dict[str, Method]:
        """Key -> method, the best one last."""
        found = {OFF: Method("Off")}
        for name, sing in modules.items():
            sing.enable(self.pipe)  # refuses what does not fit, before anybody asks
            able = ("mean", "moments") if sing.method == "moments" else ("mean",)
            sing.disable()
            assert sing.module is not None
            kind = sing.module.kind
            for method in able:
                key = f"{kind}-{method}"
                if key in found:
                    raise SingDiffusionError(
                        f"two modules are a {type(sing.module.network).__name__}; {name} is one too many"
                    )
                found[key] = Method(_LABELS[key], sing, method, self._names(name))
        order = list(_LABELS)
        return dict(sorted(found.items(), key=lambda pair: order.index(pair[0])))

    @property
    def best(self) -> str:
        """The method that a request gets which names none."""
        return list(self.methods)[-1]

    @property
    def note(self) -> str | None:
        """What a visitor should know of the choice of methods, where there is none."""
        if self.nothing_to_fix:
            return f"SingDiffusion leaves this model as it is: {self.nothing_to_fix}."
        if list(self.methods) == [OFF]:
            return "No module was given to this server: only a flat colour, under More settings, can take its place."
        return None

    def check(self, settings: Settings) -> Settings:
        """The same with nothing left open, or one line that says what this model cannot do.

        Raises:
            SingDiffusionError: an unknown scheduler, method or control, no colour, or a size that does not fit.
        """
        if settings.scheduler not in self.schedulers:
            raise SingDiffusionError(f"scheduler: unknown {settings.scheduler!r}; known: {', '.join(self.schedulers)}")
        method = settings.method or (OFF if settings.color else self.best)
        if method not in self.methods:
            raise SingDiffusionError(f"method: unknown {method!r}; known: {', '.join(self.methods)}")
        if settings.color and settings.first_prompt:
            raise SingDiffusionError("color: give the first step a colour or words of its own, not both")
        if settings.color and self.nothing_to_fix:
            raise SingDiffusionError(f"color: SingDiffusion leaves this model as it is: {self.nothing_to_fix}")
        if settings.color:
            parse_color(settings.color)
        if settings.first_prompt and method == OFF:
            raise SingDiffusionError("first_prompt: it needs a first step; choose a method other than off")
        height, width = own_size(self.pipe)
        height, width = settings.height or height, settings.width or width
        check_size(self.pipe, height, width)
        control = settings.control or next(iter(self.controls), "")
        if control not in (self.controls or {"": None}):
            raise SingDiffusionError(f"control: unknown {control!r}; known: {', '.join(self.controls) or 'none'}")
        return settings.model_copy(update={"method": method, "height": height, "width": width, "control": control})

    def audit(self, settings: Settings) -> Audit:
        """Where sampling starts with a request's scheduler, steps and size."""
        settings = self.check(settings)
        return audit(
            self._scheduler(settings.scheduler),
            settings.steps,
            latents=(settings.height // self.pipe.vae_scale_factor, settings.width // self.pipe.vae_scale_factor),
        )

    def paint(
        self, settings: Settings, on_step: OnStep = lambda *_: None, cancelled: threading.Event | None = None
    ) -> Result:
        """Pictures without and with, from the same seeds. Not for two threads at once.

        Raises:
            SingDiffusionError: the request cannot be met.
            Cancelled: ``cancelled`` was set meanwhile; it is looked at after every step.
        """
        settings = self.check(settings)
        started = time.monotonic()
        self.pipe.scheduler = self._scheduler(settings.scheduler)
        seeds = [settings.seed + i for i in range(settings.count)]
        without = self._paint(settings, seeds, "without", on_step, cancelled)
        with_: list[Any] = [None] * len(seeds)
        sing, steering = self._first_step(settings)
        if sing is not None:
            sing.enable(self.pipe, **steering)
            try:
                with_ = self._paint(settings, seeds, "with", on_step, cancelled)
            finally:
                sing.disable()
        pairs = [Pair(*each) for each in zip(seeds, without, with_, strict=True)]
        return Result(settings, pairs, time.monotonic() - started, self._made_with(settings))

    def _first_step(self, settings: Settings) -> tuple[SingDiffusion | None, dict[str, Any]]:
        if settings.color:
            return SingDiffusion(), {"color": settings.color}
        method = self.methods[settings.method]
        told = {"prompt": settings.first_prompt} if settings.first_prompt else {}
        return method.sing, {"method": method.name, **told}

    def _paint(
        self, settings: Settings, seeds: list[int], part: str, on_step: OnStep, cancelled: threading.Event | None
    ) -> list[Image.Image]:
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            if cancelled is not None and cancelled.is_set():
                raise Cancelled
            on_step(part, -(-done // len(seeds)), getattr(self.pipe, "num_timesteps", settings.steps))

        if cancelled is not None and cancelled.is_set():
            raise Cancelled
        return paint(
            self.pipe,
            [settings.prompt] * len(seeds),
            seeds,
            on_step=step,
            controls=[self.controls[settings.control]] * len(seeds) if settings.control else None,
            negative_prompt=settings.negative_prompt or None,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            height=settings.height,
            width=settings.width,
        )

    def _scheduler(self, name: str) -> Any:
        """A fresh one: some keep state of the call before."""
        import diffusers

        kind = type(self._own_scheduler) if name == OWN else getattr(diffusers, scheduler_class(name))
        return kind.from_config(self._own_scheduler.config)

    def _made_with(self, settings: Settings) -> dict[str, Any]:
        own = {"prompt", "seed", "count"}
        return {
            "model": self.model,
            "module": "none" if settings.color else self.methods[settings.method].module,
            **{k: v for k, v in settings.model_dump().items() if k not in own and v != ""},
            "scheduler": type(self._scheduler(settings.scheduler)).__name__,
            "dtype": str(self.pipe.dtype).removeprefix("torch."),
            "device": self.pipe.device.type,
        }


_LABELS = {
    OFF: "Off",
    "unet-mean": "U-Net, mean (the paper's)",
    "decoder-mean": "Decoder, mean",
    "decoder-moments": "Decoder, mean and variance",
    "unet-moments": "U-Net, mean and variance",
}


def _importable(scheduler: str) -> bool:
    """Whether what a scheduler needs besides diffusers is installed."""
    return scheduler != "dpm++-sde" or importlib.util.find_spec("torchsde") is not None


def examples_of(model: str) -> list[str]:
    """Prompts whose light shows the difference, in words that the model knows."""
    return TINY_EXAMPLES if model in tiny.MODELS else EXAMPLES


TINY_EXAMPLES = [
    "solid black background",
    "solid white background",
    "monochrome line-art logo on a black background",
    "red apple on a dark blue background",
    "rocket on a black background",
    "sunflower on a white background",
]
EXAMPLES = [
    "solid black background",
    "solid white background",
    "monochrome line-art logo on a white background",
    "a single candle in a pitch-black room",
    "a polar bear in a snowstorm, overexposed",
    "a lighthouse on a moonless night",
]
