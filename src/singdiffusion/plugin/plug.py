"""The two hooks on one pipeline: ``encode_prompt`` for the text, ``prepare_latents`` for the first step."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..core.singular import first_step
from ..errors import SingDiffusionError
from ..modules.sing_module import Moments
from .calls import runs_elsewhere
from .copies import watch_components
from .first_step import continues, first_step_of
from .hooks import Hook, Owner
from .pipelines import PipelineSpec
from .starts import EncodedPrompt, Start


class _Call(threading.local):
    """What this thread's call of the pipeline keeps between ``encode_prompt`` and ``prepare_latents``."""

    prompt: EncodedPrompt | None = None


class Plug:
    """Takes the first step in a pipeline's ``prepare_latents``, as long as its owner is enabled.

    Args:
        pipe: the pipeline; the hooks hold it, this object does not.
        spec: of the pipeline's class.
        start: predicts the mean and covariance of x_0; may be replaced at any time.
        owner: who places the hooks.
        warn: takes lines for the user.
    """

    def __init__(self, pipe: Any, spec: PipelineSpec, start: Start, owner: Owner, warn: Callable[[str], None]):
        self.start = start
        self._pipe, self._spec, self._warn = weakref.ref(pipe), spec, warn
        self._call = _Call()
        self._hooks: weakref.WeakSet[Hook] = weakref.WeakSet()  # the pipeline owns them, and they hold the pipeline
        if spec.embeddings is not None:
            self._hooks.add(Hook(pipe, "encode_prompt", owner, self._after_encode_prompt, warn))
        self._hooks.add(Hook(pipe, "prepare_latents", owner, self._after_prepare_latents, warn))
        watch_components()

    def remove(self) -> None:
        """Take the hooks off."""
        pipe = self._pipe()
        for hook in self._hooks if pipe is not None else ():
            hook.remove(pipe)

    def _after_encode_prompt(self, hook: Hook, encoded: Any, arguments: dict[str, Any]) -> Any:
        pipe = self._pipe()
        _require_alone(pipe)
        self._call.prompt = self.start.encoded_prompt(pipe, encoded, arguments, hook.original)
        return encoded

    def _after_prepare_latents(self, hook: Hook, prepared: Any, arguments: dict[str, Any]) -> Any:
        pipe: Any = self._pipe()
        latents, *others = prepared if isinstance(prepared, tuple | list) else (prepared,)
        try:
            if not self._spec.from_noise(arguments):
                self._warn(
                    f"SingDiffusion leaves this call of {type(pipe).__name__} as it is: it starts from a picture"
                )
                return prepared
            if self._spec.embeddings is None:
                _require_alone(pipe)
            step = first_step_of(pipe.scheduler)
            x_1 = latents.float() / step.noise_scale
            if arguments.get("latents") is not None and continues(pipe.scheduler, x_1):
                self._warn(
                    f"SingDiffusion leaves this call of {type(pipe).__name__} as it is: its latents are not noise, or its timesteps "
                    "begin midway"
                )
                return prepared
            y_bar, covariance = self._guided_moments(pipe, x_1)
            state = step.scale * first_step(y_bar, x_1, step.alpha, step.sigma, covariance)
        finally:
            self._call.prompt = None
        state = state.to(latents.dtype)
        return (state, *others) if others else state

    def _guided_moments(self, pipe: Any, x_1: Tensor) -> Moments:
        """Return y_bar of the shape of x_1, (B, C, H, W) or, of videos, (B, C, F, H, W), and a covariance per row, or None."""
        if x_1.ndim == 4:
            return self.start.guided_moments(pipe, x_1, self._call.prompt, 1)
        frames = x_1.shape[2]  # every frame is a picture of the same prompt
        pictures = x_1.transpose(1, 2).flatten(0, 1)
        mean, covariance = self.start.guided_moments(pipe, pictures, self._call.prompt, frames)
        return mean.unflatten(0, (-1, frames)).transpose(1, 2), None if covariance is None else covariance[::frames]


def _require_alone(pipe: Any) -> None:
    if runs_elsewhere(pipe):
        raise SingDiffusionError(
            f"this {type(pipe).__name__} is painting in another thread, and its scheduler can serve one call at a time; "
            "give each thread a pipeline of its own"
        )
