"""How well pictures fit their captions: the cosine between their embeddings by a CLIP model.

Source: Hessel, Holtzman, Forbes, Le Bras, Choi, "CLIPScore: A Reference-free Evaluation Metric for Image Captioning", EMNLP 2021,
arXiv 2104.08718.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ... import tiny
from ...compat import embeddings_of
from ...errors import SingDiffusionError, one_line_error
from .features import clip_images, clip_model, digest_of, label_of, preprocessing_description

EMBEDDED = "tiny"


@dataclass(frozen=True)
class TextScore:
    """The score of pictures with their captions.

    Attributes:
        score: 100 times the mean cosine, at least 0.
        label: name of the score; it is "CLIP score" for a published CLIP only.
        backbone: name of the model, and digest of its weights.
        protocol: how pictures were resized.
        pictures: their number.
        truncated: captions whose end was cut off because they are longer than the model reads.
    """

    score: float
    label: str
    backbone: str
    protocol: str
    pictures: int
    truncated: int

    def as_json(self) -> dict[str, Any]:
        """Return every figure; the keys are documented in docs/evaluate.md."""
        return asdict(self)


class PictureTextScore:
    """Sums scores by torchmetrics' CLIPScore over batches and processes; needs no torchvision.

    Args:
        source: a CLIP model's folder in transformers' layout, with tokenizer and ``preprocessor_config.json``, or its hub id; ``"tiny"`` is
            the embedded encoder, whose score is not a CLIP score.
        device: where to compute.

    Raises:
        SingDiffusionError: the model is not found, or is not a CLIP model.
    """

    def __init__(self, source: str | os.PathLike = EMBEDDED, device: Any = "cpu"):
        from torchmetrics import SumMetric
        from torchmetrics.multimodal.clip_score import CLIPScore

        embedded = source == EMBEDDED
        source = tiny.encoder_folder() if embedded else source
        network, self._read = clip_model(source), _Reader(source)
        self.device = torch.device(device)
        # given a name, torchmetrics loads OpenAI's models only, with a processor that may need torchvision
        self._metric = CLIPScore(lambda: (_Embeddings(network), self._read)).to(self.device)  # type: ignore[arg-type]
        self._truncated = SumMetric(nan_strategy="error").to(self.device)
        self.reset()
        self.label = "picture-text score, embedded encoder" if embedded else "CLIP score"
        self.backbone = f"{'embedded encoder' if embedded else label_of(source)}, weights {digest_of(network)}"

    def reset(self) -> None:
        """Forget all pictures."""
        self._metric.reset()
        if self.device.type != "mps":  # MPS has no float64
            self._metric.score = self._metric.score.double()
        self._truncated.reset()

    @torch.no_grad()
    def see(self, pictures: Tensor, captions: Sequence[str]) -> None:
        """Take in pictures, uint8 (B, 3, H, W), and their B captions.

        Raises:
            SingDiffusionError: there are not as many captions as pictures.
        """
        if len(pictures) != len(captions):
            raise SingDiffusionError(f"{len(pictures)} pictures have {len(captions)} captions; each needs one")
        self._metric.update(list(pictures.to(self.device)), list(captions))
        self._truncated.update(float(self._read.too_long(captions)))

    def compute(self) -> TextScore:
        """Return the score of what all processes have seen; all processes must call it.

        Raises:
            SingDiffusionError: they have seen no picture, or a score is NaN.
        """
        with self._metric.sync_context():
            count = int(self._metric.n_samples)
        if count == 0:
            raise SingDiffusionError("the score of no pictures with no captions is not defined")
        score = float(self._metric.compute())
        if score != score:
            raise SingDiffusionError(f"{self.backbone} returns NaN for a picture or a caption")
        truncated = int(self._truncated.compute())
        return TextScore(score, self.label, self.backbone, self._read.protocol, count, truncated)


class _Embeddings(nn.Module):
    """A CLIP model as torchmetrics calls it, which wants tensors."""

    def __init__(self, network: Any):
        super().__init__()
        self.network, self.config = network, network.config

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        return embeddings_of(self.network.get_image_features(pixel_values))

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return embeddings_of(self.network.get_text_features(input_ids, attention_mask))


class _Reader:
    """A CLIP model's processor as torchmetrics calls it. It cuts captions before their end token; torchmetrics would cut that off too."""

    def __init__(self, source: str | os.PathLike):
        from transformers import AutoConfig, CLIPTokenizer

        self._images = clip_images(source)
        self.protocol = preprocessing_description(self._images)
        where = "" if Path(source).is_dir() else ", and the hub did not return it"
        with one_line_error(f"the tokenizer of {source} cannot be read{where}"):
            self._tokenizer = CLIPTokenizer.from_pretrained(str(source))
            text = AutoConfig.from_pretrained(str(source)).text_config
        # if its files are missing, transformers makes a tokenizer without words
        if len(self._tokenizer) != text.vocab_size:
            raise SingDiffusionError(
                f"the tokenizer of {source} has {len(self._tokenizer)} tokens, and its text encoder has {text.vocab_size}"
            )
        self._most = min(self._tokenizer.model_max_length, text.max_position_embeddings)

    def __call__(
        self, text: list[str] | None = None, images: list[Tensor] | None = None, **options: Any
    ) -> dict[str, Tensor]:
        if images is not None:
            return {"pixel_values": self._images(torch.stack(images))}
        return self._tokenizer(text, padding=True, truncation=True, max_length=self._most, return_tensors="pt")

    def too_long(self, captions: Sequence[str]) -> int:
        """Return the number of captions that are cut."""
        tokens = self._tokenizer(list(captions), truncation=False, verbose=False).input_ids
        return sum(len(ids) > self._most for ids in tokens)
