"""Distances against closed forms, torchmetrics' own numbers and literal definitions; in parts, in any order, by two processes.

[PR] is cited in full in ``singdiffusion.evaluate.metrics.fidelity``.
"""

import io
import json
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from singdiffusion import SingDiffusionError
from singdiffusion.evaluate.metrics.crowd import Crowd, Statistics
from singdiffusion.evaluate.metrics.fidelity import (
    FrechetDistance,
    compare,
    frechet_distance,
    kernel_distance,
    precision_recall,
)

from .clip import save_clip
from .shares import Blocks, draw


class Means(torch.nn.Module):
    """Three features: the means of the channels."""

    name, num_features, protocol = "means", 3, "not resized"

    def forward(self, pictures):
        return pictures.double().mean((2, 3))


def by_hand(one, two):
    one, two = (Means()(pictures).numpy() for pictures in (one, two))
    s, t = np.cov(one.T), np.cov(two.T)
    return ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)


def seen(pictures, extractor=None, parts=7, **options):
    crowd = Crowd(extractor or Blocks(), **options)
    for part in pictures.split(parts):
        crowd.see(part)
    return crowd.statistics()


# -- the Fréchet distance ---------------------------------------------------------------------------------------------


def test_the_distance_is_that_of_two_normal_distributions():
    real, generated = draw(50, 0, 200, 0), draw(40, 50, 256, 1)
    distance = FrechetDistance(real, Means())
    assert distance(generated) == pytest.approx(by_hand(real, generated), rel=1e-6)
    other = draw(40, 0, 30, 2)
    assert distance(other) == pytest.approx(by_hand(real, other), rel=1e-6), (
        "real pictures are kept, generated ones are not"
    )
    assert distance(real) == pytest.approx(0, abs=1e-6)


dims = st.integers(1, 5)
numbers = st.floats(-10, 10)


@given(st.data(), dims)
def test_diagonal_covariances_have_a_closed_form(data, d):
    """|m - n|^2 + sum_i (sqrt(a_i) - sqrt(b_i))^2."""
    m, n = (np.array(data.draw(st.lists(numbers, min_size=d, max_size=d))) for _ in range(2))
    a, b = (np.array(data.draw(st.lists(st.floats(0.01, 50), min_size=d, max_size=d))) for _ in range(2))
    found = frechet_distance(Statistics(m, np.diag(a), 9), Statistics(n, np.diag(b)))
    assert found == pytest.approx(((m - n) ** 2).sum() + ((a**0.5 - b**0.5) ** 2).sum(), rel=1e-6, abs=1e-9)


@given(st.integers(0, 2**32 - 1), dims)
def test_any_covariances_by_the_symmetric_root(seed, d):
    """tr (S^(1/2) T S^(1/2))^(1/2) is the trace of (S T)^(1/2), computed in another way."""
    rng = np.random.default_rng(seed)
    (s, t), (m, n) = (x @ x.T for x in rng.normal(size=(2, d, d + 2))), rng.normal(size=(2, d))
    values, vectors = np.linalg.eigh(s)
    root = vectors * values**0.5 @ vectors.T
    cross = np.linalg.eigvalsh(root @ t @ root).clip(0) ** 0.5
    expected = ((m - n) ** 2).sum() + np.trace(s + t) - 2 * cross.sum()
    one, two = Statistics(m, s, 7), Statistics(n, t, 12)
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert frechet_distance(two, one) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_torchmetrics_own_number_on_the_same_pictures():
    real, generated = draw(60, 0, 200, 0), draw(45, 50, 256, 1)
    metric = FrechetInceptionDistance(Blocks())
    metric.update(real, real=True)
    metric.update(generated, real=False)
    found = compare(seen(real), seen(generated))
    assert found.frechet == pytest.approx(float(metric.compute()), rel=1e-9)
    assert found.title == "Fréchet distance"
    assert (found.pictures, found.real_pictures, found.compared) == (45, 60, 45)


def test_statistics_are_numpy_s_mean_and_covariance():
    pictures = draw(80, 0, 256, 3)
    features, found = Blocks()(pictures).numpy(), seen(pictures)
    np.testing.assert_allclose(found.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(features.T), rtol=1e-9, atol=1e-9)
    assert found.count == 80


# -- KID, precision and recall ----------------------------------------------------------------------------------------


def test_kid_is_the_unbiased_mmd_of_the_cubic_kernel():
    x, y = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = y + 0.3
    k = lambda a, b: (float(a @ b) / 4 + 1) ** 3  # noqa: E731
    within = lambda z: np.mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j])  # noqa: E731
    expected = within(x) + within(y) - 2 * np.mean([k(a, b) for a in x for b in y])
    mean, std = kernel_distance(x, y)
    assert (mean, std) == (pytest.approx(expected, rel=1e-9), 0), "all fit into one subset"


def test_kid_over_subsets_is_torchmetrics_own_and_the_same_each_time():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(1300, 3, generator=generator), torch.randn(1100, 3, generator=generator) * 1.1
    metric = KernelInceptionDistance(Given(3))
    metric.update(x.double(), real=True)
    metric.update(y.double(), real=False)
    torch.manual_seed(0)
    expected = tuple(map(float, metric.compute()))
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert kernel_distance(x.double(), y.double()) == pytest.approx(expected, rel=1e-12)
    assert torch.equal(torch.get_rng_state(), before), "the program's own random numbers do not change"


class Given(torch.nn.Module):
    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features

    def forward(self, features):
        return features


def literal_precision_recall(real, generated, k):
    """[PR] eq. 1 and 2, a distance at a time."""
    d = lambda a, b: sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True)) ** 0.5  # noqa: E731
    radius = lambda c, of: sorted(d(c, x) for x in of)[k]  # noqa: E731
    covers = lambda of, x: any(d(x, c) <= radius(c, of) for c in of)  # noqa: E731
    return np.mean([covers(real, x) for x in generated]), np.mean([covers(generated, x) for x in real])


points = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=5, max_size=12)


@settings(deadline=None)
@given(points, points, st.integers(1, 3), st.integers(1, 5))
def test_precision_and_recall_with_ties_and_pictures_that_are_the_same(real, generated, k, rows):
    one, two = (torch.tensor(each, dtype=torch.float64) for each in (real, generated))
    assert precision_recall(one, two, k, rows) == pytest.approx(literal_precision_recall(real, generated, k))


def test_precision_and_recall_of_what_is_covered_in_one_direction():
    """Generated points that are all in one of two real clusters: all of them are covered, and half of the real ones are."""
    generator = torch.Generator().manual_seed(0)
    heaps = torch.randn(2, 200, 4, generator=generator, dtype=torch.float64)
    heaps[1] += 100
    new = torch.randn(400, 4, generator=generator, dtype=torch.float64)
    precision, recall = precision_recall(heaps.flatten(0, 1), new)
    assert precision > 0.7
    assert 0.3 < recall <= 0.5
    assert precision_recall(new, new) == (1, 1)


def test_precision_and_recall_of_ties_among_many_far_from_the_origin():
    """Rows of points one apart, and generated points one from their ends: exactly on the edge, up to the rounding of matrix products."""
    generator = torch.Generator().manual_seed(0)
    starts = 1000 * torch.randn(30, 64, generator=generator, dtype=torch.float64)
    along = torch.eye(64, dtype=torch.float64)[0]
    real = (starts[:, None] + torch.arange(5)[:, None] * along).flatten(0, 1)
    assert precision_recall(real, starts - along, k=1)[0] == 1
    assert precision_recall(real, starts - 1.1 * along, k=1)[0] == 0


# -- in parts, in any order, of any number ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(40)), st.integers(1, 40), st.integers(1, 60))
def test_neither_order_nor_batches_matter(order, parts, kept):
    pictures = draw(40, 0, 256, 5)
    one, other = seen(pictures, kept=kept), seen(pictures[list(order)], parts=parts, kept=kept)
    np.testing.assert_allclose(other.mean, one.mean, rtol=1e-12)
    np.testing.assert_allclose(other.covariance, one.covariance, rtol=1e-9, atol=1e-7)
    np.testing.assert_array_equal(other.features, one.features)
    assert one.features is not None
    assert len(one.features) == min(kept, 40)


def test_kept_features_are_a_fair_sample():
    """Of 4,000 pictures that grow brighter as they come, 400 are kept: from every tenth of them about 40."""
    pictures = torch.arange(4000, dtype=torch.int32)[:, None, None, None].expand(-1, 3, 2, 2)
    pictures = (pictures % torch.tensor([256, 251, 241])[:, None, None]).to(torch.uint8)  # all of them different
    order = torch.arange(4000.0, dtype=torch.float64)

    class Number(torch.nn.Module):
        name, num_features, protocol = "number", 1, "none"
        start = 0

        def forward(self, pictures):
            self.start += len(pictures)
            return order[self.start - len(pictures) : self.start, None]

    features = seen(pictures, Number(), parts=64, kept=400).features
    assert features is not None
    shares = np.histogram(features, bins=10, range=(0, 4000))[0]
    assert shares.sum() == 400
    assert ((shares - 40) ** 2 / 40).sum() < 27.9, "chi-squared with 9 degrees of freedom, 0.1 %"


def test_memory_does_not_grow_with_the_pictures():
    """Batches come from a generator and are freed after they were seen."""
    import tracemalloc

    def peak(batches):
        crowd = Crowd(Blocks(), kept=50)
        tracemalloc.start()
        for seed in range(batches):
            crowd.see(draw(20, 0, 256, seed))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert crowd.statistics().count == 20 * batches
        return most

    few = peak(10)
    assert peak(200) < 1.5 * few


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path):
    """Real gloo processes with shares of different sizes, one of them empty; both get the same figures as a single process."""
    save_clip(tmp_path / "clip")
    alone = subprocess.run([sys.executable, "-m", "tests.evaluate.shares", tmp_path], capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    both = subprocess.run([*launch, "-m", "tests.evaluate.shares", tmp_path], capture_output=True, text=True)
    assert both.returncode == 0, both.stderr
    one, *two = (json.loads((tmp_path / name).read_text()) for name in ("0of1.json", "0of2.json", "1of2.json"))
    assert two[0] == two[1]
    assert two[0].keys() == one.keys()
    for key, value in one.items():
        numbers = isinstance(value, float) or key in ("lumas", "some")
        # a text encoder's float32 result depends on the other captions of its batch
        same = pytest.approx(value, rel=1e-5 if key == "text score" else 1e-9) if numbers else value
        assert two[0][key] == same, key
    assert (one["text pictures"], one["text truncated"]) == (6, 2)


# -- what a user can get wrong ----------------------------------------------------------------------------------------


def test_too_few_pictures():
    with pytest.raises(SingDiffusionError, match="needs at least 2 real pictures, not 1"):
        FrechetDistance(draw(1, 0, 9, 0), Means())
    with pytest.raises(SingDiffusionError, match="needs at least 2 generated pictures, not 0"):
        FrechetDistance(draw(2, 0, 9, 0), Means())(draw(0, 0, 9, 0))


def test_nan_is_an_error_and_not_summed():
    class Broken(Means):
        def forward(self, pictures):
            return super().forward(pictures) / (pictures.double().amax((1, 2, 3)) - 9)[:, None]

    crowd = Crowd(Broken(), which="real")
    crowd.see(draw(4, 10, 256, 0))
    with pytest.raises(SingDiffusionError, match="means sees NaN or infinity in real pictures"):
        crowd.see(torch.full((1, 3, 4, 4), 9, dtype=torch.uint8))
    assert crowd.statistics().count == 4


def test_statistics_on_disk(tmp_path):
    real, generated = seen(draw(60, 0, 200, 0), which="real"), seen(draw(50, 50, 256, 1))
    file = real.save(tmp_path / "real.npz")
    assert compare(Statistics.load(file), generated) == compare(real, generated)
    assert [p.name for p in tmp_path.iterdir()] == ["real.npz"]
    with np.load(file) as stored:  # as pytorch-fid reads it
        assert stored["mu"].shape == (12,)
        assert stored["sigma"].shape == (12, 12)


def test_statistics_of_other_tools(tmp_path):
    real, generated = seen(draw(60, 0, 200, 0)), seen(draw(50, 50, 256, 1))
    np.savez(tmp_path / "clean.npz", mu=real.mean, sigma=real.covariance)
    found = compare(Statistics.load(tmp_path / "clean.npz"), generated)
    assert found.frechet == pytest.approx(compare(real, generated).frechet, rel=1e-9)
    assert (found.kernel, found.precision, found.recall, found.real_pictures) == (None, None, None, None)
    assert found.extractor == "blocks"
    assert any("do not name their network" in line for line in found.warnings)
    assert any("no KID, no precision and recall" in line for line in found.warnings)


def test_statistics_that_do_not_belong_together(tmp_path):
    blocks, means = seen(draw(9, 0, 200, 0)), seen(draw(9, 0, 200, 0), Means())
    with pytest.raises(SingDiffusionError, match="extractor of the real pictures' statistics is 'means', not 'blocks'"):
        compare(means, blocks)
    with pytest.raises(SingDiffusionError, match="protocol of the real pictures' statistics is 'cropped', not"):
        compare(replace(blocks, protocol="cropped"), blocks)
    with pytest.raises(SingDiffusionError, match="are of 3 features, and there are 12 by blocks"):
        compare(Statistics(means.mean, means.covariance), blocks)


OF_TWO = {"mu": np.zeros(2), "sigma": np.eye(2)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "real.npz cannot be read: No such file or directory"),
        (b"PK\x03\x04 not a zip file", "an .npz of mu and sigma is wanted"),
        ({"features": np.zeros((3, 2))}, "an .npz of mu and sigma is wanted"),
        ({"mu": np.array([{}]), "sigma": np.zeros((1, 1))}, "the header of mu does not fit its size"),
        ({"mu": np.array(["a", "b"]), "sigma": np.eye(2)}, "mu holds <U1, and numbers are wanted"),
        ({"mu": np.zeros(2, complex), "sigma": np.eye(2)}, "mu holds complex128"),
        ({"mu": np.zeros((2, 1)), "sigma": np.eye(2)}, r"mu has the shape \(2, 1\), and \(any\) is wanted"),
        ({"mu": np.zeros(3), "sigma": np.zeros((2, 2))}, r"sigma has the shape \(2, 2\), and \(3, 3\) is wanted"),
        (OF_TWO | {"features": np.zeros((4, 3))}, r"features has the shape \(4, 3\), and \(any, 2\) is wanted"),
        (OF_TWO | {"features": np.full((4, 2), np.inf)}, "features holds NaN, infinity"),
        (OF_TWO | {"sigma": np.full((2, 2), np.nan)}, "sigma holds NaN, infinity"),
        (OF_TWO | {"sigma": np.full((2, 2), 1e300)}, r"or numbers over 1e\+38"),
        (OF_TWO | {"sigma": np.array([[1.0, 0.5], [0.4, 1.0]])}, "it is not symmetric"),
        (OF_TWO | {"sigma": -np.eye(2)}, "has a variance below 0"),
        (OF_TWO | {"count": 1}, r"count must be a whole number from 2 to 1e\+12, not 1"),
        (OF_TWO | {"count": 2.5}, "not 2.5"),
        (OF_TWO | {"count": [2, 3]}, r"count has the shape \(2\), and \(\) is wanted"),
        (OF_TWO | {"protocol": b"a"}, "protocol is not a text of at most 10000 characters"),
        (OF_TWO | {"protocol": "a" * 10_001}, "protocol is not a text"),
    ],
)
def test_files_that_hold_no_statistics(tmp_path, content, message):
    file = Path(tmp_path / "real.npz")
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        np.savez(file, **content)
    with pytest.raises(SingDiffusionError, match=message) as raised:
        Statistics.load(file)
    assert "\n" not in str(raised.value)


def npy(shape, data=b"", kind="<f8"):
    """An array as it lies in an .npz, whose header may promise anything."""
    opened = io.BytesIO()
    np.lib.format.write_array_header_1_0(opened, {"descr": kind, "fortran_order": False, "shape": shape})
    return opened.getvalue() + data


def test_only_what_is_wanted_is_read_and_headers_come_first(tmp_path):
    """Members that no one asks for may be anything, and a promise of terabytes is not believed."""
    file, good = tmp_path / "real.npz", {"mu.npy": npy((2,), bytes(16)), "sigma.npy": npy((2, 2), bytes(32))}

    def write(members):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    write(
        good
        | {"more.npy": b"no array", "objects.npy": npy((2**50,), b"", "|O"), "bomb.npy": npy((2**24,), bytes(2**27))}
    )
    tracemalloc.start()
    assert Statistics.load(file).count is None
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    for name, content in (
        ("mu", npy((2**50,))),
        ("sigma", npy((2**25, 2**25), bytes(64))),
        ("mu", b"\x93NUMPY\x07\x00"),
    ):
        write(good | {f"{name}.npy": content})
        with pytest.raises(SingDiffusionError, match="holds no statistics"):
            Statistics.load(file)
    with pytest.raises(SingDiffusionError, match=r"mu has the shape \(2\), and \(3\) is wanted"):
        write(good)
        Statistics.load(file, 3)


def test_statistics_that_are_larger_than_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("singdiffusion.memory.free_memory", lambda: 100)
    np.savez(tmp_path / "real.npz", **OF_TWO)
    with pytest.raises(SingDiffusionError, match="sigma of .*real.npz needs about .* GiB of memory"):
        Statistics.load(tmp_path / "real.npz")


def test_two_pictures_and_one_kept():
    pictures = draw(2, 0, 200, 0)
    found = compare(seen(pictures), seen(pictures, kept=1))
    assert (found.compared, found.kernel, found.precision) == (1, None, None)
    found = compare(seen(pictures), seen(pictures))
    assert (found.compared, found.precision) == (2, None)
    assert found.kernel is not None


def test_few_pictures_are_warned_of():
    few, enough = seen(draw(9, 0, 200, 0)), replace(seen(draw(9, 0, 200, 0)), count=10_000)
    assert compare(enough, enough).warnings == ()
    lines = compare(enough, few).warnings
    assert lines == (
        "9 generated pictures: a Fréchet distance of fewer than 10,000 is biased; compare it only with distances of as many pictures",
        "9 generated pictures against 10,000 real ones",
    )
    json.dumps(compare(enough, few).as_json())
