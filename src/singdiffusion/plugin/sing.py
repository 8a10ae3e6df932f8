"""``SingDiffusion``: the plug-in itself."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..errors import SingDiffusionError
from ..modules import SingModule
from ..published import load_module, push_to_hub
from .choice import choose_for, module_dtype, print_line
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
        cls,
        source: str | os.PathLike,
        *,
        base: str | os.PathLike | None = None,
        torch_dtype: torch.dtype | None = None,
        device: Any = None,
        variant: str | None = None,
        **hub: Any,
    ) -> SingDiffusion:
        """Load a module and return the plug-in for it.

        Args:
            source: ``"tiny"`` (embedded; or another of ``tiny.MODULES``); a folder or hub id in this package's layout, in that of
                SingDiffusion's authors or in OneMoreStep's; or a ``.safetensors`` file in the original key layout.
            base: folder or hub id of the model whose latent space and text encoder the module was trained for, where the module
                does not name it. By default Stable Diffusion 1.5 for the authors' layout.
            torch_dtype: of its weights; float32 by default, whatever the base's: it runs once per picture.
            device: where it stays; by default it follows the pipeline.
            variant: "fp16" reads only the half-precision files of a repository.
            hub: ``subfolder`` of the folder or repository; ``revision``, ``cache_dir``, ``local_files_only``, ``token``
                for ``huggingface_hub.snapshot_download``.

        Raises:
            SingDiffusionError: there is no such module, or its files are damaged.
        """
        sing = cls(load_module(source, base=base, torch_dtype=torch_dtype, variant=variant, **hub))
        return sing if device is None else sing.to(device)

    @classmethod
    def for_pipeline(
        cls,
        pipe: Any,
        *,
        torch_dtype: torch.dtype | None = None,
        device: Any = None,
        report: Callable[[str], None] = print_line,
        **hub: Any,
    ) -> SingDiffusion:
        """Load the module that fits a pipeline, by latent space and text encoder, and return the plug-in for it, not yet enabled.

        The user's own modules (subfolders of ``SINGDIFFUSION_HOME``, or of the platform's user data folder ``singdiffusion``) come
        before the embedded one, and this before public ones on the hub. For a pipeline that stays as it is no module is loaded.

        Args:
            pipe: the pipeline.
            torch_dtype: of the module's weights; by default the pipeline's.
            device: where the module stays; by default it follows the pipeline.
            report: takes a line on what was chosen, from where, under whose terms and with which size of download, before anything
                large is downloaded; by default it goes to stderr.
            hub: ``cache_dir``, ``local_files_only`` and ``token``, as for ``from_pretrained``.

        Raises:
            SingDiffusionError: the pipeline's class is unknown, no module fits, or the one that fits cannot be had.
        """
        _require_pipeline(pipe, "for_pipeline")
        dtype = torch_dtype or module_dtype(pipe)
        choice = choose_for(pipe, dtype, **hub)
        if choice is None:
            return cls()
        for line in (*choice.passed_over, choice.line):
            report(line)
        return cls.from_pretrained(choice.source, torch_dtype=dtype, device=device, **hub)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write the module's folder; see ``SingModule.save_pretrained``.

        Raises:
            SingDiffusionError: there is no module, or the folder exists and is not a module.
        """
        self._require_module().save_pretrained(folder)

    def push_to_hub(self, hub_id: str, **options: Any) -> str:
        """Write the module, with its model card, into a repository of the hub.

        Args:
            hub_id: "owner/name"; the repository is made if it is missing.
            options: ``private``, ``commit_message``, ``revision``, ``create_pr`` and ``token``, as for ``published.push.push_to_hub``.

        Returns:
            Address of the commit.

        Raises:
            SingDiffusionError: there is no module, or the hub refused it.
        """
        return push_to_hub(self._require_module(), hub_id, **options)

    def _require_module(self) -> SingModule:
        if self.module is None:
            raise SingDiffusionError("there is no module to save")
        return self.module

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
        _require_pipeline(pipe, "enable")
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


def _require_pipeline(pipe: Any, method: str) -> None:
    if isinstance(pipe, type) or not hasattr(pipe, "scheduler"):
        what = f"the class {pipe.__name__}" if isinstance(pipe, type) else f"a {type(pipe).__name__}"
        raise SingDiffusionError(f"{method} takes a diffusers pipeline, not {what}")
