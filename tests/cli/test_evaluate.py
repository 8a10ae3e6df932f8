"""``singdiffusion evaluate`` as a user runs it: reports, figures, and one line for each mistake."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from singdiffusion import tiny
from singdiffusion.evaluate.brightness import grey
from tests.commands import cli, refused

SMALL = ("--steps", 4, "--device", "cpu")
BRIGHTNESS = ("evaluate", "brightness", "--pictures", 3, *SMALL)


@pytest.fixture(scope="module")
def brightness(tmp_path_factory):
    out = tmp_path_factory.mktemp("brightness")
    said, err = cli(*BRIGHTNESS, "--model", "tiny", "--model", "tiny-v", "--module", "tiny", "--module", "tiny-unet",
                    "--out", out, "--json", out / "copy" / "f.json")  # fmt: skip
    return out, said, err


def test_the_brightness_report(brightness):
    out, said, err = brightness
    assert str(out / "index.html") in said
    assert "solid black" in err
    found = json.loads((out / "figures.json").read_text())
    assert found == json.loads((out / "copy" / "f.json").read_text())
    assert len(found["results"]) == 4 * 3 * 2
    assert {(row["model"], row["remedy"]) for row in found["summary"]} == {
        (model, remedy) for model in ("tiny", "tiny-v") for remedy in ("off", "tiny-moments", "tiny-unet-mean")
    }
    for row in found["results"]:
        assert row["pictures"] == len(row["greys"]) == 3
        assert row["mean"] == pytest.approx(np.mean(row["greys"]))
        assert row["interval"][0] <= row["mean"] <= row["interval"][1]
    miss = {(row["model"], row["remedy"]): row["miss"] for row in found["summary"]}
    assert miss["tiny", "tiny-moments"] < 0.2 * miss["tiny", "off"]
    assert found["command_line"].startswith("singdiffusion evaluate brightness --pictures 3")
    table = (out / "table.md").read_text()
    assert "| solid black background | 1.6 |" in table
    page = (out / "index.html").read_text()
    assert "http:" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert "<script" not in page
    assert page.count("<img") == 4 * 6 * 3


def test_the_figures_are_those_of_the_pictures_on_the_disk(brightness):
    out, _, _ = brightness
    found = json.loads((out / "figures.json").read_text())
    galleries = {}
    for settings in (out / "pictures").glob("*/settings.json"):
        told = json.loads(settings.read_text())
        galleries[json.dumps(told, sort_keys=True)] = settings.parent
    for row, summary in ((r, s) for r in found["results"] for s in found["summary"]):
        if (row["model"], row["remedy"]) == (summary["model"], summary["remedy"]):
            folder = galleries[json.dumps(summary["settings"], sort_keys=True)]
            greys = []
            for seed in range(3):
                (file,) = folder.rglob(f"{row['id']}-{seed}-*.png")
                with Image.open(file) as picture:
                    assert picture.text["prompt"] == row["prompt"]
                    greys.append(grey(picture))
            assert row["greys"] == pytest.approx(greys)


def test_pictures_are_not_painted_again_and_more_of_them_are_added(brightness, tmp_path):
    out, _, _ = brightness
    args = ("evaluate", "brightness", *SMALL, "--cache", out / "pictures", "--out", tmp_path, "--pictures")
    cli(*args, 2)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert (found["painted"], found["pictures"]) == (0, 16)
    before = json.loads((out / "figures.json").read_text())["results"][0]["greys"]
    assert found["results"][0]["greys"] == before[:2]


def test_prompts_of_a_file_controls_and_long_captions(tmp_path):
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps({"a/b": "red apple on a black background", "long": "red " * 40}))
    _, err = cli(
        *BRIGHTNESS, "--prompts", file, "--model", "tiny-controlnet", "--out", tmp_path / "out", "--pictures", 1
    )
    assert "1 of 2 prompts are longer than the 24 tokens" in " ".join(err.split())
    found = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert [row["id"] for row in found["results"]] == ["a/b", "long"] * 2
    assert found["results"][0]["interval"] is None
    assert found["summary"][0]["miss"] is None


def test_bad_input(tmp_path):
    out = ("--out", tmp_path / "out")
    (tmp_path / "empty.txt").write_text("\n")
    refused(*BRIGHTNESS, *out, "--prompts", tmp_path / "empty.txt", match="holds no prompt")
    (tmp_path / "twice.json").write_text('{"1": "a", "1": "b"}')
    refused(*BRIGHTNESS, *out, "--prompts", tmp_path / "twice.json", match="has the id '1' twice")
    refused(*BRIGHTNESS, *out, "--prompts", tmp_path / "no.txt", match="cannot read")
    refused(*BRIGHTNESS, *out, "--model", "nothing", match="there is no model 'nothing'")
    refused(*BRIGHTNESS, *out, "--model", str(tiny.folder()), match="say which module fits")
    refused(*BRIGHTNESS, *out, "--module", "nothing", match="nothing")
    refused(*BRIGHTNESS, *out, "--module", "tiny-unet", "--method", "moments", match="tells the mean only")
    refused(*BRIGHTNESS, *out, "--method", "median", match="unknown method 'median'")
    refused(*BRIGHTNESS, *out, "--guidance", "nan", match="--guidance must be a finite number")
    refused(*BRIGHTNESS, *out, "--scheduler", "fast", match="unknown scheduler 'fast'")
    refused(*BRIGHTNESS, *out, "--dtype", "int8", match="unknown dtype 'int8'")
    refused(*BRIGHTNESS, *out, "--height", "60", match="height must be a positive multiple of 16")
    refused(*BRIGHTNESS, *out, "--control", tmp_path / "c.png", match="--control goes with a ControlNet")
    (tmp_path / "c.png").write_bytes(b"no picture")
    refused(*BRIGHTNESS, *out, "--model", "tiny-controlnet", "--control", tmp_path / "c.png", match="cannot be decoded")
    refused(*BRIGHTNESS, "--out", tmp_path / "c.png", match="cannot write into the folder")
    refused(*BRIGHTNESS, *out, "--pictures", 0, match="--pictures", status=2)
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_folder_is_a_model_too(tmp_path):
    """A model of one's own, in diffusers' layout, with a module's folder."""
    shutil.copytree(tiny.module_folder("tiny-decoder"), tmp_path / "module")
    cli(
        *BRIGHTNESS,
        "--model",
        str(tiny.folder()),
        "--module",
        tmp_path / "module",
        "--out",
        tmp_path / "out",
        "--pictures",
        1,
    )
    found = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert [row["remedy"].endswith("module-moments") for row in found["summary"]] == [False, True]
    assert found["real"] == {}
