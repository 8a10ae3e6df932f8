"""The training loop, on accelerate: one process or many, CPU or CUDA, resumed exactly, stopped cleanly."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedType, InitProcessGroupKwargs, gather_object
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import DataLoader

from ..data.shards import LatentDataset, Plan
from ..errors import SingDiffusionError
from ..files import output_folder, write_whole
from ..modules import MeanDecoder, SingConfig, SingModule
from ..modules.text import same_encoders
from ..painting.bases import load_text
from . import plot
from .batches import Batch, MicroBatches
from .checkpoints import CheckpointStore, Progress, read_lines
from .config import Config, Optimizer, Schedule, differences
from .losses import Objective
from .networks import build
from .samples import load_base, paint
from .text import embedder_for
from .validation import Floor, floor, validate

Say = Callable[[str], None]
KEPT = ("guidance_scale", "normalise_guidance")  # of the module that is gone on from
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Stopped(SingDiffusionError):
    """The run was told to stop by a signal, and has written a checkpoint."""

    def __init__(self, number: int, step: int):
        super().__init__(
            f"stopped by {signal.Signals(number).name} at step {step}; a checkpoint is written, and the same command goes on"
        )
        self.status = 128 + number


def learning_rate(schedule: Schedule, peak: float, step: int, steps: int) -> float:
    """Of a step, counted from 0: nothing of it is stored, so a run that is resumed has the same."""
    warm = min(1.0, (step + 1) / schedule.warm_up) if schedule.warm_up else 1.0
    if schedule.shape == "constant":
        return peak * warm
    fall = max(0.0, (step / steps - schedule.hold) / (1 - schedule.hold))
    return peak * warm * (schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * fall)))


def make_optimizer(spec: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW, fused; or with 8-bit states.

    Raises:
        SingDiffusionError: 8 bits without bitsandbytes.
    """
    options: dict[str, Any] = {"lr": spec.rate, "betas": spec.betas, "weight_decay": spec.weight_decay}
    if spec.name == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **options)
    try:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]  (extra `8bit`)
    except ImportError as error:
        raise SingDiffusionError("optimizer adamw8bit needs bitsandbytes: pip install 'singdiffusion[8bit]'") from error
    return AdamW8bit(parameters, **options)


class Trainer:
    """A training run: what it consists of, put into the state of its last checkpoint, if there is one.

    Args:
        config: the run.
        say: takes lines for the user; called on the main process only.
        cpu: train on the CPU even where there is something faster.

    Raises:
        SingDiffusionError: data, base, network and configuration do not go together, or a checkpoint cannot be read.
    """

    decoder: type[MeanDecoder] = MeanDecoder  # of a fresh one; benchmarks/designs.py compares others

    def __init__(self, config: Config, say: Say, cpu: bool = False):
        self.config = config
        self.accelerator = _accelerator(config, cpu)
        self.main = self.accelerator.is_main_process
        self._say = say
        self.out = output_folder(config.out)
        self.data = LatentDataset(config.data.shards)
        self.plan = Plan(self.data, config.batch, config.seed, config.data.held_out)
        self.micro, self.accumulate = _micro_batches(config, self.accelerator.num_processes)
        self.accelerator.gradient_accumulation_steps = self.accumulate
        self._prepare_text()
        if config.validation.prompts and self.main:
            load_base(
                config, self.accelerator.device
            )  # that it cannot be had shall be seen now, not at the first validation
        self._prepare_network()
        self.progress = Progress(world=self.accelerator.num_processes)
        self.checkpoints = CheckpointStore(self.out, config.checkpoints.keep)
        self._stop_signal = 0
        self._resume()
        self.least = floor(self.data, self.plan.validation) if self.main else Floor()

    def say(self, line: str) -> None:
        if self.main:
            self._say(line)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _prepare_text(self) -> None:
        dtype = DTYPES[self.config.precision]
        self.tokenizers, encoders = load_text(self.config.data.base, dtype)
        self.encoders = [encoder.to(self.accelerator.device) for encoder in encoders]
        cache = self.config.data.text_cache_mib
        self.embed, line = embedder_for(self.data, self.tokenizers, self.encoders, dtype, cache, lambda: None)
        self.say(line)

    def _prepare_network(self) -> None:
        network, origin, self.begun_with = build(self.config, self.data, self.decoder)
        self.network_kind, self.network_config = type(network), dict(network.config)  # type: ignore[arg-type]
        count = sum(p.numel() for p in network.parameters())
        self.say(f"{type(network).__name__}, {count / 1e6:.2f} M parameters: {origin}")
        if self.config.gradient_checkpointing:
            network.enable_gradient_checkpointing()  # type: ignore[operator]
        if self.config.channels_last and self.config.network.kind == "unet":
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective = Objective(network.train(), self.config.loss, self.config.alpha)
        if self.config.compile:
            objective.compile()
        torch.manual_seed(self.config.seed + self.accelerator.process_index)  # of dropout in the network, if it has any
        optimizer = make_optimizer(self.config.optimizer, list(objective.parameters()))
        self.model, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self.parameters = dict(self.model.named_parameters())
        decay = self.config.ema
        together = self.accelerator.distributed_type != DistributedType.FSDP  # foreach does not take parts of tensors
        options: dict[str, Any] = {"use_ema_warmup": True, "power": 0.75, "foreach": together}
        self.ema = EMAModel(self.parameters.values(), decay, **options) if decay else None

    def _resume(self) -> None:
        now = json.loads(self.config.model_dump_json())
        pictures = {"count": len(self.data), "digest": self.data.digest}
        file = self.out / "config.json"
        if self.checkpoints.all() and file.exists():
            self._require_same(json.loads(file.read_text()), now, pictures)
        found = self.checkpoints.load(self.accelerator)
        if found is not None:
            told, average = found
            self._restore_average(told, average)
            here = self.accelerator.num_processes
            others = (
                ""
                if told.world == here
                else f", with {here} processes instead of {told.world}: the same pictures, rounded otherwise"
            )
            self.say(f"resumes after step {told.step}{others}")
            self.progress = Progress(told.step, told.seconds, told.averaged, here)
            self.accelerator.step = (
                told.step * self.accumulate
            )  # accelerate counts micro-batches, which may be others now
        self.accelerator.wait_for_everyone()
        if self.main:
            write_whole(file, json.dumps(now | {"pictures": pictures}, indent=2) + "\n")
            for name in ("log.jsonl", "validation.jsonl"):
                self._trim(name, self.progress.step)

    def _require_same(self, before: dict[str, Any], now: dict[str, Any], pictures: dict[str, Any]) -> None:
        """Raise SingDiffusionError if the run in ``out`` is another one than this: other pictures would also be held out."""
        theirs = before.get("pictures", pictures)  # a run of an earlier version does not say
        if theirs != pictures:
            raise SingDiffusionError(
                f"{self.out} holds a run on {theirs['count']:,} other pictures than the {pictures['count']:,} in "
                f"{self.data.folder}; go on with those, or name another out (and --init-module {self.out / 'module'})"
            )
        changed = differences(before, now)
        if changed:
            raise SingDiffusionError(
                f"{self.out} holds a run with another configuration ({changed[0]}); go on with that, or name another out"
            )

    def _restore_average(self, told: Progress, average: dict[str, Tensor] | None) -> None:
        if self.ema is None:
            return
        if average is None or set(average) != {_plain(name) for name in self.parameters}:
            raise SingDiffusionError(f"the checkpoint at step {told.step} in {self.out} lacks the averaged weights")
        for shadow, name in zip(self.ema.shadow_params, self.parameters, strict=True):
            _fill(shadow, average[_plain(name)])
        self.ema.optimization_step = told.averaged

    def _trim(self, name: str, step: int) -> None:
        """Drop what a log holds from after a step: a killed run's, which is written again."""
        file = self.out / name
        if file.exists():
            rows = [row for row in read_lines(file) if row["step"] <= step]
            write_whole(file, "".join(json.dumps(row) + "\n" for row in rows))

    # -- training -----------------------------------------------------------------------------------------------------

    def run(self, advance: Callable[[dict[str, float]], None] = lambda _: None) -> dict[str, Any]:
        """Train to the end.

        Args:
            advance: called on the main process after each step with its figures: step, loss, rate, pictures_per_second.

        Returns:
            The last validation's figures, steps, seconds, pictures, and where the module is.

        Raises:
            Stopped: by SIGTERM or SIGINT, after a checkpoint was written.
            SingDiffusionError: the loss is not finite, another process is gone, memory or the disk is full.
        """
        with self._signals(), self._faults():
            self.accelerator.init_trackers("singdiffusion")
            with closing(self._batches()) as batches:
                self._train(batches, advance)
            figures = self._validate()
            self._checkpoint()
            module = self.export()
            self.accelerator.end_training()
        return figures | {
            "step": self.progress.step,
            "seconds": round(self.progress.seconds, 1),
            "pictures": self.progress.step * self.config.batch,
            "module": str(module),
        }

    def _train(self, batches: Iterator[Batch], advance: Callable[[dict[str, float]], None]) -> None:
        config, accelerator = self.config, self.accelerator
        started = time.monotonic() - self.progress.seconds
        saved = time.monotonic()
        while self.progress.step < config.steps:
            begun = time.monotonic()
            rate = learning_rate(config.schedule, config.optimizer.rate, self.progress.step, config.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss, waited, stop, due = self._step(batches, saved)
            self.progress.step += 1
            self.progress.seconds = time.monotonic() - started
            step, seconds = self.progress.step, time.monotonic() - begun
            figures = {
                "step": step, "loss": loss, "rate": rate,
                "pictures_per_second": config.batch / seconds, "input": waited / seconds,
            }  # fmt: skip
            self._log(figures)
            if self.main:
                advance(figures)
            if step % config.validation.every == 0 and step < config.steps:
                self._validate()
            every = config.checkpoints.every_steps
            if stop or due or (every and step % every == 0):
                self._checkpoint()
                saved = time.monotonic()
            if stop:
                self.export()
                accelerator.end_training()
                raise Stopped(stop, step)

    def _step(self, batches: Iterator[Batch], saved: float) -> tuple[float, float, int, bool]:
        """One optimizer step; returns its loss, seconds spent waiting for data, a signal that came, whether a checkpoint is due."""
        accelerator, device = self.accelerator, self.accelerator.device
        waited, losses, rows = 0.0, [], []
        for _ in range(self.accumulate):
            begun = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - begun
            rows.append(batch.rows)
            with accelerator.accumulate(self.model):
                with accelerator.autocast():
                    text = self.embed(batch.ids).to(device)
                    loss = self.model(batch.y.to(device), self._noise(batch), text, batch.size)
                accelerator.backward(loss)
                losses.append(loss.detach().float())
                if accelerator.sync_gradients:
                    mean, stop, due = self._agree(torch.stack(losses).mean(), saved)
                    self._require_finite(mean, "loss", losses, rows)
                    norm = accelerator.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip)
                    if accelerator.scaler is None:  # with fp16 the scaler skips such steps
                        self._require_finite(float(norm), "gradient", losses, rows)
                self.optimizer.step()
                self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.step(self.parameters.values())
            self.progress.averaged = self.ema.optimization_step
        return mean, waited, stop, due  # type: ignore[possibly-undefined]

    def _noise(self, batch: Batch) -> Tensor | None:
        if batch.x_1 is None:
            return None
        form = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return batch.x_1.to(self.accelerator.device).contiguous(memory_format=form)

    def _agree(self, loss: Tensor, saved: float) -> tuple[float, int, bool]:
        """What all processes know together: mean loss, a signal that any of them got, and whether the main one's clock says save."""
        minutes = self.config.checkpoints.every_minutes
        due = self.main and minutes is not None and time.monotonic() - saved > 60 * minutes
        mine = torch.stack([loss, torch.tensor(float(self._stop_signal)).to(loss), torch.tensor(float(due)).to(loss)])
        if self.accelerator.num_processes == 1:
            return float(loss), self._stop_signal, due
        all_of = self.accelerator.gather(mine[None])
        return float(all_of[:, 0].mean()), int(all_of[:, 1].max()), bool(all_of[:, 2].any())

    def _require_finite(self, value: float, what: str, losses: list[Tensor], rows: list[Any]) -> None:
        """Stop before the step is taken, and name the pictures."""
        if math.isfinite(value):
            return
        bad = [i for i, loss in enumerate(losses) if not torch.isfinite(loss)] or range(len(losses))
        keys = gather_object([key for i in bad for key in self.data.keys(rows[i])])
        step = self.progress.step + 1
        file = self.out / f"bad-step-{step}.json"
        if self.main:
            write_whole(file, json.dumps({"step": step, what: str(value), "pictures": keys}, indent=1) + "\n")
        self.accelerator.wait_for_everyone()
        kept = self.checkpoints.all()
        last = f"the last good checkpoint is {kept[-1].name}" if kept else "there is no checkpoint yet"
        raise SingDiffusionError(
            f"the {what} is {value} at step {step}, in a batch of {len(keys)} pictures, {keys[0]} among them ({file} "
            f"names all); {last}"
        )

    def _batches(self) -> Generator[Batch]:
        config = self.config
        lengths = self.data.manifest["base"]["tokens"]
        dataset = MicroBatches(
            self.plan, config.seed, config.data.caption_dropout, self.embed.empty(lengths), self.micro, self.accumulate,
            self.accelerator.process_index, with_noise=config.network.kind == "unet",
        )  # fmt: skip
        rest = range(self.progress.step * self.accumulate, config.steps * self.accumulate)
        # a generator of its own: the loader would else draw from the one that dropout in the network uses
        own = torch.Generator()
        loader: Any = iter(DataLoader(
            dataset, batch_size=None, sampler=rest, num_workers=config.data.workers, generator=own,  # type: ignore[arg-type]
            worker_init_fn=_begin_worker,
        ))  # fmt: skip
        try:
            yield from loader
        finally:  # without this, an error would leave workers that Python waits for and no signal ends
            if config.data.workers:
                loader._shutdown_workers()

    # -- beside training ----------------------------------------------------------------------------------------------

    def _log(self, figures: dict[str, float]) -> None:
        step = int(figures["step"])
        if step % self.config.log.every == 0 and self.main:
            self._write("log.jsonl", figures)
        if step % self.config.log.every == 0:
            self.accelerator.log({k: v for k, v in figures.items() if k != "step"}, step=step)

    def _write(self, name: str, row: dict[str, Any]) -> None:
        with (self.out / name).open("a") as file:
            file.write(json.dumps(row) + "\n")

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in the place of the trained ones."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.parameters.values())
        self.ema.copy_to(self.parameters.values())
        self._reshard()
        try:
            yield
        finally:
            self.ema.restore(self.parameters.values())
            self._reshard()

    def _reshard(self) -> None:
        """FSDP keeps what it last gathered, and would go on with it: weights that were changed must be gathered anew."""
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def _validate(self) -> dict[str, Any]:
        config = self.config
        figures: dict[str, Any] = {}
        self.model.eval()
        with self._averaged():
            if len(self.plan.validation):
                figures = validate(
                    self.accelerator, self.model, self.embed, self.data, self.plan.validation, self.least,
                    config.validation, needs_noise=config.network.kind == "unet",
                )  # fmt: skip
            if config.validation.prompts:
                self._paint()
        self.model.train()
        step = self.progress.step
        if figures:
            if self.main:
                self._trim(
                    "validation.jsonl", step - 1
                )  # a run that is over is validated again when it is called again
                self._write("validation.jsonl", {"step": step} | figures)
                plot.draw(self.out)
            self.accelerator.log({f"validation/{k}": v for k, v in figures.items()}, step=step)
            self.say(f"step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        return figures

    def _paint(self) -> None:
        """Pictures of the base with the module as it is."""
        state = self.accelerator.get_state_dict(self.model)
        if self.main:
            where = self.out / "samples" / f"step-{self.progress.step:08d}.png"
            paint(self._module(state), self.config, where, self.accelerator.device)
            self.say(f"painted {where}")
        self.accelerator.wait_for_everyone()

    def _checkpoint(self) -> None:
        average = None
        if self.ema is not None:
            average = {_plain(n): _whole(s) for n, s in zip(self.parameters, self.ema.shadow_params, strict=True)}
        self.checkpoints.save(self.accelerator, self.progress, average)

    def export(self) -> Path:
        """Write ``module/``, with the averaged weights where they are kept. Every process must call this."""
        folder = self.out / "module"
        with (
            self._averaged()
        ):  # a state is made of references: it must be written while the averaged weights are in place
            state = self.accelerator.get_state_dict(self.model)
            if self.main:
                self._module(state).save_pretrained(folder)
        self.accelerator.wait_for_everyone()
        return folder

    def _module(self, state: dict[str, Tensor]) -> SingModule:
        network = self.network_kind.from_config(self.network_config)  # type: ignore[attr-defined]
        network.load_state_dict({_plain(k).removeprefix("network."): v.float().cpu() for k, v in state.items()})
        base, options = self.data.manifest["base"], self.data.manifest["options"]
        config = SingConfig(
            name=self.config.name,
            latent_channels=base["latent_channels"],
            vae_scaling_factor=base["vae_scaling_factor"],
            vae_shift_factor=base["vae_shift_factor"],
            text_width=base["text_width"],
            text_fingerprint=tuple(base["text_fingerprint"]),
            sample_size=options["size"] // base["vae_scale"],
            prediction="sample" if self.config.loss == "moments" else self.config.loss,
            alpha=self.config.alpha,
        )
        if self.begun_with is not None:
            config = config.model_copy(update={name: getattr(self.begun_with.config, name) for name in KEPT})
        return SingModule(network.eval().requires_grad_(False), config, *self._text())

    def _text(self) -> tuple[Any, Any]:
        """The tokenizer and the text encoder that the module brings: those it came with, or the base's where it now knows these."""
        tokenizer, encoder = (
            (None, None) if self.begun_with is None else (self.begun_with.tokenizer, self.begun_with.text_encoder)
        )
        if encoder is not None and same_encoders([encoder], tuple(self.data.manifest["base"]["text_fingerprint"])):
            return tokenizer, encoder
        brings = encoder is not None or self.config.bring_text
        return (self.tokenizers[0], self.encoders[0]) if brings else (None, None)

    # -- what can happen ----------------------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT only leave a note, which is looked at after each step; a second SIGINT stops at once."""

        def note(number: int, _: Any) -> None:
            if self._stop_signal and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop_signal = number

        try:
            before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not in the main thread: then signals are not ours
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """What the libraries raise, as one line that says what to do."""
        try:
            yield
        except SingDiffusionError:
            raise
        except torch.OutOfMemoryError as error:
            raise SingDiffusionError(
                f"the device's memory is full with {self.micro} pictures at once; lower micro_batch, or turn on gradient_checkpointing"
            ) from error
        except RuntimeError as error:
            kept = self.checkpoints.all()
            last = f"after {kept[-1].name}" if kept else "from the start"
            if "DataLoader worker" in str(error):
                line = str(error).strip().splitlines()[0]
                raise SingDiffusionError(
                    f"a process that reads batches is gone: {line}; the run goes on {last}"
                ) from error
            if self.accelerator.num_processes == 1 or not _is_about_others(error):
                raise
            raise SingDiffusionError(
                f"process {self.accelerator.process_index} stops: another process of the group is gone; start all of them again, "
                f"and the run goes on {last}"
            ) from error
        except OSError as error:
            raise SingDiffusionError(f"{error.filename or self.out}: {error.strerror or error}") from error


def _begin_worker(_: int) -> None:
    """A worker goes on when its whole process group is told to stop, for the step in hand needs it; it ends with its parent.

    Its thread that hands tensors over may then be at it (``multiprocessing.resource_sharer``): a connection that breaks is nothing to tell.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    told = sys.excepthook
    sys.excepthook = lambda kind, *rest: None if issubclass(kind, ConnectionError | EOFError) else told(kind, *rest)


def _is_about_others(error: RuntimeError) -> bool:
    words = ("connection", "timed out", "timeout", "gloo", "nccl", "peer", "broken pipe", "socket")
    return any(word in str(error).lower() for word in words)


def _accelerator(config: Config, cpu: bool) -> Accelerator:
    """accelerate's own configuration (``accelerate launch``, FSDP, DeepSpeed) is taken as it is."""
    for name in config.log.trackers:  # accelerate would pass over such a one in silence
        if name in LOGGER_TYPE_TO_CLASS and name not in map(str, get_available_trackers()):
            raise SingDiffusionError(
                f"log.trackers: {name} is not installed: pip install {name}, or say --set log.trackers=[]"
            )
    try:
        return Accelerator(
            cpu=cpu,
            mixed_precision=config.precision,
            log_with=list(config.log.trackers) or None,
            project_dir=str(config.out),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=config.timeout))],
        )
    except (ValueError, RuntimeError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SingDiffusionError(f"accelerate cannot start as it is configured: {line[:240]}") from error


def _micro_batches(config: Config, world: int) -> tuple[int, int]:
    """(pictures at once, how often a step) of each process.

    Raises:
        SingDiffusionError: the batch cannot be divided so.
    """
    if config.batch % world:
        raise SingDiffusionError(f"batch must be a multiple of the {world} processes, not {config.batch}")
    mine = config.batch // world
    micro = min(config.micro_batch or mine, mine)
    if mine % micro:
        raise SingDiffusionError(
            f"micro_batch must divide the {mine} pictures that each of {world} processes has of a step, not {micro}"
        )
    return micro, mine // micro


def _plain(name: str) -> str:
    """A parameter's name without what wrappers put before it."""
    return name.removeprefix("module.").replace("_orig_mod.", "").replace("_fsdp_wrapped_module.", "")


def _whole(tensor: Tensor) -> Tensor:
    """A tensor that may be cut up over processes, gathered."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().cpu().contiguous()  # type: ignore[operator]


def _fill(tensor: Tensor, whole: Tensor) -> None:
    """Copy into a tensor that may be cut up over processes."""
    if hasattr(tensor, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        whole = distribute_tensor(whole.to(tensor.device), tensor.device_mesh, tensor.placements)  # type: ignore[attr-defined]
    tensor.copy_(whole)


def train(
    config: Config, say: Say = print, advance: Callable[[dict[str, float]], None] = lambda _: None, cpu: bool = False
) -> dict[str, Any]:
    """Train, or go on with, the run of a configuration; see ``Trainer.run``."""
    return Trainer(config, say, cpu).run(advance)
