"""``SingDiffusion``: the plug-in itself."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.singular import first_step, guided_mean
from ..errors import SingDiffusionError
from . import checkpoints, text
from .config import SingConfig
from .first_step import first_step_of
from .pipelines import spec_of


class _Call(threading.local):
    """What ``encode_prompt`` got and gave in the call that this thread is in, until ``prepare_latents`` takes it."""

    embeddings: tuple[Tensor, Tensor | None] | None = None
    given: dict[str, Any] | None = None

    def clear(self) -> None:
        self.embeddings = self.given = None


class _Hook:
    """A pipeline's method and what follows it, put into the instance's own dictionary, over the class's method.

    A deep copy of the pipeline gets the method alone, bound to the copy: the copy is not plugged in.
    """

    def __init__(self, pipe: Any, name: str, owner: SingDiffusion, after: Callable[[Any, dict[str, Any]], Any]):
        self._before = {name: vars(pipe)[name]} if name in vars(pipe) else {}
        self._original = getattr(pipe, name)
        self._signature = inspect.signature(self._original)
        self._name, self._owner, self._after = name, owner, after
        self._in_place = True
        functools.update_wrapper(self, self._original)
        vars(pipe)[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._original(*args, **kwargs)
        if not (self._in_place and self._owner.enabled):
            return result
        return self._after(result, self._signature.bind(*args, **kwargs).arguments)

    def __deepcopy__(self, memo: dict) -> Any:
        return copy.deepcopy(self._original, memo)

    def remove(self, pipe: Any) -> None:
        """Put back what stood there; where somebody has wrapped this hook since, it stays and does nothing."""
        self._in_place = False
        if vars(pipe).get(self._name) is self:
            del vars(pipe)[self._name]
            vars(pipe).update(self._before)


class SingDiffusion:
    """The first step from t = 1 for a diffusers pipeline; the pipeline is called as before and its models stay untouched.

    Enabled, ``prepare_latents`` returns alpha y_bar + sigma x_1 in place of the noise x_1 (times whatever the scheduler
    wants), where x_1 is the very noise that the pipeline drew or was given as ``latents``, y_bar is the module's guided
    estimate of E[x_0 | prompt], and alpha and sigma are those of the scheduler's first timestep
    ([SD] section 4, arXiv 2403.08381).

    Args:
        module: a network with ``predict(x_1, prompt_embeds) -> y_bar``.
        config: the latent space and the text that it was trained for.
        tokenizer, text_encoder: those that it was trained with, for bases whose own are others. May be left out.
    """

    def __init__(self, module: Any, config: SingConfig, tokenizer: Any = None, text_encoder: Any = None):
        if (tokenizer is None) != (text_encoder is None):
            raise SingDiffusionError("a text encoder needs its tokenizer, and a tokenizer its text encoder")
        self.module = module
        self.config = config
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self._pipe: weakref.ref | None = None
        self._hooks: weakref.WeakSet[_Hook] = weakref.WeakSet()  # the pipeline owns them, and they hold the pipeline
        self._active = True
        self._shares_text = True
        self._call = _Call()
        self._device: torch.device | None = None  # None: that of the pipeline

    # -- files --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike, *, torch_dtype: torch.dtype | None = None, device: Any = None, **hub: Any
    ) -> SingDiffusion:
        """Load a module.

        Args:
            source: ``"tiny"`` (embedded), a folder that ``save_pretrained`` wrote, or a hub id.
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
        """Write ``sing_config.json``, ``module/`` and, where it has its own, ``tokenizer/`` and ``text_encoder/``."""
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

    def enable(self, pipe: Any) -> SingDiffusion:
        """Plug into a pipeline; doing it again changes nothing.

        Raises:
            SingDiffusionError: the pipeline's class is unknown, its latent space or its text is not the module's, or
                one of the two is already plugged in elsewhere.
        """
        held = self._held()
        if held is pipe:
            return self
        if held is not None:
            raise SingDiffusionError(
                "this SingDiffusion is enabled on another pipeline; disable() it first, or load a second"
            )
        if any(isinstance(value, _Hook) for value in vars(pipe).values()):
            raise SingDiffusionError("another SingDiffusion is enabled on this pipeline; disable() that one first")
        spec_of(pipe)
        self._check_latents(pipe)
        self._shares_text = self._find_text(pipe)
        for name, after in (
            ("encode_prompt", self._after_encode_prompt),
            ("prepare_latents", self._after_prepare_latents),
        ):
            self._hooks.add(_Hook(pipe, name, self, after))
        self._pipe = weakref.ref(pipe)
        return self

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

    # -- does it fit --------------------------------------------------------------------------------------------------

    def _check_latents(self, pipe: Any) -> None:
        ours, unet = self.config, pipe.unet.config
        if unet.in_channels != ours.latent_channels:
            raise SingDiffusionError(
                f"the module is for latents of {ours.latent_channels} channels, the pipeline's U-Net takes {unet.in_channels}"
            )
        if pipe.vae is None:  # left out by those who decode elsewhere
            return
        for what, mine, theirs in (
            ("scaling", ours.vae_scaling_factor, pipe.vae.config.scaling_factor),
            ("shift", ours.vae_shift_factor or 0.0, pipe.vae.config.get("shift_factor") or 0.0),
        ):
            if abs(theirs - mine) > 1e-4 * abs(mine):
                raise SingDiffusionError(
                    f"the module is for another latent space: VAE {what} factor {mine:g}, the pipeline's is {theirs:g}"
                )

    def _find_text(self, pipe: Any) -> bool:
        """True: the base's embeddings are the module's own; False: it encodes the prompts itself. Else raise."""
        width = (
            pipe.text_encoder.config.hidden_size
            if pipe.text_encoder is not None
            else pipe.unet.config.cross_attention_dim
        )
        fits = width == self.config.text_width
        if fits and (pipe.text_encoder is None or text.same_encoder(pipe.text_encoder, self.config.text_fingerprint)):
            return True
        if self.text_encoder is not None:
            return False
        if not fits:
            raise SingDiffusionError(
                f"the module takes text embeddings of width {self.config.text_width}, the pipeline's are {width} wide, "
                "and the module brings no text encoder of its own"
            )
        raise SingDiffusionError(
            "the pipeline's text encoder is not the one that the module was trained with, and the module brings none of its own"
        )

    # -- the hooks ----------------------------------------------------------------------------------------------------

    def _after_encode_prompt(self, encoded: Any, given: dict[str, Any]) -> Any:
        pipe = self._held()
        self._call.embeddings = spec_of(pipe).embeddings(encoded)
        self._call.given = given
        return encoded

    def _after_prepare_latents(self, latents: Tensor, given: dict[str, Any]) -> Tensor:
        pipe = self._held()
        try:
            step = first_step_of(pipe.scheduler)
            x_1 = latents.float() / step.noise_scale
            y_bar = self._mean(pipe, x_1)
            state = step.scale * first_step(y_bar, x_1, step.alpha, step.sigma)
        finally:
            self._call.clear()
        return state.to(latents.dtype)

    @torch.no_grad()
    def _mean(self, pipe: Any, x_1: Tensor) -> Tensor:
        """The guided y_bar, float32, of the shape and on the device of ``x_1``: one forward for both prompts."""
        scale = spec_of(pipe).guidance(pipe)
        self._move(x_1.device)
        positive, negative = self._text(len(x_1), needs_negative=scale > 1)
        parameter = next(self.module.parameters())
        rows = [positive] if negative is None else [negative, positive]
        noise = torch.cat([x_1] * len(rows)).to(parameter.device, parameter.dtype)
        y = self.module.predict(noise, torch.cat(rows).to(parameter.device, parameter.dtype)).to(x_1.device).float()
        *y_neg, y_pos = y.chunk(len(rows))
        return guided_mean(y_neg[0] if y_neg else None, y_pos, scale, self.config.normalise_guidance)

    def _move(self, device: torch.device) -> None:
        target = self._device or device
        if next(self.module.parameters()).device != target:
            self.module.to(target)
        if self.text_encoder is not None and next(self.text_encoder.parameters()).device != target:
            self.text_encoder.to(target)

    def _text(self, batch: int, needs_negative: bool) -> tuple[Tensor, Tensor | None]:
        """Embeddings of the prompts and, with guidance, of the negative prompts, a row a picture."""
        call = self._call
        if call.embeddings is None or call.given is None:
            raise SingDiffusionError(
                "the pipeline prepared latents without encoding a prompt, which this plug-in needs"
            )
        if self._shares_text:
            positive, negative = call.embeddings
        else:
            positive, negative = self._encode_own(call.given, needs_negative)
        if needs_negative and negative is None:
            raise SingDiffusionError("guidance needs embeddings of the negative prompt, and the pipeline gave none")
        used = [positive, negative] if needs_negative and negative is not None else [positive]
        if any(len(embeddings) != batch for embeddings in used):
            raise SingDiffusionError(f"embeddings of {len(positive)} prompts do not fit latents of {batch} pictures")
        return positive, negative if needs_negative else None

    def _encode_own(self, given: dict[str, Any], needs_negative: bool) -> tuple[Tensor, Tensor]:
        """Embeddings of the raw prompts, from the module's own text encoder, a row a picture."""
        prompt, negative, repeats = (given.get(key) for key in ("prompt", "negative_prompt", "num_images_per_prompt"))
        for text_of, missing in (
            ("prompt", prompt is None),
            ("negative_prompt", needs_negative and given.get("negative_prompt_embeds") is not None),
        ):
            if missing:
                raise SingDiffusionError(
                    f"only {text_of}_embeds were given, and this module reads prompts with a text encoder of its own; "
                    f"pass {text_of} as text instead"
                )
        repeats = repeats or 1
        positive = [prompt] if isinstance(prompt, str) else list(prompt)
        negative = [negative or ""] * len(positive) if negative is None or isinstance(negative, str) else list(negative)
        device = next(self.text_encoder.parameters()).device
        both = text.encode(positive + negative, self.tokenizer, self.text_encoder, device).repeat_interleave(repeats, 0)
        return both[: len(positive) * repeats], both[len(positive) * repeats :]
