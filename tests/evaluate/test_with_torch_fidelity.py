"""Figures and features against torch-fidelity's and clean-fid's own code; ``make test-fidelity`` installs both, outside the environment.

Inception has random weights here, in the file format of the published ones. torch-fidelity imports torchvision, which these tests do not
use and which PyPI offers built for CUDA: where its operators do not load, two are declared so that it can be imported.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import library

from singdiffusion import SingDiffusionError
from singdiffusion.evaluate.metrics.crowd import Crowd
from singdiffusion.evaluate.metrics.features import (
    INCEPTION_FILE,
    Inception,
    clean_resize,
    inception_weights,
    make_extractor,
)
from singdiffusion.evaluate.metrics.fidelity import compare
from singdiffusion.evaluate.real import RealPictures

PACKAGES = Path(__file__).parents[2] / "build" / "fidelity"


@pytest.fixture(scope="module")
def fidelity():
    """torch_fidelity, from ``build/fidelity`` or wherever it is installed."""
    # only now, because transformers and diffusers, imported before, must not find a torchvision
    sys.path.append(str(PACKAGES))
    declared = library.Library("torchvision", "FRAGMENT")
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in ("nms", "qnms"):
            declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    try:
        yield pytest.importorskip("torch_fidelity", reason="make test-fidelity installs torch-fidelity")
    finally:
        sys.path.remove(str(PACKAGES))


@pytest.fixture(scope="module")
def weights(fidelity, tmp_path_factory):
    """A file of random weights whose features neither vanish nor explode."""
    folder = tmp_path_factory.mktemp("weights")

    class Fresh(fidelity.FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict, **options):
            for module in self.modules():
                if isinstance(module, torch.nn.Conv2d):
                    torch.nn.init.kaiming_normal_(module.weight)

    torch.save({}, folder / "none.pth")
    torch.manual_seed(0)
    torch.save(Fresh("fresh", ["2048"], str(folder / "none.pth")).state_dict(), folder / "random.pth")
    return folder / "random.pth"


def draw(count, side, seed):
    """Pictures with structure at several scales."""
    generator = torch.Generator().manual_seed(seed)
    made = sum(
        torch.nn.functional.interpolate(torch.rand(count, 3, n, n, generator=generator), (side, side), mode="bicubic")
        for n in (2, 5, 16)
    )
    return (made / 3 * 255).clamp(0, 255).to(torch.uint8)


class Given(torch.nn.Module):
    """Pictures' first pixels, which hold features as float64 (D,) in 8 bytes each."""

    name, protocol = "given", "none"

    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features

    def forward(self, pictures):
        return torch.from_numpy(pictures.numpy().reshape(len(pictures), -1).view(np.float64).copy())


def seen(features):
    crowd = Crowd(Given(features.shape[1]))
    as_bytes = torch.from_numpy(features.numpy().view(np.uint8).reshape(len(features), 1, -1, 8).copy())
    for part in as_bytes.split(64):
        crowd.see(part)
    return crowd.statistics()


@pytest.mark.parametrize(("width", "shift", "scale"), [(3, 0.0, 1.0), (16, 0.3, 1.2), (64, 1.0, 0.5)])
def test_figures_on_the_same_features(fidelity, width, shift, scale):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric  # type: ignore[reportMissingImports]
    from torch_fidelity.metric_kid import kid_features_to_metric  # type: ignore[reportMissingImports]
    from torch_fidelity.metric_prc import prc_features_to_metric  # type: ignore[reportMissingImports]

    generator = torch.Generator().manual_seed(width)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5
    real = torch.randn(900, width, generator=generator, dtype=torch.float64) @ mix
    generated = (torch.randn(900, width, generator=generator, dtype=torch.float64) * scale + shift) @ mix
    found = compare(seen(real), seen(generated))
    statistics = (fid_features_to_statistics(each) for each in (generated, real))
    fid = fid_statistics_to_metric(*statistics, verbose=False)
    kid = kid_features_to_metric(generated, real, kid_subsets=1, kid_subset_size=900, verbose=False)
    prc = prc_features_to_metric(generated, real, verbose=False)
    assert found.frechet == pytest.approx(fid["frechet_inception_distance"], rel=1e-6)
    assert found.kernel == pytest.approx(kid["kernel_inception_distance_mean"], rel=1e-6)
    assert found.precision == pytest.approx(prc["precision"], rel=1e-6)
    assert found.recall == pytest.approx(prc["recall"], rel=1e-6)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (299, 299), (512, 512), (375, 500)])
def test_resizing_is_clean_fid_s(fidelity, height, width):
    resize = pytest.importorskip("cleanfid.resize", reason="make test-fidelity installs clean-fid")
    picture = draw(1, max(height, width), 3)[:, :, :height, :width]
    expected = resize.build_resizer("clean")(picture[0].permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(clean_resize(picture)[0].permute(1, 2, 0).numpy(), expected)


@torch.no_grad()
def test_features_are_torch_fidelity_s_on_resized_pictures(fidelity, weights):
    """Equal where nothing is resized; otherwise up to the rounding to 8 bits that torch-fidelity needs."""
    theirs = fidelity.FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
    ours = make_extractor("inception", weights)
    exact = draw(3, 299, 0)
    torch.testing.assert_close(ours(exact), theirs(exact)[0], rtol=1e-6, atol=1e-6)
    small = draw(3, 64, 1)
    expected = theirs(clean_resize(small).round().to(torch.uint8))[0]
    assert (ours(small) - expected).norm() < 0.01 * expected.norm()
    assert (expected[0] - expected[1]).norm() > 0.03 * expected.norm(), "it sees the pictures as different"
    assert ours(small).shape == (3, ours.num_features)
    assert ours.name.startswith("Inception-v3, weights "), "it is not the network of FID"


@pytest.mark.slow
def test_a_run_of_torch_fidelity_on_two_folders(fidelity, weights, tmp_path):
    """Its whole path, from PNG files of Inception's own size to figures."""
    folders = {name: tmp_path / name for name in ("generated", "real")}
    for seed, folder in enumerate(folders.values()):
        folder.mkdir()
        for i, picture in enumerate(draw(24, 299, seed)):
            pixels = picture.permute(1, 2, 0).numpy()
            Image.fromarray(pixels // (1 + seed)).save(folder / f"{i}.png")
    extractor = Inception(weights)
    crowds = {name: Crowd(extractor) for name in folders}
    for name, folder in folders.items():
        for batch in RealPictures(folder).batches(8):
            crowds[name].see(batch)
    found = compare(crowds["real"].statistics(), crowds["generated"].statistics())
    expected = fidelity.calculate_metrics(
        input1=str(folders["generated"]),
        input2=str(folders["real"]),
        cuda=False,
        fid=True,
        kid=True,
        prc=True,
        kid_subsets=1,
        kid_subset_size=24,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(weights),
        cache=False,
        batch_size=8,
        verbose=False,
    )
    # 24 pictures leave 2,025 of 2,048 eigenvalues at 0, whose roots are rounding
    assert found.frechet == pytest.approx(expected["frechet_inception_distance"], rel=1e-4)
    assert found.kernel == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-4)
    assert found.precision == pytest.approx(expected["precision"], abs=1e-6)
    assert found.recall == pytest.approx(expected["recall"], abs=1e-6)


def test_files_that_are_not_weights(fidelity, weights, tmp_path, monkeypatch):
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "code.pth").write_bytes(b"cos\nsystem\n(S'touch run'\ntR.")
    for name in ("other.pth", "code.pth", "nowhere.pth"):
        with pytest.raises(SingDiffusionError, match=f"{name} does not hold Inception's weights") as raised:
            Inception(tmp_path / name)
        assert "\n" not in str(raised.value)
    assert not Path("run").exists()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        SingDiffusionError, match="cannot be downloaded; get https://.*pth and name the file: HF_HUB_OFFL"
    ):
        make_extractor("inception")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / INCEPTION_FILE).write_bytes(weights.read_bytes())
    assert inception_weights().name == INCEPTION_FILE
    assert make_extractor("inception").name.startswith("Inception-v3, weights "), "named by content, not by file name"
