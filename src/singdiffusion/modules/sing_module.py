"""``SingModule``: a network with the latent space and the text that it was trained for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import tiny
from ..core.singular import as_sample, guided_mean
from ..errors import SingDiffusionError
from . import layout
from .config import SingConfig
from .decoder import MeanDecoder
from .text import PromptEncoder, prompts_per_picture

METHODS = ("mean", "moments")

Moments = tuple[Tensor, Tensor | None]
"""y_bar and, for ``moments``, the covariance of the lowest DCT coefficients."""


class SingModule:
    """Predicts E[x_0 | prompt] at t = 1; needs no pipeline.

    It imports diffusers only for a U-Net, and transformers only for text encoders of its own.

    Args:
        network: ``MeanDecoder``, ``TimeFreeUNet``, or any ``torch.nn.Module`` with ``predict(x_1, prompt_embeds) -> y_bar``.
            Method ``moments`` needs ``predict_moments`` and a true ``predicts_covariance``.
        config: the latent space and the text of the training.
        text: tokenizers and text encoders of the training, for bases that have others; None: prompts arrive as embeddings.

    Raises:
        SingDiffusionError: the text encoders' width is not the configuration's.
    """

    def __init__(self, network: Any, config: SingConfig, text: PromptEncoder | None = None):
        if text is not None and text.width != config.text_width:
            raise SingDiffusionError(
                f"the module takes text of width {config.text_width}, and its text encoders have width {text.width}"
            )
        self.network = network
        self.config = config
        self.text = text

    # -- files --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        *,
        torch_dtype: torch.dtype | None = None,
        device: Any = None,
        text_encoder: bool = True,
    ) -> SingModule:
        """Load a module from this machine; ``published.load_module`` also takes hub ids.

        Args:
            source: ``"tiny"`` (embedded; or another of ``tiny.MODULES``), or a folder that ``save_pretrained`` wrote.
            torch_dtype: of its weights; float32 by default.
            device: to move it to.
            text_encoder: whether to load the module's own text encoders; False for a host that encodes prompts itself.

        Raises:
            SingDiffusionError: the folder is missing, is not a module, or its files are damaged.
        """
        folder = tiny.module_folder(str(source)) if str(source) in tiny.MODULES else Path(source)
        config = layout.read_config(folder)
        network = layout.read_network(folder / "module", torch_dtype or torch.float32)
        layout.require_match(network, config, folder)
        module = cls(network, config, layout.read_text(folder, torch_dtype) if text_encoder else None)
        return module if device is None else module.to(device)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write the module's folder: ``sing_config.json``, ``module/``, a model card, and tokenizers and text encoders where it has them.

        All files are written, or none.

        Raises:
            SingDiffusionError: the folder exists and is not a module.
        """
        layout.write(Path(folder), self.config, self.network, self.text)

    # -- device -------------------------------------------------------------------------------------------------------

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> SingModule:
        """Move or cast the network and the text encoders, and return the module; ``to(torch.float16)`` only casts, as in torch."""
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        self.network.to(device=device, dtype=dtype)
        if self.text is not None:
            self.text.to(device, dtype)
        return self

    @property
    def device(self) -> torch.device:
        """Device of the network's weights."""
        return next(self.network.parameters()).device

    # -- prompts ------------------------------------------------------------------------------------------------------

    def encode_prompt(
        self, prompt: str | list[str], negative_prompt: str | list[str] | None = None, num_images_per_prompt: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return embeddings of prompts and of negative prompts by the module's own text encoders, one row per picture.

        Args:
            prompt: one or several.
            negative_prompt: one for all, or one per prompt; None: the empty prompt.
            num_images_per_prompt: rows per prompt.

        Returns:
            Two tensors of shape (B, L, D).

        Raises:
            SingDiffusionError: the module has no text encoder.
        """
        if self.text is None:
            raise SingDiffusionError("this module has no text encoder of its own")
        positive, negative = prompts_per_picture(prompt, negative_prompt, num_images_per_prompt)
        both = self.text.encode(positive + negative)
        return both[: len(positive)], both[len(positive) :]

    # -- prediction ---------------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """``decoder`` for a network whose only input is the prompt, otherwise ``unet``."""
        return "decoder" if isinstance(self.network, MeanDecoder) else "unet"

    @property
    def predicts_covariance(self) -> bool:
        """Whether method ``moments`` works."""
        return bool(getattr(self.network, "predicts_covariance", False))

    def choose_method(self, method: str | None = None) -> str:
        """Return ``method``; for None return ``moments`` where the network predicts the covariance, otherwise ``mean``.

        Raises:
            SingDiffusionError: the method is unknown, or needs a covariance that the network does not predict.
        """
        if method not in (None, *METHODS):
            raise SingDiffusionError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
        if method == "moments" and not self.predicts_covariance:
            raise SingDiffusionError(
                f"method='moments' needs a module that predicts the covariance, and this {type(self.network).__name__} "
                "predicts the mean only; use method='mean'"
            )
        return method or ("moments" if self.predicts_covariance else "mean")

    @torch.no_grad()
    def guided_moments(
        self,
        x_1: Tensor,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor | None = None,
        guidance_scale: float = 1.0,
        method: str | None = None,
    ) -> Moments:
        """Return the guided mean and the covariance of x_0. Prompt and negative prompt share one forward pass.

        Guidance changes the mean only; the covariance is the prompt's (the reason is measured in docs/performance.md).

        Args:
            x_1: noise, shape (B, C, H, W).
            prompt_embeds: embeddings by the module's text encoder, shape (B, L, D).
            negative_prompt_embeds: the same of the negative prompt; needed for ``guidance_scale`` above 1.
            guidance_scale: w; no guidance for 1 or less.
            method: ``mean`` or ``moments``; by default ``moments`` where the network predicts the covariance.

        Returns:
            y_bar in scaled latents, float32, of the shape and on the device of ``x_1``. Then for ``moments`` the covariance of
            the lowest DCT coefficients, float32, shape (B, k, k, C, C), otherwise None.

        Raises:
            SingDiffusionError: the network predicts no covariance, ``negative_prompt_embeds`` is missing, or a prediction is not
                finite.
        """
        method = self.choose_method(method)
        rows = [prompt_embeds]
        if guidance_scale > 1 and negative_prompt_embeds is not None:
            rows = [negative_prompt_embeds, prompt_embeds]
        parameter = next(self.network.parameters())
        noise = torch.cat([x_1] * len(rows)).to(parameter.device, parameter.dtype)
        embeddings = torch.cat(rows).to(parameter.device, parameter.dtype)
        if method == "moments":
            output, covariance = self.network.predict_moments(noise, embeddings)
            covariance = covariance.chunk(len(rows))[-1].to(x_1.device)
        else:
            output, covariance = self.network.predict(noise, embeddings), None
        output = output.to(x_1.device).float()
        y = as_sample(self.config.prediction, output, torch.cat([x_1.float()] * len(rows)), self.config.alpha)
        *y_neg, y_pos = y.chunk(len(rows))
        mean = guided_mean(y_neg[0] if y_neg else None, y_pos, guidance_scale, self.config.normalise_guidance)
        return mean, covariance
