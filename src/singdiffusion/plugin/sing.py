"""``SingDiffusion``: the plug-in itself."""

from __future__ import annotations

import math
import os
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.singular import as_sample, first_step, guided_mean
from ..errors import SingDiffusionError
from . import checkpoints, text
from .calls import runs_elsewhere
from .color import Color, flat_latents, parse_color
from .config import SingConfig
from .first_step import first_step_of, require_start
from .hooks import Hook
from .pipelines import PipelineSpec, spec_of, untouched

METHODS = ("mean", "moments")


class _Call(threading.local):
    """What ``encode_prompt`` got and gave in the call that this thread is in, until ``prepare_latents`` takes it."""

    embeddings: tuple[Tensor, Tensor | None] | None = None
    given: dict[str, Any] | None = None

    def clear(self) -> None:
        self.embeddings = self.given = None


@dataclass(frozen=True)
class _Steering:
    """What the first step is told instead of what the pipeline is told."""

    prompt: str | None = None
    negative_prompt: str = ""
    guidance_scale: float | None = None
    color: Color | None = None
    method: str | None = None


class SingDiffusion:
    """The first step from t = 1 for a diffusers pipeline; the pipeline is called as before and its models stay untouched.

    Enabled, ``prepare_latents`` returns alpha y_bar + sigma x_1 in place of the noise x_1 (times whatever the scheduler
    wants), where x_1 is the very noise that the pipeline drew or was given as ``latents``, y_bar is the module's guided
    estimate of E[x_0 | prompt], and alpha and sigma are those of the scheduler's first timestep
    ([SD] section 4, arXiv 2403.08381). With a module that tells variances, x_1 is also stretched along the lowest frequencies,
    so that pictures vary in brightness as they should (``core.singular.first_step``).

    Args:
        module: a network with ``predict(x_1, prompt_embeds) -> y_bar``, and for ``moments`` with ``predict_moments``. Without one
            only ``enable(pipe, color=...)`` works.
        config: the latent space and the text that it was trained for.
        tokenizer: the one that it was trained with, for bases whose own is another. May be left out.
        text_encoder: likewise; the two come together.
    """

    def __init__(
        self, module: Any = None, config: SingConfig | None = None, tokenizer: Any = None, text_encoder: Any = None
    ):
        if (module is None) != (config is None):
            raise SingDiffusionError("a module needs its config, and a config its module")
        if (tokenizer is None) != (text_encoder is None):
            raise SingDiffusionError("a text encoder needs its tokenizer, and a tokenizer its text encoder")
        self.module = module
        self.config = config
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self._pipe: weakref.ref | None = None
        self._hooks: weakref.WeakSet[Hook] = weakref.WeakSet()  # the pipeline owns them, and they hold the pipeline
        self._active = True
        self._shares_text = True
        self._steering = _Steering()
        self._said: set[str] = set()
        self._call = _Call()
        self._device: torch.device | None = None  # None: that of the pipeline

    # -- files --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike, *, torch_dtype: torch.dtype | None = None, device: Any = None, **hub: Any
    ) -> SingDiffusion:
        """Load a module.

        Args:
            source: ``"tiny"`` (embedded; or another of ``tiny.MODULES``), a folder that ``save_pretrained`` wrote, or a hub id.
            torch_dtype: of its weights; float32 by default, whatever the base's: it costs one forward a picture.
            device: where it shall stay; by default it follows the pipeline.
            hub: ``subfolder`` of the folder or repository; ``revision``, ``cache_dir``, ``local_files_only``, ``token``
                for ``huggingface_hub.snapshot_download``.

        Raises:
            SingDiffusionError: it is not there, is no module, or its files are damaged.
        """
        folder = checkpoints.resolve(source, **hub)
        config = checkpoints.read_config(folder)
        module = checkpoints.read_module(folder, torch_dtype)
        checkpoints.require_match(module, config, folder)
        sing = cls(module, config, *checkpoints.read_text(folder, torch_dtype))
        return sing if device is None else sing.to(device)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write ``sing_config.json``, ``module/`` and, where it has its own, ``tokenizer/`` and ``text_encoder/``: all or nothing.

        Raises:
            SingDiffusionError: there is no module, or the folder exists and is none.
        """
        if self.module is None or self.config is None:
            raise SingDiffusionError("there is no module to save")
        checkpoints.write(Path(folder), self.config, self.module, self.tokenizer, self.text_encoder)

    def to(self, *args: Any, **kwargs: Any) -> SingDiffusion:
        """Move or cast the module and its text encoder, as ``torch.nn.Module.to``; a device given here is kept."""
        for network in (self.module, self.text_encoder):
            if network is not None:
                network.to(*args, **kwargs)
        device = torch._C._nn._parse_to(*args, **kwargs)[0]
        if device is not None:
            self._device = device
        return self

    # -- on and off ---------------------------------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        """Whether a pipeline is held and the first step is not suspended by ``disabled()``."""
        return self._held() is not None and self._active

    @property
    def method(self) -> str:
        """``mean`` or ``moments``: what was asked for, or else what the module can."""
        return self._method(self._steering.method)

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
        """Plug into a pipeline. Doing it again on the same one only replaces what follows.

        Pipelines that start from a picture (img2img) or match flows are left as they are, with a warning that says so.

        Args:
            pipe: a pipeline of a class in ``pipelines.PIPELINES``.
            method: ``mean``, the paper's step, or ``moments``, which also restores the variance; by default ``moments`` where the
                module tells variances.
            prompt: told to the first step alone, instead of the pipeline's own, to steer colour and light.
            negative_prompt: likewise; only with ``prompt``.
            guidance_scale: of the first step alone; by default the pipeline's own.
            color: "#rrggbb", a CSS colour name or (red, green, blue) within 0..255: the first step starts from the mean latent of
                this flat colour, through the pipeline's own VAE, whatever the prompt; no module is needed.

        Returns:
            Itself, so that ``SingDiffusion.from_pretrained(...).enable(pipe)`` is one line.

        Raises:
            SingDiffusionError: the pipeline's class is unknown, its latent space or its text is not the module's, one of the
                two is already plugged in elsewhere, or an option makes no sense.
        """
        steering = _steering(prompt, negative_prompt, guidance_scale, color, method)
        if isinstance(pipe, type) or not hasattr(pipe, "scheduler"):
            what = f"the class {pipe.__name__}" if isinstance(pipe, type) else f"a {type(pipe).__name__}"
            raise SingDiffusionError(f"enable takes a diffusers pipeline, not {what}")
        held = self._held()
        if held is not None and held is not pipe:
            raise SingDiffusionError(
                "this SingDiffusion is enabled on another pipeline; disable() it first, or load a second"
            )
        if held is None and any(isinstance(value, Hook) for value in vars(pipe).values()):
            raise SingDiffusionError("another SingDiffusion is enabled on this pipeline; disable() that one first")
        reason = untouched(pipe)
        if reason is not None:
            self._say_once(f"SingDiffusion leaves {type(pipe).__name__} as it is: {reason}")
        else:
            spec = spec_of(pipe)
            require_start(pipe.scheduler)
            shares = self._check(pipe, spec, steering)
            if held is None:
                self._hook(pipe, spec)
            self._shares_text = shares
        self._steering = steering
        self._pipe = weakref.ref(pipe)
        return self

    def _hook(self, pipe: Any, spec: PipelineSpec) -> None:
        if spec.embeddings is not None:
            self._hooks.add(Hook(pipe, "encode_prompt", self, self._after_encode_prompt))
        self._hooks.add(Hook(pipe, "prepare_latents", self, self._after_prepare_latents))

    def disable(self) -> None:
        """Unplug: the pipeline is what it was. Without effect where nothing is enabled."""
        pipe = self._held()
        if pipe is not None:
            for hook in self._hooks:
                hook.remove(pipe)
        self._pipe = None
        self._hooks.clear()
        self._call.clear()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Suspend the first step inside a ``with`` block."""
        before, self._active = self._active, False
        try:
            yield
        finally:
            self._active = before

    def _held(self) -> Any:
        return None if self._pipe is None else self._pipe()

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            warnings.warn(line, stacklevel=3)

    # -- does it fit --------------------------------------------------------------------------------------------------

    def _check(self, pipe: Any, spec: PipelineSpec, steering: _Steering) -> bool:
        """Whether the module shares the base's text; raises where module and base do not go together."""
        if steering.color is not None:
            if getattr(pipe, spec.autoencoder) is None:
                raise SingDiffusionError("a color needs the pipeline's VAE, and this pipeline has none")
            return True
        if self.config is None:
            raise SingDiffusionError("there is no module: load one with from_pretrained, or pass a color")
        self._method(steering.method)
        self._check_latents(pipe, spec, self.config)
        if spec.embeddings is None and (self.text_encoder is None or steering.prompt is None):
            raise SingDiffusionError(
                f"{type(pipe).__name__} encodes no prompt; pass enable(pipe, prompt=...) with a module that brings "
                "its own text encoder, or a color"
            )
        return spec.embeddings is not None and self._find_text(pipe, spec, self.config)

    def _check_latents(self, pipe: Any, spec: PipelineSpec, ours: SingConfig) -> None:
        vae = getattr(pipe, spec.autoencoder)
        # no VAE: left out by those who decode elsewhere; and an inpainting U-Net takes more channels than the latents have
        channels = vae.config.latent_channels if vae is not None else getattr(pipe, spec.denoiser).config.in_channels
        if channels != ours.latent_channels:
            raise SingDiffusionError(
                f"the module is for latents of {ours.latent_channels} channels, the pipeline's have {channels}"
            )
        if vae is None:
            return
        scaling = vae.config.scaling_factor if spec.scaled else 1.0
        for what, mine, theirs in (
            ("scaling", ours.vae_scaling_factor, scaling),
            ("shift", ours.vae_shift_factor or 0.0, vae.config.get("shift_factor") or 0.0),
        ):
            if abs(theirs - mine) > 1e-4 * abs(mine):
                raise SingDiffusionError(
                    f"the module is for another latent space: VAE {what} factor {mine:g}, the pipeline's is {theirs:g}"
                )

    def _find_text(self, pipe: Any, spec: PipelineSpec, ours: SingConfig) -> bool:
        """True: the base's embeddings are the module's own; False: it encodes the prompts itself. Else raise."""
        denoiser = getattr(pipe, spec.denoiser).config
        width = denoiser.get("caption_channels") or denoiser.cross_attention_dim
        encoders = [getattr(pipe, name, None) for name in ("text_encoder", "text_encoder_2")]
        fits = width == ours.text_width
        if fits and text.same_encoders([e for e in encoders if e is not None], ours.text_fingerprint):
            return True
        if self.text_encoder is not None:
            return False
        if not fits:
            raise SingDiffusionError(
                f"the module takes text embeddings of width {ours.text_width}, the pipeline's are {width} wide, "
                "and the module brings no text encoder of its own"
            )
        raise SingDiffusionError(
            "the pipeline's text encoder is not the one that the module was trained with, and the module brings none of its own"
        )

    # -- the hooks ----------------------------------------------------------------------------------------------------

    def _after_encode_prompt(self, encoded: Any, given: dict[str, Any]) -> Any:
        pipe = self._held()
        _require_alone(pipe)
        if self._steering.color is None:
            steered = self._steering.prompt is not None and self._shares_text
            call = self._encode_steering(pipe, given) if steered else encoded
            self._call.embeddings = spec_of(pipe).embeddings(call)  # type: ignore[misc]  (only hooked where it is known)
            self._call.given = given
        return encoded

    def _encode_steering(self, pipe: Any, given: dict[str, Any]) -> Any:
        """What ``encode_prompt`` says to the first step's own prompt, called as the pipeline called it."""
        others = {key: None for key in given if "embeds" in key or "mask" in key or key.endswith("prompt_2")}
        own = {"prompt": self._steering.prompt, "negative_prompt": self._steering.negative_prompt}
        counts = {key: 1 for key in ("num_images_per_prompt", "num_videos_per_prompt") if key in given}
        hook = next(hook for hook in self._hooks if hook.name == "encode_prompt")
        return hook.original(**(given | others | own | counts | {"do_classifier_free_guidance": True}))

    def _after_prepare_latents(self, prepared: Any, given: dict[str, Any]) -> Any:
        pipe = self._held()
        spec = spec_of(pipe)
        latents, *others = prepared if isinstance(prepared, tuple | list) else (prepared,)
        try:
            if not spec.from_noise(given):
                self._say_once(
                    f"SingDiffusion leaves this call of {type(pipe).__name__} as it is: it starts from a picture"
                )
                return prepared
            if spec.embeddings is None:
                _require_alone(pipe)
            step = first_step_of(pipe.scheduler)
            x_1 = latents.float() / step.noise_scale
            y_bar, covariance = self._told(pipe, spec, x_1)
            state = step.scale * first_step(y_bar, x_1, step.alpha, step.sigma, covariance)
        finally:
            self._call.clear()
        state = state.to(latents.dtype)
        return (state, *others) if others else state

    @torch.no_grad()
    def _told(self, pipe: Any, spec: PipelineSpec, x_1: Tensor) -> tuple[Tensor, Tensor | None]:
        """The guided moments for ``x_1``, (B, C, H, W) or, of videos, (B, C, F, H, W): y_bar of its shape, covariance a row each."""
        if x_1.ndim == 4:
            return self._told_of_pictures(pipe, spec, x_1, 1)
        frames = x_1.shape[2]  # every frame is a picture, of the same prompt
        mean, covariance = self._told_of_pictures(pipe, spec, x_1.transpose(1, 2).flatten(0, 1), frames)
        return mean.unflatten(0, (-1, frames)).transpose(1, 2), None if covariance is None else covariance[::frames]

    def _told_of_pictures(
        self, pipe: Any, spec: PipelineSpec, x_1: Tensor, frames: int
    ) -> tuple[Tensor, Tensor | None]:
        """The same for pictures (B, C, H, W), of which ``frames`` at a time have one prompt."""
        if self._steering.color is not None:
            return flat_latents(self._steering.color, getattr(pipe, spec.autoencoder), x_1, spec.scaled), None
        scale = self._steering.guidance_scale
        if scale is None:
            scale = self.config.guidance_scale  # type: ignore[union-attr]  (without a module there is a color)
        if scale is None:
            scale = spec.guidance(pipe)
        self._move(x_1.device)
        positive, negative = self._text(pipe, len(x_1) // frames, needs_negative=scale > 1)
        positive, negative = (None if row is None else row.repeat_interleave(frames, 0) for row in (positive, negative))
        told = self.moments(x_1, positive, negative, scale, self._steering.method)  # type: ignore[arg-type]
        if getattr(pipe, "_offload_device", None) is not None:  # the pipeline keeps the device for what is at work
            self._move(torch.device("cpu"))
        return told

    def mean(
        self,
        x_1: Tensor,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor | None = None,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """The guided y_bar = E[x_0 | prompt]; see ``moments``."""
        return self.moments(x_1, prompt_embeds, negative_prompt_embeds, guidance_scale, "mean")[0]

    @torch.no_grad()
    def moments(
        self,
        x_1: Tensor,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor | None = None,
        guidance_scale: float = 1.0,
        method: str | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The guided mean and covariance of x_0: one forward of the module for prompt and negative prompt.

        Guidance moves the mean and leaves the covariance that of the prompt. Guidance's own formula, the score
        s_neg + w (s_pos - s_neg), extrapolates both in the limit t -> 1, Sigma_neg + w (Sigma_pos - Sigma_neg); but a prompt that leaves
        brightness unsaid varies a little less than no prompt at all, and 7.5 times that difference takes all its variety away
        (measured in docs/performance.md).

        Args:
            x_1: noise, shape (B, C, H, W).
            prompt_embeds: embeddings of the text encoder that the module was trained with, shape (B, L, D).
            negative_prompt_embeds: the same of the negative prompt; needed for ``guidance_scale`` above 1.
            guidance_scale: w of [SD] section 4; 1 or less: none.
            method: as for ``enable``.

        Returns:
            y_bar in scaled latents, float32, of the shape and on the device of ``x_1``; and, for ``moments``, the covariance of the
            lowest DCT coefficients, float32, (B, k, k, C, C), else None.

        Raises:
            SingDiffusionError: there is no module, it tells no variances, shapes differ, or a value is not finite.
        """
        if self.module is None or self.config is None:
            raise SingDiffusionError("there is no module: load one with from_pretrained")
        method = self._method(method)
        guided = guidance_scale > 1 and negative_prompt_embeds is not None
        rows = [negative_prompt_embeds, prompt_embeds] if guided else [prompt_embeds]
        parameter = next(self.module.parameters())
        noise = torch.cat([x_1] * len(rows)).to(parameter.device, parameter.dtype)
        embeddings = torch.cat(rows).to(parameter.device, parameter.dtype)  # type: ignore[arg-type]
        if method == "moments":
            output, covariance = self.module.predict_moments(noise, embeddings)
            covariance = covariance.chunk(len(rows))[-1].to(x_1.device)
        else:
            output, covariance = self.module.predict(noise, embeddings), None
        output = output.to(x_1.device).float()
        y = as_sample(self.config.prediction, output, torch.cat([x_1.float()] * len(rows)), self.config.alpha)
        *y_neg, y_pos = y.chunk(len(rows))
        mean = guided_mean(y_neg[0] if y_neg else None, y_pos, guidance_scale, self.config.normalise_guidance)
        return mean, covariance

    def _method(self, method: str | None) -> str:
        """The method that was asked for, or the default; raises where the module cannot do it."""
        able = bool(getattr(self.module, "tells_variances", False))
        if method == "moments" and not able:
            raise SingDiffusionError(
                f"method='moments' needs a module that tells variances, and this {type(self.module).__name__} tells the mean "
                "only; use method='mean'"
            )
        return method or ("moments" if able else "mean")

    def _move(self, device: torch.device) -> None:
        target = self._device or device
        if next(self.module.parameters()).device != target:
            self.module.to(target)
        if self.text_encoder is not None and next(self.text_encoder.parameters()).device != target:
            self.text_encoder.to(target)

    def _text(self, pipe: Any, batch: int, needs_negative: bool) -> tuple[Tensor, Tensor | None]:
        """Embeddings of the prompts and, with guidance, of the negative prompts, a row a picture."""
        if getattr(pipe, "free_noise_enabled", False):
            raise SingDiffusionError("FreeNoise changes the prompt from frame to frame, which is not supported")
        call, steered = self._call, self._steering.prompt
        if (call.embeddings is None or call.given is None) and (self._shares_text or steered is None):
            raise SingDiffusionError(
                "the pipeline prepared latents without encoding a prompt, which this plug-in needs"
            )
        if self._shares_text:
            positive, negative = call.embeddings  # type: ignore[misc]
        elif steered is not None:
            positive, negative = self._encode_own([steered], [self._steering.negative_prompt])
        else:
            positive, negative = self._encode_own(*_prompts(call.given, needs_negative))  # type: ignore[arg-type]
        if steered is not None:
            positive, negative = (None if row is None else row.expand(batch, -1, -1) for row in (positive, negative))
        if needs_negative and negative is None:
            raise SingDiffusionError("guidance needs embeddings of the negative prompt, and the pipeline gave none")
        used = [positive, negative] if needs_negative and negative is not None else [positive]
        if any(len(embeddings) != batch for embeddings in used):
            raise SingDiffusionError(f"embeddings of {len(positive)} prompts do not fit latents of {batch} pictures")
        return positive, negative if needs_negative else None

    def encode(
        self, prompt: str | list[str], negative_prompt: str | list[str] | None = None, num_images_per_prompt: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (B, L, D) of prompts and negative prompts from the module's own text encoder, a row a picture.

        Raises:
            SingDiffusionError: it brings none, or the prompt is not text.
        """
        if self.text_encoder is None:
            raise SingDiffusionError("this module brings no text encoder of its own")
        given = {"prompt": prompt, "negative_prompt": negative_prompt, "num_images_per_prompt": num_images_per_prompt}
        return self._encode_own(*_prompts(given, needs_negative=True))

    def _encode_own(self, positive: list[str], negative: list[str]) -> tuple[Tensor, Tensor]:
        """Embeddings of prompts and negative prompts from the module's own text encoder."""
        device = next(self.text_encoder.parameters()).device
        both = text.encode(positive + negative, self.tokenizer, self.text_encoder, device)
        return both[: len(positive)], both[len(positive) :]


def _require_alone(pipe: Any) -> None:
    if runs_elsewhere(pipe):
        raise SingDiffusionError(
            f"this {type(pipe).__name__} is painting in another thread, and its scheduler can serve one call at a time; "
            "give each thread a pipeline of its own"
        )


def _steering(
    prompt: str | None, negative_prompt: str | None, guidance_scale: float | None, color: Any, method: str | None
) -> _Steering:
    if color is not None and not (prompt is None and negative_prompt is None and guidance_scale is None):
        raise SingDiffusionError("pass a color or a prompt for the first step, not both")
    if method not in (None, *METHODS):
        raise SingDiffusionError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if color is not None and method == "moments":
        raise SingDiffusionError("a flat color has no variance: leave out method='moments'")
    if prompt is None and negative_prompt is not None:
        raise SingDiffusionError("a negative_prompt for the first step needs a prompt for it")
    for name, value in (("prompt", prompt), ("negative_prompt", negative_prompt)):
        if value is not None and not isinstance(value, str):
            raise SingDiffusionError(
                f"{name} for the first step must be one text for all pictures, not a {type(value).__name__}"
            )
    if guidance_scale is not None and not (isinstance(guidance_scale, int | float) and math.isfinite(guidance_scale)):
        raise SingDiffusionError(f"guidance_scale must be a finite number, not {guidance_scale}")
    return _Steering(
        prompt, negative_prompt or "", guidance_scale, None if color is None else parse_color(color), method
    )


def _prompts(given: dict[str, Any], needs_negative: bool) -> tuple[list[str], list[str]]:
    """The raw prompts and negative prompts that ``encode_prompt`` was given, one a picture."""
    prompt, negative = given.get("prompt"), given.get("negative_prompt")
    for text_of, missing in (
        ("prompt", prompt is None),
        ("negative_prompt", needs_negative and given.get("negative_prompt_embeds") is not None),
    ):
        if missing:
            raise SingDiffusionError(
                f"only {text_of}_embeds were given, and this module reads prompts with a text encoder of its own; "
                f"pass {text_of} as text instead, or enable(pipe, prompt=...) for the first step alone"
            )
    repeats = given.get("num_images_per_prompt") or given.get("num_videos_per_prompt") or 1
    positive = [prompt] if isinstance(prompt, str) else list(prompt)  # type: ignore[arg-type]
    negative = [negative or ""] * len(positive) if negative is None or isinstance(negative, str) else list(negative)
    return [p for p in positive for _ in range(repeats)], [n for n in negative for _ in range(repeats)]
