"""Configurations: presets, changes on top, and one clear line for each mistake."""

import pytest

from singdiffusion import SingDiffusionError
from singdiffusion.train import config as config_room
from singdiffusion.train.config import differences, load_config, preset_names, read

from . import world as small

NEEDS = ["data.shards=somewhere", "data.base=tiny", "out=run"]


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_whole(name):
    loaded = load_config(name, NEEDS)
    assert loaded.name
    assert str(loaded.data.shards) == "somewhere"
    assert loaded.validation.prompts


def test_the_presets_are_those_of_the_help():
    assert preset_names() == ["fine-tune", "sd15-decoder", "sd15-paper", "tiny-decoder", "tiny-unet"]


def test_changes(tmp_path):
    file = small.as_file(tmp_path)
    loaded = load_config(
        str(file), ["steps=7", "data.base=tiny", "schedule.shape = constant", 'name = "a b"', "log.trackers=[]"]
    )
    assert (loaded.steps, loaded.data.base, loaded.schedule.shape, loaded.name) == (7, "tiny", "constant", "a b")
    assert load_config(str(file), ["checkpoints.every_minutes=none"]).checkpoints.every_minutes is None


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (["steps=0"], "run.toml: steps must be at least 1, not 0"),
        (["steps=many"], "run.toml: steps must be a whole number, not 'many'"),
        (["data.caption_dropout=nan"], "run.toml: data.caption_dropout must be a finite number, not nan"),
        (["color=red"], "color is unknown"),
        (["data.colour=red"], "data.colour is unknown"),
        (["loss=epsilon"], "run.toml: loss epsilon needs alpha above 0"),
        (["loss=moments"], "loss moments needs a decoder: network.kind must be decoder"),
        (
            ["network.kind=decoder", "loss=v_prediction"],
            "a decoder has no noise as input and cannot learn v_prediction; loss must be sample or moments",
        ),
        (["network.init=a", "network.init_module=b"], "run.toml: network: init and init_module exclude each other"),
        (["steps"], "a change must be key=value, such as data.held_out=100, not 'steps'"),
        (["=3"], "a change must be key=value, such as data.held_out=100, not '=3'"),
        (["steps.more=3"], "the change of steps.more is wrong: steps has no keys of its own"),
        (["precision=bf17"], "run.toml: precision must be 'no', 'bf16' or 'fp16', not 'bf17'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, changes, match):
    with pytest.raises(SingDiffusionError, match=match) as caught:
        load_config(str(small.as_file(tmp_path)), changes)
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_one_line(tmp_path):
    with pytest.raises(
        SingDiffusionError,
        match="is neither a file nor a preset .fine-tune, sd15-decoder, sd15-paper, tiny-decoder, tiny-unet.",
    ):
        load_config(str(tmp_path / "nothing.toml"))
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(SingDiffusionError, match="bad.toml cannot be read as TOML"):
        load_config(str(tmp_path / "bad.toml"))
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(SingDiffusionError, match="out is missing"):
        load_config(str(tmp_path / "empty.toml"))
    (tmp_path / "latin.toml").write_bytes("name = 'ü'".encode("latin-1"))
    with pytest.raises(SingDiffusionError, match="latin.toml is not UTF-8"):
        load_config(str(tmp_path / "latin.toml"))


def test_differences_that_make_another_run(tmp_path):
    plain = small.config(tmp_path).model_dump(mode="json")
    same = small.config(tmp_path, steps=99, log__every=5, checkpoints__keep=9, micro_batch=2, data__workers=1)
    assert differences(plain, same.model_dump(mode="json")) == []
    other = small.config(tmp_path, batch=4, data__held_out=3, optimizer__rate=1e-5).model_dump(mode="json")
    expected = ["batch: 8, now 4", "data.held_out: 10, now 3", "optimizer.rate: 0.003, now 1e-05"]
    assert sorted(differences(plain, other)) == expected


def test_every_field_is_explained():
    """The docstring of each class names all of its keys: otherwise a user cannot find them."""
    for kind in (config_room.Config, config_room.Data, config_room.Network, config_room.Validation):
        for field in kind.model_fields:
            if field not in ("optimizer", "schedule", "checkpoints", "log", "validation", "data", "network"):
                assert field in (kind.__doc__ or ""), f"{kind.__name__}.{field}"


def test_the_papers_preset_marks_our_choices():
    text = (config_room._presets() / "sd15-paper.toml").read_text()
    assert "not known" in text
    assert read("sd15-paper")["network"]["init"]
