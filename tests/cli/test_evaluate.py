"""``singdiffusion evaluate`` as a user runs it: options, reports, figures, and one line for each mistake."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import singdiffusion.cli.evaluate  # noqa: F401  (registers itself)
from singdiffusion import tiny
from singdiffusion.cli import app
from singdiffusion.painting.luma import mean_luma
from singdiffusion.painting.png import read_settings
from tests.commands import Refusals, cli, start

SMALL = ("--steps", 4, "--device", "cpu")
BRIGHTNESS = ("evaluate", "brightness", "--pictures", 3, *SMALL)


# what all four commands share, and what is each one's own
SHARED = set(
    "out cache json model-config scheduler steps guidance negative control seed batch height width dtype device help".split()
)
CAPTIONS = set("captions real features inception clip text".split())
OPTIONS = {
    "brightness": "model module method prompts pictures",
    "fidelity": "model module method pictures save-real",
    "pareto": "model module method pictures save-real behind",
    "remedies": "model module prompts pictures crowd statistics color one-more-step pairs",
}


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_of_each_command(command):
    text = CliRunner().invoke(app, ["evaluate", command, "--help"], env={"COLUMNS": "100"}).output
    expected = SHARED | set(OPTIONS[command].split()) | (set() if command == "brightness" else CAPTIONS)
    assert set(re.findall(r"^  --([a-z-]+)", text, re.M)) == expected
    plain = " ".join(text.split())
    assert "[default: 16; 1<=x<=4096]" in plain, "of --batch"
    assert plain.count("[default: auto]") == 2, "of --dtype and --device"
    assert f"[default: out/{command}]" in plain


@pytest.fixture(scope="module")
def brightness(tmp_path_factory):
    out = tmp_path_factory.mktemp("brightness")
    printed, err = cli(*BRIGHTNESS, "--model", "tiny", "--model", "tiny-v", "--module", "tiny", "--module", "tiny-unet",
                    "--out", out, "--json", out / "copy" / "f.json")  # fmt: skip
    return out, printed, err


def test_the_brightness_report(brightness):
    out, printed, err = brightness
    assert str(out / "index.html") in printed
    assert err.splitlines()[0] == "tiny on cpu, float32"
    assert "solid black" in err
    found = json.loads((out / "figures.json").read_text())
    assert found == json.loads((out / "copy" / "f.json").read_text())
    assert len(found["results"]) == 4 * 3 * 2
    assert {(row["model"], row["remedy"]) for row in found["summary"]} == {
        (model, remedy) for model in ("tiny", "tiny-v") for remedy in ("off", "tiny-moments", "tiny-unet-mean")
    }
    for row in found["results"]:
        assert row["pictures"] == len(row["mean_lumas"]) == 3
        assert row["mean_luma"] == pytest.approx(np.mean(row["mean_lumas"]))
        assert row["interval"][0] <= row["mean_luma"] <= row["interval"][1]
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
        galleries[json.dumps(json.loads(settings.read_text()), sort_keys=True)] = settings.parent
    for row, summary in ((r, s) for r in found["results"] for s in found["summary"]):
        if (row["model"], row["remedy"]) == (summary["model"], summary["remedy"]):
            folder = galleries[json.dumps(summary["settings"], sort_keys=True)]
            found_here = []
            for seed in range(3):
                (file,) = folder.rglob(f"{row['id']}-{seed}-*.png")
                with Image.open(file) as picture:
                    assert read_settings(picture)["prompt"] == row["prompt"]
                    found_here.append(mean_luma(picture))
            assert row["mean_lumas"] == pytest.approx(found_here)


def test_pictures_are_not_painted_again_and_more_of_them_are_added(brightness, tmp_path):
    out, _, _ = brightness
    args = ("evaluate", "brightness", *SMALL, "--cache", out / "pictures", "--out", tmp_path, "--pictures")
    cli(*args, 2)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert (found["painted"], found["pictures"]) == (0, 16)
    before = json.loads((out / "figures.json").read_text())["results"][0]["mean_lumas"]
    assert found["results"][0]["mean_lumas"] == before[:2]


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


@pytest.mark.slow
def test_bad_input(tmp_path):
    out, prompts = ("--out", tmp_path / "out"), tmp_path / "prompts.json"
    (tmp_path / "empty.txt").write_text("\n")
    prompts.write_text('{"1": "a", "1": "b"}')
    (tmp_path / "c.png").write_bytes(b"no picture")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "table.md").write_text("of a user")
    with Refusals() as all_of_them:
        refused = all_of_them.refused
        refused(*BRIGHTNESS, *out, "--prompts", tmp_path / "empty.txt", match="holds no prompt")
        refused(*BRIGHTNESS, *out, "--prompts", prompts, match="the key '1' stands there twice")
        refused(*BRIGHTNESS, *out, "--prompts", tmp_path / "no.txt", match="cannot be read")
        refused(*BRIGHTNESS, *out, "--model", "nothing", match="there is no model 'nothing'")
        refused(*BRIGHTNESS, *out, "--module", "nothing", match="nothing")
        refused(*BRIGHTNESS, *out, "--module", "tiny-unet", "--method", "moments", match="predicts the mean only")
        refused(*BRIGHTNESS, *out, "--method", "median", match="unknown method 'median'")
        refused(*BRIGHTNESS, *out, "--guidance", "nan", match="--guidance must be a finite number")
        refused(*BRIGHTNESS, *out, "--scheduler", "fast", match="unknown scheduler 'fast'")
        refused(
            *BRIGHTNESS,
            *out,
            "--scheduler",
            "pndm",
            "--steps",
            3,
            match="PNDMScheduler cannot do 3 steps; try 4 (--steps)",
        )
        refused(*BRIGHTNESS, *out, "--dtype", "int8", match="unknown dtype 'int8'")
        refused(*BRIGHTNESS, *out, "--height", "60", match="height must be a positive multiple of 16")
        refused(*BRIGHTNESS, *out, "--height", "16384", "--width", "16384", match="needs about")
        refused(*BRIGHTNESS, *out, "--control", tmp_path / "c.png", match="a StableDiffusionPipeline has none")
        control = ("--model", "tiny-controlnet", "--control", tmp_path / "c.png")
        refused(*BRIGHTNESS, *out, *control, match="cannot be read as a picture")
        refused(*BRIGHTNESS, "--out", tmp_path / "c.png", match="cannot write into the folder")
        refused(
            *BRIGHTNESS, "--out", theirs, match="table.md is not of a report and would be replaced; move it, or name"
        )
        refused(*BRIGHTNESS, *out, "--pictures", 0, match="--pictures", status=2)
    assert not (tmp_path / "out").exists(), "what is refused leaves nothing"
    assert [file.name for file in theirs.iterdir()] == ["table.md"]


@pytest.mark.slow
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


CROWD = ("--steps", 3, "--device", "cpu", "--features", "efficientnet")


@pytest.fixture(scope="module")
def fidelity(tmp_path_factory):
    """A report at guidance 1 and 4, and the pictures, which other tests take."""
    out = tmp_path_factory.mktemp("fidelity")
    cli(
        "evaluate",
        "fidelity",
        *CROWD,
        "--pictures",
        12,
        "--guidance",
        1,
        "--guidance",
        4,
        "--text",
        "tiny",
        "--out",
        out,
    )
    return out


@pytest.fixture(scope="module")
def cache(fidelity):
    return fidelity / "pictures"


def test_fidelity(fidelity):
    tmp_path = fidelity
    found = json.loads((tmp_path / "figures.json").read_text())
    assert [(row["remedy"], row["guidance_scale"]) for row in found["results"]] == [
        ("off", 1), ("tiny-moments", 1), ("off", 4), ("tiny-moments", 4)
    ]  # fmt: skip
    for row in found["results"]:
        (distance,) = row["fidelity"]
        assert distance["pictures"] == distance["real_pictures"] == row["pictures"] == row["text"]["pictures"] == 12
        assert distance["frechet"] > 0
        assert distance["title"] == "Fréchet distance"
        assert 0 <= distance["precision"] <= 1
        assert row["text"]["label"] == "picture-text score, embedded encoder"
    off, on = found["results"][:2]
    assert on["brightness_distance"] < off["brightness_distance"]
    assert any("fewer than 10,000" in note for note in found["notes"])
    words = (tmp_path / "index.html").read_text() + (tmp_path / "table.md").read_text()
    assert "FID |" not in words
    assert "CLIP score |" not in words


@pytest.mark.slow
def test_pareto(cache, tmp_path):
    args = ("--pictures", 12, "--guidance", 1, "--guidance", 4, "--text", "tiny", "--behind", "sd-1.5")
    cli("evaluate", "pareto", *CROWD, *args, "--cache", cache, "--out", tmp_path)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["painted"] == 0  # what fidelity painted
    (verdict,) = found["verdicts"]
    assert verdict["curve"].startswith("SingDiffusion")
    assert 0 <= verdict["share"] <= 1
    assert "read off the authors" in (tmp_path / "pareto-0.svg").read_text()
    with Image.open(tmp_path / "pareto-0.png") as picture:
        assert picture.width > 600


@pytest.mark.slow
def test_remedies(tmp_path):
    args = ("--pictures", 2, "--crowd", 8, "--pairs", 1, "--text", "none", "--batch", 8)
    _, err = cli("evaluate", "remedies", *CROWD, *args, "--out", tmp_path)
    found = json.loads((tmp_path / "figures.json").read_text())
    rows = {row["remedy"]: row for row in found["results"]}
    assert {"off", "trailing", "signal-leak", "tiny-unet-mean", "tiny-mean", "tiny-moments"} <= set(rows)
    assert {row["remedy"] for row in found["absent"]} >= {"one-more-step", "offset-noise", "input-perturbation"}
    assert all(row["reason"] for row in found["absent"])
    assert rows["off"]["cost"] is None
    for name, row in rows.items():
        assert name == "off" or row["cost"]["ratio"] > 0
    assert rows["tiny-moments"]["miss"] < 0.2 * rows["off"]["miss"]
    assert rows["tiny-moments"]["cost"]["mib"] > 1
    assert "offset noise" in err


@pytest.mark.slow
def test_real_pictures_of_ones_own(cache, tmp_path):
    real = tmp_path / "real"
    (real / "sub").mkdir(parents=True)
    for i, picture in enumerate(tiny.pictures().drawn[:6]):
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        image = image.resize((80, 72)) if i % 2 else image  # of several sizes
        image.save(real / ("sub" if i % 3 else ".") / f"{i}.{'jpg' if i == 5 else 'png'}")
    (real / "broken.png").write_bytes(b"no picture")
    captions = tmp_path / "captions.csv"
    captions.write_text("id,caption\n1,red apple on a black background\n2,solid white background\n")
    args = (
        "evaluate",
        "fidelity",
        *CROWD,
        "--captions",
        captions,
        "--pictures",
        5,
        "--guidance",
        1,
        "--text",
        "none",
        "--cache",
        cache,
    )
    _, err = cli(*args, "--real", real, "--save-real", tmp_path / "real.npz", "--out", tmp_path / "one")
    notes = " ".join(err.split())
    assert "1 of 7 files" in notes
    assert "1 of 7 real pictures are JPEGs" in notes
    assert "5 generated pictures against 6 real ones" in notes
    cli(*args, "--real", tmp_path / "real.npz", "--out", tmp_path / "two")
    one, two = (json.loads((tmp_path / name / "figures.json").read_text())["results"] for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        assert a["fidelity"][0]["frechet"] == pytest.approx(b["fidelity"][0]["frechet"], rel=1e-9)
        assert a["brightness_distance"] is not None
        assert b["brightness_distance"] is None


@pytest.mark.slow
def test_bad_input_of_crowds(tmp_path):
    with Refusals() as all_of_them:
        refused = all_of_them.refused
        fidelity = ("evaluate", "fidelity", *CROWD, "--out", tmp_path / "out", "--pictures", 4)
        (tmp_path / "empty").mkdir()
        refused(
            *fidelity,
            "--real",
            tmp_path / "empty",
            "--text",
            "none",
            match="holds 0 pictures, and at least 2 are needed",
        )
        refused(*fidelity, "--real", tmp_path / "none", "--text", "none", match="there is no folder")
        (tmp_path / "bad.npz").write_bytes(b"no statistics")
        refused(*fidelity, "--real", tmp_path / "bad.npz", "--text", "none", match="holds no statistics")
        refused(*fidelity, "--features", "vgg", "--text", "none", match="unknown extractor 'vgg'")
        refused(*fidelity, "--text", tmp_path / "empty", match="cannot be read")
        refused(*fidelity, "--text", "owner/no-clip", match="the hub did not return it")
        refused(
            "evaluate", "fidelity", "--features", "clip", "--out", tmp_path, match="needs weights: a folder or a hub id"
        )
        refused("evaluate", "pareto", "--text", "none", "--out", tmp_path, match="the curve needs a text score")
        refused("evaluate", "pareto", "--behind", "sd-3", "--out", tmp_path, match="known: sd-1.5, sd-2.0-base")
        model = ("--model", str(tiny.folder()), "--module", "tiny")
        refused(*fidelity, *model, "--text", "none", match="needs captions to paint")
        captions = tmp_path / "captions.txt"
        captions.write_text("a\nb\n")
        refused(*fidelity, *model, "--text", "none", "--captions", captions, match="needs real pictures")
        refused(
            "evaluate",
            "remedies",
            *CROWD,
            "--out",
            tmp_path / "out",
            "--statistics",
            tmp_path / "empty",
            match="singdiffusion encode writes one",
        )
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_clip_from_the_hubs_cache(cache, tmp_path):
    """As it lies after a download: models--owner--name/snapshots/REVISION, and refs/main that names the revision."""
    repository = tmp_path / "hub" / "models--owner--clip"
    shutil.copytree(tiny.encoder_folder(), repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    args = [
        "evaluate",
        "fidelity",
        "--steps",
        "3",
        "--device",
        "cpu",
        "--pictures",
        "4",
        "--guidance",
        "1",
        "--cache",
        cache,
    ]
    args += ["--features", "clip", "--clip", "owner/clip", "--text", "owner/clip", "--out", tmp_path / "out"]
    process = start(*args, HF_HUB_CACHE=str(tmp_path / "hub"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-800:]
    (row, _) = json.loads((tmp_path / "out" / "figures.json").read_text())["results"]
    assert row["text"]["label"] == "CLIP score"
    assert row["text"]["backbone"].startswith("clip, weights")
    assert row["fidelity"][0]["extractor"].startswith("CLIP clip, weights")
