"""A step's pictures and noise depend only on seed and step, not on the number of processes or the size of micro-batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singdiffusion.data.shards import LatentDataset, Plan
from singdiffusion.train.batches import MicroBatches, caption_counts, drops, noises

EMPTY = [torch.zeros(16, dtype=torch.int64)]


def parts(plan, world, micro, step, seed=1, **options):
    """Return all micro-batches of a step, over all processes, in order."""
    accumulate = plan.batch // world // micro
    found = []
    for rank in range(world):
        batches = MicroBatches(plan, seed, 0.3, EMPTY, micro, accumulate, rank, with_noise=True, **options)
        found += [batches[step * accumulate + i] for i in range(accumulate)]
    return found


@pytest.mark.parametrize(("processes", "micro"), [(1, 2), (1, 4), (2, 4), (2, 1), (4, 2), (8, 1)])
def test_shares_make_up_the_step(world, processes, micro):
    plan = Plan(LatentDataset(world / "shards"), 8, seed=2)
    for step in (0, 5):
        (whole,) = parts(plan, 1, 8, step)
        found = parts(plan, processes, micro, step)
        assert np.array_equal(np.concatenate([b.rows for b in found]), whole.rows)
        assert torch.equal(torch.cat([b.y for b in found]), whole.y)
        assert torch.equal(torch.cat([b.ids[0] for b in found]), whole.ids[0])
        assert torch.equal(torch.cat([b.x_1 for b in found]), whole.x_1)


def test_steps_and_seeds_differ(world):
    plan = Plan(LatentDataset(world / "shards"), 8, seed=2)
    (first,), (second,), (other,) = parts(plan, 1, 8, 0), parts(plan, 1, 8, 1), parts(plan, 1, 8, 0, seed=9)
    assert not torch.equal(first.x_1, second.x_1)
    assert not torch.equal(first.x_1, other.x_1)
    assert len({tuple(row.flatten().tolist()) for row in first.x_1}) == 8


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 10**6), st.integers(0, 5), st.integers(1, 6))
def test_noise_of_a_place_is_always_the_same(seed, step, start, count):
    found = noises((3, 4), seed, step, range(start, start + count))
    assert found.dtype == torch.float32
    assert torch.equal(found[-1:], noises((3, 4), seed, step, range(start + count - 1, start + count)))


def test_noise_is_normal():
    found = noises((1000,), 5, 7, range(200))
    assert abs(float(found.mean())) < 0.01
    assert float(found.std()) == pytest.approx(1, abs=0.01)
    assert abs(float((found[:-1] * found[1:]).mean())) < 0.01, "the noise of two places is independent"


def test_dropout_empties_the_configured_share_of_captions(world):
    assert np.mean([drops(0, step, 64, 0.1) for step in range(500)]) == pytest.approx(0.1, abs=0.005)
    assert not drops(0, 1, 64, 0.0).any()
    assert drops(0, 1, 64, 1.0).all()
    plan = Plan(LatentDataset(world / "shards"), 8, seed=2)
    (batch,) = parts(plan, 1, 8, 0)
    gone = drops(1, 0, 8, 0.3)
    assert torch.equal((batch.ids[0] == 0).all(1), torch.from_numpy(gone))


def test_captions_are_counted(world):
    counts = caption_counts(LatentDataset(world / "shards"), 100)
    assert sorted(counts.values()) == [9, 9, 10, 10, 10]
    assert caption_counts(LatentDataset(world / "shards"), 4) is None
