"""What a run needs of this machine, tried before any work: its precision, its optimizer, its compiler."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import SingDiffusionError, one_line
from .config import Config
from .optimisation import make_optimizer


def try_machine(config: Config, device: torch.device) -> None:
    """Check that a run's precision, optimizer and compiler work here. Without this, they would fail at the first step.

    Args:
        config: of the run.
        device: to train on.

    Raises:
        SingDiffusionError: one does not.
    """
    if config.precision == "fp16" and device.type == "cpu":  # accelerate takes it, and computes in float32
        raise SingDiffusionError(
            "precision fp16 needs a GPU, and this run is on the CPU; precision must be bf16 or no", setting="precision"
        )
    if config.optimizer.name != "adamw":
        _try_optimizer(config, device)
    if config.compile:
        _try_compiler(device)


def _try_optimizer(config: Config, device: torch.device) -> None:
    """Take one step with a weight that is large enough for 8-bit states; older versions of bitsandbytes need a GPU."""
    weight = nn.Parameter(torch.ones(8192, device=device))
    weight.grad = torch.ones_like(weight)
    try:
        make_optimizer(config.optimizer, [weight]).step()
    except SingDiffusionError:
        raise
    except Exception as error:
        raise SingDiffusionError(
            f"optimizer {config.optimizer.name} does not work on the device {device.type}: {one_line(error)}; use adamw",
            setting="optimizer.name",
        ) from error


def _try_compiler(device: torch.device) -> None:
    """Compile a small function and its gradient: on the CPU this needs a C++ compiler, on CUDA triton."""
    x = torch.ones(4, device=device, requires_grad=True)
    try:
        torch.compile(lambda x: (x * x).sin().sum())(x).backward()
    except Exception as error:
        raise SingDiffusionError(
            f"compile does not work on the device {device.type}: {one_line(error)}; use compile=false",
            setting="compile",
        ) from error
