"""The first step beside a guided step of the base; its parts; whole calls of a pipeline."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from singdiffusion import SingDiffusion
from singdiffusion.core.covariance import square_root
from singdiffusion.core.dct import basis
from singdiffusion.core.singular import first_step, guided_mean
from singdiffusion.modules import SingModule

from .bench import Bench, Rows
from .cost_model import TOKENS
from .networks import Model, base_unet, decoder_module, pipeline, unet_module
from .timing import Row, allocated, in_turn, milliseconds, peak_of, ratios, seconds, spread, sync

TIMESTEP, ALPHA, SIGMA = 981, 0.0760, 0.9971  # the first timestep of 50 DDIM steps, and its alpha and sigma
GUIDANCE = 7.5
FIRST_STEPS = ("published", "batched", "decoder")
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class Inputs:
    """Inputs of a step.

    Attributes:
        x_1: float32 (B, 4, H, W).
        positive, negative: embeddings of prompts and negative prompts, (B, 77, D).
        added: the further inputs of SDXL's U-Net.
    """

    model: Model
    batch: int
    dtype: torch.dtype
    device: torch.device

    def __post_init__(self) -> None:
        generator = torch.Generator(self.device).manual_seed(0)
        draw = lambda *shape: torch.randn(*shape, generator=generator, device=self.device)  # noqa: E731
        side, width = self.model.side, self.model.width
        self.x_1 = draw(self.batch, 4, side, side)
        self.positive, self.negative = (draw(self.batch, TOKENS, width).to(self.dtype) for _ in range(2))
        self.timestep = torch.tensor(TIMESTEP, device=self.device)
        self.added = None
        if self.model.added:
            pooled, times = draw(2 * self.batch, self.model.pooled).to(self.dtype), draw(2 * self.batch, 6)
            self.added = {"text_embeds": pooled, "time_ids": times.to(self.dtype)}


@torch.no_grad()
def base_step(unet: nn.Module, inputs: Inputs) -> Tensor:
    """Take a guided step of the base: prompt and negative prompt in one batch, as diffusers runs it, and guidance."""
    latents = torch.cat([inputs.x_1, inputs.x_1]).to(inputs.dtype)
    text = torch.cat([inputs.negative, inputs.positive])
    output = unet(latents, inputs.timestep, encoder_hidden_states=text, added_cond_kwargs=inputs.added).sample
    negative, positive = output.chunk(2)
    return negative + GUIDANCE * (positive - negative)


@torch.no_grad()
def take(name: str, module: SingModule, inputs: Inputs) -> Tensor:
    """Take the first step, from embeddings to the state at ``TIMESTEP``; ``published`` runs the network once per prompt."""
    if name == "published":
        noise = inputs.x_1.to(inputs.dtype)
        y_neg, y_pos = (module.network.predict(noise, text).float() for text in (inputs.negative, inputs.positive))
        return first_step(guided_mean(y_neg, y_pos, GUIDANCE), inputs.x_1, ALPHA, SIGMA)
    mean, covariance = module.guided_moments(inputs.x_1, inputs.positive, inputs.negative, GUIDANCE)
    return first_step(mean, inputs.x_1, ALPHA, SIGMA, covariance)


def first_steps(bench: Bench, model: Model, half: str, batch: int) -> Row:
    """Measure the first steps' times over that of a base step, round by round, and their memory."""
    inputs = Inputs(model, batch, HALF[half], bench.device)
    unet = base_unet(model, inputs.dtype, bench.device)
    base = partial(base_step, unet, inputs)
    base()
    alone = peak_of(base)

    def memory(name: str, module: SingModule, weights: float) -> Row:
        before = allocated()
        step = peak_of(lambda: take(name, module, inputs)) - before
        both = peak_of(lambda: (take(name, module, inputs), base()))
        return {"weights_mib": weights, "step_mib": step, "extra_mib": both - alone}

    before = allocated()
    small = decoder_module(model, bench.device)
    used = {"decoder": memory("decoder", small, allocated() - before)}
    small.to("cpu")  # the U-Net's memory is measured without it
    before = allocated()
    full = unet_module(model, inputs.dtype, bench.device)
    weights = allocated() - before
    used |= {name: memory(name, full, weights) for name in ("published", "batched")}
    small.to(bench.device)
    steps = {name: partial(take, name, small if name == "decoder" else full, inputs) for name in FIRST_STEPS}
    took = in_turn({"base": base} | steps, bench.budget(5.0))
    return {
        "base": model.name, "dtype": half, "batch": batch, "base_peak_mib": alone, "memory": used,
        "over_base": {name: ratios(took[name], took["base"]) for name in FIRST_STEPS},
        "ms": {name: milliseconds(each) for name, each in took.items()},
        "published_over_decoder": ratios(took["published"], took["decoder"]),
        "decoder_parameters": sum(p.numel() for p in small.network.parameters()),
    }  # fmt: skip


def first_step_rows(bench: Bench) -> Rows:
    """Yield each base, batch and dtype."""
    for model in bench.models:
        for batch in (1, 4):
            for half in HALF:
                yield partial(first_steps, bench, model, half, batch)


# -- the parts of the decoder's step ----------------------------------------------------------------------------------


def step_parts(bench: Bench, model: Model) -> Row:
    """Measure the decoder's first step and its parts, each between two synchronisations."""
    inputs = Inputs(model, 1, torch.float16, bench.device)
    x_1, module = inputs.x_1, decoder_module(model, bench.device)
    network, moments = module.network, partial(module.guided_moments, x_1, inputs.positive, inputs.negative, GUIDANCE)
    mean, covariance = moments()
    noise, text = torch.cat([x_1] * 2), torch.cat([inputs.negative, inputs.positive]).float()
    alpha, sigma = (torch.tensor(value, device=bench.device) for value in (ALPHA, SIGMA))
    work: dict[str, Callable[[], Any]] = {
        "nothing, synchronised": lambda: None,
        "whole first step, moments": partial(take, "decoder", module, inputs),
        "whole first step, mean": lambda: first_step(moments(method="mean")[0], x_1, ALPHA, SIGMA),
        "SingModule.guided_moments": moments,
        "the network's forward alone": lambda: network(text),
        "MeanDecoder.predict_moments": lambda: network.predict_moments(noise, text),
        "guided_mean": lambda: guided_mean(mean, mean, GUIDANCE),
        "first_step, mean": lambda: first_step(mean, x_1, ALPHA, SIGMA),
        "first_step, moments": lambda: first_step(mean, x_1, ALPHA, SIGMA, covariance),
        "square_root": lambda: square_root(covariance, sigma, alpha),  # type: ignore[arg-type]
        "basis, once": lambda: basis(model.side, 16, x_1),
    }
    with torch.no_grad():
        took = in_turn(work, bench.budget(3.0), most=300)
        calls = profiled(work["whole first step, moments"]) if bench.device.type == "cuda" else {}
    return {"base": model.name, "ms": {name: milliseconds(each) for name, each in took.items()}, "calls": calls}


def profiled(work: Callable[[], Any]) -> dict[str, float]:
    """Return how often one run calls each function of CUDA, and for how many milliseconds the GPU is busy."""
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        work()
        sync()
    counts: dict[str, float] = {}
    busy = 0.0
    for event in profile.events():  # type: ignore[union-attr]
        if event.device_type == torch.autograd.DeviceType.CUDA:
            busy += event.device_time
        elif event.name.startswith("cu"):
            counts[event.name] = counts.get(event.name, 0) + 1
    return counts | {"gpu_busy_ms": busy / 1e3}


def parts_rows(bench: Bench) -> Rows:
    """Yield each base."""
    for model in bench.models:
        yield partial(step_parts, bench, model)


# -- whole calls ------------------------------------------------------------------------------------------------------


def picture(bench: Bench, model: Model, steps: int, pairs: int) -> Row:
    """Measure a call from embeddings to latents, without and with the decoder, pair by pair."""
    inputs = Inputs(model, 1, torch.float16, bench.device)
    pipe = pipeline(model, torch.float16, bench.device)
    text = {"prompt_embeds": inputs.positive, "negative_prompt_embeds": inputs.negative}
    if inputs.added is not None:
        pooled = inputs.added["text_embeds"]
        text |= {"pooled_prompt_embeds": pooled[:1], "negative_pooled_prompt_embeds": pooled[1:]}
    paint = lambda: pipe(  # noqa: E731
        **text, num_inference_steps=steps, guidance_scale=GUIDANCE, output_type="latent",
        generator=torch.Generator(bench.device).manual_seed(0),
    )  # fmt: skip
    sing = SingDiffusion(decoder_module(model, bench.device)).enable(pipe)
    found: dict[bool, list[float]] = {True: [], False: []}
    for pair in range(pairs + 2):
        for enabled in (pair % 2 == 0, pair % 2 == 1):
            with contextlib.nullcontext() if enabled else sing.disabled():
                found[enabled].append(seconds(paint))
    on, off = (found[enabled][2:] for enabled in (True, False))  # the first two warm up
    return {
        "base": model.name, "dtype": "fp16", "steps": steps, "pairs": pairs, "seconds_off": spread(off),
        "seconds_on": spread(on), "on_over_off": ratios(on, off),
        "extra_ms": milliseconds([a - b for a, b in zip(on, off, strict=True)]),
    }  # fmt: skip


def picture_rows(bench: Bench) -> Rows:
    """Yield each base with 20 steps, and with 4, of which the first step is a larger share."""
    for steps, counts in ((20, (12, 6)), (4, (40, 24))):
        for model, pairs in zip(bench.models, counts, strict=True):
            yield partial(picture, bench, model, *((2, 2) if bench.small else (steps, pairs)))
