"""A step's pictures and noise depend only on seed and step, not on the number of processes or the size of micro-batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from singdiffusion.data.shards import LatentDataset, Plan
from singdiffusion.train.batches import MicroBatches, caption_counts, drawn_captions, drops, noises

from .world import encoded

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


@pytest.fixture
def captioned(pipe, tmp_path):
    """Forty-eight pictures, each with three captions."""
    return LatentDataset(encoded(pipe, tmp_path / "captioned", words=("a", "b", "c")) / "shards")


def test_each_epoch_draws_one_of_a_pictures_captions(captioned):
    """The same one whatever the processes and micro-batches, and whichever step is computed first."""
    plan = Plan(captioned, 8, seed=2)
    each: dict[int, list[set[tuple]]] = {}
    for epoch in range(12):
        seen: dict[int, set[tuple]] = {}
        for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            (whole,) = parts(plan, 1, 8, step)
            shared = parts(Plan(captioned, 8, seed=2), 2, 2, step)
            assert torch.equal(torch.cat([b.ids[0] for b in shared]), whole.ids[0])
            for row, ids in zip(whole.rows.tolist(), whole.ids[0].tolist(), strict=True):
                if any(ids):  # not dropped
                    seen.setdefault(row, set()).add(tuple(ids))
        for row, captions in seen.items():
            assert len(captions) == 1, "a picture has one caption in an epoch"
            each.setdefault(row, []).append(captions.pop())
    own = {
        row: {tuple(captioned.read(np.array([row]), np.array([j]))[1][0][0].tolist()) for j in range(3)}
        for row in range(len(captioned))
    }
    assert all(set(found) <= own[row] and len(own[row]) == 3 for row, found in each.items())
    assert np.mean([len(set(found)) for found in each.values()]) > 2.8, "over the epochs all of them"
    assert [b.ids[0].tolist() for b in parts(plan, 1, 8, 3, seed=1)] != [
        b.ids[0].tolist() for b in parts(plan, 1, 8, 3, seed=5)
    ]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 10**6),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=9, unique=True),
)
def test_the_caption_of_a_picture_is_a_function_of_seed_epoch_and_picture(seed, epoch, rows):
    counts = np.array([1 + row % 7 for row in rows])
    found = drawn_captions(seed, epoch, np.array(rows), counts)
    assert ((found >= 0) & (found < counts)).all()
    for i, row in enumerate(rows):
        assert drawn_captions(seed, epoch, np.array([row]), counts[[i]]) == found[i]


def test_captions_are_drawn_uniformly_and_independently():
    rows = np.arange(100_000)
    counts = np.full(len(rows), 5)
    first, second, other = (
        drawn_captions(3, 0, rows, counts),
        drawn_captions(3, 1, rows, counts),
        drawn_captions(4, 0, rows, counts),
    )
    spread = (0.2 * 0.8 / len(rows)) ** 0.5
    for a, b in ((first, second), (first, other), (first[:-1], first[1:])):
        assert np.mean(a == b) == pytest.approx(0.2, abs=5 * spread)
    assert np.bincount(first) / len(rows) == pytest.approx([0.2] * 5, abs=5 * spread)


def test_the_draw_of_captions_is_the_same_in_every_version():
    """SplitMix64, by hand: a run resumes with the captions that it began with."""

    def mixed(state):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    assert mixed(0) == 0xE220A8397B1DCDAF  # the first output of the seed 0, as published
    for seed, epoch, row, count in ((0, 0, 0, 5), (7, 3, 12, 3), (2**32 - 1, 10**6, 2**40, 1000)):
        bits = mixed(mixed(mixed(seed << 32 | 3) ^ epoch) ^ row)
        assert drawn_captions(seed, epoch, np.array([row]), np.array([count])).tolist() == [
            int((bits >> 11) / 2**53 * count)
        ]
