"""``singdiffusion generate``"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SingDiffusionError
from . import app
from .common import (
    announce,
    check_json,
    control_image,
    finite,
    hush,
    module_for,
    progress,
    say,
    show,
    stays,
    write_json,
)
from .options import Device, Dtype, Guidance, Height, Method, Model, ModelConfig, Negative, Scheduler, Steps, Width

if TYPE_CHECKING:
    from ..painting.metadata import PictureSettings


@app.command()
def generate(
    prompts: Annotated[list[str], typer.Argument(help="One or several prompts.", metavar="PROMPT...")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    model: Model = "tiny",
    model_config: ModelConfig = None,
    module: Annotated[
        str,
        typer.Option(
            help="auto for the one that fits the model, tiny or tiny-unet (embedded), a folder, a hub id, or none."
        ),
    ] = "auto",
    method: Method = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Paint also without SingDiffusion, and both side by side.")
    ] = False,
    scheduler: Scheduler = None,
    steps: Steps = 50,
    guidance: Guidance = 7.5,
    negative: Negative = None,
    first_prompt: Annotated[
        str | None, typer.Option(help="Prompt of the first step alone, to steer colour and light.")
    ] = None,
    first_negative: Annotated[str | None, typer.Option(help="Negative prompt of the first step.")] = None,
    first_guidance: Annotated[float | None, typer.Option(help="Guidance scale of the first step.")] = None,
    color: Annotated[
        str | None, typer.Option(help="Start from this flat colour, #rrggbb or a name; needs no module.")
    ] = None,
    control: Annotated[
        Path | None,
        typer.Option(
            help="For a model with a ControlNet: a picture that it follows; for tiny-controlnet also the name of one of its own."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**62, help="Seed of a prompt's first picture; the next take the next.")
    ] = 0,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="Pictures per prompt.")] = 1,
    height: Height = None,
    width: Width = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    json: Annotated[
        Path | None, typer.Option(help="Write settings, file names and mean luma as JSON into this file.")
    ] = None,
) -> None:
    """Paint prompts with SingDiffusion's first step.

    Each PNG file carries its settings: as JSON under diffusers' names, and as text that artists' tools read.

    \b
    Example:
      singdiffusion generate "red apple on a dark blue background" \\
        --compare --seed 7 --out out
    """
    from .. import files

    finite("--guidance", guidance)
    named = None if color is not None or module == "none" else module
    first = {"method": method, "prompt": first_prompt, "negative_prompt": first_negative} | {
        "guidance_scale": first_guidance,
        "color": color,
    }
    first = {name: value for name, value in first.items() if value is not None}
    _check(prompts, named, first, negative, compare)
    files.check_folder(out)
    check_json(json)
    hush()
    from ..painting.bases import load_model
    from ..painting.metadata import settings_of
    from ..painting.prompts import file_names
    from ..painting.room import require_room
    from ..painting.scheduler_names import set_scheduler
    from ..painting.sizes import check_size, own_size, whole_size
    from ..painting.steps import check_steps

    started = time.monotonic()
    pipe = load_model(model, device, dtype, model_config)
    pipe.set_progress_bar_config(disable=True)
    if scheduler is not None:
        set_scheduler(pipe, scheduler)
    check_steps(pipe, steps)
    height, width = whole_size(pipe, height, width)
    check_size(pipe, height, width)
    require_room(pipe, 1, height, width)
    followed = control_image(pipe, control, model)
    sing, source, first_step = _enabled(pipe, named, first)
    if compare and sing is None:
        raise SingDiffusionError(f"{model} stays as it is, so there is nothing to compare with; leave out --compare")
    own_height, own_width = own_size(pipe)
    settings = settings_of(
        pipe, "", seed, negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance,
        height=height or own_height, width=width or own_width, model=model, module=source,
        control=None if control is None else control.name, singdiffusion="off" if sing is None else "on",
        first_step=first_step,
    )  # fmt: skip
    sheet = _Sheet(pipe, sing, out, file_names(prompts), settings, followed, {"height": height, "width": width})
    sheet.require_free(seed, count, compare)
    files.output_folder(out)
    announce(model, pipe)
    with progress("Painting", len(sheet.names) * count * steps * (2 if compare else 1)) as advance:
        rows = [row for p in sheet.names for i in range(count) for row in sheet.paint(p, seed + i, compare, advance)]
    seconds = time.monotonic() - started
    write_json(json, {"settings": sheet.common(), "seconds": round(seconds, 1), "pictures": rows})
    _report(rows, seconds)


@dataclass
class _Sheet:
    """Paints pictures and writes their files.

    Attributes:
        pipe: the pipeline, with ``sing`` enabled.
        sing: None: the pipeline as it is.
        out: folder.
        names: prompt -> beginning of its files' names.
        settings: of every picture, apart from prompt and seed.
        control: picture that a ControlNet follows.
        size: height and width for the pipeline; None: its own.
    """

    pipe: Any
    sing: Any
    out: Path
    names: dict[str, str]
    settings: PictureSettings
    control: Any
    size: dict[str, int | None]

    def paint(self, prompt: str, seed: int, compare: bool, on_step: Callable[[], None]) -> Iterator[dict[str, Any]]:
        """Paint one prompt from one seed, write its files, and yield a row of JSON per file, also for one that was withheld."""
        from ..painting.paint import side_by_side

        settings = self.settings.of(prompt=prompt, seed=seed)
        image = self._paint(prompt, seed, on_step)
        yield self._keep(image, settings, "-with_sing" if compare else "")
        if compare:
            with self.sing.disabled():
                without = self._paint(prompt, seed, on_step)
            yield self._keep(without, settings.without(), "-without")
            both = None if image is None or without is None else side_by_side(without, image)
            yield self._keep(both, settings.of(singdiffusion="compare"), "-compare")

    def require_free(self, seed: int, count: int, compare: bool) -> None:
        """Check that no file would be replaced but pictures of earlier runs, which carry their settings.

        Raises:
            SingDiffusionError: there is another file of a picture's name.
        """
        from ..painting.png import is_ours

        suffixes = ("-with_sing", "-without", "-compare") if compare else ("",)
        for prompt in self.names:
            for file in (self._file(prompt, seed + i, suffix) for i in range(count) for suffix in suffixes):
                if os.path.lexists(file) and not is_ours(file):
                    raise SingDiffusionError(
                        f"{file} is not a picture of an earlier run and would be replaced; move it, or name another folder",
                        setting="out",
                    )

    def _file(self, prompt: str, seed: int, suffix: str) -> Path:
        return self.out / f"{self.names[prompt]}-{seed}{suffix}.png"

    def common(self) -> dict[str, Any]:
        """Return the settings that all pictures share."""
        each = ("prompt", "seed", "singdiffusion")
        return {name: value for name, value in self.settings.as_json().items() if name not in each}

    def _paint(self, prompt: str, seed: int, on_step: Callable[[], None]) -> Any:
        from ..painting.paint import paint

        options: dict[str, Any] = {name: value for name, value in self.size.items() if value is not None}
        return paint(
            self.pipe,
            [prompt],
            [seed],
            on_step=on_step,
            controls=None if self.control is None else [self.control],
            negative_prompt=self.settings.negative_prompt,
            num_inference_steps=self.settings.num_inference_steps,
            guidance_scale=self.settings.guidance_scale,
            **options,
        )[0]

    def _keep(self, image: Any, settings: PictureSettings, suffix: str) -> dict[str, Any]:
        from ..files import write_whole
        from ..painting.luma import mean_luma
        from ..painting.png import png

        file = self._file(settings.prompt, settings.seed, suffix)
        row = {"file": str(file), "prompt": settings.prompt, "seed": settings.seed}
        row |= {"singdiffusion": settings.singdiffusion, "mean_luma": None, "withheld": image is None}
        if image is None:
            file.unlink(missing_ok=True)  # of an earlier run (``require_free``), which would pass for this picture
            return row | {"file": None}
        write_whole(file, png(image, settings, optimize=True))
        return row if suffix == "-compare" else row | {"mean_luma": round(mean_luma(image), 3)}


def _report(rows: list[dict[str, Any]], seconds: float) -> None:
    """Print the files, and the pictures that were withheld.

    Raises:
        SingDiffusionError: all were withheld.
    """
    from ..painting.paint import WITHHELD

    files = [row["file"] for row in rows if row["file"] is not None]
    withheld = [row for row in rows if row["withheld"] and row["singdiffusion"] != "compare"]
    for file in files:
        show(file)
    for row in withheld:
        part = "with" if row["singdiffusion"] == "on" else "without"
        line = f"{WITHHELD}, not written: {row['prompt']!r}, seed {row['seed']}, {part} SingDiffusion"
        say(line)
    if not files:
        raise SingDiffusionError(f"all pictures ({len(withheld)}) were {WITHHELD}; another prompt or seed may pass")
    say(f"{len(files)} file{'s' * (len(files) != 1)} in {seconds:.1f} s")


def _check(
    prompts: Sequence[str], module: str | None, first: dict[str, Any], negative: str | None, compare: bool
) -> None:
    """Check, before anything is loaded, what does not depend on the model.

    Raises:
        SingDiffusionError: two options do not go together, or a prompt cannot be painted.
    """
    from ..painting.prompts import plain_text, require_utf8

    if module is None and first and "color" not in first:
        raise SingDiffusionError("--method, --first-prompt, --first-negative and --first-guidance need a module")
    if module is None and not first and compare:
        raise SingDiffusionError("--compare needs a module or a --color; without one there is nothing to compare with")
    for prompt in prompts:
        if not plain_text(prompt):
            raise SingDiffusionError("a prompt is empty; write what the picture shows")
        require_utf8(prompt, "a prompt")
    texts = {"negative_prompt": negative} | {
        f"first_step.{name}": first.get(name) for name in ("prompt", "negative_prompt")
    }
    for setting, text in texts.items():
        require_utf8(text or "", "the text", setting)


def _enabled(pipe: Any, module: str | None, first: dict[str, Any]) -> tuple[Any, str | None, dict[str, Any] | None]:
    """Return SingDiffusion enabled on a pipeline, its module's name, and its options for the record.

    All are None without module and color, and for a pipeline that stays as it is.
    """
    from ..plugin import SingDiffusion
    from ..plugin.choice import module_dtype
    from ..plugin.pipelines import untouched

    if module is None and not first:
        return None, None, None
    reason = untouched(pipe)
    if reason is not None:
        say(stays(pipe, reason))
        return None, None, None
    source = None if module is None else module_for(pipe, module)
    sing = SingDiffusion() if source is None else SingDiffusion.from_pretrained(source, torch_dtype=module_dtype(pipe))
    sing.enable(pipe, **first)
    return sing, source, first if source is None else first | {"method": sing.method}
