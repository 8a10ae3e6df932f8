"""Training by the project's own loop, on synthetic shards; the decoder's step also without the loop."""

from __future__ import annotations

import contextlib
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from safetensors.torch import save_file
from torch import nn

from singdiffusion.data.checks import sha256_of
from singdiffusion.files import write_whole
from singdiffusion.modules.text import fingerprint
from singdiffusion.train import load_config, loop
from singdiffusion.train.losses import Objective

from .bench import Bench, Rows
from .cost_model import TOKENS
from .networks import TEXT_KINDS, Model, decoder, text_encoders, tokenizer
from .timing import Row, fitting, in_turn, rates

PLAIN, CHECKPOINTED = "gradient_checkpointing=false", "gradient_checkpointing=true"


@dataclass(frozen=True)
class Training:
    """A training run to be timed: a preset with changes.

    Attributes:
        what: its name in the JSON file.
        preset: of ``singdiffusion train``.
        batch: pictures per step.
        kept: embeddings are computed before training and kept; otherwise in every step.
        steps: how many.
        changes: to the preset.
        micro: pictures at once; None: the whole batch.
        low: frequencies per side in the shards; None: latents.
        pictures: in the shards.
    """

    what: str
    preset: str
    batch: int
    kept: bool
    steps: int
    changes: tuple[str, ...] = ()
    micro: int | None = None
    low: int | None = None
    pictures: int = 1024


def train(bench: Bench, model: Model, spec: Training) -> Row:
    """Measure pictures per second, from the durations of steps after the first ones, and the peak of the GPU's memory."""
    with tempfile.TemporaryDirectory() as scratch:
        text = saved_text(bench, model)
        shards = write_shards(Path(scratch) / "shards", model, text.fingerprint, spec)
        settings = {
            "out": scratch + "/run", "data.shards": str(shards), "data.base": str(text.folder), "data.held_out": 0,
            "log.trackers": [], "log.every": 10**6, "checkpoints.every_minutes": 1e6, "validation.prompts": [],
            "steps": spec.steps, "batch": spec.batch, "micro_batch": spec.micro or spec.batch,
            "data.text_cache_mib": 8192 if spec.kept else 0,
        }  # fmt: skip
        config = load_config(spec.preset, [*(f"{k}={json.dumps(v)}" for k, v in settings.items()), *spec.changes])
        rows, peak = timed_steps(config, bench.device)
    warm = max(2, len(rows) // 4)
    took = [b["at"] - a["at"] for a, b in zip(rows[warm:], rows[warm + 1 :], strict=False)]
    return {
        "base": model.name, "what": spec.what, "preset": spec.preset, "batch": spec.batch,
        "micro_batch": spec.micro or spec.batch, "changes": list(spec.changes), "text": "kept" if spec.kept else "live",
        "rate": rates(spec.batch, took), "peak_gib": peak,
        "waiting": statistics.median(row["input"] for row in rows[warm:]),
    }  # fmt: skip


class _Measured(Exception):
    """Ends a run after its last step, before it writes a checkpoint and a module."""


def timed_steps(config: Any, device: torch.device) -> tuple[list[Row], float]:
    """Train, and return the figures of every step with the time at its end, and the peak of the GPU's memory in GiB."""
    rows: list[Row] = []

    def advance(figures: dict[str, float]) -> None:
        rows.append(figures | {"at": time.perf_counter()})
        if len(rows) == config.steps:
            raise _Measured

    AcceleratorState._reset_state(reset_partial_state=True)  # otherwise it keeps the precision of the run before
    with networks_made_on(device):
        trainer = loop.Trainer(config, lambda _: None, cpu=device.type == "cpu")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(_Measured):
        trainer.run(advance)
    trainer.accelerator.free_memory()
    return rows, torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0


@contextlib.contextmanager
def networks_made_on(device: torch.device) -> Iterator[None]:
    """Let the trainer make its network on the device: a CPU takes a minute to initialise SDXL's U-Net."""
    build = loop.build

    def on_device(*args: Any, **options: Any) -> Any:
        with device:  # type: ignore[attr-defined]  (a torch.device is a context manager)
            return build(*args, **options)

    with mock.patch.object(loop, "build", on_device):
        yield


# -- what a run reads -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SavedText:
    """The text encoders of a base in a folder, as ``data.base`` takes it, and their fingerprints one after the other."""

    folder: Path
    fingerprint: list[float]


@functools.cache
def saved_text(bench: Bench, model: Model) -> SavedText:
    """Write the text encoders of a base with their tokenizers, once per run of the benchmark."""
    folder = bench.scratch / model.name
    encoders, index = text_encoders(model, torch.bfloat16, bench.device), {}
    for encoder, kind, suffix in zip(encoders, TEXT_KINDS, ("", "_2"), strict=False):
        encoder.save_pretrained(folder / f"text_encoder{suffix}")
        tokenizer().save_pretrained(folder / f"tokenizer{suffix}")
        index |= {f"text_encoder{suffix}": ["transformers", kind.__name__]}
        index |= {f"tokenizer{suffix}": ["transformers", type(tokenizer()).__name__]}
    write_whole(folder / "model_index.json", json.dumps(index))
    return SavedText(folder, [value for encoder in encoders for value in fingerprint(encoder)])


def write_shards(folder: Path, model: Model, text_fingerprint: list[float], spec: Training) -> Path:
    """Write a folder as ``singdiffusion encode`` does, of random latents (or low frequencies) and distinct captions."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    count, side, size = spec.pictures, spec.low or model.side, f"{model.pixels}x{model.pixels}"
    tensors = {f"latents.{size}": torch.randn(count, 4, side, side, generator=generator).half()}
    for i in range(len(model.text)):
        ids = torch.randint(0, 49_000, (count, TOKENS), generator=generator, dtype=torch.int32)
        tensors[f"tokens{i or ''}.{size}"] = ids
    file = folder / "shard-00000.safetensors"
    save_file(tensors, file, {"singdiffusion": "{}"})
    shard = {
        "file": file.name,
        "count": count,
        "bytes": file.stat().st_size,
        "sha256": sha256_of(file),
        "groups": {size: count},
    }
    base = {
        "name": "random", "latent_channels": 4, "vae_scaling_factor": model.scaling, "vae_shift_factor": None,
        "vae_scale": 8, "text_width": model.width, "tokens": [TOKENS] * len(model.text),
        "text_fingerprint": text_fingerprint,
    }  # fmt: skip
    options = {"size": model.pixels, "buckets": False, "low_frequency": spec.low, "smallest": None}
    manifest = {"format": 1, "options": options, "base": base, "count": count, "shards": [shard]}
    write_whole(folder / "manifest.json", json.dumps(manifest))
    return folder


# -- U-Nets -----------------------------------------------------------------------------------------------------------


def _changes(options: dict[str, Any]) -> list[str]:
    """Return changes that set the network's options."""
    return [f"network.options.{key}={json.dumps(value)}" for key, value in options.items()]


def unet_runs(bench: Bench, model: Model) -> list[tuple[list[int], Training]]:
    """Return the runs, each with the batches to try, the largest first."""

    def run(batches: list[int], kept: bool, steps: int, *changes: str, **more: Any) -> tuple[list[int], Training]:
        every = ("network.init=none", *_changes(model.unet), *changes)
        return batches, Training("U-Net", "sd15-paper", batches[0], kept, steps, every, **more)

    if bench.small:
        return [run([2], False, 6, PLAIN, pictures=16), run([2], True, 6, pictures=16)]
    if model.name == "SD-1.5":
        return [
            run([16], False, 24, PLAIN),
            run([16], True, 24, PLAIN),
            run([64, 48, 32], True, 14, PLAIN),
            run([64], False, 14, CHECKPOINTED),
            run([256], False, 5, micro=16),  # the preset as it is
        ]
    return [
        run([4, 2, 1], False, 14, PLAIN, pictures=256),
        run([16, 8, 4], False, 10, CHECKPOINTED, pictures=256),
    ]


def unet_rows(bench: Bench) -> Rows:
    """Yield each run of a U-Net."""
    for model in bench.models:
        for batches, spec in unet_runs(bench, model):
            measure = lambda batch, model=model, spec=spec: train(bench, model, replace(spec, batch=batch))  # noqa: E731
            yield partial(fitting, batches, measure)


def format_rows(bench: Bench) -> Rows:
    """Yield training with channels-last weights and with the default order, in turn."""
    for model, batch, memory in zip(bench.models, (32, 8), (PLAIN, CHECKPOINTED), strict=True):
        batch, steps, pictures = (2, 6, 16) if bench.small else (batch, 10, 256)
        for last in ("true", "false", "true", "false"):
            changes = ("network.init=none", *_changes(model.unet), memory, f"channels_last={last}")
            spec = Training("U-Net", "sd15-paper", batch, True, steps, changes, pictures=pictures)
            yield partial(train, bench, model, spec)


# -- decoders ---------------------------------------------------------------------------------------------------------


def decoder_runs(bench: Bench, model: Model) -> Iterator[Training]:
    """Yield the loop's runs of decoders."""
    batch, steps, pictures = (8, 6, 32) if bench.small else (1024, 26, 4096)
    for grid in (16, 8):
        changes = (f"network.options.grid={grid}", *_changes(model.decoder))
        for kept in (False, True):
            name = f"decoder, grid {grid}"
            yield Training(name, "sd15-decoder", batch, kept, steps, changes, low=grid, pictures=pictures)


def decoder_step(bench: Bench, model: Model, grid: int, batch: int, tokens: int) -> Row:
    """Measure the same step without the loop: low frequencies and embeddings are on the device already."""
    network = decoder(model, grid=grid).to(bench.device).train()
    objective = Objective(network, "moments", 0.0)
    parameters = list(objective.parameters())
    optimizer = torch.optim.AdamW(parameters, 5e-4, fused=True)
    average = EMAModel(parameters, 0.9999, use_ema_warmup=True, power=0.75, foreach=True)
    generator = torch.Generator(bench.device).manual_seed(0)
    y = torch.randn(batch, 4, grid, grid, generator=generator, device=bench.device)
    text = torch.randn(batch, tokens, model.width, generator=generator, device=bench.device).bfloat16()

    def step() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16):
            loss = objective(y, None, text, (model.side, model.side))
        loss.backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.step(parameters)

    took = in_turn({"step": step}, bench.budget(1.0), most=200, warm_up=5)["step"]
    return {
        "base": model.name, "what": f"decoder, grid {grid}", "batch": batch, "micro_batch": batch,
        "text": "on the device", "tokens": tokens, "rate": rates(batch, took),
        "parameters": sum(p.numel() for p in parameters),
    }  # fmt: skip


def decoder_rows(bench: Bench) -> Rows:
    """Yield the loop, the step alone, and the step alone with one embedding per caption."""
    batches = (8,) if bench.small else (1024, 8192)
    for model in bench.models:
        for spec in decoder_runs(bench, model):
            yield partial(train, bench, model, spec)
        for grid in (16, 8):
            for batch in batches:
                yield partial(decoder_step, bench, model, grid, batch, TOKENS)
        yield partial(decoder_step, bench, model, 16, batches[-1], 1)
