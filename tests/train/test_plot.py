"""The loss curve of a run: its files, and what it shows."""

import json

import pytest

from singdiffusion.train import plot


def write(folder, logged, checked):
    for name, rows in (("log", logged), ("validation", checked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


LOGGED = [{"step": step, "loss": 1 / step} for step in range(1, 100)]
CHECKED = [{"step": step, "loss": 0.3, "excess": 0.01 * (step - 50), "channel_mean": 0.1} for step in (50, 75, 99)]


def test_the_curve_is_drawn_for_light_and_dark_pages_and_as_png(tmp_path):
    write(tmp_path, LOGGED, CHECKED)
    plot.draw(tmp_path)
    assert {file.name for file in tmp_path.glob("loss*")} == {"loss.svg", "loss-dark.svg", "loss.png"}
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_single_point_is_not_drawn(tmp_path):
    write(tmp_path, LOGGED[:1], CHECKED)
    plot.draw(tmp_path)
    assert not list(tmp_path.glob("loss*"))


@pytest.mark.parametrize(("lowest", "scale"), [(0.01, "log"), (-2.0, "linear")])
def test_a_likelihood_may_be_negative(lowest, scale):
    figure = plot.curves([*LOGGED, {"step": 100, "loss": lowest}], CHECKED, "run")
    assert figure.axes[0].get_yscale() == scale


def test_only_positive_errors_are_shown():
    """An excess of 0 or below has no place on a logarithmic axis."""
    figure = plot.curves(LOGGED, CHECKED, "run")
    lines = {line.get_label(): line.get_xdata() for line in figure.axes[0].lines}
    assert list(lines["above the best constant"]) == [75, 99]
    assert list(lines["held-out error"]) == [50, 75, 99]
