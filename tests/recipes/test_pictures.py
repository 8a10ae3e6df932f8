"""The embedded world: a picture shows what its caption names. Icons and views here are made up; nothing is fetched."""

import numpy as np
import pytest

from recipes.tiny import sources
from recipes.tiny.pictures import ICON_SIZES, SIZE, World, expose, held_out, luma, view
from recipes.tiny.vocabulary import COLORS, EMOJI, LIGHT, LINE, PLACES, SHARES


def disc(size):
    """A black disc of half the icon's width, as RGBA in 0..1."""
    y, x = np.mgrid[:size, :size] / (size - 1) - 0.5
    icon = np.zeros((size, size, 4), np.float32)
    icon[..., 3] = x**2 + y**2 < 0.25**2
    return icon


@pytest.fixture(scope="module")
def world():
    icons = {name: [disc(size) for size in ICON_SIZES] for name in ("anchor", "red-apple")}
    views = {place: np.full((2, SIZE, SIZE, 3), 0.18, np.float16) for place in PLACES}
    return World(emoji=icons, line=icons, views=views)


def draw(method, count=400, **options):
    rng = np.random.default_rng(0)
    return [method(rng, **options) for _ in range(count)]


def test_sixteen_colors_with_light_and_dark_shades():
    assert len(COLORS) == 16
    lumas = [float(luma(np.array(rgb))) for rgb in COLORS.values()]
    assert min(lumas) == 0
    assert max(lumas) == pytest.approx(255)
    assert sum(value < 64 for value in lumas) >= 4
    assert sum(value > 160 for value in lumas) >= 4


def test_plain_backgrounds_are_uniform_and_of_their_color(world):
    open_ = 0
    for picture, caption in draw(world.solid):
        assert picture.shape == (SIZE, SIZE, 3)
        assert np.ptp(picture.reshape(-1, 3), axis=0).max() == 0
        if caption == "solid background":
            open_ += 1
            continue
        color = caption.removeprefix("solid ").removesuffix(" background")
        assert np.abs(picture[0, 0].astype(int) - COLORS[color]).max() <= 6
    assert 0.12 < open_ / 400 < 0.28, "a fifth leaves the background open"


def test_logos_are_monochrome_on_the_background_of_their_caption(world):
    named = stated = 0
    for picture, caption in draw(world.logo):
        corner, middle = picture[0, 0].astype(int), picture[SIZE // 2, SIZE // 2].astype(int)
        assert np.ptp(middle) == 0
        assert abs(luma(middle) - luma(corner)) > 60, "strokes stand out"
        named += " of an anchor" in caption or " of a red apple" in caption
        if " on a" in caption:
            stated += 1
            color = caption.split(" background")[0].split(" on a ")[-1].split(" on an ")[-1]
            assert np.abs(corner - COLORS[color]).max() <= 6
    assert 0.68 < named / 400 < 0.82
    assert 0.72 < stated / 400 < 0.88


def test_stickers_keep_their_own_colors(world):
    for picture, caption in draw(world.sticker, 50):
        assert caption.startswith(("anchor", "red apple"))
        assert (picture[SIZE // 2, SIZE // 2] == 0).all()


def test_photos_are_as_bright_as_their_captions(world):
    mean = {light: [] for light in LIGHT}
    for picture, caption in draw(world.photo):
        light = caption.split(" of ")[0]
        if light in mean:
            mean[light].append(float(luma(picture).mean()))
    centres = [np.mean(values) for values in mean.values()]
    assert centres == sorted(centres)
    assert centres[0] < 40
    assert centres[-1] > 240
    assert all(max(a) < min(b) for a, b in zip(list(mean.values())[:-1], list(mean.values())[1:], strict=True))


def test_kinds_have_their_shares_and_a_seed_gives_the_same_pictures(world):
    first, again = draw(world.sample, 300), draw(world.sample, 300)
    assert [c for _, c in first] == [c for _, c in again]
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    assert sum(SHARES.values()) == pytest.approx(1)
    photos = sum("photo" in caption for _, caption in first) / 300
    assert photos == pytest.approx(SHARES["photo"], abs=0.06)


def test_one_icon_in_twenty_is_held_out():
    everything = [("emoji", n) for n in EMOJI] + [("line", n) for n in LINE]
    share = np.mean([held_out(*key) for key in everything])
    assert 0.03 < share < 0.09
    assert len(everything) == len(set(everything))


def test_exposure_doubles_light_per_stop():
    radiance = np.full((1, 1, 3), 0.18)
    assert expose(radiance, 0)[0, 0, 0] == round(255 * 0.18 ** (1 / 2.2))
    assert expose(radiance, 1)[0, 0, 0] == round(255 * 0.36 ** (1 / 2.2))
    assert expose(radiance, 9)[0, 0, 0] == 255


def test_a_view_looks_in_its_direction():
    """Red of the panorama is the azimuth, green the elevation."""
    height, width = 128, 256
    panorama = np.zeros((height, width, 3), np.float32)
    panorama[..., 0] = (np.arange(width) + 0.5) / width
    panorama[..., 1] = ((np.arange(height) + 0.5) / height)[:, None]
    for yaw in (0.5, 2.0, 4.0):
        centre = view(panorama, yaw, 0.0)[SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1].mean((0, 1))
        assert centre[0] == pytest.approx(yaw / (2 * np.pi), abs=0.01)
        assert centre[1] == pytest.approx(0.5, abs=0.01)
    up = view(panorama, 2.0, 0.3)[SIZE // 2, SIZE // 2, 1]
    assert up == pytest.approx(0.5 - 0.3 / np.pi, abs=0.01)


def test_a_tarball_that_is_not_the_pinned_one_ends_the_recipe(tmp_path):
    package = sources.PACKAGES["fluent"]
    (tmp_path / f"{package.slug}-{package.version}.tgz").write_bytes(b"something else")
    with pytest.raises(SystemExit, match="is not the pinned"):
        sources.fetch(tmp_path)
