"""``singdiffusion evaluate``: brightness, fidelity, pareto, remedies."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import app
from .common import (
    SCHEDULERS,
    check_json,
    check_size,
    console,
    extra,
    finite,
    hush,
    progress,
    scheduler_class,
    set_scheduler,
    torch_device,
    torch_dtype,
    whole_size,
)

if TYPE_CHECKING:
    from ..evaluate.document import Document
    from ..evaluate.painting import Painter
    from ..evaluate.processes import Processes

evaluate = typer.Typer(
    help="Measure what the first step does to a model: brightness, fidelity, the curve over guidance, and beside other remedies. "
    "Pictures are kept and not painted twice; `accelerate launch -m singdiffusion evaluate ...` shares the work.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(evaluate, name="evaluate")

# -- the options that every command takes ------------------------------------------------------------------------------

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="tiny (the default), tiny-v, tiny-community or tiny-controlnet, a folder, a hub id or a single .safetensors file.",
    ),
]
Modules = Annotated[
    list[str] | None,
    typer.Option("--module", help="tiny (the default), tiny-unet, a module's folder or hub id; may be repeated."),
]
Method = Annotated[str | None, typer.Option(help="mean or moments; moments by default where the module can.")]
ModelConfig = Annotated[
    Path | None, typer.Option(help="For a single file: a folder in diffusers' layout that fits it.")
]
Out = Annotated[Path, typer.Option(help="Folder for the report: index.html, figures.json, table.md.")]
Cache = Annotated[
    Path | None, typer.Option(help="Where the pictures are kept; OUT/pictures by default. May be shared.")
]
Json = Annotated[Path | None, typer.Option(help="Write the figures here too.")]
Scheduler = Annotated[str | None, typer.Option(help="The model's own, or: " + ", ".join(SCHEDULERS))]
Steps = Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")]
Guidance = Annotated[float, typer.Option(help="Guidance scale; 1 or less: none.")]
Negative = Annotated[str | None, typer.Option(help="Negative prompt.")]
Control = Annotated[
    Path | None, typer.Option(help="For a ControlNet: a picture, or a folder of them, to follow; the seed says which.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**62, help="First seed; the next pictures take the next.")]
Batch = Annotated[int, typer.Option(min=1, max=4096, help="Pictures in one call of the pipeline.")]
Height = Annotated[int | None, typer.Option(max=16384, help="In pixels; the model's own by default.")]
Width = Annotated[int | None, typer.Option(max=16384, help="In pixels; the model's own by default.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16.")]
Device = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda, mps, ...")]


@dataclass
class Run:
    """A command's common options, checked, and the processes that it runs in."""

    models: list[str]
    modules: list[str]
    method: str | None
    model_config: Path | None
    out: Path
    cache: Path | None
    json: Path | None
    scheduler: str | None
    steps: int
    guidance: float
    negative: str | None
    control: Path | None
    seed: int
    batch: int
    height: int | None
    width: int | None
    dtype: str
    device: str

    def __post_init__(self) -> None:
        from .. import files

        finite("--guidance", self.guidance)
        torch_dtype(self.dtype)
        if self.scheduler is not None:
            scheduler_class(self.scheduler)
        files.output_folder(self.out)
        self.cache = files.output_folder(self.cache or self.out / "pictures")
        check_json(self.json)
        hush()
        with extra("evaluate", "singdiffusion evaluate"):
            for package in ("matplotlib", "scipy", "torchmetrics"):
                importlib.import_module(package)
        from ..evaluate.processes import Processes

        self.processes: Processes = Processes(cpu=self.device == "cpu")
        self.started = time.monotonic()

    def painter(self, model: str) -> Painter:
        """The model, loaded, with everything that its pictures depend on."""
        from ..evaluate.painting import Painter
        from ..evaluate.selection import controls_for
        from ..plugin.models import load_model

        device = self.processes.device if self.device == "auto" else torch_device(self.device)
        pipe = load_model(model, torch_dtype(self.dtype), self.model_config).to(device)
        if self.scheduler is not None:
            set_scheduler(pipe, self.scheduler)
        height, width = whole_size(pipe, self.height, self.width)
        check_size(pipe, height, width)
        options: dict[str, Any] = {"num_inference_steps": self.steps, "guidance_scale": self.guidance}
        options |= {key: value for key, value in (("height", height), ("width", width)) if value is not None}
        assert self.cache is not None
        return Painter(
            model,
            pipe,
            self.cache,
            self.processes,
            options,
            self.negative,
            self.batch,
            controls_for(pipe, model, self.control),
        )

    def settings(self, **more: Any) -> dict[str, Any]:
        """What a reader of the report needs to know."""
        return {
            "models": self.models,
            "modules": self.modules,
            "scheduler": self.scheduler,
            "steps": self.steps,
            "guidance": self.guidance,
            "negative_prompt": self.negative,
            "seed": self.seed,
            "height": self.height,
            "width": self.width,
            "dtype": self.dtype,
            "processes": self.processes.count,
        } | more

    @contextmanager
    def progress(self, title: str, pictures: int) -> Iterator[Any]:
        """A bar on the first process's terminal."""
        if not self.processes.first:
            yield lambda count: None
            return
        with progress(title, pictures) as advance:
            yield advance

    def finish(self, document: Document, painted: int, expected: int) -> None:
        """Write the report and say where it is."""
        from ..evaluate.document import as_json
        from ..files import write_whole

        seconds = time.monotonic() - self.started
        document.figures |= {"seconds": round(seconds, 1), "painted": painted, "pictures": expected}
        if self.processes.first:
            page = document.write(self.out)
            if self.json is not None:
                write_whole(self.json, as_json(document.figures))
            for table in document.tables:
                console.print(table.rich())
            for note in document.notes:
                console.print(f"note: {note}", highlight=False, markup=False)
            typer.echo(f"{page}  ({painted} of {expected} pictures painted now, {seconds:.0f} s)")
        self.processes.wait()


def _run(**options: Any) -> Run:
    """Defaults that depend on each other: the embedded model has its own module."""
    from .. import tiny
    from ..errors import SingDiffusionError
    from ..plugin.models import require_name

    models = list(dict.fromkeys(options.pop("models") or ["tiny"]))
    modules = options.pop("modules")
    foreign = [model for model in models if model not in tiny.MODELS]
    for model in foreign:
        require_name(model)
    if modules is None and foreign:
        raise SingDiffusionError(
            f"say which module fits {foreign[0]}: --module FOLDER (a hub id, or convert a published one)"
        )
    return Run(models=models, modules=list(dict.fromkeys(modules or ["tiny"])), **options)


def _pictures(default: str) -> Any:
    return typer.Option(min=1, max=1_000_000, help=default)


# -- brightness --------------------------------------------------------------------------------------------------------


@evaluate.command()
def brightness(
    models: Models = None,
    modules: Modules = None,
    method: Method = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts to paint (.txt, .json, .jsonl, .csv); the paper's four by default.")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, max=1_000_000, help="Pictures a prompt.")] = 100,
    out: Out = Path("out/brightness"),
    cache: Cache = None,
    json: Json = None,
    model_config: ModelConfig = None,
    scheduler: Scheduler = None,
    steps: Steps = 50,
    guidance: Guidance = 7.5,
    negative: Negative = None,
    control: Control = None,
    seed: Seed = 0,
    batch: Batch = 16,
    height: Height = None,
    width: Width = None,
    dtype: Dtype = "float32",
    device: Device = "auto",
) -> None:
    """Mean grey of pictures, without and with: the paper's table, for any models and modules side by side.

    Example: singdiffusion evaluate brightness --model tiny --model tiny-v --pictures 16 --out out/brightness
    """
    run = _run(
        models=models, modules=modules, method=method, out=out, cache=cache, json=json, model_config=model_config,
        scheduler=scheduler, steps=steps, guidance=guidance, negative=negative, control=control, seed=seed, batch=batch,
        height=height, width=width, dtype=dtype, device=device,
    )  # fmt: skip
    from ..evaluate import brightness_table
    from ..evaluate.prompts import PAPER_PROMPTS, named, read_prompts
    from ..evaluate.selection import real_greys, remedies_for, said_of

    wanted = named(PAPER_PROMPTS) if prompts is None else read_prompts(prompts)
    columns, notes, real, painted = [], [], {}, 0
    for model in run.models:
        painter = run.painter(model)
        remedies, absent = remedies_for(painter.pipe, run.modules, run.method, alone=len(run.models) == 1)
        notes += [f"{model}: {line}" for line in [*absent, *said_of(painter.pipe, wanted)]]
        real |= {model: found} if (found := real_greys(model, wanted)) else {}
        with run.progress(f"Painting {model}", len(remedies) * len(wanted) * pictures) as advance:
            columns += brightness_table.measure(painter, remedies, wanted, pictures, run.seed, advance)
        painted += painter.painted
    settings = run.settings(prompts=None if prompts is None else prompts.name, pictures=pictures)
    document = brightness_table.document(columns, wanted, real, settings, notes)
    run.finish(document, painted, len(columns) * len(wanted) * pictures)
