"""Reading shards: every row is what was written, and the batch of a step depends only on the seed and the step."""

import functools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from singdiffusion import SingDiffusionError
from singdiffusion.data import encode, sources
from singdiffusion.data.base import Base
from singdiffusion.data.manifest import write_manifest
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
    with pytest.raises(SingDiffusionError, match="shard-00001.safetensors is not as long as the manifest states"):
        LatentDataset(folder)
    file.unlink()
    with pytest.raises(SingDiffusionError, match="shard-00001.safetensors is missing or damaged"):
        LatentDataset(folder)
