"""The speed of training on the embedded world: a plain loop and ours, one process and two, and the share of waiting for data.

    make bench-train      or: python benchmarks/train.py --json build/bench-train.json

The plain loop does what text-to-image training scripts usually do: every step decodes pictures from the disk, runs the VAE's encoder
and the text encoder, and trains. Ours reads what `singdiffusion encode` wrote. Networks, batch, precision, threads and optimizer
are the same. Each variant is a process of its own, on the pictures that come with the package. The variants run in turn, `--rounds`
times, and the ratios are those of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from singdiffusion import tiny

BATCH = 64
DECODER_BATCH = 256  # a decoder is small, so it takes more pictures at once
UNET = "tiny-unet"  # the preset of the paper's network at the embedded model's size
DECODER = {"kind": "decoder", "options": {"preset": "tiny", "grid": 8}}


def corpus(folder: Path) -> Path:
    """Write the package's own pictures as PNG files with captions beside them; return the folder."""
    target = folder / "pictures"
    if not target.exists():
        partial = folder / "pictures.partial"
        partial.mkdir(parents=True, exist_ok=True)
        shown = tiny.pictures()
        for i, (picture, caption) in enumerate(zip(shown.drawn, shown.captions, strict=True)):
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(partial / f"{i:04d}.png")
            (partial / f"{i:04d}.txt").write_text(caption)
        partial.rename(target)
    return target


def encode(source: Path, out: Path, *more: str) -> Path:
    command("encode", str(source), str(out), "--base", "tiny", "--unit-size", "256", *more)
    return out


def command(*args: str, processes: int = 1, threads: int = 2) -> None:
    """Run a command of ours as a user starts it."""
    launch = [sys.executable, "-m"]
    if processes > 1:
        launch += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*launch, "singdiffusion", *args], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: singdiffusion {args[0]} failed: {done.stderr[-600:]}")


def configuration(folder: Path, shards: Path, network: dict[str, Any] | None, steps: int, batch: int = BATCH) -> Path:
    """Write the preset `tiny-unet` with another network, data and length, and without validation, samples and trackers."""
    from singdiffusion.train import load_config

    changes = [f"data.shards={json.dumps(str(shards))}", f"steps={steps}", f"batch={batch}", "data.held_out=0"]
    changes += [
        "validation.prompts=[]",
        "log.trackers=[]",
        "log.every=1",
        "checkpoints.every_minutes=1e6",
        "data.base=tiny",
    ]
    values = load_config(UNET, changes).model_dump(mode="json")
    if network is not None:
        values["network"] |= network
    file = folder / f"{shards.name}-{'unet' if network is None else 'decoder'}-{batch}-{steps}.json"
    file.write_text(json.dumps(values))
    return file


# -- one variant, in a process of its own -----------------------------------------------------------------------------------


def run_ours(file: Path, out: Path) -> dict[str, float]:
    """Train as configured; return pictures per second and the share of waiting for data in the second half, and peak memory."""
    from singdiffusion.train.config import Config
    from singdiffusion.train.loop import Trainer

    shutil.rmtree(out, ignore_errors=True)
    config = Config.model_validate(json.loads(file.read_text()) | {"out": str(out)})
    rows: list[dict[str, float]] = []
    trainer = Trainer(config, lambda _: None, cpu=True)
    trainer.run(lambda row: rows.append(row | {"at": time.perf_counter()}))
    if not trainer.main:
        return {}
    half = rows[len(rows) // 2 :]
    seconds = half[-1]["at"] - half[0]["at"]
    waited = sum(row["input"] * config.batch / row["pictures_per_second"] for row in half[1:])
    return measured((len(half) - 1) * config.batch / seconds) | {"input": waited / seconds}


def run_plain(file: Path, pictures: Path) -> dict[str, float]:
    """Train in a plain loop; return pictures per second in the second half, and peak memory."""
    from singdiffusion.data.base import Base
    from singdiffusion.data.shards import LatentDataset
    from singdiffusion.train.config import Config
    from singdiffusion.train.losses import Objective
    from singdiffusion.train.networks import build

    config = Config.model_validate(json.loads(file.read_text()))
    pipe = tiny.load_pipeline()
    base = Base.of(pipe, "tiny")
    network, _, _ = build(config, LatentDataset(config.data.shards))
    if config.network.kind == "unet":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective = Objective(network.train(), config.loss, 0.0)
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-3, fused=True)
    started = 0.0
    for step, (rgb, captions) in enumerate(batches(pictures, config.batch, config.steps)):
        if step == config.steps // 2:
            started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            with torch.no_grad():
                y = base.latents(rgb)
                text = pipe.text_encoder(base.tokens(captions)[0].long()).last_hidden_state
            x_1 = torch.randn(y.shape).contiguous(memory_format=torch.channels_last)
            loss = objective(y, x_1, text, (y.shape[2], y.shape[3]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return measured((config.steps - config.steps // 2) * config.batch / (time.perf_counter() - started))


def batches(folder: Path, batch: int, steps: int) -> Iterator[tuple[torch.Tensor, list[str]]]:
    """Yield pictures (B, 64, 64, 3) decoded from their files, and captions, drawn at random."""
    import numpy as np

    files = sorted(folder.glob("*.png"))
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = [files[i] for i in rng.integers(0, len(files), batch)]
        rgb = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in chosen])
        yield torch.from_numpy(rgb), [file.with_suffix(".txt").read_text() for file in chosen]


def measured(rate: float) -> dict[str, float]:
    return {"pictures_per_second": rate, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


# -- all of them ------------------------------------------------------------------------------------------------------------


def variant(kind: str, file: Path, where: Path, processes: int = 1, threads: int = 2) -> dict[str, float]:
    """Run one variant in processes of its own; return its figures."""
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    found = where.parent / "figures.json"
    found.unlink(missing_ok=True)
    options = [__file__, "--variant", kind, "--file", str(file), "--where", str(where), "--json", str(found)]
    done = subprocess.run([*launch, *options], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: the variant {kind} failed: {done.stderr[-800:]}")
    return json.loads(found.read_text())


def compare(folder: Path, steps: int, rounds: int) -> dict[str, Any]:
    """Run every variant in turn, ``rounds`` times; return the medians of its figures."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = corpus(folder)
    latents = encode(pictures, folder / "latents")
    low = encode(pictures, folder / "low", "--low-frequency", "8")
    unet = configuration(folder, latents, None, steps)
    decoder = configuration(folder, latents, DECODER, steps * 3, DECODER_BATCH)
    decoder_low = configuration(folder, low, DECODER, steps * 3, DECODER_BATCH)
    decoder_plain = configuration(folder, latents, DECODER, steps, DECODER_BATCH)
    twice = configuration(folder, latents, None, steps, 2 * BATCH)
    run = folder / "run"
    variants: dict[str, Any] = {
        "unet, plain": lambda: variant("plain", unet, pictures),
        "unet, cached": lambda: variant("ours", unet, run),
        "decoder, plain": lambda: variant("plain", decoder_plain, pictures),
        "decoder, cached": lambda: variant("ours", decoder, run),
        "decoder, low frequencies": lambda: variant("ours", decoder_low, run),
        "unet, cached, 1 process of 1 thread": lambda: variant("ours", unet, run, threads=1),
        "unet, cached, 2 processes of 1 thread": lambda: variant("ours", twice, run, processes=2, threads=1),
    }
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for number in range(rounds):
        for name, measure in variants.items():
            rows[name].append(measure())
            print(f"round {number + 1}: {name}: {rows[name][-1]['pictures_per_second']:.0f} pictures/s", flush=True)
    return {name: {key: statistics.median(row[key] for row in each) for key in each[0]} for name, each in rows.items()}


def summary(found: dict[str, Any]) -> dict[str, float]:
    """Return the figures that are compared."""
    rate = lambda name: found[name]["pictures_per_second"]  # noqa: E731
    return {
        "cached_over_plain": rate("decoder, cached") / rate("decoder, plain"),
        "low_frequency_over_plain": rate("decoder, low frequencies") / rate("decoder, plain"),
        "unet_cached_over_plain": rate("unet, cached") / rate("unet, plain"),
        "input_fraction": max(found[name]["input"] for name in found if "plain" not in name),
        "two_process_speedup": rate("unet, cached, 2 processes of 1 thread")
        / rate("unet, cached, 1 process of 1 thread"),
        "peak_mib": max(row["peak_mib"] for row in found.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("build/bench-train.json"))
    parser.add_argument("--folder", type=Path, default=Path("build/bench-train"), help="scratch")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    for name in ("--variant", "--file", "--where"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        run = {"ours": run_ours, "plain": run_plain}[options.variant]
        figures = run(Path(options.file), Path(options.where))
        if figures:
            options.json.write_text(json.dumps(figures))
        return
    found = compare(options.folder, options.steps, options.rounds)
    figures = {key: round(value, 3) for key, value in summary(found).items()}
    for name, row in found.items():
        print(f"{name:40} {row['pictures_per_second']:8.0f} pictures/s  {row['peak_mib']:6.0f} MiB")
    for key, value in figures.items():
        print(f"{key:40} {value:8.3f}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(figures | {"variants": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
