"""Which remedies go with a model, which captions it paints, and which real pictures and networks measure it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import tiny
from ..data.formats import COMMON
from ..data.listing import list_folder
from ..errors import SingDiffusionError
from ..memory import require_memory
from ..painting.controls import needs_control, read_control
from ..painting.prompts import Prompt, named, read_prompts, too_long
from .metrics.features import make_extractor
from .metrics.text_score import PictureTextScore
from .painter import Controls
from .processes import Processes
from .real import Real, RealPictures
from .remedies import FirstStep, Off, Remedy

MOST_CAPTIONS = 30_000  # of COCO, as in the paper
MOST_EMBEDDED = 256  # for a first look in minutes; the embedded models' pictures have 768 captions
CLIP = "openai/clip-vit-base-patch16"


def remedies_for(
    pipe: Any, modules: Sequence[str], method: str | None, alone: bool = True
) -> tuple[list[Remedy], list[str]]:
    """Return ``off`` and the first step of every module that fits, and a line for each module that does not fit.

    Args:
        pipe: the model.
        modules: embedded ones, folders or hub ids.
        method: ``mean`` or ``moments``; None: the module's best.
        alone: whether this is the only model; then a module that does not fit is an error.

    Raises:
        SingDiffusionError: a module does not fit the only model.
    """
    fitting: list[Remedy] = [Off()]
    lines = []
    for module in modules:
        remedy = FirstStep(module, method)
        reason = remedy.unfit(pipe)
        if reason is None:
            fitting.append(remedy)
        elif alone:
            raise SingDiffusionError(f"the module {module} does not fit: {reason}", setting="module")
        else:
            lines.append(f"{module} does not fit: {reason}")
    return fitting, lines


def controls_for(
    pipe: Any, model: str, path: Path | None, report: Callable[[str], None] = lambda line: None
) -> Controls | None:
    """Return the pictures that a ControlNet follows; None where the model has no ControlNet.

    Args:
        path: a picture, or a folder of pictures and its subfolders; None: the embedded model's own edges.
        report: takes a line per picture that was converted, and per file of the folder that is not used.

    Raises:
        SingDiffusionError: there is a ControlNet and nothing to follow, or the reverse, or a picture cannot be read.
    """
    if path is None and model == "tiny-controlnet":
        return Controls(list(tiny.hints().values()), plain="solid")
    if not needs_control(pipe, path):
        return None
    assert path is not None
    files = [path]
    if path.is_dir():
        listing = list_folder(path)
        files = listing.pictures
        if not files:
            raise SingDiffusionError(
                f"the folder {path} holds no pictures ({COMMON}){listing.examples()}", setting="control"
            )
        for line in listing.unused:
            report(f"{path / line.key} {line.reason}")
        require_memory(sum(map(_bytes_of, files)), f"{len(files)} pictures of the folder {path}", "control")
    return Controls([read_control(file, report=report) for file in files])


def _bytes_of(file: Path) -> int:
    """Return the bytes of a picture as RGB, by its header; 0 for a file that is not a picture, which ``read_control`` names."""
    try:
        with Image.open(file) as picture:
            return 3 * picture.width * picture.height
    except Exception:  # Pillow raises many kinds
        return 0


def real_mean_lumas(model: str, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Return prompt id -> mean luma of real pictures, 0..255, where it is known: for the embedded models."""
    if model not in tiny.MODELS:
        return {}
    known = {prompt: row["mean"] for prompt, row in tiny.reference(model).items()}
    if model != "tiny-controlnet":
        for group in tiny.captions().values():
            known = {caption: float(np.mean(lumas)) for caption, lumas in group.items()} | known
    return {prompt.id: known[prompt.text] for prompt in prompts if prompt.text in known}


def captions_for(model: str, file: Path | None) -> list[Prompt]:
    """Return the captions of a file, or those of the embedded models' own pictures.

    Raises:
        SingDiffusionError: no file is given for a model that is not embedded, or the file is wrong.
    """
    if file is not None:
        return read_prompts(file)
    if model not in tiny.MODELS:
        raise SingDiffusionError(
            f"{model} needs captions to paint: a .txt, .json, .jsonl or .csv file", setting="captions"
        )
    return named(tiny.pictures().captions)


def count_for(models: Sequence[str], prompts: Sequence[Prompt]) -> int:
    """Return the default number of pictures of captions."""
    return min(len(prompts), MOST_EMBEDDED if _embedded(models) else MOST_CAPTIONS)


def real_for(
    model: str, source: Path | None, extractors: Sequence[Any], pictures: int, processes: Processes, device: Any
) -> Real:
    """Measure the real pictures of a folder, load saved statistics of them, or measure the embedded models' own.

    Args:
        pictures: how many of the embedded models' own are used, the same number as are painted.

    Raises:
        SingDiffusionError: none are given for a model that is not embedded, or they cannot be used.
    """
    for extractor in extractors:
        extractor.to(device)
    if source is not None and source.is_file():
        return Real.of_file(extractors, source)
    if source is not None:
        real = RealPictures(source, processes=processes)
        return Real.of_pictures(extractors, real.batches(), real.warnings)
    if model not in tiny.MODELS:
        raise SingDiffusionError(
            f"{model} needs real pictures to be compared with: a folder, or statistics in an .npz file", setting="real"
        )
    drawn = tiny.pictures().drawn[:pictures]
    mine = drawn[processes.share(range(len(drawn)))]
    return Real.of_pictures(extractors, (part for part in mine.split(32) if len(part)))


def extractors_for(
    models: Sequence[str], names: Sequence[str] | None, inception: Path | None, clip: str | None
) -> list[Any]:
    """Return the networks on whose features distances are computed.

    By default these are the embedded encoder and EfficientNet-Lite0 for the embedded models, and Inception for others.

    Args:
        names: among ``metrics.features.EXTRACTORS``.
        inception: file of Inception's weights; None: downloaded.
        clip: folder or hub id of a CLIP model.

    Raises:
        SingDiffusionError: a name is unknown, or a network is not available.
    """
    wanted = list(dict.fromkeys(names or (["tiny", "efficientnet"] if _embedded(models) else ["inception"])))
    weights = {"inception": inception, "clip": clip}
    return [make_extractor(name, weights.get(name)) for name in wanted]


def text_for(models: Sequence[str], source: str | None, device: Any) -> PictureTextScore | None:
    """Return the score of pictures with their captions; None where ``source`` is "none".

    Args:
        source: ``tiny``, or a CLIP model's folder or hub id; by default ``tiny`` for the embedded models and ``CLIP`` for others.
    """
    if source == "none":
        return None
    return PictureTextScore(source or ("tiny" if _embedded(models) else CLIP), device)


def _embedded(models: Sequence[str]) -> bool:
    return all(model in tiny.MODELS for model in models)


def truncation_notes(pipe: Any, prompts: Sequence[Prompt]) -> list[str]:
    """Return a line about the prompts whose end the model's tokenizer cuts off; no line where there are none."""
    tokenizer: Any = getattr(pipe, "tokenizer", None)
    cut = [] if tokenizer is None else too_long(prompts, tokenizer)
    if not cut:
        return []
    return [
        f"{len(cut)} of {len(prompts)} prompts are longer than the {tokenizer.model_max_length} tokens that the text encoder reads and were cut; "
        f"the first is {textwrap.shorten(cut[0].text, 80, placeholder=' ...')!r}"
    ]
