"""Everything that takes input from outside, with small models to try it on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import typer
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from singdiffusion import SingDiffusion, SingDiffusionError
from singdiffusion.cli import app, main
from singdiffusion.data import encode, pictures, sources
from singdiffusion.data.base import Base
from singdiffusion.data.shards import LatentDataset, Plan
from singdiffusion.evaluate.metrics.crowd import Statistics
from singdiffusion.modules import MeanDecoder, SingModule
from singdiffusion.modules.text import fingerprint
from singdiffusion.painting.bases import load_model
from singdiffusion.painting.png import read_settings
from singdiffusion.painting.prompts import file_names, read_prompts
from singdiffusion.plugin.audit import audit
from singdiffusion.published.convert import convert
from singdiffusion.published.load import load_module
from singdiffusion.train.config import load_config
from tests.conftest import TEXT_WIDTH, build_pipe, make_config, make_module, make_text_encoder, make_tokenizer
from tests.data.corpus import encoded as as_png
from tests.data.corpus import picture
from tests.mutations import damaged, documents, mutated
from tests.published.layouts import unet_config, write_one_more_step
from tests.train import world

from .inputs import archives, command_lines
from .trial import Target


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _files(good: Path, names: list[str]) -> Iterator[st.SearchStrategy]:
    """Yield a strategy for each file of a folder: (its name, new bytes)."""
    for name in names:
        content = (good / name).read_bytes()
        wrong = documents(json.loads(content)) if name.endswith(".json") else damaged(content)
        yield st.tuples(st.just(name), wrong)


def _with_file(good: Path, names: list[str], use: Callable[[Path], object], name: str) -> Target:
    """Return a target that uses a copy of a good folder, one of whose files is wrong."""

    def run(case: tuple[str, bytes], folder: Path) -> object:
        copy = folder / "copy"
        shutil.copytree(good, copy)
        (copy / case[0]).write_bytes(case[1])
        return use(copy)

    return Target(name, st.one_of(*_files(good, names)), run)


def _as_file(name: str, cases: st.SearchStrategy, use: Callable[[Path], object]) -> Target:
    """Return a target that uses a file of these bytes."""

    def run(case: bytes, folder: Path) -> object:
        (folder / name).write_bytes(case)
        return use(folder / name)

    return Target(name, cases, run)


def targets(home: Path) -> list[Target]:
    """Return all targets.

    Args:
        home: an empty folder for good models and data.
    """
    warnings.simplefilter("ignore")
    (home / "spelling").mkdir()
    tokenizer = make_tokenizer(home / "spelling")
    pipe = build_pipe(tokenizer)
    return [
        *_modules(home, pipe, tokenizer),
        *_models(home, pipe),
        *_pictures(home, pipe),
        *_training(home, pipe),
        *_figures(),
        *_commands(),
    ]


def _modules(home: Path, pipe: Any, tokenizer: Any) -> Iterator[Target]:
    config = make_config(text_fingerprint=fingerprint(pipe.text_encoder))
    decoder = MeanDecoder(latent_channels=4, cross_attention_dim=TEXT_WIDTH, width=16, layers=1, grid=2)
    SingModule(decoder, config).save_pretrained(home / "decoder")
    SingModule(make_module(), config).save_pretrained(home / "unet")
    files = ["sing_config.json", "module/config.json", "module/diffusion_pytorch_model.safetensors"]
    yield _with_file(home / "decoder", files, SingModule.from_pretrained, "decoder")
    yield _with_file(home / "unet", files, SingDiffusion.from_pretrained, "unet")

    network = make_module()
    (home / "authors").mkdir()
    (home / "authors" / "config.json").write_text(json.dumps(unet_config(network)))
    save_file(network.state_dict(), home / "authors" / "diffusion_pytorch_model.safetensors")
    pipe.save_pretrained(home / "base")
    read = lambda folder: load_module(folder, base=str(home / "base"))  # noqa: E731
    yield _with_file(home / "authors", ["config.json", "diffusion_pytorch_model.safetensors"], read, "authors' module")

    write_one_more_step(home / "oms", make_module(), tokenizer, make_text_encoder(tokenizer))
    files = [
        "model_index.json",
        "oms_module/config.json",
        "oms_text_encoder/config.json",
        "oms_tokenizer/tokenizer_config.json",
    ]
    yield _with_file(home / "oms", files, load_module, "OneMoreStep's module")

    convert(home / "unet", home / "single.safetensors")
    weights = load_file(home / "single.safetensors")
    with safe_open(home / "single.safetensors", "pt") as opened:
        metadata = opened.metadata()

    def converted(case: dict[str, bytes] | bytes, folder: Path) -> None:
        file, target = folder / "single.safetensors", folder / "new"
        if isinstance(case, bytes):
            file.write_bytes(case)
        else:
            save_file(weights, file, metadata | {key: value.decode("utf-8", "replace") for key, value in case.items()})
        try:
            convert(file, target)
        except SingDiffusionError:
            assert not target.exists()
            raise
        SingModule.from_pretrained(target)

    texts = {key: documents(json.loads(metadata[key])) for key in ("sing_config", "unet_config")}
    wrong = st.one_of(
        *(st.fixed_dictionaries({key: text}) for key, text in texts.items()),
        damaged((home / "single.safetensors").read_bytes()),
    )
    yield Target("single file", wrong, converted)


def _models(home: Path, pipe: Any) -> Iterator[Target]:
    names = [
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
    ]
    names += ["tokenizer/tokenizer_config.json", "unet/diffusion_pytorch_model.safetensors"]
    yield _with_file(home / "base", names, lambda folder: load_model(str(folder), "cpu", "float32"), "model")

    def judged(file: Path) -> None:
        found = audit(file, 10, latents=(8, 8))
        json.dumps(found.as_json(), allow_nan=False)

    import diffusers

    for name in (
        "DDIMScheduler",
        "EulerDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "FlowMatchEulerDiscreteScheduler",
    ):
        config = json.loads(getattr(diffusers, name)().to_json_string())
        yield _as_file(f"{name}.json", documents(config), judged)


def _pictures(home: Path, pipe: Any) -> Iterator[Target]:
    image = as_png(picture(1))
    (home / "encoded").mkdir()
    base, options = Base.of(pipe, "base"), encode.Options(16, smallest=4)

    def encoded(folder: Path) -> None:
        out = folder.parent / "out"
        out.mkdir()
        encode.encode(sources.open_source(str(folder), unit_size=10), out, base, options)

    def of_tar(case: bytes, folder: Path) -> None:
        (folder / "in").mkdir()
        (folder / "in" / "a.tar").write_bytes(case)
        encoded(folder / "in")

    yield Target("tar", archives(image), of_tar)

    good = {"file_name": "a.png", "text": ["a red room", "a room"], "caption": None}

    def of_rows(case: tuple[str, list[bytes]], folder: Path) -> None:
        (folder / "in").mkdir()
        (folder / "in" / "a.png").write_bytes(image)
        (folder / "in" / "b.png").write_bytes(image)
        (folder / "in" / "b.txt").write_text("a blue room")
        (folder / "in" / case[0]).write_bytes(b"\n".join(case[1]))
        encoded(folder / "in")

    table = damaged(b"file_name,text\na.png,a red room\nb.png,a blue room\n")
    rows = st.tuples(st.just("metadata.jsonl"), st.lists(documents(good), max_size=3))
    beside = st.tuples(st.sampled_from(["a.txt", "a.json", "a.caption"]), st.tuples(documents(good)).map(list))
    yield Target(
        "captions", st.one_of(rows, st.tuples(st.just("metadata.csv"), st.tuples(table).map(list)), beside), of_rows
    )

    def loaded(case: bytes, folder: Path) -> None:
        with contextlib.suppress(pictures.Unusable):
            found, _ = pictures.load(io.BytesIO(case), smallest=4, enough=16)
            pictures.fit(found, 16, 16)

    kinds = [as_png(picture(1), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")]
    yield Target("picture", st.sampled_from(kinds).flatmap(damaged), loaded)


def _training(home: Path, pipe: Any) -> Iterator[Target]:
    world.encoded(pipe, home / "world", count=12, unit=6)
    shards = home / "world" / "shards"

    def read(folder: Path) -> None:
        data = LatentDataset(folder)
        plan = Plan(data, 2)
        for step in range(2):
            data.read(plan.rows(step))
        data.keys(plan.rows(0))

    yield _with_file(shards, ["manifest.json", "shard-00000.safetensors"], read, "shards")

    def continued(folder: Path) -> None:
        encode.require_same_settings(folder, Base.of(pipe, "random"), encode.Options(16, smallest=4))

    yield _with_file(shards, ["encode.json"], continued, "encode.json")
    good = world.values(home / "world")

    def configured(case: tuple[bytes, list[str]], folder: Path) -> None:
        (folder / "run.toml").write_bytes(case[0])
        load_config(str(folder / "run.toml"), case[1])

    from tests.fuzzing.toml import as_toml

    keys = st.sampled_from(
        [
            "steps",
            "batch",
            "timeout",
            "data.held_out",
            "optimizer.rate",
            "network.options.width",
            "a.b.c",
            "",
            "=",
            "out",
        ]
    )
    values = st.sampled_from(
        ["1", "-1", "0", "1e300", "nan", "inf", "'a'", "[", "{}", "none", "10000000000000", "true", "[1]", "\x1b"]
    )
    changes = st.lists(st.tuples(keys, values).map("=".join), max_size=3)
    text = mutated(good).map(as_toml)
    yield Target("configuration", st.tuples(st.one_of(text, text.flatmap(damaged)), changes), configured)


def _figures() -> Iterator[Target]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(8, 4))
    buffer = io.BytesIO()
    np.savez(buffer, mu=features.mean(0), sigma=np.cov(features.T))
    yield _as_file("statistics.npz", damaged(buffer.getvalue()), Statistics.load)

    prompts = {"1": "a cat", "2": "a dark room"}
    rows = [{"id": 1, "caption": "a cat"}, {"id": 2, "caption": "a dog"}]

    def read(file: Path) -> None:
        found = read_prompts(file)
        assert found
        assert len(set(file_names([each.text for each in found]).values())) == len({each.text for each in found})

    yield _as_file("prompts.json", st.one_of(documents(prompts), documents(rows)), read)
    yield _as_file("prompts.jsonl", st.lists(documents(rows[0]), max_size=3).map(b"\n".join), read)
    yield _as_file("prompts.csv", damaged(b"id,caption\n1,a cat\n2,a dog\n"), read)
    yield _as_file("prompts.txt", damaged("a cat\na dog\n猫\n".encode()), read)

    def settings_of(case: bytes, folder: Path) -> None:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("singdiffusion", case.decode("utf-8", "replace"))
        Image.new("RGB", (4, 4)).save(folder / "a.png", pnginfo=info)
        read_settings(Image.open(folder / "a.png"))

    yield Target("PNG", documents({"prompt": "a cat", "seed": 1, "height": 8}), settings_of)


# commands, and options that keep them short where they have work to do
SHORT = {
    "audit": [],
    "convert": [],
    "encode": [],
    "generate": ["--steps", "1", "--count", "1"],
    "train": [],
    "evaluate brightness": ["--steps", "1", "--pictures", "1"],
}


def _commands() -> Iterator[Target]:
    from singdiffusion.cli import audit, convert, encode, evaluate, generate, train  # noqa: F401  (they register themselves)

    group = typer.main.get_command(app)
    flags: dict[str, list[str]] = {}
    for name, short in SHORT.items():
        command: Any = group
        for word in name.split():
            command = command.commands[word]
        every = (flag for each in command.params for flag in each.opts if flag.startswith("--"))
        flags[name] = [flag for flag in every if flag not in short]

    def run(words: list[str], folder: Path) -> None:
        out, err = io.StringIO(), io.StringIO()
        name = next(name for name in SHORT if words[: len(name.split())] == name.split())
        end = len(name.split())
        before, sys.argv = sys.argv, ["singdiffusion", *words[:end], *SHORT[name], *words[end:]]
        status: Any = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
        except SystemExit as ended:
            status = ended.code
        finally:
            sys.argv = before
        printed = err.getvalue()
        assert "error: unexpected" not in printed, _traceback(printed)
        assert "Traceback" not in printed, printed[-2000:]
        assert "\x1b" not in printed + out.getvalue()
        assert status in (0, 1, 2), status
        if status:
            (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
            raise SingDiffusionError(line)

    yield Target("command line", command_lines(flags), run)


def _traceback(line: str) -> str:
    """Return the traceback that a line names."""
    name = line.partition("the traceback is in ")[2].partition(" ")[0]
    return Path(name).read_text() if os.path.exists(name) else line
