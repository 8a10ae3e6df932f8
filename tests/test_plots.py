"""Plots look alike, are the same bytes for the same figures, and can be read on light and on dark pages."""

import re

import pytest

from singdiffusion import plots

PAGES = {"light": "#ffffff", "dark": "#1e1e24"}  # the lightest dark background of the site and of reports


def draw():
    made, axis = plots.axes("x", "y")
    for i, color in enumerate(plots.SERIES):
        axis.plot([0, 1], [i, i + 1], "o-", color=color, label=f"line {i}")
    return made


def test_texts_from_outside_are_shown_as_they_are():
    made, axis = plots.axes("x", "y")
    texts = ["_a $\\alpha$ b$", "$x", r"\\$ & <b> \x1b", "long " * 100]
    for text in texts:
        axis.plot([0, 1], [0, 1], label=plots.plain(text))
    axis.legend()
    drawn = plots.svg(made, outlines=False)
    for text in ("_a $\\alpha$ b$", "$x", r"\\$ &amp; &lt;b&gt; \x1b", "long " * 19 + "lo..."):
        assert f"{text}</text>" in drawn


@pytest.fixture
def figure():
    return draw()


def luminance(color):
    """Return the relative luminance of "#rrggbb" (WCAG 2)."""
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", [name for name in plots.COLORS if name != "paper"])
def test_colors_stand_out_from_light_and_dark_pages(name):
    least = 7 if name == "ink" else 4.5  # colours are used for text, too
    for color, page in zip(plots.COLORS[name], PAGES.values(), strict=True):
        assert contrast(color, page) >= least, (name, color, page)


def test_the_same_figure_gives_the_same_bytes():
    assert plots.files(draw()) == plots.files(draw())


def test_the_dark_form_has_the_dark_colors_only(figure):
    light, dark = plots.svg(figure), plots.dark(plots.svg(figure))
    assert light.count("<path") == dark.count("<path")
    for name, (of_light, of_dark) in plots.COLORS.items():
        assert of_light in light, name
        assert of_light not in dark, name
        assert of_dark in dark, name
    assert "#000000" not in light, "black would disappear on a dark page"


def test_on_a_page_colors_are_variables_of_its_style_sheet(figure):
    drawn = plots.themed(plots.svg(figure, outlines=False))
    assert not re.search(r"#[0-9a-f]{6}", re.sub(r"url\(#\w+\)", "", drawn))
    used = set(re.findall(r"var\((--plot-\w+)\)", drawn))
    assert len(used) == len(plots.COLORS)
    light, dark = plots.css().split("@media")
    for part in (light, dark):
        assert used - {"--plot-paper"} <= set(re.findall(r"(--plot-\w+):", part))


def test_letters_are_text_on_a_page_and_shapes_in_a_file(figure):
    assert ">x</text>" not in plots.svg(figure)
    assert ">x</text>" in plots.svg(figure, outlines=False)


def test_the_png_is_wide_enough_for_print(figure):
    png = plots.files(figure)[".png"]
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") >= 700
