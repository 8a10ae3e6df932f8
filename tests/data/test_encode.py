"""Encoding with real files and real processes: latents are those of diffusers, and every picture left out is recorded."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from singdiffusion import SingDiffusionError, memory
from singdiffusion.compat import release
from singdiffusion.core.dct import low_frequencies
from singdiffusion.data import encode, pictures, sources
from singdiffusion.data.base import Base
from singdiffusion.data.budget import Budget
from singdiffusion.data.manifest import STATISTICS, read_metadata, write_manifest
from singdiffusion.errors import visible

from ..commands import ENV, cli, refused, start, together
from ..plugin import zoo
from . import corpus


@pytest.fixture
def base(pipe):
    return Base.of(pipe, "random")


@pytest.fixture
def model(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def good_folder(folder, count, size=(20, 16)):
    folder.mkdir(parents=True)
    for i in range(count):
        corpus.picture(i, size).save(folder / f"{i:03d}.png")
        (folder / f"{i:03d}.txt").write_text(f"picture {i}")
    return folder


def run(source, out, base, size=16, **options):
    encode.encode(source, out, base, encode.Options(size, **options), batch=3)
    return write_manifest(source, out)


def test_latents_and_tokens_are_the_bases(base, pipe, tmp_path):
    source = sources.open_source(str(good_folder(tmp_path / "in", 7)), unit_size=4)
    (tmp_path / "out").mkdir()
    manifest = run(source, tmp_path / "out", base)
    assert manifest["count"] == 7
    assert [shard["count"] for shard in manifest["shards"]] == [4, 3]
    stored = load_file(tmp_path / "out" / "shard-00001.safetensors")
    for row, i in enumerate(range(4, 7)):
        cropped = np.asarray(corpus.picture(i, (20, 16)))[:, 2:18]  # the middle 16 of 20 columns, nothing to scale
        x = torch.from_numpy(cropped.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            expected = pipe.vae.encode(x).latent_dist.mean * pipe.vae.config.scaling_factor
        torch.testing.assert_close(stored["latents.16x16"][row : row + 1], expected.half(), rtol=2e-3, atol=2e-4)
        ids = pipe.tokenizer(f"picture {i}", padding="max_length", max_length=16, truncation=True).input_ids
        assert stored["tokens.16x16"][row].tolist() == ids
        mean_luma = float((cropped @ np.array([0.299, 0.587, 0.114])).mean())
        assert float(stored["luma.16x16"][row]) == pytest.approx(mean_luma, abs=1e-3)
    assert manifest["base"]["vae_scaling_factor"] == pipe.vae.config.scaling_factor


def test_the_manifests_statistics_are_those_of_the_latents(base, tmp_path):
    source = sources.open_source(str(good_folder(tmp_path / "in", 9)), unit_size=4)
    (tmp_path / "out").mkdir()
    manifest = run(source, tmp_path / "out", base)
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    latents = torch.cat([load_file(file)["latents.16x16"].double() for file in files])
    low = low_frequencies(latents, STATISTICS)
    torch.testing.assert_close(torch.tensor(manifest["low_frequency_mean"]).double(), low.mean(0), rtol=0, atol=2e-3)
    variance = torch.tensor(manifest["low_frequency_variance"]).double()
    torch.testing.assert_close(variance, low.var(0, correction=0), rtol=2e-2, atol=1e-4)
    covariance = torch.tensor(manifest["low_frequency_covariance"]).double()
    torch.testing.assert_close(covariance.diagonal(dim1=-2, dim2=-1).permute(2, 0, 1), variance, rtol=1e-4, atol=1e-6)
    expected = torch.stack([torch.cov(low[..., h, w].T, correction=0) for h in range(4) for w in range(4)])
    torch.testing.assert_close(covariance.flatten(0, 1), expected, rtol=2e-2, atol=2e-3)


def test_a_byte_order_mark_costs_no_token(base, tmp_path):
    """The same token ids, and so the same embedding, as without invisible characters."""
    folder = good_folder(tmp_path / "in", 3)
    for i, text in enumerate(("a red room", "\ufeffa red room", "\u200ba red room\u200d\ufeff")):
        (folder / f"{i:03d}.txt").write_text(text)
    (tmp_path / "out").mkdir()
    run(sources.open_source(str(folder)), tmp_path / "out", base)
    ids = load_file(tmp_path / "out" / "shard-00000.safetensors")["tokens.16x16"]
    assert torch.equal(ids[0], base.tokens(["a red room"])[0][0])
    assert torch.equal(ids, ids[:1].expand(3, -1))


def test_low_frequencies_instead_of_latents(base, tmp_path):
    source = sources.open_source(str(good_folder(tmp_path / "in", 3)))
    for name, options in (("full", {}), ("low", {"low_frequency": 3})):
        (tmp_path / name).mkdir()
        run(source, tmp_path / name, base, **options)
    full = load_file(tmp_path / "full" / "shard-00000.safetensors")["latents.16x16"]
    low = load_file(tmp_path / "low" / "shard-00000.safetensors")["latents.16x16"]
    assert low.shape == (3, 4, 3, 3)
    torch.testing.assert_close(low.float(), low_frequencies(full.float(), 3), rtol=0, atol=5e-3)


def test_buckets_keep_the_aspect(base, tmp_path):
    folder = good_folder(tmp_path / "in", 3, (48, 24))
    corpus.picture(7, (24, 48)).save(folder / "tall.png")
    (folder / "tall.txt").write_text("tall")
    (tmp_path / "out").mkdir()
    manifest = run(sources.open_source(str(folder)), tmp_path / "out", base, size=32, buckets=True)
    groups = manifest["shards"][0]["groups"]
    assert sum(groups.values()) == 4
    shapes = [tuple(map(int, name.split("x"))) for name in groups]
    assert {h < w for h, w in shapes} == {True, False}


@settings(deadline=None)
@given(st.integers(8, 1024))
def test_buckets_have_about_the_same_area(size):
    size -= size % 8
    for height, width in pictures.buckets(size):
        assert 0.5 <= width / height <= 2
        assert height * width == pytest.approx(size * size, rel=0.35)
        step = min(64, max(8, size // 4))
        assert height % step == width % step == 0


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([(8, 8), (16, 24), (32, 8)]))
def test_fit_returns_the_wanted_size(width, height, target):
    assert pictures.fit(corpus.picture(0, (width, height)), *target).shape == (*target, 3)


def test_every_kind_of_damage_is_recorded_and_none_is_fatal(base, tmp_path):
    """286 files: each is kept, kept with a note, or skipped for the right reason."""
    expected = corpus.write(tmp_path / "in", 13)
    assert len(expected) >= 200
    source = sources.open_source(str(tmp_path / "in"), unit_size=50)
    (tmp_path / "out").mkdir()
    manifest = run(source, tmp_path / "out", base)
    lines = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    recorded = {(line["key"], "skipped" if "skipped" in line else "note"): line for line in lines}
    kept = set()
    for file in (tmp_path / "out").glob("*.safetensors"):
        for keys in read_metadata(file)["keys"].values():
            kept |= set(keys)
    for name, fate in expected.items():
        if fate.startswith("kept"):
            assert name in kept, (name, recorded.get((name, "skipped")))
            note = fate.partition(": ")[2]
            assert recorded.get((name, "note"), {}).get("note", "") == note, name
        else:
            assert name not in kept
            assert recorded[name, "skipped"]["skipped"].startswith(fate), name
    assert manifest["count"] == len(kept)
    assert manifest["count"] + sum(manifest["skipped"].values()) == len(expected)


def test_captions_in_metadata_files(base, tmp_path):
    for name, text in (
        ("jsonl", '{"file_name": "000.png", "text": "one"}\n{"file_name": "001.png", "text": "two"}\n{"file_name": "x.png", "text": "x"}\n'),
        ("csv", "file_name,caption\n000.png,one\n001.png,two\nx.png,x\n"),
    ):  # fmt: skip
        folder = good_folder(tmp_path / name, 3)
        (folder / f"metadata.{name}").write_text(text)
        found = list(sources.open_source(str(folder)).items("00000"))
        captions = [item.captions[0] for item in found if isinstance(item, sources.Item)]
        assert captions == ["one", "two", "picture 2"], "a picture that the metadata leaves out has its own file"
        assert sources.Skipped("x.png", "is named in the metadata but does not exist") in found


def shard(file, rows):
    from webdataset import TarWriter

    with TarWriter(str(file)) as writer:
        for row in rows:
            writer.write(row)
    return file


def rows(start, count):
    return [
        {"__key__": f"{i:06d}", "png": corpus.picture(i), "txt": f"picture {i}"} for i in range(start, start + count)
    ]


def test_shards_as_img2dataset_writes_them(base, tmp_path):
    (tmp_path / "in").mkdir()
    shard(tmp_path / "in" / "00000.tar", rows(0, 4))
    with_json = {"__key__": "j", "png": corpus.picture(9), "json": {"caption": "from json"}}
    shard(tmp_path / "in" / "00001.tar", [with_json, {"__key__": "alone", "txt": "no picture"}])
    for name in (str(tmp_path / "in"), str(tmp_path / "in" / "{00000..00001}.tar")):
        source = sources.open_source(name)
        assert source.units() == ["00000", "00001"]
        found = [item for unit in source.units() for item in source.items(unit)]
        assert [i.captions[0] for i in found[:5]] == [*(f"picture {i}" for i in range(4)), "from json"]
        assert found[5] == sources.Skipped("alone", "has no picture: it has .txt")
    with pytest.raises(SingDiffusionError, match=r"shard .*00002.tar does not exist \(1 of 3 are missing\)"):
        sources.open_source(str(tmp_path / "in" / "{00000..00002}.tar"))


def test_the_readable_part_of_a_damaged_archive_is_encoded(base, tmp_path):
    (tmp_path / "in").mkdir()
    whole = shard(tmp_path / "in" / "00000.tar", rows(0, 8))
    data = whole.read_bytes()
    for part in (0.0, 0.3, 0.5, 0.77):
        whole.write_bytes(data[: int(part * len(data))])
        (tmp_path / f"out{part}").mkdir()
        manifest = run(sources.open_source(str(tmp_path / "in")), tmp_path / f"out{part}", base)
        assert sum(manifest["skipped"].values()) == 1, part
        assert "the shard is damaged" in next(iter(manifest["skipped"]))
        assert 8 * part - 2 <= manifest["count"] <= 8 * part
    assert tarfile.is_tarfile(whole)


def test_a_hugging_face_data_set(base, tmp_path):
    from datasets import Dataset, DatasetDict
    from datasets import Image as Column

    stored = [{"bytes": corpus.encoded(corpus.picture(i)), "path": None} for i in range(5)]
    made = Dataset.from_dict({"image": stored, "text": [f"picture {i}" for i in range(4)] + [None]})
    made = made.cast_column("image", Column())
    made.save_to_disk(str(tmp_path / "one"))
    DatasetDict({"train": made}).save_to_disk(str(tmp_path / "many"))
    for name in ("one", "many"):
        source = sources.open_source(str(tmp_path / name), unit_size=2)
        found = [item for unit in source.units() for item in source.items(unit)]
        assert [i.captions[0] for i in found[:4]] == [f"picture {i}" for i in range(4)]
        assert found[4] == sources.Skipped("row 4", "has no caption")
        (tmp_path / f"out-{name}").mkdir()
        assert run(source, tmp_path / f"out-{name}", base)["count"] == 4
        # the private `_fingerprint` behind it: the same for the same rows, another one for others
        (first, *_), again = source.units(), sources.open_source(str(tmp_path / name), unit_size=2)
        assert source.digest(first) == again.digest(first)
    made.select(range(4)).save_to_disk(str(tmp_path / "fewer"))
    fewer = sources.open_source(str(tmp_path / "fewer"), unit_size=2)
    assert fewer.digest(first) != source.digest(first)
    with pytest.raises(SingDiffusionError, match="has no split 'test'; it has train"):
        sources.open_source(str(tmp_path / "many"), split="test")
    made.rename_column("text", "words").save_to_disk(str(tmp_path / "odd"))
    with pytest.raises(SingDiffusionError, match="needs a column of pictures .* it has image, words"):
        sources.open_source(str(tmp_path / "odd"))


def shards_of(folder):
    return {file.name: file.read_bytes() for file in Path(folder).glob("shard-*.safetensors")}


def test_units_done_by_several_processes_are_the_same(base, tmp_path):
    source = sources.open_source(str(good_folder(tmp_path / "in", 11)), unit_size=2)
    for name, world in (("one", 1), ("three", 3)):
        (tmp_path / name).mkdir()
        for rank in range(world):
            encode.encode(source, tmp_path / name, base, encode.Options(16), batch=3, rank=rank, world=world)
    assert shards_of(tmp_path / "one") == shards_of(tmp_path / "three")
    (tmp_path / "three" / "shard-00002.safetensors").unlink()
    with pytest.raises(
        SingDiffusionError, match="1 shards are missing or out of date, among them shard-00002.safetensors"
    ):
        write_manifest(source, tmp_path / "three")


def test_other_options_or_another_base_are_refused(base, make_pipe, tmp_path):
    source = sources.open_source(str(good_folder(tmp_path / "in", 2)))
    (tmp_path / "out").mkdir()
    run(source, tmp_path / "out", base)
    with pytest.raises(SingDiffusionError, match="holds shards of another option: size 16, not 24"):
        run(source, tmp_path / "out", base, size=24)
    other = Base.of(make_pipe(seed=5), "random")
    with pytest.raises(SingDiffusionError, match="holds shards of another base: vae_fingerprint"):
        run(source, tmp_path / "out", other)


def test_rounding_does_not_make_another_base(base, tmp_path):
    """In bfloat16, as on another device, the fingerprints differ a little."""
    source = sources.open_source(str(good_folder(tmp_path / "in", 4)), unit_size=2)
    (tmp_path / "out").mkdir()
    before = base.identity()
    encode.encode(source, tmp_path / "out", base, encode.Options(16), world=2)
    base.vae.bfloat16()
    base.text_encoders[0].bfloat16()
    after = base.identity()
    assert all(before[key] != after[key] for key in ("vae_fingerprint", "text_fingerprint"))
    assert run(source, tmp_path / "out", base)["count"] == 4


def test_a_damaged_shard_is_named(base, tmp_path):
    source = sources.open_source(str(good_folder(tmp_path / "in", 2)))
    (tmp_path / "out").mkdir()
    run(source, tmp_path / "out", base)
    file = tmp_path / "out" / "shard-00000.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(SingDiffusionError, match=r"shard-00000.safetensors cannot be used: Error while deserializing"):
        write_manifest(source, tmp_path / "out")


def test_a_shard_without_its_statistics_is_refused(base, tmp_path):
    source = sources.open_source(str(good_folder(tmp_path / "in", 2)))
    (tmp_path / "out").mkdir()
    run(source, tmp_path / "out", base)
    file = tmp_path / "out" / "shard-00000.safetensors"
    metadata = read_metadata(file)
    del metadata["products"]
    save_file(load_file(file), file, {"singdiffusion": json.dumps(metadata)})
    with pytest.raises(
        SingDiffusionError, match=r"shard-00000.safetensors cannot be used: its metadata: products is missing"
    ):
        write_manifest(source, tmp_path / "out")


def test_a_second_process_that_would_disturb_the_first_is_refused(tmp_path):
    """Shares of the same number do not disturb each other."""
    with encode.alone(tmp_path, 0, 2), encode.alone(tmp_path, 1, 2):
        for share in ((0, 2), (0, 1), (2, 3)):
            with pytest.raises(SingDiffusionError, match=f"is in use by process {os.getpid()} on"):
                encode.alone(tmp_path, *share).__enter__()
    with encode.alone(tmp_path):
        pass


def test_pictures_in_flight_are_bounded_by_the_memory():
    budget, held, most = Budget(100), [], []

    def work(number):
        with budget.taken(40):
            held.append(number)
            most.append(len(held))
            time.sleep(0.002)
            held.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(30)))
    assert max(most) == 2
    item = sources.Item("a", io.BytesIO(corpus.bomb(4000, 4000)), ("a",))
    assert encode._read(item, encode.Options(16), [(16, 16)], Budget(2**28)) == (
        "is too large for the memory: 4000 x 4000 needs about 0.36 GiB, and pictures may take 0.25"
    )
    read = []
    items = [sources.Item(str(i), io.BytesIO(bytes(60)), ("a",)) for i in range(5)]
    for item, _ in encode._ahead((read.append(item) or item for item in items), lambda item: item, 2, 10, 100):
        assert len(read) <= int(item.key) + 2, "two files of 60 bytes are more than 100"


def test_a_batch_larger_than_the_memory_is_refused_before_it_is_encoded(base, tmp_path, monkeypatch):
    source = sources.open_source(str(good_folder(tmp_path / "in", 3)))
    monkeypatch.setattr(memory, "free_memory", lambda: 30_000)
    with pytest.raises(SingDiffusionError, match="encoding 3 pictures of 16 x 16 pixels at once needs about") as error:
        run(source, tmp_path, base)
    assert error.value.setting == "batch"


def test_what_skipped_jsonl_holds_is_shown_and_not_obeyed(base, tmp_path):
    """Bytes that are not UTF-8, terminal escapes and marks of direction in names; letters of any script stay."""
    folder = good_folder(tmp_path / "in", 1)
    for name in (b"\xff.png", b"\x1b[31m.png", "\x9b2J.png".encode(), "\u202e.png".encode(), "\u732b.png".encode()):
        with open(os.path.join(os.fsencode(folder), name), "wb") as opened:
            opened.write(b"")
    (tmp_path / "out").mkdir()
    run(sources.open_source(str(folder)), tmp_path / "out", base)
    content = (tmp_path / "out" / "skipped.jsonl").read_text("utf-8")
    assert visible(content) == content
    assert "\u732b.png" in content
    keys = {json.loads(line)["key"] for line in content.splitlines()}
    assert keys == {"\udcff.png", "\x1b[31m.png", "\x9b2J.png", "\u202e.png", "\u732b.png"}


def test_the_command_resumes_after_it_was_killed(model, tmp_path):
    source = good_folder(tmp_path / "in", 40)
    common = (source, "--base", model, "--size", 16, "--unit-size", 1)
    cli("encode", *common[:1], tmp_path / "whole", *common[1:])
    process = start("encode", *common[:1], tmp_path / "out", *common[1:])
    deadline = time.monotonic() + 90
    while len(shards_of(tmp_path / "out")) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    printed, _ = cli("encode", *common[:1], tmp_path / "out", *common[1:], "--json", tmp_path / "f.json")
    assert "40 pictures in 40 shards" in printed
    assert shards_of(tmp_path / "out") == shards_of(tmp_path / "whole")
    assert (tmp_path / "out" / "manifest.json").read_text() == (tmp_path / "whole" / "manifest.json").read_text()
    assert json.loads((tmp_path / "f.json").read_text())["count"] == 40


def test_two_processes_as_accelerate_starts_them(model, tmp_path):
    source = good_folder(tmp_path / "in", 6)
    args = (source, tmp_path / "out", "--base", model, "--size", 16, "--unit-size", 2)
    both = [start("encode", *args, RANK=str(rank), WORLD_SIZE="2") for rank in range(2)]
    printed = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert any("6 pictures in 3 shards" in out for out, _ in printed)


def test_the_command_prints_the_counts_of_what_it_wrote(model, tmp_path):
    """By default on any device; notes on pictures that are used are not counted as skipped."""
    expected = corpus.write(tmp_path / "in", 1)
    printed, _ = cli("encode", tmp_path / "in", tmp_path / "out", "--base", model, "--size", 16)
    lines = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    skipped, noted = (sum(kind in line for line in lines) for kind in ("skipped", "note"))
    kept = len(expected) - skipped
    notes = f"{noted} notes on pictures that are used"
    assert f"{kept} pictures in 1 shard in {tmp_path / 'out'}; {skipped} skipped, {notes} (skipped.jsonl)" in printed
    assert kept == sum(fate.startswith("kept") for fate in expected.values())
    assert noted == sum(fate.startswith("kept: ") for fate in expected.values())


def test_the_command_counts_captions_and_names_what_it_did_not_read(model, tmp_path):
    folder = good_folder(tmp_path / "in", 2)
    rows = [{"file_name": f"{i:03d}.png", "text": f"caption {j}"} for i in range(2) for j in range(3)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "phone.heic").write_bytes(b"x")
    out = tmp_path / "out"
    printed, err = cli("encode", folder, out, "--base", model, "--size", 16, "--json", tmp_path / "f.json")
    assert f"2 pictures with 6 captions in 1 shard in {out}; 1 skipped, 2 notes on pictures that are used" in printed
    reason = "is of a format that Pillow cannot open here (.heic)"
    assert f"skipped 1: {reason}" in err
    assert json.loads((tmp_path / "f.json").read_text()) == {
        "count": 2,
        "captions": 6,
        "skipped": {reason: 1},
        "notes": {"one of several places of captions used": 2},
    }
    lines = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert {"phone.heic": f"{reason}: convert it to .png or .jpg"}.items() <= {
        line["key"]: line.get("skipped") for line in lines
    }.items()


def test_the_size_is_the_bases_own_or_must_be_given(model, tokenizer, tmp_path):
    source = good_folder(tmp_path / "in", 2, (40, 40))
    pipe = zoo.build("PixArtAlphaPipeline", tokenizer)[0]
    pipe.save_pretrained(tmp_path / "base")
    cli("encode", source, tmp_path / "out", "--base", tmp_path / "base", "--smallest", 8)
    side = pipe.transformer.config.sample_size * Base.of(pipe, "base").scale
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["options"]["size"] == side
    file = model / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": None}))
    refused(
        "encode",
        source,
        tmp_path / "new",
        "--base",
        model,
        match="does not name the size of its pictures; give one in pixels (--size)"
        if release("diffusers") >= (0, 32)
        else "cannot be read",  # before, a Stable Diffusion without a size was an error of diffusers
    )


def test_bad_input_is_one_line(model, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    source = good_folder(tmp_path / "in", 2)
    text = tmp_path / "text.csv"
    text.write_text("x")
    broken = good_folder(tmp_path / "broken", 1)
    (broken / "metadata.jsonl").write_text("{no json\n")
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.png").write_bytes(b"")
    cases = (
        ((empty, tmp_path / "o1", "--base", model), "holds no pictures"),
        ((text, tmp_path / "o2", "--base", model), "is a file; a source is a folder"),
        ((source, text, "--base", model), "cannot write into the folder"),
        ((source, tmp_path / "o3", "--base", tmp_path / "none"), "there is no model"),
        ((source, tmp_path / "o4", "--base", model, "--size", 17), "the size must be a multiple of 2"),
        ((source, tmp_path / "o5", "--base", model, "--size", 16, "--low-frequency", 60), "is too many"),
        (
            (broken, tmp_path / "o6", "--base", model),
            "metadata.jsonl has no row that can be used: of line 1, its row cannot be read as JSON",
        ),
        ((source, source / "inside", "--base", model), "lies in the source; name a folder outside it"),
        ((bad, tmp_path / "o7", "--base", model, "--size", 16), "no picture of"),
    )
    found = together(*(("encode", *args) for args, _ in cases))
    for (_, match), (status, err) in zip(cases, found, strict=True):
        assert status == 1
        assert err.strip().splitlines()[-1].startswith("error: "), err
        assert match in err.strip().splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_full_disk_is_one_line_and_leaves_no_partial_file(model, tmp_path):
    """A limit on the size of files stands for the full disk: the write fails with an OSError at the same place."""
    source = good_folder(tmp_path / "in", 30)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000));"
        "sys.argv = ['singdiffusion', *sys.argv[1:]]; from singdiffusion.cli import main; main()"
    )
    args = ["encode", source, tmp_path / "out", "--base", model, "--size", 64, "--smallest", 1]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, env=ENV, timeout=120
    )
    assert done.returncode == 1, done.stderr[-500:]
    assert "error: cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert not shards_of(tmp_path / "out")
    assert not [file for file in (tmp_path / "out").iterdir() if "partial" in file.name]
    cli(*args)
    assert len(shards_of(tmp_path / "out")) == 1


def test_pictures_are_upright(tmp_path):
    """EXIF orientation 6: the camera was turned by 90 degrees."""
    image = Image.new("RGB", (20, 10), "white")
    image.paste((0, 0, 0), (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright, _ = pictures.load(tmp_path / "a.jpg", 1)
    assert upright.size == (10, 20)
    assert np.asarray(upright)[:8].mean() < 10 < 240 < np.asarray(upright)[12:].mean()


def test_a_large_jpeg_is_decoded_small_but_never_too_small(tmp_path):
    corpus.picture(0, (1600, 1200)).save(tmp_path / "a.jpg")
    whole, _ = pictures.load(tmp_path / "a.jpg", 1)
    assert whole.size == (1600, 1200)
    small, _ = pictures.load(tmp_path / "a.jpg", 1, enough=128)
    assert small.size == (400, 300), "an eighth would be 150 high, less than twice 128"


def test_only_what_changed_in_the_source_is_encoded_again(base, tmp_path):
    folder = good_folder(tmp_path / "in", 6)
    (folder / "001.txt").unlink()
    (tmp_path / "out").mkdir()
    again = lambda: run(sources.open_source(str(folder), unit_size=2), tmp_path / "out", base)  # noqa: E731
    assert again()["count"] == 5
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("shard-*")}
    (folder / "001.txt").write_text("now it has one")
    corpus.picture(9, (20, 16)).save(folder / "006.png")
    (folder / "006.txt").write_text("new")
    manifest = again()
    assert manifest["count"] == 7
    assert manifest["skipped"] == {}
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("shard-*")}
    assert {name for name in after if after[name] != before.get(name)} == {
        "shard-00000.safetensors",
        "shard-00003.safetensors",
    }
    other = sources.open_source(str(good_folder(tmp_path / "other", 2)), unit_size=2)
    with pytest.raises(SingDiffusionError, match="1 shards are missing or out of date"):
        write_manifest(other, tmp_path / "out")
    assert run(other, tmp_path / "out", base)["count"] == 2


def test_metadata_as_spreadsheets_and_scrapers_write_it(tmp_path):
    """A byte order mark, a caption over two lines, and U+2028 and U+0085 within one; none of them ends a row."""
    odd = "one\u2028two\x85three"
    for name, text in (
        (
            "jsonl",
            f'\ufeff{{"file_name": "000.png", "text": "{odd}"}}\r\n{{"file_name": "001.png", "text": "two"}}\r\n',
        ),
        ("csv", f'\ufefffile_name,text\r\n000.png,{odd}\r\n001.png,"tw\no"\r\n'),
    ):
        folder = good_folder(tmp_path / name, 2)
        (folder / f"metadata.{name}").write_bytes(text.encode())
        captions = [item.captions[0] for item in sources.open_source(str(folder)).items("00000")]
        assert captions == ["one two three", "two" if name == "jsonl" else "tw o"]
    (folder / "metadata.csv").write_text(f"file_name,text\n000.png,one\n001.png,{'x' * 200_000}\n")
    first, _, *others = sources.open_source(str(folder)).items("00000")
    assert first.captions == ("one",)
    assert others == [
        sources.Skipped("metadata.csv, line 3", "its row is not CSV: field larger than field limit (131072)")
    ]


def test_a_phones_picture_is_not_an_animation(tmp_path):
    """An MPO is a JPEG with a second one behind it, a preview or a depth map."""
    first, second = corpus.picture(0, (800, 600)), corpus.picture(1, (800, 600))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    with Image.open(tmp_path / "a.jpg") as opened:
        assert (opened.format, opened.n_frames) == ("MPO", 2)
    first.save(tmp_path / "b.jpg", quality=95)
    for options in ({}, {"enough": 100}):
        phone, notes = pictures.load(tmp_path / "a.jpg", 1, **options)
        plain, _ = pictures.load(tmp_path / "b.jpg", 1, **options)
        assert np.array_equal(np.asarray(phone), np.asarray(plain))
        assert notes == ()
    assert phone.size == (400, 300)


def members(file, names):
    with tarfile.open(file, "w") as archive:
        for name in names:
            data = corpus.encoded(corpus.picture(0)) if name.endswith("png") else b"a red room"
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file


def test_members_in_folders(tmp_path):
    """The key ends at the first dot of the file's name; dots of its folders, as in ./ and v1.0/, do not count."""
    keys = ["./000", "v1.0/000", "v1.0/sub/001", "002"]
    file = members(tmp_path / "a.tar", [f"{key}{suffix}" for key in keys for suffix in (".png", ".txt", ".seg.bin")])
    found = list(sources.open_source(str(file)).items("a"))
    assert [item.key for item in found] == ["000", *keys[1:]]
    assert {item.captions[0] for item in found} == {"a red room"}


def test_damage_that_tarfile_does_not_report_is_recorded(tmp_path):
    """tarfile ends without an error at a header that is cut off or damaged, and before data behind an archive's end."""
    whole = shard(tmp_path / "00000.tar", rows(0, 8)).read_bytes()
    with tarfile.open(tmp_path / "00000.tar") as archive:
        offsets = [member.offset for member in archive]
        end = archive.offset
    fifth = offsets[10]  # two members a picture
    damaged = bytearray(whole)
    damaged[fifth : fifth + 100] = b"x" * 100
    for data, count, reason in (
        (whole[:fifth], 5, "it is cut off"),
        (whole[: fifth + 200], 5, "it is cut off"),
        (whole[:end], 8, "it is cut off"),
        (bytes(damaged), 5, "a damaged header, or more behind its end"),
        (whole + whole, 8, "a damaged header, or more behind its end"),
    ):
        (tmp_path / "00000.tar").write_bytes(data)
        *good, last = sources.open_source(str(tmp_path)).items("00000")
        assert [item.captions[0] for item in good] == [f"picture {i}" for i in range(count)]
        assert last == sources.Skipped(f"00000.tar after {count - 1:06d}", f"the shard is damaged: {reason}")
    for data in (whole, whole[: end + 512], gzip.compress(whole)):
        (tmp_path / "00000.tar").write_bytes(data)
        assert len(list(sources.open_source(str(tmp_path)).items("00000"))) == 8
