"""Configurations: presets, changes on top, and one clear line for each mistake."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
        (["batch=1000000000000"], "batch must be at most 1048576, not 1000000000000"),
        (["steps=1" + "0" * 30], "steps must be less than 4294967296, not 1000"),
        (["steps=0x1" + "0" * 5000], "steps must be less than 4294967296, not a number of thousands of digits"),
        (["steps=true"], "steps must be a whole number, not True"),
        (["timeout=1e300"], "timeout must be at most 10000000.0, not 1e.300"),
        (["optimizer.rate=inf"], "optimizer.rate must be a finite number, not inf"),
        (["optimizer.rate=-1"], "optimizer.rate must be greater than 0.0, not -1"),
        (["optimizer.betas=[1, 1]"], "optimizer.betas.0. must be less than 1.0, not 1"),
        (["data.workers=1000000"], "data.workers must be at most 64, not 1000000"),
        (["checkpoints.keep=0"], "checkpoints.keep must be at least 1, not 0"),
        (["alpha=nan"], "alpha must be a finite number, not nan"),
        (["seed=-1"], "seed must be at least 0, not -1"),
        (["micro_batch=9"], "micro_batch must be at most batch, 8, not 9"),
        (["out="], "out: must be a name, not empty"),
        (['data.base="a\\u0000b"'], "data.base: must be a name, not empty"),
        (["data=5"], "data must be an object, not 5"),
        (["name=\udcff"], "the change name=.* is not UTF-8"),
        (["network.options.width=1000000000"], "network.options: width must be at most 1,048,576"),
        (["network.options.norm_eps=nan"], "network.options: norm_eps must be a finite number, not nan"),
        (["network.options.layers_per_block=10000"], "network.options: they make about 20,000 blocks; at most 2,000"),
        (["network.options.more.more=1"], "network.options: more must be a number, text, true, false or a list, not a"),
        ([".".join(["network", "options"] + ["a"] * 90) + "=1"], "the change of network.options.a.* names 91 sections"),
        (["precision=bf17"], "run.toml: precision must be 'no', 'bf16' or 'fp16', not 'bf17'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, changes, match):
    with pytest.raises(SingDiffusionError, match=match) as caught:
        load_config(str(small.as_file(tmp_path)), changes)
    assert "\n" not in str(caught.value)


def _keys(kind, before=""):
    for name, field in kind.model_fields.items():
        yield before + name
        yield from _keys(field.annotation, f"{before}{name}.") if hasattr(field.annotation, "model_fields") else ()


KEYS = [*_keys(config_room.Config), "network.options.width", "network.options.a.b", "data.x", "", ".", "a..b"]
VALUES = [
    "nan",
    "-inf",
    "-1",
    "0",
    "1e300",
    "true",
    "none",
    "[]",
    "{}",
    '""',
    '"\\u0000"',
    "0x" + "f" * 5000,
    "9" * 5000,
]
VALUES += [
    "2020-01-01",
    "[1,nan]",
    "{a=1,b={c=2}}",
    "1\nx=2",
    "[" * 2000,
    "\udcff",
    "\x1b[31m",
    "[" + "1," * 200 + "]",
    "3",
]
VALUE = st.one_of(st.sampled_from(VALUES), st.integers().map(str), st.floats().map(repr), st.text(max_size=20))
CHANGE = st.one_of(st.tuples(st.sampled_from(KEYS), VALUE).map("=".join), st.text(max_size=30))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(CHANGE, min_size=1, max_size=3))
def test_any_change_is_taken_or_one_line(tmp_path, changes):
    file = tmp_path / "run.toml"
    if not file.exists():
        small.as_file(tmp_path)
    with contextlib.suppress(SingDiffusionError):
        load_config(str(file), changes).model_dump_json()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(key=st.sampled_from(KEYS), value=VALUE, more=st.binary(max_size=20))
def test_any_file_is_taken_or_one_line(tmp_path, key, value, more):
    section, _, name = key.rpartition(".")
    text = f"steps = 1\nout = 'run'\n[{section or 'data'}]\n{name} = {value}\n"
    (tmp_path / "run.toml").write_bytes(text.encode("utf-8", "surrogatepass") + more)
    with contextlib.suppress(SingDiffusionError):
        load_config(str(tmp_path / "run.toml")).model_dump_json()


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
