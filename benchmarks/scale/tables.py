"""The tables that need no measurement, and how figures are written."""

from __future__ import annotations

from typing import Any

from .counts import (  # fmt: skip
    A100,
    ACCELERATORS,
    CACHED,
    COMPUTED,
    EMBEDDINGS,
    ENCODE,
    GRIDS,
    H100,
    JPEG,
    LATENTS,
    LINKS,
    LOW_16,
    OPTIMIZER_PASSES,
    SETS,
    SIZES,
    STORED_BYTES,
    TRAINED_BYTES,
    UNET,
    allreduce_bytes,
    formats,
    rate,
    works,
)


def number(value: float) -> str:
    """Return a number to three figures, thousands separated."""
    if value >= 100:
        return f"{round(value, 3 - len(str(int(value)))):,.0f}"
    return f"{value:.3g}"


def in_bytes(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{value:.0f} B"


def in_time(value: float) -> str:
    if value >= 2 * 86_400:
        return f"{number(value / 86_400)} days"
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{number(value * 1e3)} ms"


def percent(value: float) -> str:
    return f"{value:.0%}" if value >= 0.095 else f"{value:.1%}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


# -- what is counted --------------------------------------------------------------------------------------------------


def counted_tables(flops: dict[str, Any]) -> dict[str, str]:
    """Return the tables that need no measurement, by field."""
    return {
        "flops": flops_table(flops),
        "bytes": bytes_table(),
        "rates": rates_table(flops),
        "hours": hours_table(flops),
        "network": network_table(flops),
        "feed": feed_table(flops),
    }


def flops_table(flops: dict[str, Any]) -> str:
    decoders = {f"decoder {grid}": f"decoder, grid {grid}" for grid in GRIDS}
    rows = []
    for size in SIZES:
        for key, name in ({"vae": "VAE encoder", "text": "text encoders", "unet": "U-Net"} | decoders).items():
            one = flops[size.name][key]
            trained = ["", "", "", ""]
            if "step" in one:
                step, memory, stored = one["step"], one["parameters"] * TRAINED_BYTES, one["parameters"] * STORED_BYTES
                trained = [number(step / 1e9), f"{step / one['forward']:.3f}", in_bytes(memory), in_bytes(stored)]
            rows.append([size.name, name, number(one["parameters"] / 1e6), number(one["forward"] / 1e9), *trained])
    head = ["base", "network", "parameters, M", "forward, GFLOP", "step, GFLOP", "step / forward", "memory to train"]
    return table([*head, "checkpoint"], rows)


def bytes_table() -> str:
    rows = [
        [size.name, name, f"{each:,}", *(in_bytes(each * n) for n in SETS.values())]
        for size in SIZES
        for name, each in formats(size).items()
    ]
    return table(["base", "format", "bytes per picture", *SETS], rows)


def rates_table(flops: dict[str, Any]) -> str:
    rows = []
    for (size, name), work in works(flops).items():
        cells = []
        for accelerator in ACCELERATORS:
            needs = flops[size]["unet"]["parameters"] * TRAINED_BYTES if name == UNET else 0
            low, middle, high = (number(rate(work, accelerator, i)) for i in range(3))
            cells.append("too large" if needs > accelerator.gib * 2**30 else f"{middle} ({low} to {high})")
        rows.append([size, _marked(name), *cells])
    return table(["base", "work", *(a.name for a in ACCELERATORS)], rows)


def _marked(work: str) -> str:
    """Return the name of some work, with a mark where measured figures are far from the computed ones."""
    return f"{work} †" if work.startswith("decoder") else work


def hours_table(flops: dict[str, Any]) -> str:
    epochs = dict(list(SETS.items())[:3])
    rows = []
    for (size, name), work in works(flops).items():
        low, middle, high = (number(1e6 / rate(work, A100, i) / 3600) for i in (2, 1, 0))
        times = [in_time(pictures / rate(work, H100)) for pictures in epochs.values()]
        rows.append([size, _marked(name), f"{middle} ({low} to {high})", *times])
    return table(["base", "work", "A100-hours per million", *(f"H100, {name}" for name in epochs)], rows)


def network_table(flops: dict[str, Any]) -> str:
    rows = []
    for size in SIZES:
        for key, name, work in (("unet", "U-Net", UNET), ("decoder 16", "decoder, grid 16", COMPUTED)):
            count, speed = flops[size.name][key]["parameters"], rate(works(flops)[size.name, work], H100)
            sent = allreduce_bytes(count)
            cells = [f"{in_time(sent / link)}, {number(speed * sent / link)} pictures" for link in LINKS.values()]
            moved = count * 4 * OPTIMIZER_PASSES / (H100.tb_per_second * 1e12)
            rows.append([size.name, name, in_bytes(sent), *cells, in_time(moved)])
    return table(["base", "module", "sent per step", *LINKS, "optimizer, H100"], rows)


def feed_table(flops: dict[str, Any]) -> str:
    rows = []
    for size in SIZES:
        of = formats(size)
        for name, work, each in (
            ("encode, from source JPEG", ENCODE, of[JPEG]),
            ("U-Net, latents", UNET, of[LATENTS]),
            ("decoder, grid 16, latents", COMPUTED, of[LATENTS]),
            ("decoder, grid 16, K = 16", COMPUTED, of[LOW_16]),
            ("decoder, grid 16, K = 16 and stored embeddings", CACHED, of[LOW_16] + of[EMBEDDINGS]),
        ):
            speed = 8 * rate(works(flops)[size.name, work], H100)
            rows.append([size.name, name, number(speed), in_bytes(speed * each) + "/s"])
    return table(["base", "work, 8 H100", "pictures per second", "bytes to read"], rows)
