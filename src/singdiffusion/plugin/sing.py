"""``SingDiffusion``: the plug-in itself."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..errors import SingDiffusionError
from ..modules import SingModule
from ..published import load_module
from .first_step import require_start
from .hooks import Hook
from .pipelines import PipelineSpec, spec_of, untouched
from .plug import Plug
from .starts import FlatColorStart, ModuleStart, Start
from .steering import Steering


class SingDiffusion:
    """The first step from t = 1 for a diffusers pipeline; the pipeline is called as before and its models stay untouched.

    While enabled, ``prepare_latents`` returns alpha y_bar + sigma x_1 in place of the noise x_1, in the scheduler's scale.
    x_1 is the noise that the pipeline drew, or got as ``latents``. y_bar is the module's guided prediction of
    E[x_0 | prompt]. alpha and sigma belong to the scheduler's first timestep (Zhang et al., CVPR 2024, arXiv 2403.08381,
    section 4). With method ``moments`` x_1 is also stretched along the lowest frequencies, so that pictures vary in
    brightness as they should (``core.singular.first_step``).

    Args:
        module: predicts y_bar. Without one only ``enable(pipe, color=...)`` works.
    """

    def __init__(self, module: SingModule | None = None):
        self.module = module
        self._pipe: weakref.ref | None = None
        self._plug: Plug | None = None  # None also on a pipeline that stays as it is
        self._active = True
        self._method: str | None = None
        self._warned: set[str] = set()
        self._device: torch.device | None = None  # None: that of the pipeline

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike, *, torch_dtype: torch.dtype | None = None, device: Any = None, **hub: Any
    ) -> SingDiffusion:
        """Load a module and return the plug-in for it.

        Args:
            source: ``"tiny"`` (embedded; or another of ``tiny.MODULES``), a folder that ``save_pretrained`` wrote, or a hub id.
            torch_dtype: of its weights; float32 by default, whatever the base's: it runs once per picture.
            device: where it stays; by default it follows the pipeline.
            hub: ``subfolder`` of the folder or repository; ``revision``, ``cache_dir``, ``local_files_only``, ``token``
                for ``huggingface_hub.snapshot_download``.

        Raises:
            SingDiffusionError: there is no such module, or its files are damaged.
        """
        sing = cls(load_module(source, torch_dtype=torch_dtype, **hub))
        return sing if device is None else sing.to(device)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write the module's folder; see ``SingModule.save_pretrained``.

        Raises:
            SingDiffusionError: there is no module, or the folder exists and is not a module.
        """
        if self.module is None:
            raise SingDiffusionError("there is no module to save")
        self.module.save_pretrained(folder)

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> SingDiffusion:
        """Move or cast the module, as ``SingModule.to``; it stays on a device that is given here."""
        if self.module is not None:
            self.module.to(device, dtype)
        if device is not None and not isinstance(device, torch.dtype):
            self._device = torch.device(device)
        return self

    # -- on and off ---------------------------------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        """Whether ``enable`` was called and ``disabled()`` does not suspend it; also true for a pipeline that stays as it is."""
        return self._pipeline is not None and self._active

    @property
    def method(self) -> str:
        """``mean`` or ``moments``: as asked for, or by default what the module can do."""
        return self._method or ("mean" if self.module is None else self.module.choose_method())

    def enable(
        self,
        pipe: Any,
        *,
        method: str | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        guidance_scale: float | None = None,
        color: str | tuple[int, int, int] | None = None,
    ) -> SingDiffusion:
        """Plug into a pipeline. A second call on the same pipeline replaces the options.

        The first step uses the pipeline's own embeddings of the prompt, whatever ``clip_skip`` of its call made of them. A module with
        a text encoder of its own, and ``prompt``, do not follow ``clip_skip``.

        Pipelines that start from a picture (img2img) or match flows stay as they are, with a warning.

        Args:
            pipe: a pipeline of a class in ``pipelines.PIPELINES``.
            method: ``mean``, the paper's step, or ``moments``, which also restores the variance; by default ``moments`` where the
                module predicts the covariance.
            prompt: for the first step alone, in place of the pipeline's own, to steer colour and light.
            negative_prompt: likewise; only with ``prompt``.
            guidance_scale: of the first step alone; by default the module's own, if it has one, otherwise the pipeline's.
            color: "#rrggbb", a CSS color name or (red, green, blue) within 0..255. The first step starts from the mean latent of
                this flat colour, through the pipeline's own VAE, whatever the prompt; no module is needed.

        Returns:
            Itself, so that ``SingDiffusion.from_pretrained(...).enable(pipe)`` is one line.

        Raises:
            SingDiffusionError: the pipeline's class is unknown, its latent space or text does not fit the module, this object is
                enabled on another pipeline, or another SingDiffusion on this one, or an option is wrong.
        """
        steering = Steering.checked(method, prompt, negative_prompt, guidance_scale, color)
        self._require_free(pipe)
        reason = untouched(pipe)
        if reason is not None:
            self._warn_once(f"SingDiffusion leaves {type(pipe).__name__} as it is: {reason}")
        else:
            spec = spec_of(pipe)
            require_start(pipe.scheduler)
            start = self._make_start(steering, pipe, spec)
            if self._plug is None or self._pipeline is None:
                self._plug = Plug(pipe, spec, start, self, self._warn_once)
            self._plug.start = start
        self._method = steering.method
        self._pipe = weakref.ref(pipe)
        return self

    def disable(self) -> None:
        """Unplug: the pipeline is what it was. Without effect where nothing is enabled."""
        if self._plug is not None:
            self._plug.remove()
        self._pipe = self._plug = None

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Suspend the first step inside a ``with`` block."""
        before, self._active = self._active, False
        try:
            yield
        finally:
            self._active = before

    @property
    def _pipeline(self) -> Any:
        return None if self._pipe is None else self._pipe()

    def _require_free(self, pipe: Any) -> None:
        if isinstance(pipe, type) or not hasattr(pipe, "scheduler"):
            what = f"the class {pipe.__name__}" if isinstance(pipe, type) else f"a {type(pipe).__name__}"
            raise SingDiffusionError(f"enable takes a diffusers pipeline, not {what}")
        plugged_in = self._pipeline
        if plugged_in is not None and plugged_in is not pipe:
            raise SingDiffusionError(
                "this SingDiffusion is enabled on another pipeline; disable() it first, or load a second"
            )
        if plugged_in is None and any(isinstance(value, Hook) for value in vars(pipe).values()):
            raise SingDiffusionError("another SingDiffusion is enabled on this pipeline; disable() that one first")

    def _make_start(self, steering: Steering, pipe: Any, spec: PipelineSpec) -> Start:
        if steering.color is not None:
            return FlatColorStart(steering.color, pipe, spec)
        if self.module is None:
            raise SingDiffusionError("there is no module: load one with from_pretrained, or pass a color")
        return ModuleStart(self.module, self._device, steering, pipe, spec)

    def _warn_once(self, line: str) -> None:
        if line not in self._warned:
            self._warned.add(line)
            warnings.warn(line, stacklevel=3)
