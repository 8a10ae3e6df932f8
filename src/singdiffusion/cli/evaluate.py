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

from ..choices import SCHEDULERS, check_size, scheduler_class, set_scheduler, whole_size
from . import app
from .common import (
    check_json,
    console,
    extra,
    finite,
    hush,
    progress,
    torch_device,
    torch_dtype,
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
        self.torch_device = self.processes.device if self.device == "auto" else torch_device(self.device)
        self.started = time.monotonic()

    def painter(self, model: str) -> Painter:
        """The model, loaded, with everything that its pictures depend on."""
        from ..evaluate.painting import Painter
        from ..evaluate.selection import controls_for
        from ..plugin.models import load_model

        pipe = load_model(model, torch_dtype(self.dtype), self.model_config).to(self.torch_device)
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


# -- what fidelity, pareto and remedies have in common ------------------------------------------------------------------

Captions = Annotated[
    Path | None,
    typer.Option(
        help="Captions (.json as COCO_3W_prompt.json, .jsonl, .csv, .txt); those of the embedded models' pictures by default."
    ),
]
RealPicturesOption = Annotated[
    Path | None,
    typer.Option(
        "--real", help="Real pictures: a folder, or an .npz file of statistics; the embedded models' own by default."
    ),
]
SaveReal = Annotated[
    Path | None, typer.Option(help="Keep the real pictures' statistics in this .npz file, for --real.")
]
Count = Annotated[
    int | None,
    typer.Option(
        "--pictures",
        min=2,
        max=1_000_000,
        help="Pictures in all, a caption each; as many as captions by default, at most 30,000, and 256 of the embedded models.",
    ),
]
Features = Annotated[
    list[str] | None,
    typer.Option(help="Distances on features of: tiny, efficientnet, inception (FID), clip; may be repeated. tiny and efficientnet by "
                 "default for the embedded models, inception for others."),
]  # fmt: skip
InceptionFile = Annotated[
    Path | None,
    typer.Option(
        "--inception", help="Inception's weights as torch-fidelity distributes them, where these cannot be downloaded."
    ),
]
ClipFeatures = Annotated[
    str | None, typer.Option("--clip", help="For --features clip: a CLIP model's folder or hub id.")
]
Text = Annotated[
    str | None,
    typer.Option("--text", help="Scores pictures with their captions: tiny, a CLIP model's folder or hub id, or none."),
]


@dataclass
class Crowds:
    """What crowds of pictures are compared with, of several models."""

    run: Run
    captions: Path | None
    real: Path | None
    save_real: Path | None
    count: int | None
    features: list[str] | None
    inception: Path | None
    clip: str | None
    text: str | None

    def __post_init__(self) -> None:
        from ..errors import SingDiffusionError
        from ..evaluate import selection
        from ..evaluate.gallery import jobs_of_captions

        run = self.run
        first = run.models[0]
        self.prompts = selection.captions_for(first, self.captions)
        self.number = self.count or selection.count_for(run.models, self.prompts)
        self.jobs = jobs_of_captions(self.prompts, self.number, run.seed)
        extractors = selection.extractors_for(run.models, self.features, self.inception, self.clip)
        if self.save_real is not None and len(extractors) > 1:
            raise SingDiffusionError(
                "--save-real keeps the statistics of one network's features; name one with --features"
            )
        device = run.torch_device
        self.scorer = selection.text_for(run.models, self.text, device)
        self.known = selection.real_for(first, self.real, extractors, self.number, run.processes, device)
        if self.save_real is not None and run.processes.first:
            self.known.statistics[0].save(self.save_real)
        run.processes.wait()

    def settings(self, **more: Any) -> dict[str, Any]:
        return self.run.settings(
            captions="of the embedded models' pictures" if self.captions is None else self.captions.name,
            real="the embedded models' own" if self.real is None else self.real.name,
            pictures=self.number,
            **more,
        )


def _scored(crowds: Crowds, scales: list[float]) -> tuple[list[Any], list[str], int]:
    """Off and every module that fits, on every model at every scale; notes; and how many pictures were painted."""
    from ..evaluate.scores import score
    from ..evaluate.selection import remedies_for, said_of

    run, found, notes, painted = crowds.run, [], [], 0
    for model in run.models:
        painter = run.painter(model)
        remedies, absent = remedies_for(painter.pipe, run.modules, run.method, alone=len(run.models) == 1)
        notes += [f"{model}: {line}" for line in [*absent, *said_of(painter.pipe, crowds.prompts)]]
        with run.progress(f"Painting {model}", len(remedies) * len(scales) * crowds.number) as advance:
            for scale in scales:
                for remedy in remedies:
                    found.append(score(painter, remedy, crowds.jobs, scale, crowds.known, crowds.scorer, advance))
        painted += painter.painted
    return found, notes, painted


def _scales(given: list[float] | None, otherwise: tuple[float, ...]) -> list[float]:
    return list(dict.fromkeys(finite("--guidance", scale) for scale in given or otherwise))


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


# -- fidelity ----------------------------------------------------------------------------------------------------------


@evaluate.command()
def fidelity(
    models: Models = None,
    modules: Modules = None,
    method: Method = None,
    captions: Captions = None,
    real: RealPicturesOption = None,
    save_real: SaveReal = None,
    pictures: Count = None,
    guidance: Annotated[
        list[float] | None, typer.Option(help="Guidance scales, one or several times; 1 (none) and 7.5 by default.")
    ] = None,
    features: Features = None,
    inception: InceptionFile = None,
    clip: ClipFeatures = None,
    text: Text = None,
    out: Out = Path("out/fidelity"),
    cache: Cache = None,
    json: Json = None,
    model_config: ModelConfig = None,
    scheduler: Scheduler = None,
    steps: Steps = 50,
    negative: Negative = None,
    control: Control = None,
    seed: Seed = 0,
    batch: Batch = 16,
    height: Height = None,
    width: Width = None,
    dtype: Dtype = "float32",
    device: Device = "auto",
) -> None:
    """How near pictures are to real ones, and how well they fit their captions, without and with: FID and CLIP score, where these are at hand.

    Example: singdiffusion evaluate fidelity --pictures 64 --guidance 1 --out out/fidelity
    """
    scales = _scales(guidance, (1.0, 7.5))
    run = _run(
        models=models, modules=modules, method=method, out=out, cache=cache, json=json, model_config=model_config,
        scheduler=scheduler, steps=steps, guidance=scales[0], negative=negative, control=control, seed=seed, batch=batch,
        height=height, width=width, dtype=dtype, device=device,
    )  # fmt: skip
    from ..evaluate.score_tables import fidelity_document

    crowds = Crowds(run, captions, real, save_real, pictures, features, inception, clip, text)
    found, notes, painted = _scored(crowds, scales)
    document = fidelity_document(found, crowds.known, crowds.settings(guidance=scales), notes)
    run.finish(document, painted, len(found) * crowds.number)


# -- the curve over guidance -------------------------------------------------------------------------------------------


@evaluate.command()
def pareto(
    models: Models = None,
    modules: Modules = None,
    method: Method = None,
    captions: Captions = None,
    real: RealPicturesOption = None,
    save_real: SaveReal = None,
    pictures: Count = None,
    guidance: Annotated[
        list[float] | None, typer.Option(help="Guidance scales; 1.5, 2, 3, 4, 5, 6, 7 and 8 by default.")
    ] = None,
    behind: Annotated[
        str | None, typer.Option(help="Draw the authors' curves behind: sd-1.5 or sd-2.0-base (read off their plot).")
    ] = None,
    features: Features = None,
    inception: InceptionFile = None,
    clip: ClipFeatures = None,
    text: Text = None,
    out: Out = Path("out/pareto"),
    cache: Cache = None,
    json: Json = None,
    model_config: ModelConfig = None,
    scheduler: Scheduler = None,
    steps: Steps = 50,
    negative: Negative = None,
    control: Control = None,
    seed: Seed = 0,
    batch: Batch = 16,
    height: Height = None,
    width: Width = None,
    dtype: Dtype = "float32",
    device: Device = "auto",
) -> None:
    """The curve of text score against distance over the guidance scale, without and with, and where one is better than the other.

    Example: singdiffusion evaluate pareto --pictures 64 --guidance 1.5 --guidance 4 --guidance 8 --out out/pareto
    """
    from ..errors import SingDiffusionError
    from ..evaluate import published

    scales = sorted(_scales(guidance, published.GUIDANCE))
    if behind is not None and behind not in published.PARETO:
        raise SingDiffusionError(f"no published curve of {behind!r}; known: {', '.join(published.PARETO)}")
    if text == "none":
        raise SingDiffusionError("the curve needs a text score: --text tiny, or a CLIP model's folder or hub id")
    run = _run(
        models=models, modules=modules, method=method, out=out, cache=cache, json=json, model_config=model_config,
        scheduler=scheduler, steps=steps, guidance=scales[0], negative=negative, control=control, seed=seed, batch=batch,
        height=height, width=width, dtype=dtype, device=device,
    )  # fmt: skip
    from ..evaluate.score_tables import pareto_document

    crowds = Crowds(run, captions, real, save_real, pictures, features, inception, clip, text)
    found, notes, painted = _scored(crowds, scales)
    document = pareto_document(found, crowds.known, crowds.settings(guidance=scales, behind=behind), notes, behind)
    run.finish(document, painted, len(found) * crowds.number)


# -- remedies ----------------------------------------------------------------------------------------------------------


@evaluate.command()
def remedies(
    model: Annotated[
        str,
        typer.Option(
            help="tiny, tiny-v, tiny-community or tiny-controlnet, a folder, a hub id or a single .safetensors file."
        ),
    ] = "tiny",
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--module",
            help="tiny and tiny-unet by default for the embedded models, a module's folder or hub id; may be repeated.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Prompts for brightness (.txt, .json, .jsonl, .csv); the paper's four by default."),
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, max=1_000_000, help="Pictures a prompt.")] = 16,
    captions: Captions = None,
    crowd: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1_000_000,
            help="Pictures of captions in all; as many as captions by default, at most 30,000, and 256 of the embedded models.",
        ),
    ] = None,
    real: RealPicturesOption = None,
    statistics: Annotated[
        Path | None,
        typer.Option(
            help="For the signal leak: a folder that singdiffusion encode wrote, of the base's training pictures."
        ),
    ] = None,
    color: Annotated[
        list[str] | None, typer.Option(help="Flat colours to start from, #rrggbb or names; grey by default.")
    ] = None,
    one_more_step: Annotated[
        str | None, typer.Option(help="A converted OneMoreStep module's folder or hub id.")
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=1, max=1000, help="Pictures without and with, in turn, for the time of each remedy.")
    ] = 6,
    features: Features = None,
    inception: InceptionFile = None,
    clip: ClipFeatures = None,
    text: Text = None,
    out: Out = Path("out/remedies"),
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
    """Every remedy that the model can have, side by side: brightness, distance, text score, time, memory, what has to be trained.

    Example: singdiffusion evaluate remedies --pictures 4 --crowd 64 --out out/remedies
    """
    from .. import tiny

    embedded = model in tiny.MODELS
    run = _run(
        models=[model], modules=modules or (["tiny-unet", "tiny"] if embedded else None), method=None, out=out, cache=cache,
        json=json, model_config=model_config, scheduler=scheduler, steps=steps, guidance=guidance, negative=negative,
        control=control, seed=seed, batch=batch, height=height, width=width, dtype=dtype, device=device,
    )  # fmt: skip
    from ..evaluate.comparison import compare_remedies
    from ..evaluate.prompts import PAPER_PROMPTS, named, read_prompts

    wanted = named(PAPER_PROMPTS) if prompts is None else read_prompts(prompts)
    crowds = Crowds(run, captions, real, None, crowd, features, inception, clip, text)
    painter = run.painter(model)
    with run.progress(f"Painting {model}", 0) as advance:
        document, expected = compare_remedies(
            painter,
            wanted,
            pictures,
            crowds.jobs,
            crowds.known,
            crowds.scorer,
            modules=run.modules,
            statistics=statistics,
            colours=color or ["#808080"],
            one_more_step=one_more_step,
            pairs=pairs,
            seed=seed,
            settings=crowds.settings(pictures_a_prompt=pictures, prompts={p.id: p.text for p in wanted}),
            advance=advance,
        )
    run.finish(document, painter.painted, expected)
