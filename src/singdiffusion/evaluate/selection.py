"""Which remedies go with a model, which captions and which real pictures it is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .. import tiny
from ..data.pictures import Unusable, load
from ..data.sources import SUFFIXES
from ..errors import SingDiffusionError
from ..painting.prompts import Prompt, named, read_prompts, too_long
from .painter import Controls
from .processes import Processes
from .real import RealPictures
from .remedies import FirstStep, Off, Remedy

if TYPE_CHECKING:
    from .scores import Real


def remedies_for(
    pipe: Any, modules: Sequence[str], method: str | None, alone: bool = True
) -> tuple[list[Remedy], list[str]]:
    """Off, and the first step of every module that fits; and a line for each that does not.

    Args:
        alone: whether this is the only model: then a module that does not fit is a mistake.

    Raises:
        SingDiffusionError: a module does not fit the only model.
    """
    fitting: list[Remedy] = [Off()]
    lines = []
    for module in modules:
        remedy = FirstStep(module, method)
        reason = remedy.unfit(pipe)
        if reason is not None and alone:
            raise SingDiffusionError(f"--module {module}: {reason}")
        if reason is None:
            fitting.append(remedy)
        else:
            lines.append(f"{module} does not fit: {reason}")
    return fitting, lines


def controls_for(pipe: Any, model: str, path: Path | None) -> Controls | None:
    """What a ControlNet follows: a picture, a folder of them, or the embedded one's own edges; None where there is no ControlNet.

    Raises:
        SingDiffusionError: there is a ControlNet and nothing to follow, or the reverse, or a picture cannot be read.
    """
    has_one = getattr(pipe, "controlnet", None) is not None
    if path is None:
        if model == "tiny-controlnet":
            return Controls(list(tiny.hints().values()), plain="solid")
        if has_one:
            raise SingDiffusionError(f"{model} has a ControlNet; say what to follow: --control PICTURE or FOLDER")
        return None
    if not has_one:
        raise SingDiffusionError(f"--control goes with a ControlNet, and {model} has none")
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise SingDiffusionError(f"--control {path} holds no pictures ({', '.join(SUFFIXES)})")
    return Controls([_picture(file) for file in files])


def _picture(file: Path) -> Image.Image:
    try:
        return load(file, smallest=1)[0]
    except Unusable as error:
        raise SingDiffusionError(f"--control {file} {error}") from error


def real_greys(model: str, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Prompt id -> mean grey of real pictures, where it is known: for the embedded models."""
    if model not in tiny.MODELS:
        return {}
    known = {prompt: row["mean"] for prompt, row in tiny.reference(model).items()}
    if model != "tiny-controlnet":
        for group in tiny.captions().values():
            known = {caption: float(np.mean(greys)) for caption, greys in group.items()} | known
    return {prompt.id: known[prompt.text] for prompt in prompts if prompt.text in known}


MOST_CAPTIONS = 30_000  # of COCO, as the paper takes
MOST_EMBEDDED = 256  # for a first look in minutes; the embedded models' pictures have 768 captions


def captions_for(model: str, file: Path | None) -> list[Prompt]:
    """The captions of a file; of the embedded models' own pictures, where none is given.

    Raises:
        SingDiffusionError: none is given for a model that is not embedded, or the file is wrong.
    """
    if file is not None:
        return read_prompts(file)
    if model not in tiny.MODELS:
        raise SingDiffusionError(
            f"say which captions {model} shall paint: --captions FILE (.txt, .json, .jsonl or .csv)"
        )
    return named(tiny.pictures().captions)


def count_for(models: Sequence[str], prompts: Sequence[Prompt]) -> int:
    """How many pictures of captions to paint where nobody says it."""
    embedded = all(model in tiny.MODELS for model in models)
    return min(len(prompts), MOST_EMBEDDED if embedded else MOST_CAPTIONS)


def real_for(
    model: str, source: Path | None, extractors: Sequence[Any], pictures: int, processes: Processes, device: Any
) -> Real:
    """Real pictures of a folder, saved statistics of them, or the embedded models' own, as many as are painted.

    Raises:
        SingDiffusionError: none are given for a model that is not embedded, or they cannot be used.
    """
    from .scores import Real

    for extractor in extractors:
        extractor.to(device)
    if source is not None and source.is_file():
        return Real.of_file(extractors, source)
    if source is not None:
        real = RealPictures(source, processes=processes)
        return Real.of_pictures(extractors, real.batches(), real.warnings)
    if model not in tiny.MODELS:
        raise SingDiffusionError(
            f"say which real pictures {model} is compared with: --real FOLDER, or statistics in an .npz file"
        )
    drawn = tiny.pictures().drawn[:pictures]
    mine = drawn[processes.share(range(len(drawn)))]
    return Real.of_pictures(extractors, (part for part in mine.split(32) if len(part)))


def extractors_for(
    models: Sequence[str], names: Sequence[str] | None, inception: Path | None, clip: str | None
) -> list[Any]:
    """The networks on whose features distances are taken: for the embedded models those that come with the package and its extra,
    for others Inception, by default.

    Raises:
        SingDiffusionError: a name is unknown, or a network is not there.
    """
    from .metrics.features import make_extractor

    embedded = all(model in tiny.MODELS for model in models)
    wanted = list(dict.fromkeys(names or (["tiny", "efficientnet"] if embedded else ["inception"])))
    weights = {"inception": inception, "clip": clip}
    return [make_extractor(name, weights.get(name)) for name in wanted]


def text_for(models: Sequence[str], source: str | None, device: Any) -> Any:
    """What scores pictures with their captions: the embedded encoder for the embedded models, a CLIP for others; None for "none"."""
    from .metrics.text_score import PictureTextScore

    if source == "none":
        return None
    embedded = all(model in tiny.MODELS for model in models)
    return PictureTextScore(source or ("tiny" if embedded else CLIP), device)


CLIP = "openai/clip-vit-base-patch16"


def truncation_notes(pipe: Any, prompts: Sequence[Prompt]) -> list[str]:
    """Lines on prompts whose end the model does not read."""
    tokenizer = getattr(pipe, "tokenizer", None)
    cut = [] if tokenizer is None else too_long(prompts, tokenizer)
    if not cut:
        return []
    return [
        f"{len(cut)} of {len(prompts)} prompts are longer than the {tokenizer.model_max_length} tokens that the text encoder reads and were cut, "  # type: ignore[union-attr]
        f"the first is {cut[0].id!r}"
    ]
