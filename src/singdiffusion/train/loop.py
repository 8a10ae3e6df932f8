"""The training loop, on accelerate: one process or many, on the CPU or CUDA; it resumes exactly and stops cleanly."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import DistributedType, gather_object
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.shards import LatentDataset, Plan
from ..errors import SingDiffusionError, one_line_error
from ..files import output_folder, write_whole
from ..locks import locked
from ..modules import MeanDecoder, SingModule
from ..modules.layout import require_ours
from ..modules.text import PromptEncoder
from ..painting.bases import load_text
from ..painting.paint import WITHHELD
from ..staging import put_right
from . import logs, plot
from .accelerator import make_accelerator, on_main
from .averaging import AveragedWeights, plain_name
from .batches import Batch, MicroBatches, require_memory_for_batches
from .checkpoints import CheckpointStore, Progress
from .config import Config
from .export import make_module
from .interruption import Stopped, StopSignal, begin_worker, one_line_faults
from .losses import Objective
from .networks import build, parameter_count
from .optimisation import learning_rate, make_optimizer, micro_batches
from .resume import require_same_run, write_settings
from .samples import SamplePainter
from .text import embedder_for
from .validation import Floor, floor, validate

MODULE = "module"  # in the folder of a run
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Advance = Callable[[dict[str, float]], None]
"""Called on the main process after each step with its figures: step, loss, rate, pictures_per_second, input."""


class Agreed(NamedTuple):
    """What all processes agree on at a step: mean loss, a signal that one of them got (0: none), whether to write a checkpoint."""

    loss: float
    stop: int
    due: bool


class Trainer:
    """A training run, in the state of its last checkpoint if there is one.

    Args:
        config: of the run.
        report: takes lines for the user; called on the main process only.
        cpu: train on the CPU even where there is something faster.

    Raises:
        SingDiffusionError: data, base, network and configuration do not fit together, or a checkpoint cannot be read.
    """

    decoder: type[MeanDecoder] = MeanDecoder  # class of a fresh one; benchmarks/designs.py compares others

    def __init__(self, config: Config, report: Callable[[str], None], cpu: bool = False):
        self.config = config
        self.accelerator = make_accelerator(config, cpu)
        self.main = self.accelerator.is_main_process
        self._report = report
        self.micro, self.accumulate = micro_batches(config, self.accelerator.num_processes)
        self.out = output_folder(config.out)
        self.checkpoints = CheckpointStore(self.out, config.checkpoints.keep)
        self.log = logs.RunLog(self.out, self.accelerator, config.log.every, self.report)
        self.signal = StopSignal()
        self.figures: dict[str, Any] = {}  # of the last validation
        with ExitStack() as stack, self._faults():
            on_main(self.accelerator, lambda: self._take_folder(stack))
            self._prepare()
            self._lock = stack.pop_all()

    def _take_folder(self, stack: ExitStack) -> None:
        """Hold the folder of the run, and check that the module can be written into it at the end."""
        stack.enter_context(locked(self.out, "train"))
        put_right(self.out)
        put_right(self.checkpoints.folder)
        require_ours(self.out / MODULE)

    def _prepare(self) -> None:
        config = self.config
        self.data = LatentDataset(config.data.shards)
        if config.data.verify:
            self.data.verify(self.report, self.accelerator.process_index, self.accelerator.num_processes)
        self.plan = Plan(self.data, config.batch, config.seed, config.data.held_out)
        require_same_run(config, self.data, bool(self.checkpoints.all()))
        self.accelerator.gradient_accumulation_steps = self.accumulate
        self.needs_noise = config.network.kind == "unet"
        require_memory_for_batches(config, self.data, self.micro)
        self._prepare_text()
        paints = bool(config.validation.prompts) and self.main
        self.painter = SamplePainter(config, self.accelerator.device) if paints else None
        self._prepare_network()
        self.progress = Progress(world=self.accelerator.num_processes, device=self.accelerator.device.type)
        self._resume()
        self.floor = floor(self.data, self.plan.validation) if self.main else Floor()

    def _faults(self) -> AbstractContextManager[None]:
        return one_line_faults(self.accelerator, self.checkpoints, self.micro, self.out)

    def report(self, line: str) -> None:
        """Pass a line on to the user, from the main process."""
        if self.main:
            self._report(line)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _prepare_text(self) -> None:
        dtype = DTYPES[self.config.precision]
        self.tokenizers, encoders = load_text(self.config.data.base, dtype)
        self.encoders = [encoder.to(self.accelerator.device) for encoder in encoders]
        cache = self.config.data.text_cache_mib
        self.embed, line = embedder_for(self.data, self.tokenizers, self.encoders, dtype, cache)
        self.report(line)

    def _prepare_network(self) -> None:
        config = self.config
        network, origin, self.fine_tuned = build(
            config, self.data, self.decoder, on_cpu=self.accelerator.device.type == "cpu"
        )
        self.network_kind, self.network_config = type(network), dict(network.config)  # type: ignore[arg-type]
        count = parameter_count(network)
        self.report(f"{type(network).__name__}, {count / 1e6:.2f} M parameters: {origin}")
        if config.gradient_checkpointing:
            network.enable_gradient_checkpointing()  # type: ignore[operator]
        if config.channels_last and self.needs_noise:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective = Objective(network.train(), config.loss, config.alpha)
        if config.compile:
            objective.compile()
        torch.manual_seed(config.seed + self.accelerator.process_index)  # of dropout in the network, if it has any
        optimizer = make_optimizer(config.optimizer, list(objective.parameters()))
        self.model, self.optimizer = self.accelerator.prepare(objective, optimizer)
        sharded = self.accelerator.distributed_type == DistributedType.FSDP
        self.average = AveragedWeights(self.model, config.ema, sharded)

    def _resume(self) -> None:
        """Load the last checkpoint, if there is one, and write the settings of the run."""
        found = self.checkpoints.load(self.accelerator)
        if found is not None:
            progress, average = found
            self.average.load(average, progress.averaged)
            here = {"world": self.progress.world, "device": self.progress.device}
            self.report(f"resumes after step {progress.step}{_moved(progress, self.progress)}")
            self.progress = progress.model_copy(update=here)
            # accelerate counts micro-batches, whose number per step may have changed
            self.accelerator.step = progress.step * self.accumulate
        self.accelerator.wait_for_everyone()
        if self.main:
            write_settings(self.config, self.data)
            for name in (logs.TRAINING, logs.VALIDATION):
                self.log.trim(name, self.progress.step)

    # -- training -----------------------------------------------------------------------------------------------------

    def run(self, advance: Advance = lambda _: None) -> dict[str, Any]:
        """Train to the end.

        Returns:
            The figures of the last validation, and: step, seconds, pictures, and module, its folder.

        Raises:
            Stopped: by SIGTERM or SIGINT, after a checkpoint and the module were written.
            SingDiffusionError: the loss is not finite, another process is gone, memory or disk is full.
        """
        with self._lock, self.signal.noted(), self._faults():
            with one_line_error("log.trackers cannot start"):
                self.accelerator.init_trackers("singdiffusion")
            with closing(self._batches()) as batches:
                self._train(batches, advance)
            self._checkpoint()  # first: a validation that paints samples may take long
            figures = self._validate()
            module = self.export()
            self.accelerator.end_training()
            if self.signal.number:
                raise Stopped(self.signal.number, self.progress.step, "the run is complete")
        return figures | {
            "step": self.progress.step,
            "seconds": round(self.progress.seconds, 1),
            "pictures": self.progress.step * self.config.batch,
            "module": str(module),
        }

    def _train(self, batches: Iterator[Batch], advance: Advance) -> None:
        config, progress = self.config, self.progress
        started = time.monotonic() - progress.seconds
        saved = time.monotonic()
        while progress.step < config.steps:
            begun = time.monotonic()
            rate = learning_rate(config.schedule, config.optimizer.rate, progress.step, config.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            agreed, waited = self._step(batches, saved)
            progress.step += 1
            progress.seconds = time.monotonic() - started
            seconds = time.monotonic() - begun
            speed = {"pictures_per_second": config.batch / seconds, "input": waited / seconds}
            figures = {"step": progress.step, "loss": agreed.loss, "rate": rate} | speed
            self.log.add_step(figures)
            if self.main:
                advance(figures)
            if progress.step % config.validation.every == 0 and progress.step < config.steps:
                self._validate()
            every = config.checkpoints.every_steps
            if agreed.stop or agreed.due or (every and progress.step % every == 0):
                self._checkpoint()
                saved = time.monotonic()
            if agreed.stop:
                self.export()
                self.accelerator.end_training()
                raise Stopped(agreed.stop, progress.step)

    def _step(self, batches: Iterator[Batch], saved: float) -> tuple[Agreed, float]:
        """Take one optimizer step, of ``accumulate`` micro-batches.

        Args:
            saved: when the last checkpoint was written.

        Returns:
            What the processes agreed on, and the seconds spent waiting for data.
        """
        waited, taken, losses, agreed = 0.0, [], [], None
        for _ in range(self.accumulate):
            begun = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - begun
            taken.append(batch.rows)
            with self.accelerator.accumulate(self.model):
                losses.append(self._backward(batch))
                if self.accelerator.sync_gradients:  # in the last micro-batch of the step
                    agreed = self._agree(torch.stack(losses).mean(), saved)
                    self._require_finite_step(agreed, losses, taken)
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.average.update()
        self.progress.averaged = self.average.steps
        assert agreed is not None
        return agreed, waited

    def _backward(self, batch: Batch) -> Tensor:
        """Add a micro-batch's gradients, and return its loss."""
        device, x_1 = self.accelerator.device, None
        with self.accelerator.autocast():
            if batch.x_1 is not None:
                layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
                x_1 = batch.x_1.to(device).contiguous(memory_format=layout)
            loss = self.model(batch.y.to(device), x_1, self.embed(batch.ids).to(device), batch.size)
        self.accelerator.backward(loss)
        return loss.detach().float()

    def _agree(self, loss: Tensor, saved: float) -> Agreed:
        """Exchange between all processes: the mean loss, a signal that one of them got, and the main process's clock."""
        minutes = self.config.checkpoints.every_minutes
        due = self.main and minutes is not None and time.monotonic() - saved > 60 * minutes
        if self.accelerator.num_processes == 1:
            return Agreed(float(loss), self.signal.number, due)
        mine = torch.stack([loss, torch.tensor(float(self.signal.number)).to(loss), torch.tensor(float(due)).to(loss)])
        gathered = self.accelerator.gather(mine[None])
        return Agreed(float(gathered[:, 0].mean()), int(gathered[:, 1].max()), bool(gathered[:, 2].any()))

    def _require_finite_step(self, agreed: Agreed, losses: list[Tensor], taken: list[np.ndarray]) -> None:
        """Clip the gradients, and stop before the step is taken if its loss or its gradient is not finite."""
        self._require_finite(agreed.loss, "loss", losses, taken)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip)
        if self.accelerator.scaler is None:  # with fp16 the scaler skips such steps
            self._require_finite(float(norm), "gradient", losses, taken)

    def _require_finite(self, value: float, what: str, losses: list[Tensor], taken: list[np.ndarray]) -> None:
        """Write ``bad-step-N.json`` with the pictures of the step, and stop, if a value is not finite."""
        if math.isfinite(value):
            return
        bad = [i for i, loss in enumerate(losses) if not torch.isfinite(loss)] or range(len(losses))
        keys = gather_object([key for i in bad for key in self.data.keys(taken[i])])
        step = self.progress.step + 1
        file = self.out / f"bad-step-{step}.json"
        if self.main:
            write_whole(file, json.dumps({"step": step, what: str(value), "pictures": keys}, indent=1) + "\n")
        self.accelerator.wait_for_everyone()
        last = self.checkpoints.last()
        good = "there is no checkpoint yet" if last is None else f"the last good checkpoint is {last.name}"
        raise SingDiffusionError(
            f"the {what} is {value} at step {step}, in a batch of {len(keys)} pictures, such as {keys[0]} ({file} "
            f"lists all); {good}"
        )

    def _batches(self) -> Generator[Batch]:
        """Yield the micro-batches of this process that are left."""
        config = self.config
        dataset = MicroBatches(
            plan=self.plan,
            seed=config.seed,
            dropout=config.data.caption_dropout,
            empty=self.embed.empty(self.data.manifest["base"]["tokens"]),
            micro=self.micro,
            accumulate=self.accumulate,
            rank=self.accelerator.process_index,
            with_noise=self.needs_noise,
        )
        rest = range(self.progress.step * self.accumulate, config.steps * self.accumulate)
        # without a generator of its own the loader would draw from the one that dropout in the network uses
        loader: Any = iter(
            DataLoader(
                dataset,
                batch_size=None,
                sampler=rest,  # type: ignore[arg-type]
                num_workers=config.data.workers,
                generator=torch.Generator(),
                worker_init_fn=begin_worker,
            )
        )
        try:
            yield from loader
        finally:  # without this, an error would leave workers that Python waits for and no signal ends
            if config.data.workers:
                loader._shutdown_workers()

    # -- validation and files -----------------------------------------------------------------------------------------

    def _validate(self) -> dict[str, Any]:
        """Validate and paint samples, with the averaged weights; return the figures."""
        config, step = self.config, self.progress.step
        figures: dict[str, Any] = {}
        self.model.eval()
        with self.average.in_place():
            if len(self.plan.validation):
                figures = validate(
                    self.accelerator,
                    self.model,
                    self.embed,
                    self.data,
                    self.plan.validation,
                    self.floor,
                    config.validation,
                    self.needs_noise,
                )
            if config.validation.prompts:
                self._paint()
        self.model.train()
        if figures:
            self.figures = figures
            self.log.add_validation(step, figures)
            if self.main:
                plot.draw(self.out)
            self.report(f"step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        return figures

    def _paint(self) -> None:
        """Paint samples with the module as it is. Every process must call this."""
        state = self.accelerator.get_state_dict(self.model)
        if self.painter is not None:
            file = self.out / "samples" / f"step-{self.progress.step:08d}.png"
            withheld = self.painter.paint(self._module(state), file)
            self.report(f"painted {file}" + (f"; {withheld} black, {WITHHELD}" if withheld else ""))
        self.accelerator.wait_for_everyone()

    def _checkpoint(self) -> None:
        self.checkpoints.save(self.accelerator, self.progress, self.average.state())

    def export(self) -> Path:
        """Write ``module/`` with the averaged weights, and return its folder. Every process must call this."""
        folder = self.out / MODULE
        with self.average.in_place():  # the state refers to the weights, so it is written while they are in place
            state = self.accelerator.get_state_dict(self.model)
            if self.main:
                self._module(state).save_pretrained(folder)
        self.accelerator.wait_for_everyone()
        return folder

    def _module(self, state: dict[str, Tensor]) -> SingModule:
        network = self.network_kind.from_config(self.network_config)  # type: ignore[attr-defined]
        network.load_state_dict({plain_name(k).removeprefix("network."): v.float().cpu() for k, v in state.items()})
        base_text = PromptEncoder(self.tokenizers, self.encoders)
        return make_module(network, self.config, self.data, base_text, self.fine_tuned, self.figures)


def _moved(before: Progress, now: Progress) -> str:
    """Return what the processes of a run are now and were not before, for the user; "" where nothing changed."""
    moves = []
    if before.world != now.world:
        moves.append(f"with {now.world} processes instead of {before.world}")
    if before.device != now.device:
        moves.append(f"on {now.device} instead of {before.device}")
    return f", {' and '.join(moves)}: the same pictures, up to float32 rounding" if moves else ""


def train(
    config: Config, report: Callable[[str], None] = print, advance: Advance = lambda _: None, cpu: bool = False
) -> dict[str, Any]:
    """Train a module as a configuration describes, or resume the run if its folder has a checkpoint.

    Args:
        config: the run.
        report: takes messages for the user; called on the main process only.
        advance: takes the figures of each step.
        cpu: train on the CPU even where there is something faster.

    Returns:
        The figures of the last validation, as ``Trainer.run`` returns them.
    """
    return Trainer(config, report, cpu).run(advance)
