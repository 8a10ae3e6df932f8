"""What every command of ``singdiffusion evaluate`` does: check its options, load models, write the report."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ...choices import scheduler_class
from ...painting.schedulers import set_scheduler
from ...painting.sizes import check_size, whole_size
from ..common import check_json, console, extra, finite, hush, progress

if TYPE_CHECKING:
    from ...evaluate.painter import Painter
    from ...evaluate.processes import Processes
    from ...evaluate.reports.document import Document


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
        from ... import files

        finite("--guidance", self.guidance)
        if self.scheduler is not None:
            scheduler_class(self.scheduler)
        files.output_folder(self.out)
        self.cache = files.output_folder(self.cache or self.out / "pictures")
        check_json(self.json)
        hush()
        with extra("evaluate", "singdiffusion evaluate"):
            for package in ("matplotlib", "scipy", "torchmetrics"):
                importlib.import_module(package)
        from ...evaluate.processes import Processes
        from ...painting.devices import choose_device, choose_dtype

        self.processes: Processes = Processes(cpu=self.device == "cpu")
        self.torch_device = self.processes.device if self.device == "auto" else choose_device(self.device)
        choose_dtype(self.dtype, self.torch_device)  # an unknown name is an error before anything is loaded
        self.started = time.monotonic()

    def painter(self, model: str) -> Painter:
        """The model, loaded, with everything that its pictures depend on."""
        from ...evaluate.painter import Painter
        from ...evaluate.selection import controls_for
        from ...painting.bases import load_model

        pipe = load_model(model, self.torch_device, self.dtype, self.model_config)
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
        from ...evaluate.reports.document import as_json
        from ...files import write_whole

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


def start(**options: Any) -> Run:
    """Defaults that depend on each other: the embedded model has its own module."""
    from ... import tiny
    from ...errors import SingDiffusionError
    from ...painting.bases import require_name

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
