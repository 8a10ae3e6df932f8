"""The examples, each run as a reader runs it, in an empty folder: their output and files show what their text claims."""

import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from PIL import Image

from singdiffusion import SingDiffusion, tiny

from .commands import ENV

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ("plug_in", "see_the_singularity", "train_on_fifty_pictures")


def run(name, folder):
    """Return what an example prints, and the folder that it writes to."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=ENV, cwd=folder, timeout=600)
    assert done.returncode == 0, done.stderr[-800:]
    assert [made.name for made in folder.iterdir()] == ["out"], "it writes only into out/"
    return done.stdout, folder / "out" / "examples" / name


def lumas(printed):
    """Return {label: (mean, deviation)} of the lines "label: mean ± deviation"."""
    rows = re.findall(r"^(.+): (\d+) ± (\d+)$", printed, re.M)
    return {label: (int(mean), int(deviation)) for label, mean, deviation in rows}


def pictures(folder):
    """Return {name: (darkest, brightest level)} of the PNG files in a folder."""
    found = {}
    for file in folder.glob("*.png"):
        with Image.open(file) as picture:
            found[file.stem] = picture.convert("L").getextrema()
    return found


def test_every_example_is_tested():
    assert sorted(file.stem for file in EXAMPLES.iterdir() if file.is_file()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_notebook(name, tmp_path):
    jupytext.write(jupytext.read(EXAMPLES / f"{name}.py"), tmp_path / "made.ipynb")
    made = nbformat.read(tmp_path / "made.ipynb", as_version=4)
    nbformat.validate(made)
    kinds = [cell.cell_type for cell in made.cells]
    assert kinds[0] == "markdown"
    assert min(kinds.count("markdown"), kinds.count("code")) >= 5
    shown = ("sheet(", "keep(", "strip(")  # these return a picture, which a notebook shows below the cell
    assert any(cell.cell_type == "code" and cell.source.splitlines()[-1].startswith(shown) for cell in made.cells)


@pytest.mark.slow
def test_plug_in(tmp_path):
    printed, out = run("plug_in", tmp_path)
    assert printed.startswith("present: ")  # the audit
    mean = {label: value for label, (value, _) in lumas(printed).items()}
    assert mean["solid black background, with"] < 5
    assert mean["solid white background, with"] > 250
    for color in ("black", "white"):
        assert 80 < mean[f"solid {color} background, without"] < 170
    for scheduler in ("EulerAncestralDiscrete", "DPMSolverMultistep", "UniPCMultistep"):
        without, with_ = (mean[f"{scheduler}Scheduler, {which}"] for which in ("without", "with"))
        assert with_ < without - 30
    variety = {label: deviation for label, (_, deviation) in lumas(printed).items()}
    assert variety["rocket, moments"] > 2 * variety["rocket, mean"]
    dark, bright = (mean[f"red apple, first step: solid {c} background"] for c in ("dark blue", "yellow"))
    assert dark < 70 < 150 < bright
    assert mean["rocket, from #101820"] < 60 < 130 < mean["rocket, from gold"]
    assert printed.count("the same pictures as before: True") == 2
    assert set(pictures(out)) == {"before_after", "schedulers", "mean_moments", "first_prompt", "color"}


@pytest.mark.slow
def test_see_the_singularity(tmp_path):
    printed, out = run("see_the_singularity", tmp_path)
    assert printed.count("0.0667") == 6  # the mean of the three points, and the predictions for five noises
    error = {name: float(value) for name, value in re.findall(r"^  (.+): (\S+)$", printed, re.M)}
    assert error["from epsilon, 0.01 off"] > 1000
    assert error["x_0 itself, 0.01 off"] == pytest.approx(0.01, rel=0.1)
    assert error["mean of the data"] < 1e-5
    assert "0 / 0 = nan" in printed
    real, before, at_one = (lumas(printed)[f"mean luma, {name}"][0] for name in ("real", "from 1 - eps", "from t = 1"))
    assert before > real + 20
    assert abs(at_one - real) < 5
    found = pictures(out)
    assert set(found) == {"denoiser", "errors", "brightness", "pictures"}
    assert all(low < 50 and high == 255 for low, high in found.values())


@pytest.mark.slow
def test_fifty_pictures_teach_a_word(tmp_path):
    """Midnight becomes dark, and backgrounds that a prompt names stay as they were."""
    printed, out = run("train_on_fifty_pictures", tmp_path)
    assert printed.startswith("50 pictures in ")
    assert "\n50 pictures in 1 shard" in printed
    table = printed.partition("before  after\n")[2]
    mean = {line[:30].strip(): tuple(map(int, line[30:].split())) for line in table.splitlines()}
    assert len(mean) == 6
    for thing in ("red apple", "rocket", "sunflower"):
        before, after = mean[f"{thing} at midnight"]
        assert after < before - 20
    for prompt, allowed in (("solid white background", 5), ("rocket on a white background", 20)):
        before, after = mean[prompt]
        assert abs(after - before) < allowed
    assert set(pictures(out)) == {"before_after"}
    other = tiny.load_pipeline(model="tiny-community")  # which has another text encoder
    SingDiffusion.from_pretrained(out / "run" / "module").enable(other)
