"""``SingModule``: a network with the latent space and the text that it was trained for."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import tiny
from ..core.singular import as_sample, guided_mean
from ..errors import SingDiffusionError
from . import layout
from .chunks import fill_zeros, is_one_chunk, split, weights_of
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
        self.source = ""  # the folder, file or hub id from which it was loaded, for messages

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
        module.source = str(source)
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
        empty_prompt_embeds: Tensor | None = None,
    ) -> Moments:
        """Return the guided mean and the covariance of x_0. Prompt and negative prompt share one forward pass.

        Guidance changes the mean only; the covariance is the prompt's (the reason is measured in docs/performance.md).

        Embeddings of more rows than ``text_length`` are read as several chunks, and embeddings of zeros as the empty prompt
        (``modules.chunks``). A warning names rows that fit no chunk.

        Args:
            x_1: noise, shape (B, C, H, W).
            prompt_embeds: embeddings by the module's text encoder, shape (B, L, D).
            negative_prompt_embeds: the same of the negative prompt; needed for ``guidance_scale`` above 1.
            guidance_scale: w; no guidance for 1 or less.
            method: ``mean`` or ``moments``; by default ``moments`` where the network predicts the covariance.
            empty_prompt_embeds: of the empty prompt, shape (1, L, D), for embeddings of zeros and of several chunks; not needed by
                a module with its own text encoders.

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
        empty = self._empty(empty_prompt_embeds) if any(map(self.reads_in_chunks, rows)) else None
        rows = [fill_zeros(each, empty) for each in rows]
        if any(map(self.reads_in_chunks, rows)):
            y, covariances = zip(*(self._predict_chunks(x_1, each, empty, method) for each in rows), strict=True)
        else:
            y, covariance = self._predict(torch.cat([x_1] * len(rows)), torch.cat(rows), method)
            y = y.chunk(len(rows))
            covariances = [covariance if covariance is None else covariance.chunk(len(rows))[-1]]
        *y_neg, y_pos = y
        mean = guided_mean(y_neg[0] if y_neg else None, y_pos, guidance_scale, self.config.normalise_guidance)
        return mean, covariances[-1]

    @property
    def text_length(self) -> int | None:
        """Rows of the embeddings of the training: the length of a chunk. None where it is not known or not fixed."""
        return self.config.text_length or (None if self.text is None else self.text.length)

    def reads_in_chunks(self, embeddings: Tensor) -> bool:
        """Return whether embeddings (B, L, D) are not of one chunk, so that the empty prompt's are needed beside them."""
        return self.text_length is not None and not is_one_chunk(embeddings, self.text_length)

    def _empty(self, embeddings: Tensor | None) -> Tensor | None:
        """Return the embeddings (1, L, D) of the empty prompt, or None where neither the caller nor the module has them."""
        if embeddings is None and self.text is not None:
            embeddings = self.text.encode([""])
        return None if embeddings is None or self.reads_in_chunks(embeddings) else embeddings

    def _predict(self, x_1: Tensor, embeddings: Tensor, method: str) -> Moments:
        """Return y and the covariance, or None, of embeddings (B, L, D) of one chunk, on the device of ``x_1``."""
        parameter = next(self.network.parameters())
        given = [each.to(parameter.device, parameter.dtype) for each in (x_1, embeddings)]
        if method == "moments":
            output, covariance = self.network.predict_moments(*given)
            covariance = covariance.to(x_1.device)
        else:
            output, covariance = self.network.predict(*given), None
        output = output.to(x_1.device).float()
        if not torch.isfinite(output).all():
            raise SingDiffusionError(
                f"the module {self.config.name or self.source or self.kind} predicts NaN or infinite values: its weights are wrong, "
                f"or too large for {str(parameter.dtype).removeprefix('torch.')}"
            )
        return as_sample(self.config.prediction, output, x_1.float(), self.config.alpha), covariance

    def _predict_chunks(self, x_1: Tensor, embeddings: Tensor, empty: Tensor | None, method: str) -> Moments:
        """Return the same for embeddings of any number of rows, as the weighted average over their chunks."""
        chunks = split(embeddings, self.text_length or embeddings.shape[1])
        if not chunks.fits:
            _warn_rows(embeddings.shape[1], chunks.rows.shape[2])
        absent = ~chunks.present.any(1)
        if absent.any() and empty is None:
            _warn_zeros()
        rows, present = chunks.rows, chunks.present | absent[:, None]
        if empty is not None:
            rows = torch.cat([rows, empty.to(rows).expand(len(rows), 1, -1, -1)], 1)
        count = rows.shape[1]
        y, covariance = self._predict(x_1.repeat_interleave(count, 0), rows.flatten(0, 1), method)
        y = y.unflatten(0, (-1, count))
        if empty is None:
            weights = weights_of(y, present.to(y.device), None)
        else:
            weights = weights_of(y[:, :-1], present.to(y.device), y[:, -1])
            alone = absent.to(weights)[:, None]  # zeros stand for the empty prompt
            weights = torch.cat([weights * (1 - alone), alone], 1)
        if covariance is not None:
            covariance = torch.einsum("bn,bn...->b...", weights, covariance.unflatten(0, (-1, count)))
        return torch.einsum("bn,bn...->b...", weights, y), covariance


def _warn_rows(count: int, length: int) -> None:
    warnings.warn(
        f"the prompt embeddings have {count} rows, some of which are zero or fit no chunk of {length}, the length of the module's "
        "training; the first step is less exact. Pad prompts to the text encoder's length",
        stacklevel=4,
    )


def _warn_zeros() -> None:
    warnings.warn(
        "prompt embeddings of zeros stand for the empty prompt, whose embeddings are not known here: zeros are used, on which no "
        "module was trained. Pass those of the empty prompt, or a module with its own text encoder",
        stacklevel=4,
    )
