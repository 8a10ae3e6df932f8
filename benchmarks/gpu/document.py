"""The page docs/gpu.md, from the JSON file."""

from __future__ import annotations

from typing import Any

from . import tables
from .cost_model import GRIDS, H100, TOKENS, number, wrapped
from .encoding import FLOAT32
from .tables import Figures, percent

PAGE = """\
# Measured on a GPU

*Written by `python -m benchmarks.gpu --write docs/gpu.json --out docs/gpu.md` from what `make bench-gpu` measured.*

All figures are from one {card} ({memory_gib} GiB) in {runs}, with singdiffusion {singdiffusion}, torch {torch} and CUDA {cuda}. {note} Networks have their full size and
random weights: they show what a step costs, not what it does to pictures. A figure is a median, with its quartiles in brackets.

{summary}

## The first step

A guided base step is one pass of the base's U-Net for prompt and negative prompt together. A first step begins with prompt embeddings and ends
with the state at the first timestep, with all checks:

- `published`: two passes of the full time-free U-Net, one per prompt.
- `batched`: one pass of the same U-Net for both prompts.
- `decoder`: `MeanDecoder` in float32, with mean and covariance.

All run in turn. The columns with these names are times over that of the base step in the same round.

{first_steps}

The decoder's step takes {decoder_low} to {decoder_high} of a guided base step. The published one takes {cheaper_low} to {cheaper_high} times as long as the decoder's. Four pictures
take {four_over_one} times as long as one (SD-1.5, fp16).

Extra memory is the peak of a first step and a base step with the module loaded, less the peak of a base step without it (batch 1, fp16):

{memory}

Parts of the decoder's step, timed one by one, each between two synchronisations (batch 1). They add up to more than the whole. The step is faster here
than in the table that compares first steps, where it takes turns with the U-Nets.

{parts}

The host is the limit, not arithmetic: of the {whole_ms} ms of the whole step for SD-1.5, the GPU is busy for {busy_ms} ms. One step launches {launches} kernels and waits for
the GPU {syncs} times. On two CPU cores arithmetic takes the time, so the decoder's advantage is larger there ([performance](performance.md)).

Calls of a diffusers pipeline, from embeddings to latents (fp16, DDIM, batch 1), with SingDiffusion and without, pair by pair:

{pictures}

The median call takes {call_low} to {call_high} longer with SingDiffusion. These calls do not measure it more closely: the quartiles of the difference are further apart
than a whole first step takes.

## Training

These runs use the project's own loop (`singdiffusion train`: bf16 autocast, AdamW, averaged weights, two processes that read) on synthetic shards. The
rates are those of steps after the first ones. "Live" text runs through the base's text encoders in every step; "kept" embeddings are computed before training. Captions are
distinct, but a tenth of them is replaced by the empty one, which is embedded once per step.

Utilisation is the counted FLOPs over the data sheet's dense bf16 peak of {peak} TFLOP/s, which an H100 and an H200 share. Gradient checkpointing computes the
forward pass twice; the second one is not counted.

### A U-Net

{unets}

{large}

Channels-last weights against the default order, which the preset `sd15-paper` uses. Both ran in turn, each twice, with kept embeddings; below 1
channels-last weights are slower:

{formats}

### A decoder

"Step alone" is the same step without the loop: its inputs are on the GPU already.

{decoders}

- The step alone takes {alone_1024} ms for {few} pictures and {alone_8192} ms for {many} (SD-1.5, grid 16). It is too small for this GPU: launching
  kernels takes the time, and larger batches are nearly free.
- With kept embeddings the loop takes {kept_ms} ms for the step that takes {alone_1024} ms alone, so the host is the limit. Each step gathers {kept_mb} MB of embeddings in memory and
  copies them to the GPU. A decoder reads only the last embedding and the mean of all, which are {ratio} times smaller.
- The first run with live text (SD-1.5, grid 16) is slower than the second one. A probable reason, not measured: the number of distinct captions varies from step to step, and
  attention is prepared once for each number.

## Encoding

{encoders}

`singdiffusion encode` reads JPEG files, decodes them and writes a shard, and was timed once per row. The VAE alone has its pixels on the GPU.

- In bf16 the command reaches {encode_share} of the VAE's own best rate. {decoders_few} or {decoders_many} threads that decode make no difference: one thread does
  the rest in turn (bytes to floats, the VAE and the wait for it, mean luma).
- The VAE in float32, as torch computes it by default, reaches {float32_share} of its best rate in bf16.
- Channels-last weights in bf16 reach {last_share}.

### Text encoders

{texts}

## Does the cost model hold?

[The cost model](scale.md) assumes how much of its peak a GPU reaches, as a low, a middle and a high value. Against the figures above:

{assumed}

Pictures per second that the cost model computes for an H100, middle (low to high), and the best that was measured here. For a U-Net this is the best of live
and kept text, which take nearly the same time.

{computed}

- A U-Net and the VAE reach {heavy} of the middle rate: the low value is the closer one.
- A decoder with live text reaches {live_sd} of the middle rate for SD-1.5 and {live_xl} for SDXL.
- A decoder with kept embeddings reaches {kept_low} to {kept_high} of it. The cost model counts arithmetic, and here copies and launches take the time.

## Limits of these figures

- One kind of card. An H100 has the same peak and slower memory (3.35 TB/s, not 4.8), so it should reach no more. That was not measured.
- One host. Where the host is the limit, another processor changes the figures. Here it was an "{processor}".
- One GPU. Nothing here shows what several reach together.
- Random weights, synthetic JPEG files, and shards that fit into the host's memory: neither a disk nor a network is measured.
"""


def page(content: dict[str, Any]) -> str:
    """Return the page, from the content of the JSON file."""
    figures = Figures(content)
    parts = {
        "summary": tables.summary_table(figures), "first_steps": tables.first_step_table(figures),
        "memory": tables.memory_table(figures), "parts": tables.parts_table(figures),
        "pictures": tables.pictures_table(figures), "unets": tables.unets_table(figures), "large": _large(figures),
        "formats": tables.formats_table(figures), "decoders": tables.decoders_table(figures),
        "encoders": tables.encoders_table(figures), "texts": tables.texts_table(figures),
        "assumed": tables.assumptions_table(figures), "computed": tables.computed_table(figures),
    }  # fmt: skip
    return wrapped(
        PAGE.format(**parts, **_device(content), **_first_step(figures), **_rates(figures), **_over_computed(figures))
    )


def _device(content: dict[str, Any]) -> dict[str, str]:
    """Return what the figures were measured on, and which of them in which run."""
    device, runs = content["device"], content["runs"]
    return {key: str(device.get(key, "unknown")) for key in ("card", "singdiffusion", "torch", "cuda", "processor")} | {
        "runs": "one run" if runs == 1 else f"{runs} runs",
        "note": content.get("note", ""),
        "memory_gib": f"{device.get('memory_gib', 0):.0f}",
        "peak": f"{H100.tflops:g}",
    }


def _first_step(figures: Figures) -> dict[str, str]:
    """Return the figures of the first step that the text names."""
    rows, parts = figures.rows("first_step"), figures.rows("parts")[0]
    decoders = [row["over_base"]["decoder"]["median"] for row in rows]
    cheaper = [row["published_over_decoder"]["median"] for row in rows]
    took = {row["batch"]: row["ms"]["decoder"]["median"] for row in rows if row["base"] == "SD-1.5" and row["dtype"] == "fp16"}  # fmt: skip
    calls, longer = parts["calls"], [row["on_over_off"]["median"] - 1 for row in figures.rows("picture")]
    return {
        "decoder_low": percent(min(decoders)),
        "decoder_high": percent(max(decoders)),
        "cheaper_low": f"{min(cheaper):.0f}",
        "cheaper_high": f"{max(cheaper):.0f}",
        "whole_ms": f"{parts['ms']['whole first step, moments']['median']:.1f}",
        "busy_ms": f"{calls.get('gpu_busy_ms', 0):.2f}",
        "launches": str(sum(count for name, count in calls.items() if "Launch" in name)),
        "syncs": str(calls.get("cudaStreamSynchronize", 0)),
        "call_low": percent(min(longer)),
        "call_high": percent(max(longer)),
        "four_over_one": f"{took[4] / took[1]:.2f}",
    }


def _rates(figures: Figures) -> dict[str, str]:
    """Return the figures of training and encoding that the text names."""
    rows = [row for row in figures.rows("decoder") if row["base"] == "SD-1.5" and row["what"] == "decoder, grid 16"]
    alone = {row["batch"]: row for row in rows if row.get("tokens") == TOKENS}
    kept = next(row for row in rows if row["text"] == "kept")
    threads = sorted({row["decoders"] for row in figures.rows("encoder") if "decoders" in row})
    width = 768  # of SD-1.5's prompt embeddings
    milliseconds = lambda row: number(1e3 * row["batch"] / row["rate"]["median"])  # noqa: E731
    return {
        "few": f"{min(alone):,}",
        "many": f"{max(alone):,}",
        "alone_1024": milliseconds(alone[min(alone)]),
        "alone_8192": milliseconds(alone[max(alone)]),
        "kept_ms": milliseconds(kept),
        "kept_mb": number(kept["batch"] * TOKENS * width * 2 / 1e6),
        "ratio": number(TOKENS / 2),
        "decoders_few": str(threads[0]),
        "decoders_many": str(threads[-1]),
        "encode_share": tables.over_bf16(figures, "singdiffusion encode", "bf16"),
        "float32_share": tables.over_bf16(figures, "VAE encoder", FLOAT32),
        "last_share": tables.over_bf16(figures, "VAE encoder", "bf16, channels last"),
    }


def _over_computed(figures: Figures) -> dict[str, str]:
    """Return best rates over computed ones."""
    span = lambda ratios: f"{min(ratios):.2g} to {max(ratios):.2g}"  # noqa: E731
    heavy = [
        ratio for ratios in tables.over_computed(figures, "encode", "U-Net, text computed").values() for ratio in ratios
    ]
    kept = [
        ratio
        for ratios in tables.over_computed(figures, *(f"decoder, grid {grid}, text cached" for grid in GRIDS)).values()
        for ratio in ratios
    ]
    live = tables.over_computed(figures, *(f"decoder, grid {grid}, text computed" for grid in GRIDS))
    return {
        "heavy": span(heavy),
        "live_sd": span(live["SD-1.5"]),
        "live_xl": span(live["SDXL"]),
        "kept_low": f"{min(kept):.2g}",
        "kept_high": f"{max(kept):.2g}",
    }


def _large(figures: Figures) -> str:
    """Return which runs need the memory of a card with more than 80 GB."""
    large = [
        f"{row['base']} in batches of {row['micro_batch']} without checkpointing ({row['peak_gib']:.0f} GiB)"
        for row in figures.rows("unet")
        if row["peak_gib"] > 75
    ]
    return f"Too large for a card of 80 GB, or nearly so: {', '.join(large)}." if large else ""
