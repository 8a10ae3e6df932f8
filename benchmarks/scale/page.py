"""The page: ``page.md`` with its tables and figures filled in."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from singdiffusion.modules.decoder import PRESETS
from singdiffusion.train.config import Data

from .counts import (  # fmt: skip
    A100,
    ACCELERATORS,
    ASSUMED,
    CACHED,
    COMPUTED,
    EMBEDDINGS,
    ENCODE,
    H100,
    LATENTS,
    LINKS,
    LOW_16,
    OPTIMIZER_PASSES,
    PUBLISHED_GPUS,
    PUBLISHED_RATE,
    RTX4090,
    SD15,
    SDXL,
    SIZES,
    STORED_BYTES,
    TOKENS,
    TRAINED_BYTES,
    UNET,
    allreduce_bytes,
    embedding_bytes,
    formats,
    rate,
    works,
)
from .tables import counted_tables, in_bytes, in_time, number, percent, table

TEMPLATE = Path(__file__).with_name("page.md")
WIDTH = 138


def page(figures: dict[str, Any]) -> str:
    """Return the page.

    Args:
        figures: ``flops`` and ``published_share`` as counted, ``bytes``, ``host``, ``reader``, ``check``, ``processor`` and ``busy``
            as measured.
    """
    flops = figures["flops"]
    fields = (
        counted_tables(flops)
        | flops_fields(flops)
        | bytes_fields(figures)
        | rates_fields(figures)
        | host_fields(figures)
        | check_fields(figures)
        | advice_fields(figures)
    )
    return wrapped(TEMPLATE.read_text().format(**fields))


def wrapped(text: str) -> str:
    """Return a text with paragraphs and lists filled to ``WIDTH``; headings and tables stay."""
    blocks = []
    for block in text.strip().split("\n\n"):
        if not block.startswith(("|", "#")):
            in_list = block.startswith("- ")
            parts = ["- " + part for part in block.removeprefix("- ").split("\n- ")] if in_list else [block]
            fill = textwrap.TextWrapper(
                WIDTH, subsequent_indent="  " if in_list else "", break_long_words=False, break_on_hyphens=False
            ).fill
            # "K = 16" stays on one line
            parts = [" ".join(part.split()).replace(" = ", "\u00a0=\u00a0") for part in parts]
            block = "\n".join(map(fill, parts)).replace("\u00a0", " ")
        blocks.append(block)
    return "\n\n".join(blocks) + "\n"


def flops_fields(flops: dict[str, Any]) -> dict[str, Any]:
    one, xl = flops[SD15.name], flops[SDXL.name]
    return {
        "tokens": TOKENS,
        "trained_bytes": TRAINED_BYTES,
        "stored_bytes": STORED_BYTES,
        "checkpoint_rate": in_bytes(xl["unet"]["parameters"] * STORED_BYTES / 600),
        "decoder_share": f"1/{round(one['unet']['forward'] / one['decoder 16']['forward'], -1):.0f}",
        "passes": OPTIMIZER_PASSES,
    }


# -- what is measured or assumed --------------------------------------------------------------------------------------


def bytes_fields(figures: dict[str, Any]) -> dict[str, Any]:
    cache = Data.model_fields["text_cache_mib"].default
    rows = [
        [f"4 x {one['side']} x {one['side']}", str(one["formula"]), f"{one['measured']:.1f}"]
        for one in figures["bytes"]
    ]
    return {
        "jpeg": in_bytes(ASSUMED.jpeg),
        "jpeg_1024": in_bytes(ASSUMED.jpeg_1024),
        "key": ASSUMED.key,
        "bytes_check": table(["numbers", "formula, bytes per picture", "measured"], rows),
        "header": in_bytes(max(one["header"] for one in figures["bytes"])),
        "embedding_ratio": f"{embedding_bytes(SD15) / formats(SD15)[LATENTS]:.1f}",
        "cache_mib": cache,
        "cache_sd": f"{(cache << 20) // embedding_bytes(SD15):,}",
        "cache_xl": f"{(cache << 20) // embedding_bytes(SDXL):,}",
    }


def rates_fields(figures: dict[str, Any]) -> dict[str, Any]:
    kinds = {"unet": "U-Net, training", "vae": "VAE encoder", "text": "text encoders", "decoder": "decoder, training"}
    width = PRESETS["sd15"]["width"]
    return {
        "peaks": table(
            ["", "TFLOP/s", "memory, TB/s", "memory, GiB"],
            [[a.name, f"{a.tflops:g}", f"{a.tb_per_second:g}", str(a.gib)] for a in ACCELERATORS],
        ),
        "utilisation": table(
            ["work", "low", "middle", "high"],
            [[name, *map(str, ASSUMED.utilisation(kind))] for kind, name in kinds.items()],
        ),
        "published": PUBLISHED_RATE,
        "published_gpus": PUBLISHED_GPUS,
        "sd2_step": number(figures["flops"]["SD-2"]["unet"]["step"] / 1e9),
        "published_share": percent(figures["published_share"]),
        "faster_memory": f"{H100.tb_per_second / A100.tb_per_second:.1f}",
        "faster_peak": f"{H100.tflops / A100.tflops:.1f}",
        "width": width,
        "intensity": number(width / 2),
        "ridge": number(H100.tflops / H100.tb_per_second),
    }


def host_fields(figures: dict[str, Any]) -> dict[str, Any]:
    flops, host, memory = figures["flops"], figures["host"], figures["reader"]
    work, of_sd = works(flops), formats(SD15)
    return {
        "host": table(
            ["work of one thread", "per second"],
            [
                [f"JPEGs of 512 pixels ({in_bytes(host['jpeg_bytes'])}, synthetic) decoded, scaled and cropped", number(host["decode"])],
                ["rows read from shards in memory (4 x 16 x 16 numbers, the bytes of K = 16)", number(host["read"])],
                ["pictures of SD-1.5 for which noise is drawn", number(host["noise SD-1.5"])],
                ["pictures of SDXL for which noise is drawn", number(host["noise SDXL"])],
            ],
        ),
        "needs": needs_table(figures),
        "fault": in_time(ASSUMED.disk_wait),
        "cold": number(1 / (2 * ASSUMED.disk_wait)),
        "text_share": text_table(work, flops),
        "kept": number(memory["kept"]),
        "peak": number(memory["peak"]),
        "kept_100m": in_bytes(1e8 * memory["kept"]),
        "kept_600m": in_bytes(6e8 * memory["kept"]),
        "hash": in_bytes(host["hash"]) + "/s",
        "hash_latents": in_time(1e8 * of_sd[LATENTS] / host["hash"]),
        "hash_low": in_time(1e8 * of_sd[LOW_16] / host["hash"]),
    }  # fmt: skip


def needs_table(figures: dict[str, Any]) -> str:
    host, work = figures["host"], works(figures["flops"])
    encode, unet, live = (rate(work["SD-1.5", name], H100) for name in (ENCODE, UNET, COMPUTED))
    return table(
        ["SD-1.5 on H100", "needs"],
        [
            [f"encode at {number(encode)} pictures per second, 1 GPU", f"{encode / host['decode']:.1f} threads that decode"],
            ["U-Net, 8 GPUs", f"{8 * unet / host['noise SD-1.5']:.1f} threads that draw noise"],
            ["decoder, 8 GPUs, data in memory", f"{8 * live / host['read']:.1f} threads that read"],
            ["decoder, 8 GPUs, data on a disk", f"{number(8 * live * 2 * ASSUMED.disk_wait)} workers that read"],
            ["100 million pictures, low frequencies (K = 16)", in_bytes(1e8 * formats(SD15)[LOW_16])],
            ["100 million pictures, latents", in_bytes(1e8 * formats(SD15)[LATENTS])],
        ],
    )  # fmt: skip


def text_table(work: dict[tuple[str, str], Any], flops: dict[str, Any]) -> str:
    def share(size: str, name: str) -> str:
        """Return the share of the time that is the text encoders', which come first."""
        return percent(rate(work[size, name], H100) / rate(work[size, name][:1], H100))

    def steps(size: str, grid: int) -> str:
        return number(flops[size]["text"]["forward"] / flops[size][f"decoder {grid}"]["step"])

    names = [size.name for size in SIZES]
    return table(
        ["text", *names],
        [
            ["embeddings of 100 million captions", *(in_bytes(1e8 * embedding_bytes(size)) for size in SIZES)],
            *([f"FLOPs of a caption over a decoder's step, grid {g}", *(steps(n, g) for n in names)] for g in (16, 8)),
            ["share of a decoder's training time (grid 16, middle)", *(share(n, COMPUTED) for n in names)],
            ["share of a U-Net's training time", *(share(n, UNET) for n in names)],
        ],
    )


def check_fields(figures: dict[str, Any]) -> dict[str, Any]:
    check = figures["check"]
    ratios = [one["seconds"] / one["predicted"] for one in check["work"].values()]
    rows = [
        [
            name,
            number(one["flops"] / 1e9),
            " x ".join(map(str, one["shape"])),
            f"{number(one['rate'] / 1e9)} ({number(one['slowest'] / 1e9)})",
            in_time(one["predicted"]),
            in_time(one["seconds"]),
            f"{ratio:.2f}",
        ]
        for (name, one), ratio in zip(check["work"].items(), ratios, strict=True)
    ]
    head = ["work", "GFLOP", "matrix product of its shape", "GFLOP/s, best (worst)", "predicted", "measured"]
    return {
        "check": table([*head, "measured / predicted"], rows),
        "processor": figures["processor"],
        "busy": "; another process ran at the same time" if figures["busy"] else "",
        "square": number(check["square"] / 1e9),
        "convolution": number(check["convolution"] / 1e9),
        "within": f"a factor of {max(*ratios, *(1 / ratio for ratio in ratios)):.1f}",
    }


# -- what to do -------------------------------------------------------------------------------------------------------


def advice_fields(figures: dict[str, Any]) -> dict[str, Any]:
    flops = figures["flops"]
    work, one, xl = works(flops), flops[SD15.name], flops[SDXL.name]
    memory = one["unet"]["parameters"] * TRAINED_BYTES
    speed = lambda size, name: rate(work[size, name], H100)  # noqa: E731
    larger = [(kind, flops if kind == "text" else 10 * flops) for kind, flops in work["SD-1.5", COMPUTED]]
    return {
        "small": RTX4090.name,
        "few": few_table(work, memory),
        "c_left": in_bytes(RTX4090.gib * 2**30 - memory),
        "c_weights": number(one["unet"]["parameters"] / 1e6),
        "c_cache_xl": -(-20_001 * embedding_bytes(SDXL) // 2**20 // 64) * 64 + 64,
        "many": many_table(figures),
        "c_ratio": number(one["unet"]["step"] / one["decoder 16"]["step"]),
        "c_ratio_xl": number(xl["unet"]["step"] / xl["decoder 16"]["step"]),
        "c_whole": number(speed("SD-1.5", COMPUTED) / speed("SD-1.5", UNET)),
        "c_whole_xl": number(speed("SDXL", COMPUTED) / speed("SDXL", UNET)),
        "c_parameters": number(one["decoder 16"]["parameters"] / 1e6),
        "c_larger": number(rate(larger, H100) / speed("SD-1.5", UNET)),
    }


def few_table(work: dict[tuple[str, str], Any], memory: float) -> str:
    of, speed = formats(SD15), lambda name: rate(work["SD-1.5", name], RTX4090)
    return table(
        ["SD-1.5", ""],
        [
            ["encoding 20,000 pictures", in_time(2e4 / speed(ENCODE))],
            ["their low frequencies (K = 16)", in_bytes(2e4 * of[LOW_16])],
            ["their prompt embeddings, which fit into the cache", in_bytes(2e4 * of[EMBEDDINGS])],
            ["a decoder (grid 16), a million pictures seen, 50 epochs", in_time(1e6 / speed(CACHED))],
            ["the U-Net, a million pictures seen", in_time(1e6 / speed(UNET))],
            ["memory to train the U-Net", in_bytes(memory)],
        ],
    )


def many_table(figures: dict[str, Any]) -> str:
    flops, work = figures["flops"], works(figures["flops"])

    def epoch(name: str, gpus: int) -> list[str]:
        return [in_time(1e8 / rate(work[size.name, name], H100) / gpus) for size in SIZES]

    def hours(name: str) -> list[str]:
        return [number(1e8 / rate(work[size.name, name], H100) / 3600) for size in SIZES]

    def pictures(name: str, network: str, link: str, sizes: tuple = SIZES) -> list[str]:
        """Return the pictures per GPU and step from which on communication is hidden."""
        sent = [allreduce_bytes(flops[size.name][network]["parameters"]) for size in sizes]
        speeds = [rate(work[size.name, name], H100) for size in sizes]
        return [number(1.5 * s * bytes_ / LINKS[link]) for s, bytes_ in zip(speeds, sent, strict=True)]

    threads = number(64 * rate(work["SD-1.5", ENCODE], H100) / figures["host"]["decode"])
    stored = lambda name: [in_bytes(1e8 * formats(size)[name]) for size in SIZES]  # noqa: E731
    return table(
        ["100 million pictures", *(size.name for size in SIZES)],
        [
            ["encoding, 64 GPUs", *epoch(ENCODE, 64)],
            ["threads that decode for it", threads, ""],
            ["low frequencies, K = 16", *stored(LOW_16)],
            ["latents", *stored(LATENTS)],
            ["a decoder's epoch (grid 16, text computed), GPU-hours", *hours(COMPUTED)],
            ["the same on 8 GPUs", *epoch(COMPUTED, 8)],
            ["a U-Net's epoch, GPU-hours", *hours(UNET)],
            ["the same on 64 GPUs", *epoch(UNET, 64)],
            ["U-Net: pictures per GPU and step, 100 Gbit/s", *pictures(UNET, "unet", "100 Gbit/s")],
            ["decoder: pictures per GPU and step, 10 Gbit/s", *pictures(COMPUTED, "decoder 16", "10 Gbit/s", (SD15,)), ""],
        ],
    )  # fmt: skip
