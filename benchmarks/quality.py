"""What each first step does to the embedded model's pictures: off, the U-Net's mean, the decoder's mean, the decoder's moments.

    make bench-quality        or: python benchmarks/quality.py --json build/quality.json     (half an hour on two cores; 20 steps)

There are three groups of captions (``tiny.captions``): those that state their background or light, open ones that do not, and new ones. The
mean luma of a few pictures of each caption is compared with that of real ones:

- w1: Wasserstein-1 distance between the mean lumas of all pictures of a group, in luma levels 0..255
- miss: distance of a caption's mean luma from real pictures', mean over captions
- frechet: Fréchet distance over 384 of the pictures that come with the package, with their captions, on features of an EfficientNet-Lite0
  (not an FID)

Every first step has the same seeds. Pictures are kept, and not painted again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from singdiffusion import SingDiffusion, tiny
from singdiffusion.core.dct import from_low_frequencies, low_frequencies
from singdiffusion.core.singular import first_step
from singdiffusion.evaluate.gallery import as_tensor
from singdiffusion.evaluate.metrics.features import EfficientNetLite0
from singdiffusion.evaluate.metrics.fidelity import FrechetDistance
from singdiffusion.files import write_whole
from singdiffusion.painting.luma import lumas as pixel_lumas
from singdiffusion.painting.prompts import PAPER_PROMPTS
from singdiffusion.plugin.first_step import first_step_of
from singdiffusion.plugin.vae import mean_latents

STEPS, EACH, BATCH = 20, 4, 32
DRAWN = 384  # pictures of the Fréchet distance
SCALES = (1.0, 7.5)
EXTRAPOLATED = "decoder, moments, covariance guided as the mean is"  # the same as the one before without guidance


class Extrapolated(torch.nn.Module):
    """The decoder with the covariance that guidance's own formula gives at t = 1: Sigma_neg + w (Sigma_pos - Sigma_neg), eigenvalues >= 0."""

    predicts_covariance = True

    def __init__(self, decoder: Any):
        super().__init__()
        self.decoder, self.config, self.scale = decoder, decoder.config, 1.0

    def predict_moments(self, x_1: Tensor, prompt_embeds: Tensor) -> tuple[Tensor, Tensor]:
        mean, covariance = self.decoder.predict_moments(x_1, prompt_embeds)
        if self.scale > 1:  # rows of the negative prompt, then of the prompt
            negative, positive = covariance.chunk(2)
            values, vectors = torch.linalg.eigh((negative + self.scale * (positive - negative)).double())
            guided = vectors * values.clamp(min=0)[..., None, :] @ vectors.mT
            covariance = torch.cat([negative, guided.to(covariance)])
        return mean, covariance


def extrapolated(pipe: Any, scale: float) -> SingDiffusion:
    """Enable the decoder with a guided covariance."""
    sing = SingDiffusion.from_pretrained("tiny-decoder")
    sing.module.network = Extrapolated(sing.module.network)
    sing.module.network.scale = scale
    return sing.enable(pipe)


STARTS: dict[str, Callable[[Any, float], SingDiffusion | None]] = {
    "off": lambda pipe, _: None,
    "U-Net, mean": lambda pipe, _: SingDiffusion.from_pretrained("tiny-unet").enable(pipe),
    "decoder, mean": lambda pipe, _: SingDiffusion.from_pretrained("tiny-decoder").enable(pipe, method="mean"),
    "decoder, moments": lambda pipe, _: SingDiffusion.from_pretrained("tiny-decoder").enable(pipe, method="moments"),
    EXTRAPOLATED: extrapolated,
}


def paint(pipe: Any, captions: list[str], scale: float, first_seed: int) -> np.ndarray:
    """Paint one picture per caption, with seeds counted up: uint8 (N, 3, 64, 64)."""
    made = []
    for start in range(0, len(captions), BATCH):
        part = captions[start : start + BATCH]
        generators = [torch.Generator().manual_seed(first_seed + start + i) for i in range(len(part))]
        images = pipe(part, num_inference_steps=STEPS, guidance_scale=scale, generator=generators).images
        made.append(as_tensor(images).numpy())
    return np.concatenate(made)


def painted(out: Path, start: str, scale: float, groups: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """Return group -> pictures, read from the file where they are kept or painted now."""
    file = out / f"{''.join(c for c in start if c.isalnum())}-{scale:g}.npz"
    if not file.exists():
        pipe = tiny.load_pipeline()
        pipe.set_progress_bar_config(disable=True)
        sing = STARTS[start](pipe, scale)
        wanted = ("open",) if start == EXTRAPOLATED else tuple(groups)
        made = {
            name: paint(pipe, captions, scale, 10_000 * i)
            for i, (name, captions) in enumerate(groups.items())
            if name in wanted
        }
        if sing is not None:
            sing.disable()
        out.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial.npz")
        np.savez_compressed(partial, allow_pickle=False, **made)
        partial.replace(file)
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def luma(pictures: np.ndarray) -> np.ndarray:
    """Return the mean luma of each picture, 0..255: uint8 (N, 3, H, W) -> float64 (N,)."""
    return pixel_lumas(torch.from_numpy(pictures)).mean((1, 2))


def against_real(lumas: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Return the figures of a group, from mean lumas of pictures (captions, pictures each) and of real ones (captions, real each)."""
    return {
        "w1": float(wasserstein_distance(lumas.ravel(), real.ravel())),
        "miss": float(np.abs(lumas.mean(1) - real.mean(1)).mean()),
        "within": float(lumas.std(1).mean()),
        "mean": float(lumas.mean()),
        "std": float(lumas.std()),
    }


@torch.no_grad()
def ceiling() -> dict[str, float]:
    """Return W1 for open captions of the pictures that come with the package, by ``moments`` and by a start from the true distribution.

    The latter starts at the real picture's own 4 x 4 low frequencies. ``moments`` would do so if it drew them from their true distribution
    and not from a normal one.
    """
    shown, pipe = tiny.pictures(), tiny.load_pipeline()
    pipe.set_progress_bar_config(disable=True)
    rows = [i for i, caption in enumerate(shown.captions) if "background" not in caption]
    captions, real = [shown.captions[i] for i in rows], luma(shown.drawn[rows].numpy())
    sing = SingDiffusion.from_pretrained("tiny-decoder").enable(pipe)
    drawn = luma(paint(pipe, captions, 1.0, 90_000))
    sing.disable()
    pipe.scheduler.set_timesteps(STEPS)
    step = first_step_of(pipe.scheduler)
    x_0 = mean_latents(shown.drawn[rows].float() / 127.5 - 1, pipe.vae)
    low = from_low_frequencies(low_frequencies(x_0, 4), *x_0.shape[-2:])
    x_1 = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(90_000))
    states = first_step(low, x_1, step.alpha, step.sigma).split(BATCH)
    parts = [captions[i : i + BATCH] for i in range(0, len(captions), BATCH)]
    options = {"num_inference_steps": STEPS, "guidance_scale": 1.0}
    images = [image for part, x in zip(parts, states, strict=True) for image in pipe(part, latents=x, **options).images]
    exact = luma(as_tensor(images).numpy())
    return {
        "pictures": len(rows),
        "moments": float(wasserstein_distance(drawn, real)),
        "true": float(wasserstein_distance(exact, real)),
    }


def measure(out: Path, scales: tuple[float, ...]) -> dict[str, Any]:
    """Paint what is missing, and return every figure."""
    known, real = tiny.captions(), tiny.pictures()
    groups = {name: [caption for caption in of for _ in range(EACH)] for name, of in known.items()}
    groups["paper"] = [prompt for prompt in PAPER_PROMPTS for _ in range(16)]
    groups["drawn"] = real.captions[:DRAWN]
    truth = {name: np.array(list(of.values())) for name, of in known.items()}
    reference = np.array([[tiny.reference()[prompt]["mean"]] for prompt in PAPER_PROMPTS])
    distance = FrechetDistance(real.drawn[:DRAWN], EfficientNetLite0())
    figures: dict[str, Any] = {
        # as many real pictures as are painted, against the others: what a perfect model would score
        "real": {name: against_real(of[:, :EACH], of[:, EACH:]) for name, of in truth.items()},
    }
    figures["ceiling"] = ceiling()
    for scale in scales:
        for start in STARTS:
            if start == EXTRAPOLATED and scale <= 1:
                continue
            pictures = painted(out, start, scale, groups)
            lumas = {name: luma(of) for name, of in pictures.items()}
            row: dict[str, Any] = {
                name: against_real(lumas[name].reshape(-1, EACH), of) for name, of in truth.items() if name in lumas
            }
            if start != EXTRAPOLATED:  # for it only open captions are painted
                each = lumas["paper"].reshape(len(PAPER_PROMPTS), -1).mean(1)
                row["paper_miss"] = float(np.abs(each - reference[:, 0]).sum())
                row["frechet"] = distance(torch.from_numpy(pictures["drawn"][:DRAWN]))
            figures.setdefault(f"{scale:g}", {})[start] = row
            print(f"guidance {scale:g}, {start}: " + json.dumps(row), flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/quality"))
    parser.add_argument("--json", type=Path, default=Path("build/quality.json"))
    parser.add_argument("--scale", type=float, nargs="*", default=SCALES, help="guidance scales")
    options = parser.parse_args()
    figures = measure(options.out, tuple(options.scale))
    write_whole(options.json, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
