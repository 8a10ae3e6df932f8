"""The training loop of all stages: a budget of minutes or steps, averaged weights, a CSV log, a plot; a killed run resumes."""

import csv
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from singdiffusion import plots

SAVE_EVERY = 120.0  # seconds between checkpoints
LOG_EVERY = 50  # steps between rows of the log


@dataclass(frozen=True)
class Budget:
    """How long a stage trains; where both are given, it ends with the first that is used up.

    Attributes:
        minutes: of wall clock, summed over all runs of the stage.
        steps: of the optimizer.
    """

    minutes: float | None = None
    steps: int | None = None

    def progress(self, seconds: float, step: int) -> float:
        """Return the share of the budget that is used: 0 at the start, 1 at the end."""
        spent = [0.0]
        if self.minutes is not None:
            spent.append(seconds / (60 * self.minutes))
        if self.steps is not None:
            spent.append(step / self.steps)
        return min(1.0, max(spent))


def device() -> torch.device:
    """Return the device to train on: CUDA where there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def learning_rate(peak: float, progress: float, step: int, warm_up: int = 200, decay_from: float = 0.5) -> float:
    """Return the rate of a step: linear warm-up, then constant, then a cosine down to 2 % of the peak.

    Args:
        peak: the constant rate.
        progress: share of the budget that is used, 0..1.
        step: counted from 0.
        warm_up: steps of the warm-up.
        decay_from: progress at which the cosine begins.
    """
    fall = max(0.0, (progress - decay_from) / (1 - decay_from))
    return peak * min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fall)))


class Stage:
    """A training run of one or several networks on one loss; resumes from its checkpoint, if there is one.

    Args:
        name: of the stage and of its files ``NAME.ckpt``, ``NAME.csv`` and ``NAME.png``.
        folder: where they are written.
        networks: to train, by name; moved to the device in channels_last.
        rate: peak learning rate of AdamW.
        decay: of the exponential moving average of all weights.
    """

    def __init__(self, name: str, folder: Path, networks: dict[str, nn.Module], rate: float, decay: float = 0.999):
        self.name, self.folder, self.rate = name, folder, rate
        folder.mkdir(parents=True, exist_ok=True)
        self.device = device()
        self.networks = nn.ModuleDict(networks).to(self.device, memory_format=torch.channels_last)
        parameters = [p for p in self.networks.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self.ema = EMAModel(parameters, decay=decay, use_ema_warmup=True, power=0.75)
        self.parameters = parameters
        self.step, self.seconds = 0, 0.0
        self._resume()

    @property
    def _checkpoint(self) -> Path:
        return self.folder / f"{self.name}.ckpt"

    def _resume(self) -> None:
        if not self._checkpoint.exists():
            return
        state = torch.load(self._checkpoint, map_location=self.device, weights_only=True)
        self.networks.load_state_dict(state["networks"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.step, self.seconds = state["step"], state["seconds"]
        print(f"{self.name}: resumes at step {self.step}, {self.seconds / 60:.1f} minutes in", flush=True)

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "networks": self.networks.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self._checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self._checkpoint)

    def averaged(self) -> nn.ModuleDict:
        """Copy the averaged weights into the networks and return them, in evaluation mode; call it after the training."""
        self.ema.copy_to(self.parameters)
        return self.networks.eval()

    def run(self, budget: Budget, loss_at: Callable[[int], dict[str, Tensor]]) -> None:
        """Train until the budget is used up.

        Args:
            budget: minutes or steps.
            loss_at: returns the terms of the loss of a step; ``"loss"`` is minimised, the others are only logged.
        """
        log = self.folder / f"{self.name}.csv"
        self._trim(log)
        autocast = torch.autocast(self.device.type, torch.bfloat16)
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        self.networks.train()
        while (progress := budget.progress(self.seconds, self.step)) < 1:
            rate = learning_rate(self.rate, progress, self.step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            with autocast:
                terms = loss_at(self.step)
            terms["loss"].backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.ema.step(self.parameters)
            self.step += 1
            self.seconds = time.monotonic() - started
            if self.step % LOG_EVERY == 0:
                self._write(log, {key: float(value.detach()) for key, value in terms.items()} | {"rate": rate})
            if time.monotonic() - saved > SAVE_EVERY:
                self.save()
                plot(log)
                saved = time.monotonic()
        self.save()
        plot(log)

    def _trim(self, log: Path) -> None:
        """Drop the rows that a killed run wrote after its last checkpoint."""
        if log.exists():
            lines = log.read_text().splitlines()
            kept = lines[:1] + [line for line in lines[1:] if int(line.split(",")[0]) <= self.step]
            log.write_text("\n".join(kept) + "\n")

    def _write(self, log: Path, row: dict[str, float]) -> None:
        if not math.isfinite(row["loss"]):
            raise SystemExit(f"error: the loss of {self.name} is {row['loss']} at step {self.step}")
        row = {"step": self.step, "seconds": round(self.seconds, 1)} | {k: float(f"{v:.5g}") for k, v in row.items()}
        new = not log.exists() or log.stat().st_size < 2
        with log.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(self.name, *(f"{key}={value:g}" for key, value in row.items()), flush=True)


@plots.style()
def plot(log: Path) -> None:
    """Draw a log as a PNG beside it: each term, raw and smoothed, on a logarithmic axis."""
    rows = list(csv.DictReader(log.open())) if log.exists() else []
    if len(rows) < 2:
        return
    figure, axis = plots.axes("step", "")
    steps = np.array([int(row["step"]) for row in rows])
    keys = [key for key in rows[0] if key not in ("step", "seconds", "rate")]
    for key, color in zip(keys, plots.SERIES, strict=False):
        plots.smoothed(axis, steps, np.array([float(row[key]) for row in rows]), key, color)
    axis.set(yscale="log", title=log.stem)
    axis.legend()
    log.with_suffix(".png").write_bytes(plots.png(figure))
