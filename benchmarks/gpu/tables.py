"""The tables of the page, from the rows of the JSON file."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from .cost_model import ASSUMED, GRIDS, H100, TOKENS, computed_rates, number, table
from .first_step import FIRST_STEPS
from .timing import Row

CAPTION_DROPOUT = 0.1  # share of captions that the presets replace by the empty one, which is embedded once per step
CLOSE = 0.05  # measured figures may be outside an assumption's range by this share of its ends


@dataclass(frozen=True)
class Figures:
    """The content of the JSON file."""

    content: dict[str, Any]

    def rows(self, section: str) -> list[Row]:
        """Return the rows of a section that did not fail."""
        return [row for row in self.content["sections"].get(section, []) if not {"error", "late"} & set(row)]

    def trained(self) -> list[Row]:
        """Return all rows of training."""
        return [*self.rows("unet"), *self.rows("format"), *self.rows("decoder")]

    def best(self, base: str, work: str) -> float:
        """Return the highest rate that was measured of some of the cost model's work, 0 where none was."""
        if work == "encode":
            found = [r for r in self.rows("encoder") if r["what"] == "VAE encoder" and r["kind"] == "bf16"]
        elif work.startswith("U-Net"):
            found = [row for row in self.trained() if row["what"] == "U-Net"]
        else:
            name, text = work.rsplit(", ", 1)
            text = {"text computed": "live", "text cached": "kept"}[text]
            found = [row for row in self.trained() if row["what"] == name and row["text"] == text]
        return max((row["rate"]["median"] for row in found if row["base"] == base), default=0.0)

    def flops(self, row: Row) -> int:
        """Return the FLOPs of one picture, or caption, of a row."""
        counted, moments = (self.content["flops"][key] for key in ("counted", "moments"))
        if "which" in row:
            return counted["SDXL"]["text"]["each"][row["which"]]
        one = counted[row["base"]]
        if row["what"] in ("VAE encoder", "singdiffusion encode"):
            return one["vae"]["forward"]
        text = round((1 - CAPTION_DROPOUT) * one["text"]["forward"]) if row["text"] == "live" else 0
        if row["what"] == "U-Net":
            return text + one["unet"]["step"]
        grid = row["what"].split()[-1]
        return text + moments[row["base"]][grid]

    def tflops(self, row: Row) -> float:
        """Return the TFLOP/s of a row."""
        return self.flops(row) * row["rate"]["median"] / 1e12

    def utilisation(self, row: Row) -> float:
        """Return the share of the data sheet's peak."""
        return self.tflops(row) / H100.tflops


def between(one: dict[str, float]) -> str:
    """Return a median with its quartiles, three figures each."""
    show = lambda value: number(value) if value >= 100 else f"{value:#.3g}".rstrip(".")  # noqa: E731
    if one["count"] == 1:
        return show(one["median"])
    return f"{show(one['median'])} ({show(one['low'])} to {show(one['high'])})"


def percent(value: float) -> str:
    """Return two figures of a share."""
    return f"{100 * value:.2g} %"


def has(row: Row, change: str) -> bool:
    """Return whether a training run had a change."""
    return change in row.get("changes", ())


# -- the first step ---------------------------------------------------------------------------------------------------


def summary_table(figures: Figures) -> str:
    """Return the main figures of both bases."""
    steps = {row["base"]: row for row in figures.rows("first_step") if row["batch"] == 1 and row["dtype"] == "fp16"}
    encoded = {r["base"]: r for r in reversed(figures.rows("encoder")) if r["what"] == "singdiffusion encode" and r["kind"] == "bf16"}  # fmt: skip
    decoders = {base: max(figures.best(base, f"decoder, grid {g}, text computed") for g in GRIDS) for base in steps}
    lines: dict[str, list[str]] = {
        "decoder's first step, share of a guided base step": [percent(r["over_base"]["decoder"]["median"]) for r in steps.values()],
        "the same, share of 50 base steps": [percent(r["over_base"]["decoder"]["median"] / 50) for r in steps.values()],
        "the published first step takes": [f"{r['published_over_decoder']['median']:.0f} times as long" for r in steps.values()],
        "extra memory for the decoder": [f"{r['memory']['decoder']['extra_mib']:.0f} MiB" for r in steps.values()],
        "extra memory for the published network": [f"{number(r['memory']['published']['extra_mib'])} MiB" for r in steps.values()],
        "`singdiffusion encode` in bf16, pictures per second": [number(encoded[base]["rate"]["median"]) for base in steps],
        "training a U-Net, pictures per second": [number(figures.best(base, "U-Net")) for base in steps],
        "training a decoder, live text, pictures per second": [number(decoders[base]) for base in steps],
    }  # fmt: skip
    return table(["one GPU", *steps], [[name, *cells] for name, cells in lines.items()])


def first_step_table(figures: Figures) -> str:
    """Return times of the first steps over that of a base step."""
    head = ["base", "dtype", "batch", "base step, ms", *FIRST_STEPS, "`decoder`, ms", "`published` over `decoder`"]
    return table([f"`{name}`" if name in FIRST_STEPS else name for name in head], [
        [row["base"], row["dtype"], str(row["batch"]), between(row["ms"]["base"])]
        + [between(row["over_base"][name]) for name in FIRST_STEPS]
        + [between(row["ms"]["decoder"]), between(row["published_over_decoder"])]
        for row in figures.rows("first_step")
    ])  # fmt: skip


def memory_table(figures: Figures) -> str:
    """Return the memory of the first steps."""
    head = ["base", "peak of a base step, MiB", "first step", "weights, MiB", "during the step, MiB", "extra memory, MiB"]  # fmt: skip
    return table(head, [
        [row["base"], number(row["base_peak_mib"]), f"`{name}`"]
        + [number(row["memory"][name][key]) for key in ("weights_mib", "step_mib", "extra_mib")]
        for row in figures.rows("first_step") if row["batch"] == 1 and row["dtype"] == "fp16" for name in FIRST_STEPS
    ])  # fmt: skip


def parts_table(figures: Figures) -> str:
    """Return times of the parts of the decoder's first step."""
    rows = figures.rows("parts")
    return table(["part, ms", *(row["base"] for row in rows)], [
        [name, *(between(row["ms"][name]) for row in rows)] for name in rows[0]["ms"]
    ])  # fmt: skip


def pictures_table(figures: Figures) -> str:
    """Return times of whole calls."""
    head = ["base", "steps", "pairs", "seconds without", "seconds with", "with over without", "difference, ms"]
    keys = ("seconds_off", "seconds_on", "on_over_off", "extra_ms")
    return table(head, [
        [row["base"], str(row["steps"]), str(row["pairs"]), *(between(row[key]) for key in keys)]
        for row in figures.rows("picture")
    ])  # fmt: skip


# -- training and encoding --------------------------------------------------------------------------------------------


def unets_table(figures: Figures) -> str:
    """Return rates of training a U-Net."""
    head = ["base", "text", "pictures per step", "at once", "checkpointing", "pictures per second", "peak memory, GiB",
            "TFLOP/s", "utilisation"]  # fmt: skip
    return table(head, [
        [row["base"], row["text"], str(row["batch"]), str(row["micro_batch"]),
         "no" if has(row, "gradient_checkpointing=false") else "yes", between(row["rate"]), f"{row['peak_gib']:.1f}",
         number(figures.tflops(row)), percent(figures.utilisation(row))]
        for row in figures.rows("unet")
    ])  # fmt: skip


def formats_table(figures: Figures) -> str:
    """Return rates of training with both memory formats: the medians of both times that each ran."""
    cells = []
    rows = figures.rows("format")
    for base in dict.fromkeys(row["base"] for row in rows):
        of = {
            flag: [r["rate"]["median"] for r in rows if r["base"] == base and has(r, f"channels_last={flag}")]
            for flag in ("true", "false")
        }
        batch = next(row["batch"] for row in rows if row["base"] == base)
        ratio = statistics.mean(of["true"]) / statistics.mean(of["false"])
        both = [" and ".join(map(number, of[flag])) for flag in ("true", "false")]
        cells.append([base, str(batch), *both, f"{ratio:.2f}"])
    return table(["base", "batch", "with `channels_last`", "without", "with over without"], cells)


def decoders_table(figures: Figures) -> str:
    """Return rates of training a decoder."""
    names = {"live": "loop, text live", "kept": "loop, embeddings kept", "on the device": "step alone"}
    head = ["base", "decoder", "what", "batch", "pictures per second", "peak memory, GiB", "utilisation"]
    return table(head, [
        [row["base"], row["what"].removeprefix("decoder, "), names[row["text"]], f"{row['batch']:,}", between(row["rate"]),
         f"{row['peak_gib']:.1f}" if "peak_gib" in row else "", percent(figures.utilisation(row))]
        for row in figures.rows("decoder") if row.get("tokens") != 1
    ])  # fmt: skip


def encoders_table(figures: Figures) -> str:
    """Return rates of encoding; utilisation is of the peak in bf16, so only for that."""
    head = ["base", "what", "arithmetic", "batch", "threads that decode", "pictures per second", "TFLOP/s", "utilisation"]  # fmt: skip
    return table(head, [
        [row["base"], row["what"].replace("singdiffusion encode", "`singdiffusion encode`"), row["kind"], str(row["batch"]),
         str(row.get("decoders", "")), between(row["rate"]), number(figures.tflops(row)),
         percent(figures.utilisation(row)) if row["kind"].startswith("bf16") else ""]
        for row in figures.rows("encoder")
    ])  # fmt: skip


def texts_table(figures: Figures) -> str:
    """Return rates of the text encoders."""
    head = ["text encoder", "captions at once", "captions per second", "TFLOP/s", "utilisation"]
    return table(head, [
        [row["what"], f"{row['batch']:,}", between(row["rate"]), number(figures.tflops(row)), percent(figures.utilisation(row))]
        for row in figures.rows("text")
    ])  # fmt: skip


# -- the cost model's assumptions -------------------------------------------------------------------------------------


def evidence(figures: Figures) -> dict[str, tuple[str, list[Row]]]:
    """Return measured work -> the assumption that it is about, and its rows."""
    encoders, decoders = figures.rows("encoder"), figures.rows("decoder")
    alone = [row for row in decoders if row["text"] == "on the device" and row["tokens"] == TOKENS]
    by_batch = {
        f"decoder, step alone, {batch:,} pictures": ("decoder", [row for row in alone if row["batch"] == batch])
        for batch in sorted({row["batch"] for row in alone})
    }
    return {
        "U-Net, training": ("unet", [*figures.rows("unet"), *figures.rows("format")]),
        "VAE encoder, bf16": ("vae", [r for r in encoders if r["what"] == "VAE encoder" and r["kind"] == "bf16"]),
        "text encoders, 256 captions or more": ("text", [row for row in figures.rows("text") if row["batch"] >= 256]),
        **by_batch,
        "decoder, loop with kept embeddings": ("decoder", [row for row in decoders if row["text"] == "kept"]),
    }


def verdict(shares: list[float], assumed: tuple[float, float, float]) -> str:
    """Compare the measured utilisations with the low, middle and high assumption."""
    low, middle, high = assumed
    least, most = min(shares), max(shares)
    if most < low:
        return f"does not hold: the best is {low / most:.2g} times below the low one"
    if least > high:
        return "does not hold: all are above the high one"
    if least >= (1 - CLOSE) * low and most <= (1 + CLOSE) * high:
        return "holds"
    if most < middle:
        return "only the low one holds, for the best rows"
    return "holds in part"


def assumptions_table(figures: Figures) -> str:
    """Return the assumptions beside the measured range."""
    cells = []
    for name, (key, rows) in evidence(figures).items():
        shares = [figures.utilisation(row) for row in rows]
        if shares:
            span = f"{percent(min(shares))} to {percent(max(shares))}"
            cells.append(
                [name, *map(percent, ASSUMED.utilisation(key)), span, verdict(shares, ASSUMED.utilisation(key))]
            )
    return table(["work", "low", "middle", "high", "measured", "the assumption"], cells)


def computed_table(figures: Figures) -> str:
    """Return computed rates beside the best measured ones."""
    cells = []
    for (base, work), (low, middle, high) in computed_rates(figures.content["flops"]).items():
        best = figures.best(base, work)
        if best:
            computed = f"{number(middle)} ({number(low)} to {number(high)})"
            cells.append([base, work, computed, number(best), f"{best / middle:.2g}"])
    return table(["base", "work", "computed for an H100", "best measured", "measured over middle"], cells)


def over_computed(figures: Figures, *works: str) -> dict[str, list[float]]:
    """Return best rates over those that the cost model computes with its middle assumption: base -> lowest and highest."""
    found: dict[str, list[float]] = {}
    for (base, work), (_, middle, _) in computed_rates(figures.content["flops"]).items():
        if work in works and figures.best(base, work):
            found.setdefault(base, []).append(figures.best(base, work) / middle)
    return {base: [min(ratios), max(ratios)] for base, ratios in found.items()}


def over_bf16(figures: Figures, what: str, kind: str) -> str:
    """Return an encoding's best rate over the best one of the VAE alone in bf16, by base."""
    found: dict[str, float] = {}
    for row in figures.rows("encoder"):
        if row["what"] == what and row["kind"] == kind:
            ratio = row["rate"]["median"] / figures.best(row["base"], "encode")
            found[row["base"]] = max(ratio, found.get(row["base"], 0.0))
    return " and ".join(f"{ratio:.2f} ({base})" for base, ratio in found.items())
