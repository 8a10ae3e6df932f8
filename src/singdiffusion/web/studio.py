"""A model with the modules that fit it, and pictures of one request, without and with SingDiffusion."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from .. import tiny
from ..errors import SingDiffusionError
from ..painting.devices import differs_from_auto
from ..painting.luma import mean_luma
from ..painting.metadata import OFF, ON, PictureSettings, settings_of
from ..painting.paint import paint
from ..painting.room import require_room
from ..painting.scheduler_names import SCHEDULERS, scheduler_class
from ..painting.sizes import check_size, own_size
from ..plugin import Audit, SingDiffusion, audit
from ..plugin.color import parse_color
from ..plugin.pipelines import untouched
from .settings import NO_MODULE, OWN, Limits, Settings


class Cancelled(Exception):
    """The visitor cancelled the request or went away."""


@dataclass(frozen=True)
class Choice:
    """One first step that the page offers.

    Attributes:
        label: its name on the page.
        module: the module's name, as visitors see it; ``none`` without one.
        method: ``mean`` or ``moments``; empty without a module.
        sing: with the module; None without one.
    """

    label: str
    module: str = NO_MODULE
    method: str = ""
    sing: SingDiffusion | None = None

    @property
    def key(self) -> str:
        """The page's value for it."""
        return f"{self.module}/{self.method}" if self.method else self.module


@dataclass(frozen=True)
class Pair:
    """Pictures of one seed without SingDiffusion and, unless the first step is off, with it.

    Attributes:
        seed: of both.
        off, on: the pictures; None where there is none.
        withheld: of ``off`` and ``on`` those that the model's safety checker withheld.
    """

    seed: int
    off: Image.Image | None
    on: Image.Image | None
    withheld: tuple[str, ...] = ()

    @property
    def mean_luma(self) -> tuple[float | None, float | None]:
        """Mean luma, 0..255, without and with SingDiffusion; None where there is no picture."""
        off, on = (None if image is None else mean_luma(image) for image in (self.off, self.on))
        return off, on


@dataclass(frozen=True)
class Result:
    """Pictures of one request.

    Attributes:
        settings: the request, checked.
        pairs: one per seed.
        seconds: that painting took.
        record: settings of the first picture with SingDiffusion, or without it where the first step is off.
        explicit: precision and device, where they are not those that ``auto`` chooses here.
    """

    settings: Settings
    pairs: list[Pair]
    seconds: float
    record: PictureSettings
    explicit: Mapping[str, str]


OnStep = Callable[[str, int, int], None]  # part ("off" or "on"), step, steps


class Studio:
    """Paints requests, one at a time, because a pipeline's scheduler serves one call.

    Args:
        model: its name, for reports.
        pipe: the pipeline, on its device.
        modules: name -> module that fits it.
        controls: name -> picture that a ControlNet can follow.
        examples: prompts to try.
        limits: largest values of a request.
        names: from the name of a model or module to the one that visitors see.

    Raises:
        SingDiffusionError: a module does not fit, two are of one kind, or a ControlNet has no picture to follow.
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
        self.pipe = pipe
        self.controls = dict(controls or {})
        self.examples = list(examples)
        self.limits = limits or Limits()
        self.explicit = differs_from_auto(pipe)
        self.schedulers = [OWN, *(name for name in SCHEDULERS if _importable(name))]
        self._own_scheduler = pipe.scheduler
        self.nothing_to_fix = untouched(pipe)
        self.choices = _choices({} if self.nothing_to_fix else modules or {}, pipe, names)
        pipe.set_progress_bar_config(disable=True)
        if getattr(pipe, "controlnet", None) is not None and not self.controls:
            raise SingDiffusionError(
                "this model has a ControlNet and needs a picture that it follows", setting="control"
            )

    @property
    def modules(self) -> dict[str, list[str]]:
        """Name of each module, and ``none``, -> its methods; the best module and method last."""
        found: dict[str, list[str]] = {}
        for choice in self.choices:
            found.setdefault(choice.module, []).extend([choice.method] if choice.method else [])
        return found

    @property
    def best(self) -> Choice:
        """The first step of a request that names none."""
        return self.choices[-1]

    @property
    def note(self) -> str | None:
        """A sentence for visitors where there is no first step to choose."""
        if self.nothing_to_fix:
            return f"SingDiffusion leaves this model as it is: {self.nothing_to_fix}."
        if len(self.choices) == 1:
            return "This server has no module. A flat colour can take its place, under More settings."
        return None

    def check(self, settings: Settings) -> Settings:
        """Return the settings with every default filled in.

        Raises:
            SingDiffusionError: an unknown scheduler, module, method or control, options that do not go together, or a size
                that does not fit the model or the memory.
        """
        classes = [SCHEDULERS[name] for name in self.schedulers if name != OWN]
        _require_known("scheduler", settings.scheduler, [*self.schedulers, *classes])
        height, width = own_size(self.pipe)
        height, width = settings.height or height, settings.width or width
        check_size(self.pipe, height, width)
        require_room(self.pipe, settings.count, height, width, setting="height")
        control = settings.control or next(iter(self.controls), "")
        if control or self.controls:
            _require_known("control", control, list(self.controls))
        filled = {"height": height, "width": width, "control": control}
        return settings.model_copy(update=filled | self._checked_first_step(settings))

    def _checked_first_step(self, settings: Settings) -> dict[str, Any]:
        first = settings.first_step
        if first.color:
            if len(first.options()) > 1:
                raise SingDiffusionError(
                    "first_step.color goes with no other option of the first step", setting="first_step.color"
                )
            if self.nothing_to_fix:
                raise SingDiffusionError(f"SingDiffusion leaves this model as it is: {self.nothing_to_fix}")
            parse_color(first.color)
            return {"module": NO_MODULE}
        module = settings.module or self.best.module
        _require_known("module", module, list(self.modules))
        if module == NO_MODULE:
            if first.options():
                raise SingDiffusionError("first_step needs a module; choose one other than none", setting="module")
            return {"module": module}
        methods = self.modules[module]
        method = first.method or methods[-1]
        _require_known("method", method, methods, setting="first_step.method")
        if first.negative_prompt and not first.prompt:
            raise SingDiffusionError(
                "first_step.negative_prompt needs a first_step.prompt", setting="first_step.prompt"
            )
        return {"module": module, "first_step": first.model_copy(update={"method": method})}

    def audit(self, settings: Settings) -> Audit:
        """Audit the start of sampling with a request's scheduler, steps and size."""
        settings = self.check(settings)
        return audit(
            self._scheduler(settings.scheduler),
            settings.num_inference_steps,
            latents=(settings.height // self.pipe.vae_scale_factor, settings.width // self.pipe.vae_scale_factor),
        )

    def paint(
        self, settings: Settings, on_step: OnStep = lambda *_: None, cancelled: threading.Event | None = None
    ) -> Result:
        """Paint without and with SingDiffusion, from the same seeds. Not for two threads at once.

        Args:
            settings: the request.
            on_step: called after every step.
            cancelled: read after every step.

        Raises:
            SingDiffusionError: the request cannot be met.
            Cancelled: ``cancelled`` was set meanwhile.
        """
        settings = self.check(settings)
        started = time.monotonic()
        self.pipe.scheduler = self._scheduler(settings.scheduler)
        seeds = [settings.seed + i for i in range(settings.count)]
        off = self._paint(settings, seeds, OFF, on_step, cancelled)
        on: list[Any] = [None] * len(seeds)
        if not settings.is_off:
            sing = self._sing(settings)
            sing.enable(self.pipe, **settings.first_step.options())
            try:
                on = self._paint(settings, seeds, ON, on_step, cancelled)
            finally:
                sing.disable()
        asked = (OFF,) if settings.is_off else (OFF, ON)
        pairs = [
            Pair(seed, *images, tuple(part for part, image in zip(asked, images, strict=False) if image is None))
            for seed, *images in zip(seeds, off, on, strict=True)
        ]
        return Result(settings, pairs, time.monotonic() - started, self._record(settings), self.explicit)

    def _sing(self, settings: Settings) -> SingDiffusion:
        found = (choice.sing for choice in self.choices if choice.module == settings.module)
        return next(found) or SingDiffusion()  # without a module for a flat colour

    def _paint(
        self, settings: Settings, seeds: list[int], part: str, on_step: OnStep, cancelled: threading.Event | None
    ) -> list[Image.Image | None]:
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            if cancelled is not None and cancelled.is_set():
                raise Cancelled
            on_step(part, -(-done // len(seeds)), settings.num_inference_steps)

        if cancelled is not None and cancelled.is_set():
            raise Cancelled
        return paint(
            self.pipe,
            [settings.prompt] * len(seeds),
            seeds,
            on_step=step,
            controls=[self.controls[settings.control]] * len(seeds) if settings.control else None,
            negative_prompt=settings.negative_prompt or None,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            height=settings.height,
            width=settings.width,
        )

    def _scheduler(self, name: str) -> Any:
        """Return a new scheduler each time, because some keep state from one call to the next."""
        import diffusers

        kind = type(self._own_scheduler) if name == OWN else getattr(diffusers, scheduler_class(name))
        return kind.from_config(self._own_scheduler.config)

    def _record(self, settings: Settings) -> PictureSettings:
        found = settings_of(
            self.pipe,
            settings.prompt,
            settings.seed,
            negative_prompt=settings.negative_prompt or None,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            height=settings.height,
            width=settings.width,
            model=self.model,
            module=None if settings.module == NO_MODULE else settings.module,
            control=settings.control or None,
            singdiffusion=ON,
            first_step=settings.first_step.options(),
        )
        return found.without() if settings.is_off else found


def _choices(modules: Mapping[str, SingDiffusion], pipe: Any, names: Callable[[str], str]) -> list[Choice]:
    """Return "off" and each module's methods, the best one last.

    Raises:
        SingDiffusionError: a module does not fit the pipeline, or is the second of its kind.
    """
    shown = {name: names(name) for name in modules}
    found = {}
    for name, sing in modules.items():
        sing.enable(pipe)  # one that does not fit is an error now, before anybody asks
        methods = ("mean", "moments") if sing.method == "moments" else ("mean",)
        sing.disable()
        assert sing.module is not None
        kind = sing.module.kind
        if (kind, "mean") in found:
            raise SingDiffusionError(
                f"{name} is the second {type(sing.module.network).__name__}; the page offers one of a kind",
                setting="module",
            )
        alike = list(shown.values()).count(shown[name]) > 1
        visible = f"{shown[name]}-{kind}" if alike else shown[name]
        found |= {(kind, method): Choice(_LABELS[kind, method], visible, method, sing) for method in methods}
    order = list(_LABELS)
    return [Choice("Off"), *(found[key] for key in sorted(found, key=order.index))]


_LABELS = {
    ("unet", "mean"): "U-Net, mean (the paper's)",
    ("decoder", "mean"): "Decoder, mean",
    ("decoder", "moments"): "Decoder, mean and variance",
    ("unet", "moments"): "U-Net, mean and variance",
}


def _require_known(name: str, value: str, known: Sequence[str], setting: str | None = None) -> None:
    if value not in known:
        listed = [each for each in known if not each.endswith("Scheduler")]
        raise SingDiffusionError(
            f"unknown {name} {value!r}; known: {', '.join(listed) or 'none'}", setting=setting or name
        )


def _importable(scheduler: str) -> bool:
    """Whether the packages that a scheduler needs in addition to diffusers are installed."""
    return scheduler != "dpm++-sde" or importlib.util.find_spec("torchsde") is not None


def examples_of(model: str) -> list[str]:
    """Return prompts that show a difference in brightness, in words that the model was trained on."""
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
