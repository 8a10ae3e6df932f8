"""Configurations: presets, changes from the command line, and one clear line for each mistake."""

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
        (["steps=0"], "steps is wrong: Input should be greater than or equal to 1, not 0"),
        (["steps=many"], "steps is wrong: .*valid integer.*not 'many'"),
        (["data.caption_dropout=nan"], "data.caption_dropout is wrong"),
        (["color=red"], "color is unknown"),
        (["data.colour=red"], "data.colour is unknown"),
        (["loss=epsilon"], "epsilon needs alpha"),
        (["loss=moments"], "moments needs a decoder"),
        (["network.kind=decoder", "loss=v_prediction"], "a decoder sees no noise and cannot learn v_prediction"),
        (["network.init=a", "network.init_module=b"], "network .*init and init_module exclude each other"),
        (["steps"], "--set steps is no key=value"),
        (["=3"], "--set =3 is no key=value"),
        (["steps.more=3"], "steps has no keys of its own"),
        (["precision=bf17"], "precision is wrong"),
    ],
)
def test_mistakes_are_one_line(tmp_path, changes, match):
    with pytest.raises(SingDiffusionError, match=match) as caught:
        load_config(str(small.as_file(tmp_path)), changes)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(
        SingDiffusionError,
        match="is no readable file, nor a preset .fine-tune, sd15-decoder, sd15-paper, tiny-decoder, tiny-unet.",
    ):
        load_config(str(tmp_path / "nothing.toml"))
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(SingDiffusionError, match="bad.toml is no TOML"):
        load_config(str(tmp_path / "bad.toml"))
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(SingDiffusionError, match="out is missing"):
        load_config(str(tmp_path / "empty.toml"))
    (tmp_path / "latin.toml").write_bytes("name = 'ü'".encode("latin-1"))
    with pytest.raises(SingDiffusionError, match="is no readable file"):
        load_config(str(tmp_path / "latin.toml"))


def test_what_makes_another_run(tmp_path):
    plain = small.config(tmp_path).model_dump(mode="json")
    same = small.config(tmp_path, steps=99, log__every=5, checkpoints__keep=9, micro_batch=2, data__workers=1)
    assert differences(plain, same.model_dump(mode="json")) == []
    other = small.config(tmp_path, batch=4, data__held_out=3, optimizer__rate=1e-5).model_dump(mode="json")
    expected = ["batch: 8, now 4", "data.held_out: 10, now 3", "optimizer.rate: 0.003, now 1e-05"]
    assert sorted(differences(plain, other)) == expected


def test_every_field_is_explained():
    """A key of the file that its class's docstring does not mention cannot be found by a user."""
    for kind in (config_room.Config, config_room.Data, config_room.Network, config_room.Validation):
        for field in kind.model_fields:
            if field not in ("optimizer", "schedule", "checkpoints", "log", "validation", "data", "network"):
                assert field in (kind.__doc__ or ""), f"{kind.__name__}.{field}"


def test_presets_say_what_the_paper_does_not():
    text = (config_room._presets() / "sd15-paper.toml").read_text()
    assert "not known" in text
    assert read("sd15-paper")["network"]["init"]
