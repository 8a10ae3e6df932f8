"""What every command of ``singdiffusion evaluate`` does: check its options, load models, write the report."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...painting.scheduler_names import scheduler_class, set_scheduler
from ...painting.sizes import check_size, whole_size
from ..common import announce, check_json, console, extra, finite, hush, module_for, print_note, progress, show
from .options import PaintOptions

if TYPE_CHECKING:
    from ...evaluate.painter import Painter
    from ...evaluate.processes import Processes
    from ...evaluate.reports.document import Document


@dataclass
class Run:
    """A command's options, checked, and the processes that it runs in.

    Attributes:
        guidance: the guidance scale, or the first of several.
        options: shared by all commands.
    """

    models: list[str]
    modules: list[str]
    method: str | None
    guidance: float
    out: Path
    options: PaintOptions
    dtypes: dict[str, str] = field(default_factory=dict, init=False)  # by model, as loaded
    chosen: dict[str, str | None] = field(default_factory=dict, init=False)  # model -> what "auto" stands for

    def __post_init__(self) -> None:
        from ... import files

        finite("--guidance", self.guidance)
        if self.options.scheduler is not None:
            scheduler_class(self.options.scheduler)
        files.check_folder(self.out)
        self.cache = files.check_folder(self.options.cache or self.out / "pictures")
        check_json(self.options.json)
        hush()
        with extra("evaluate", "singdiffusion evaluate"):
            for package in ("matplotlib", "scipy", "torchmetrics"):
                importlib.import_module(package)
        from ...evaluate.processes import Processes
        from ...evaluate.reports.document import REPORT, check_report_folder
        from ...painting.devices import AUTO, choose_device, choose_dtype

        self.processes: Processes = Processes(cpu=self.options.device == "cpu")
        # under accelerate each process has a GPU of its own
        auto = self.options.device == AUTO and self.processes.count > 1
        self.device = self.processes.device if auto else choose_device(self.options.device)
        choose_dtype(self.options.dtype, self.device)
        check_report_folder(self.out, REPORT)
        self.started = time.monotonic()

    def painter(self, model: str) -> Painter:
        """Load a model, with everything that its pictures depend on."""
        from ...evaluate.painter import Painter
        from ...evaluate.selection import controls_for
        from ...painting.bases import load_model
        from ...painting.room import require_room
        from ...painting.steps import check_steps

        options = self.options
        pipe = load_model(model, self.device, options.dtype, options.model_config)
        if options.scheduler is not None:
            set_scheduler(pipe, options.scheduler)
        height, width = whole_size(pipe, options.height, options.width)
        check_size(pipe, height, width)
        require_room(pipe, 1, height, width)
        check_steps(pipe, options.steps)
        for_pipe: dict[str, Any] = {"num_inference_steps": options.steps, "guidance_scale": self.guidance}
        for_pipe |= {key: value for key, value in (("height", height), ("width", width)) if value is not None}
        self.dtypes[model] = str(pipe.dtype).removeprefix("torch.")
        return Painter(
            model,
            pipe,
            self.cache,
            self.processes,
            for_pipe,
            options.negative,
            options.batch,
            controls_for(pipe, model, options.control, print_note if self.processes.first else lambda line: None),
        )

    def modules_for(self, painter: Painter) -> list[str]:
        """Return the modules to measure on a model, with the one that fits it in the place of "auto"."""
        for name in self.modules:
            if name == "auto" and painter.model not in self.chosen:
                self.chosen[painter.model] = module_for(painter.pipe, name, self.processes.first)
        names = (self.chosen[painter.model] if name == "auto" else name for name in self.modules)
        return list(dict.fromkeys(name for name in names if name is not None))

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return what a reader of the report needs, by diffusers' names of the settings."""
        options = self.options
        named = [name for name in self.modules if name != "auto"]
        return {
            "models": self.models,
            "modules": list(dict.fromkeys([*named, *filter(None, self.chosen.values())])),
            "scheduler": options.scheduler,
            "num_inference_steps": options.steps,
            "guidance_scale": self.guidance,
            "negative_prompt": options.negative,
            "seed": options.seed,
            "height": options.height,
            "width": options.width,
            "device": str(self.device),
            "dtypes": self.dtypes,
            "processes": self.processes.count,
        } | more

    @contextmanager
    def painting(self, painter: Painter, pictures: int) -> Iterator[Any]:
        """Print device and precision, and show a progress bar, on the first process's terminal; yields ``advance``."""
        if not self.processes.first:
            yield lambda count: None
            return
        announce(painter.model, painter.pipe)
        with progress(f"Painting {painter.model}", pictures) as advance:
            yield advance

    def finish(self, document: Document, painted: int, expected: int) -> None:
        """Write the report and print its tables and where it is."""
        from ...evaluate.reports.document import as_json
        from ...files import output_folder, write_whole

        seconds = time.monotonic() - self.started
        document.figures |= {"seconds": round(seconds, 1), "painted": painted, "pictures": expected}
        if self.processes.first:
            page = document.write(self.out)
            if self.options.json is not None:
                output_folder(self.options.json.parent)
                write_whole(self.options.json, as_json(document.figures))
            for table in document.tables:
                console.print(table.rich())
            for line in document.notes:
                print_note(line)
            show(f"{page}  ({painted} of {expected} pictures painted now, {seconds:.0f} s)")
        self.processes.wait()


def start(
    models: Sequence[str] | None,
    modules: Sequence[str] | None,
    method: str | None,
    guidance: float,
    out: Path,
    options: PaintOptions,
) -> Run:
    """Fill in the defaults, and check the models' names.

    Raises:
        SingDiffusionError: a name can be no model's.
    """
    from ...painting.bases import require_name

    wanted = list(dict.fromkeys(models or ["tiny"]))
    for model in wanted:
        require_name(model)
    return Run(wanted, list(dict.fromkeys(modules or ["auto"])), method, guidance, out, options)
