"""The averaged weights of a run (an exponential moving average), also where FSDP cuts tensors up over processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.training_utils import EMAModel
from torch import Tensor

from ..compat import is_sharded
from ..errors import SingDiffusionError

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.")  # torch.compile and FSDP put these into names


class AveragedWeights:
    """The average of a prepared model's weights. With decay 0 there is none, and the trained weights stand for it.

    Args:
        model: as the accelerator prepared it.
        decay: of the average; the first steps have a smaller one (EMAModel's warm-up).
        sharded: whether FSDP cuts the model up.
    """

    def __init__(self, model: Any, decay: float, sharded: bool):
        self.model = model
        self.parameters = dict(model.named_parameters())
        # foreach does not take parts of tensors
        options: dict[str, Any] = {"use_ema_warmup": True, "power": 0.75, "foreach": not sharded}
        self._ema = EMAModel(self.parameters.values(), decay, **options) if decay else None

    @property
    def steps(self) -> int:
        """Number of steps averaged."""
        return 0 if self._ema is None else self._ema.optimization_step

    def update(self) -> None:
        """Add the weights of a step."""
        if self._ema is not None:
            self._ema.step(self.parameters.values())

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averaged weights in the place of the trained ones inside the block."""
        if self._ema is None:
            yield
            return
        self._ema.store(self.parameters.values())
        self._ema.copy_to(self.parameters.values())
        self._reshard()
        try:
            yield
        finally:
            self._ema.restore(self.parameters.values())
            self._reshard()

    def _reshard(self) -> None:
        """Make FSDP gather the weights again: it would use those that it gathered before they changed."""
        for module in self.model.modules():
            if is_sharded(module):
                module.reshard()

    def state(self) -> dict[str, Tensor] | None:
        """Return the averaged weights by plain name, gathered from all processes; None where there is no average."""
        if self._ema is None:
            return None
        return {plain_name(n): _gathered(s) for n, s in zip(self.parameters, self._ema.shadow_params, strict=True)}

    def load(self, state: dict[str, Tensor] | None, steps: int) -> None:
        """Load what ``state`` returned, after so many steps.

        Raises:
            SingDiffusionError: the state does not have these weights.
        """
        if self._ema is None:
            return
        if state is None or set(state) != {plain_name(name) for name in self.parameters}:
            raise SingDiffusionError(
                f"the checkpoint of step {steps} lacks the averaged weights; delete it to resume from an earlier one"
            )
        for shadow, name in zip(self._ema.shadow_params, self.parameters, strict=True):
            _fill(shadow, state[plain_name(name)])
        self._ema.optimization_step = steps


def plain_name(name: str) -> str:
    """Return a parameter's name without what wrappers add to it."""
    name = name.removeprefix("module.")
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _gathered(tensor: Tensor) -> Tensor:
    """Return a tensor whole, on the CPU."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().cpu().contiguous()  # type: ignore[operator]


def _fill(tensor: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor into one that may be cut up."""
    if hasattr(tensor, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        whole = distribute_tensor(whole.to(tensor.device), tensor.device_mesh, tensor.placements)  # type: ignore[attr-defined]
    tensor.copy_(whole)
