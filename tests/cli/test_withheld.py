"""``generate`` on a model whose real safety checker withholds pictures: no black file, no figure, and status 1 if none is left."""

import json

import pytest
from PIL import Image

from singdiffusion.painting.metadata import PictureSettings
from singdiffusion.painting.paint import paint
from singdiffusion.painting.png import png, read_settings
from tests.commands import cli
from tests.painting.checkers import add_checker

STEPS = {"num_inference_steps": 2, "guidance_scale": 7.5}


def rows(file):
    return json.loads(file.read_text())["pictures"]


@pytest.fixture
def save(pipe, tmp_path):
    """Saves the pipeline with a safety checker, and returns the options that paint with it."""

    def save(*pictures):
        add_checker(pipe, *pictures)
        pipe.save_pretrained(tmp_path / "model")
        return ("--model", tmp_path / "model", "--steps", 2, "--out", tmp_path / "o", "--json", tmp_path / "f.json")

    return save


def test_all_are_withheld(save, tmp_path):
    common = save()
    (tmp_path / "o").mkdir()
    earlier = png(Image.new("RGB", (16, 16)), PictureSettings("a room", 0))
    (tmp_path / "o" / "a-room-0.png").write_bytes(earlier)
    out, err = cli("generate", "a room", "--module", "none", "--count", 2, *common, status=1)
    assert out == ""
    lines = err.splitlines()
    for seed in (0, 1):
        line = f"withheld by the model's safety checker, not written: 'a room', seed {seed}, without SingDiffusion"
        assert lines.count(line) == 1
    last = "error: all pictures (2) were withheld by the model's safety checker; another prompt or seed may pass"
    assert lines[-1] == last
    assert [(row["file"], row["mean_luma"], row["withheld"]) for row in rows(tmp_path / "f.json")] == [
        (None, None, True)
    ] * 2
    assert not list((tmp_path / "o").iterdir())


@pytest.mark.slow
def test_one_of_two_seeds(pipe, save, tmp_path):
    kept, flagged = paint(pipe, ["a room", "a room"], [0, 1], **STEPS)
    out, err = cli("generate", "a room", "--module", "none", "--count", 2, *save(flagged, kept))
    assert out.split() == [str(tmp_path / "o" / "a-room-0.png")]
    assert "1 file in" in err
    assert "seed 1, without" in err
    assert "seed 0" not in err
    assert [row["withheld"] for row in rows(tmp_path / "f.json")] == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize("flagged", ["on", "off"])
def test_one_side_of_a_comparison(pipe, sing, sing_folder, save, tmp_path, flagged):
    (off,) = paint(pipe, ["a room"], [0], **STEPS)
    sing.enable(pipe)
    (on,) = paint(pipe, ["a room"], [0], **STEPS)
    sing.disable()
    common = save(*((on, off) if flagged == "on" else (off, on)))
    out, err = cli("generate", "a room", "--module", sing_folder, "--compare", *common)
    (file,) = (tmp_path / "o").iterdir()
    assert out.split() == [str(file)]
    assert read_settings(Image.open(file))["singdiffusion"] == ("off" if flagged == "on" else "on")
    assert f"seed 0, {'with' if flagged == 'on' else 'without'} SingDiffusion" in err
    found = {row["singdiffusion"]: row for row in rows(tmp_path / "f.json")}
    assert {part: row["withheld"] for part, row in found.items()} == {
        "on": flagged == "on",
        "off": flagged == "off",
        "compare": True,
    }
    for row in found.values():
        assert (row["file"] is None) == row["withheld"]
        assert (row["mean_luma"] is None) == (row["withheld"])
