"""Reading shards: every row is what was written, and the batch of a step depends only on the seed and the step."""

import functools
import json
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from singdiffusion import SingDiffusionError
from singdiffusion.data import checks, encode, sources
from singdiffusion.data.base import Base
from singdiffusion.data.manifest import read_metadata, write_manifest
from singdiffusion.data.shards import LatentDataset, Plan

from . import corpus


@pytest.fixture
def folder(pipe, tmp_path):
    """Eleven pictures of two shapes in three shards."""
    (tmp_path / "in").mkdir()
    for i in range(11):
        corpus.picture(i, (48, 24) if i % 3 else (24, 48)).save(tmp_path / "in" / f"{i:03d}.png")
        (tmp_path / "in" / f"{i:03d}.txt").write_text(f"picture {i}")
    source = sources.open_source(str(tmp_path / "in"), unit_size=4)
    (tmp_path / "out").mkdir()
    encode.encode(source, tmp_path / "out", Base.of(pipe, "random"), encode.Options(32, buckets=True), batch=3)
    write_manifest(source, tmp_path / "out")
    return tmp_path / "out"


def test_every_row_is_what_was_written(folder):
    data = LatentDataset(folder)
    assert len(data) == 11
    assert len(data.groups) == 2
    stored = [load_file(file) for file in sorted(folder.glob("shard-*.safetensors"))]
    seen = set()
    for row in range(len(data)):
        name, shard, i = data.place(row)
        latents, ids = data.read(np.array([row]))
        assert torch.equal(latents[0], stored[shard][f"latents.{name}"][i].float())
        assert torch.equal(ids[0][0], stored[shard][f"tokens.{name}"][i].long())
        assert data.group_of(row) == name
        seen.add((name, shard, i))
    assert len(seen) == 11
    latents, _ = data.read(np.arange(data.starts[0], data.starts[1]))
    assert len(latents) == data.starts[1]
    keys = data.keys(np.arange(11))
    assert sorted(key.split(": ")[1] for key in keys) == [f"{i:03d}.png" for i in range(11)]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 9), st.integers(0, 5), st.integers(0, 99))
def test_an_epoch_shows_every_picture_once_and_fills_up(sizes, batch, held_out, seed):
    class Fake:
        starts = np.cumsum([0, *sizes])

        def __len__(self):
            return sum(sizes)

    held_out = min(held_out, sum(sizes) - 1)
    plan = Plan(Fake(), batch, seed, held_out)
    batches = plan.epoch(3)
    assert len(batches) == plan.steps_per_epoch
    assert all(len(rows) == batch for rows in batches)
    shown = np.concatenate(batches)
    assert set(shown) == set(range(sum(sizes))) - set(plan.validation)
    assert len(plan.validation) == held_out
    for rows in batches:
        assert len(set(np.searchsorted(Fake.starts, rows, "right"))) == 1, "pictures of one size"
    assert len(shown) < len(set(shown)) + batch * len(sizes)


def test_the_batch_of_a_step_does_not_depend_on_earlier_steps(folder):
    data = LatentDataset(folder)
    plan, again = Plan(data, 3, seed=1), Plan(data, 3, seed=1)
    steps = list(range(3 * plan.steps_per_epoch))
    forward = [plan.rows(step).tolist() for step in steps]
    backward = [again.rows(step).tolist() for step in reversed(steps)][::-1]
    assert forward == backward
    assert forward != [Plan(data, 3, seed=2).rows(step).tolist() for step in steps]
    epochs = [forward[i * plan.steps_per_epoch : (i + 1) * plan.steps_per_epoch] for i in range(3)]
    assert epochs[0] != epochs[1]


@pytest.fixture
def captioned(pipe, tmp_path):
    """Eleven pictures of two shapes in three shards; picture i has 1 + i % 4 captions, "picture i, 0", ..."""
    (tmp_path / "many").mkdir()
    rows = []
    for i in range(11):
        corpus.picture(i, (48, 24) if i % 3 else (24, 48)).save(tmp_path / "many" / f"{i:03d}.png")
        rows += [{"file_name": f"{i:03d}.png", "text": f"picture {i}, {j}"} for j in range(1 + i % 4)]
    (tmp_path / "many" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = sources.open_source(str(tmp_path / "many"), unit_size=4)
    (tmp_path / "shards").mkdir()
    encode.encode(source, tmp_path / "shards", Base.of(pipe, "random"), encode.Options(32, buckets=True), batch=3)
    write_manifest(source, tmp_path / "shards")
    return tmp_path / "shards"


def test_every_caption_of_a_picture_is_stored_and_read(captioned, pipe):
    data, base = LatentDataset(captioned), Base.of(pipe, "random")
    assert (data.manifest["count"], data.manifest.get("captions")) == (11, sum(1 + i % 4 for i in range(11)))
    assert [shard.get("captions") for shard in data.manifest["shards"]] == [10, 10, 6]
    assert data.several_captions
    for row in range(11):
        number = int(data.keys(np.array([row]))[0].split(": ")[1][:3])
        (count,) = data.captions_of(np.array([row]))
        assert count == 1 + number % 4
        for j in range(count):
            _, (ids,) = data.read(np.array([row]), np.array([j]))
            assert torch.equal(ids, base.tokens([f"picture {number}, {j}"])[0].long())
        assert torch.equal(data.read(np.array([row]))[1][0], base.tokens([f"picture {number}, 0"])[0].long())
    rows = np.arange(data.starts[0], data.starts[1])[::-1]
    last = data.captions_of(rows) - 1
    together = data.read(rows, last)[1][0]
    one_by_one = [data.read(rows[[i]], last[[i]])[1][0] for i in range(len(rows))]
    assert torch.equal(together, torch.cat(one_by_one)), "rows of several shards, in any order"
    assert sum(len(ids) for ids in data.all_tokens()) == data.manifest.get("captions")


def test_shards_of_format_1_still_read(folder):
    """They have one caption per picture, and count none."""
    data = LatentDataset(folder)
    rows = np.arange(data.starts[0], data.starts[1])
    latents, ids = data.read(rows)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["format"], manifest["captions"]) == (2, 11)
    del manifest["captions"]
    for shard in manifest["shards"]:
        file = folder / shard["file"]
        metadata = read_metadata(file)
        del shard["captions"], metadata["captions"]
        save_file(load_file(file), file, {"singdiffusion": json.dumps(metadata)})
        shard["bytes"] = file.stat().st_size
        assert read_metadata(file)["captions"] == shard["count"]
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    old = LatentDataset(folder)
    assert not old.several_captions
    assert old.captions_of(rows).tolist() == [1] * len(rows)
    again = old.read(rows, np.zeros(len(rows), np.int64))
    assert torch.equal(again[0], latents)
    assert torch.equal(again[1][0], ids[0])
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 3}))
    with pytest.raises(SingDiffusionError, match="is of format 3, and this version of singdiffusion reads up to 2"):
        LatentDataset(folder)


def test_a_folder_of_format_1_is_encoded_again(folder, pipe, tmp_path):
    """Its pictures and captions were read by other rules."""
    settings = json.loads((folder / "encode.json").read_text())
    (folder / "encode.json").write_text(json.dumps(settings | {"format": 1}))
    file = folder / "shard-00000.safetensors"
    before = file.read_bytes()
    metadata = read_metadata(file)
    save_file(load_file(file), file, {"singdiffusion": json.dumps(metadata | {"source": "0" * 32})})
    source = sources.open_source(str(tmp_path / "in"), unit_size=4)
    encode.encode(source, folder, Base.of(pipe, "random"), encode.Options(32, buckets=True), batch=3)
    assert write_manifest(source, folder)["format"] == 2
    assert file.read_bytes() == before


def test_more_shards_than_files_may_be_open(folder):
    """Each is mapped when it is needed, and only a limited number at once."""
    data = LatentDataset(folder)
    opened = []
    real = data._mapped
    data._tensors = functools.lru_cache(1)(lambda shard: opened.append(shard) or real(shard))
    every = torch.cat([data.read(np.array([row]))[0].flatten() for row in range(11)])
    assert len(opened) > 3
    assert torch.equal(
        every, torch.cat([LatentDataset(folder).read(np.array([row]))[0].flatten() for row in range(11)])
    )


def test_another_process_maps_the_files_itself(folder):
    """The folder's name is sent there, not the pictures."""
    data = LatentDataset(folder)
    sent = pickle.dumps(data)
    assert len(sent) < 1000
    assert torch.equal(pickle.loads(sent).read(np.array([3]))[0], data.read(np.array([3]))[0])


def test_bad_input(folder, tmp_path):
    data = LatentDataset(folder)
    with pytest.raises(SingDiffusionError, match="batch must be at least 1, not 0"):
        Plan(data, 0)
    with pytest.raises(SingDiffusionError, match="held_out must leave pictures to train on, and is 11 of 11"):
        Plan(data, 2, held_out=11)
    with pytest.raises(SingDiffusionError, match="has no manifest.json: run singdiffusion encode until it is complete"):
        LatentDataset(tmp_path)
    file = folder / "shard-00001.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-7])
    with pytest.raises(
        SingDiffusionError, match="shard-00001.safetensors cannot be used: it is not as long as the manifest states"
    ):
        LatentDataset(folder)
    file.unlink()
    with pytest.raises(
        SingDiffusionError, match="shard-00001.safetensors is missing, and its manifest names it; encode again"
    ):
        LatentDataset(folder)


def test_a_shard_that_holds_something_else_is_found(folder, monkeypatch):
    """A flipped bit, a shard of zeros; also where the file's size and time are the old ones. Each shard is read once."""
    file = folder / "shard-00001.safetensors"
    content, stat = file.read_bytes(), file.stat()
    reads = []
    real = checks.sha256_of
    monkeypatch.setattr(checks, "sha256_of", lambda file: reads.append(file.name) or real(file))
    LatentDataset(folder).verify()
    LatentDataset(folder).verify()
    assert sorted(reads) == [f"shard-0000{i}.safetensors" for i in range(3)]
    header = 8 + int.from_bytes(content[:8], "little")
    flipped = bytearray(content)
    flipped[-5] ^= 1
    for bad in (bytes(flipped), content[:header] + bytes(len(content) - header)):
        file.write_bytes(bad)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        with pytest.raises(SingDiffusionError, match="shard-00001.safetensors cannot be used: its SHA-256 is not"):
            LatentDataset(folder).verify()
    file.write_bytes(content)
    reads.clear()
    LatentDataset(folder).verify()
    assert reads == ["shard-00001.safetensors"]


def test_processes_share_the_check_and_a_bad_record_counts_as_none(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = LatentDataset(folder)
    for rank in range(2):
        data.verify(rank=rank, world=2)
    record = folder / checks.RECORD
    assert len(json.loads(record.read_text())) == 3
    for content in ("", "{", "[]", '{"shard-00000.safetensors": 5}'):
        record.write_text(content)
        data.verify()
        assert len(json.loads(record.read_text())) == 3
    record.unlink()
    record.mkdir()  # a folder that cannot be written to: the record is in the user's cache
    (record / "a").write_text("not ours")
    data.verify()
    assert (record / "a").exists()
    (cached,) = (tmp_path / "cache" / "singdiffusion").iterdir()
    assert len(json.loads(cached.read_text())) == 3


def test_manifests_and_headers_that_make_no_sense(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    group = next(iter(manifest["shards"][0]["groups"]))

    def changed(**values):
        return json.dumps(manifest | {"shards": [manifest["shards"][0] | values, *manifest["shards"][1:]]})

    file = folder / "shard-00000.safetensors"
    content = file.read_bytes()
    for text, match in (
        ("[]", "must hold an object, not a list"),
        ("{}", "options is missing"),
        (json.dumps(manifest | {"format": "x"}), "must be a whole number"),
        (json.dumps(manifest | {"shards": 5}), "shards is wrong"),
        (json.dumps(manifest | {"count": 10**15}), "its count is not the sum of its shards"),
        (json.dumps(manifest | {"base": manifest["base"] | {"vae_scale": 0}}), "base.vae_scale must be at least 1"),
        (json.dumps(manifest | {"base": manifest["base"] | {"tokens": []}}), "base.tokens is wrong"),
        (json.dumps(manifest | {"base": manifest["base"] | {"latent_channels": 10**9}}), "must be at most 1024"),
        (json.dumps(manifest | {"base": manifest["base"] | {"latent_channels": 5}}), f"its latents.{group} is missing"),
        (json.dumps(manifest | {"options": manifest["options"] | {"size": "a"}}), "options.size must be a whole"),
        (changed(file="../out/shard-00000.safetensors"), "is not the plain name of a file"),
        (changed(file=str(file)), "is not the plain name of a file"),
        (changed(file="a\0b"), "is not the plain name of a file"),
        (changed(bytes=-1), "must be at least 0"),
        (changed(sha256="x"), "sha256"),
        (changed(count=10**15), "is not the sum of its groups"),
        (changed(groups={"0x0": 4}), "shards.0.groups"),
        (changed(groups={group: 10**15}, count=10**15), "its count is not the sum of its shards"),
    ):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(SingDiffusionError, match=match) as error:
            LatentDataset(folder)
        assert "\n" not in str(error.value)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    first = f"latents.{group}"
    entry = header[first]

    def shard(**values):
        new = json.dumps(header | {first: entry | values}).encode()
        return len(new).to_bytes(8, "little") + new + content[8 + length :]

    for bad, match in (
        (b"", "it is not as long"),
        (b"\xff" * len(content), "its header cannot have 18,446,744,073,709,551,615 bytes"),
        (bytes(len(content)), "its header is empty"),
        (shard(dtype="F64"), "dtype' must be"),
        (shard(shape=[10**15, *entry["shape"][1:]]), f"the bytes of {first} are not those of its shape"),
        (shard(shape=[-1]), "must be at least 1, not -1"),
        (shard(data_offsets=[0, 10**15]), f"the bytes of {first} are not those of its shape"),
        (shard(data_offsets=["x", 5]), "data_offsets"),
        (shard(shape=[1, *entry["shape"]]), f"its {first} is missing or of another shape"),
        (b"5" + content[1:], "cannot be used"),
    ):
        file.write_bytes(bad)
        sized = {"bytes": len(bad)} if bad else {}
        (folder / "manifest.json").write_text(changed(**sized))
        with pytest.raises(SingDiffusionError, match=match) as error:
            LatentDataset(folder)
        assert "shard-00000.safetensors cannot be used" in str(error.value)


def test_captions_that_are_not_rows(captioned):
    file = captioned / "shard-00000.safetensors"
    stored = load_file(file)
    name = next(name for name in stored if name.startswith("captions."))
    stored[name][1:] += 1000
    metadata = read_metadata(file)
    save_file(stored, file, {"singdiffusion": json.dumps(metadata)})
    manifest = json.loads((captioned / "manifest.json").read_text())
    manifest["shards"][0]["bytes"] = file.stat().st_size
    (captioned / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SingDiffusionError, match=f"shard-00000.safetensors cannot be used: its {name} are not rows"):
        list(LatentDataset(captioned).all_tokens())
